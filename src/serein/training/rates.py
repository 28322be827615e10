"""How the learning rate goes over the steps of a training."""

import math
from collections.abc import Callable

from serein.training.settings import Settings


def share_of_rate(settings: Settings, count: int) -> Callable[[int], float]:
    """The share of ``settings.rate`` that a step takes, by the number of steps before it.

    Args:
        settings: of the loop.
        count: of the training side's utterances.
    """
    steps = settings.epochs * -(-count // settings.batch)

    def share(step: int) -> float:
        risen = min(1.0, (step + 1) / (settings.warmup + 1))
        return risen * _left(settings, step, steps) / (1 + settings.decay * step)

    return share


def _left(settings: Settings, step: int, steps: int) -> float:
    """What the schedule leaves; half a cosine from the end of the warm-up to the last step."""
    if settings.schedule == "constant":
        return 1.0
    begun = (step - settings.warmup) / max(1, steps - settings.warmup)
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, begun)))
