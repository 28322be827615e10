"""How the learning rate goes over the steps of a training."""

import math
from collections.abc import Callable

from serein.training.config import TrainingConfig


def lr_schedule(config: TrainingConfig, count: int) -> Callable[[int], float]:
    """The share of ``settings.rate`` that a step takes, by the number of steps before it.

    Args:
        config: of the loop.
        count: of the training side's utterances.
    """
    steps = config.epochs * -(-count // config.batch)

    def share(step: int) -> float:
        risen = min(1.0, (step + 1) / (config.warmup + 1))
        return risen * _schedule_factor(config, step, steps) / (1 + config.decay * step)

    return share


def _schedule_factor(config: TrainingConfig, step: int, steps: int) -> float:
    """What the schedule leaves; half a cosine from the end of the warm-up to the last step."""
    if config.schedule == "constant":
        return 1.0
    begun = (step - config.warmup) / max(1, steps - config.warmup)
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, begun)))
