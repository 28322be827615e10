"""The training loop; nothing in it has to do with any one paper.

How the learning rate goes over the steps of a training.

Weights averaged over the steps of a training.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serein.results.evaluation import Epoch
from serein.system import System
from serein.training.checkpoint import (
    CheckpointWriter,
    EpochCallback,
    EpochPosition,
    EpochPredicate,
    TrainingRun,
    evaluate_subsets,
    load_checkpoint,
)
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.distributed import gather_output, handle_lost_processes, launch_fabric
from serein.training.sampling import shard_batches
from serein.utils import device as memory
from serein.utils.device import flush_denormals, resolve_device, resolve_precision


@handle_lost_processes()
def fit(
    system: System,
    train: Subset,
    eval_subsets: Mapping[str, Subset],
    config: TrainingConfig,
    *,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_epoch_end: EpochCallback = lambda epoch: None,
    keep_weights: EpochPredicate = lambda course: False,
    should_stop: EpochPredicate = lambda course: False,
) -> TrainingRun:
    """Train a system, and look at the watched sides after every epoch.

    Nothing here chooses an epoch: watching costs the training side nothing, and who selects,
    selects from the course. Several processes that torchrun or srun started train one system:
    the first of them writes, and the batches of the settings are of all together.

    Args:
        system: is trained in place; its normalisation is fitted on the training side here.
        train: what it learns from.
        eval_subsets: sides to score after each epoch, by name.
        config: of this loop.
        seed: of the weights, the order of utterances, and dropout.
        device: where to compute: "cpu", "cuda", or "auto".
        checkpoint: where to keep the state, written after every epoch, and within it as the settings
            say; a training that was interrupted goes on from there, with the same numbers.
        on_epoch_end: is told of every epoch, and of the last one that an interruption left.
        keep_weights: says after each epoch whether the course is to hold its weights.
        should_stop: says after each epoch whether the training is to end before its last one.

    Returns:
        The course, with the probabilities of every epoch on every watched side.

    Raises:
        StorageError: the state cannot be written, or another process of this training is gone.
    """
    torch.set_num_threads(config.threads)
    memory.keep_freed_memory()
    numbers = resolve_precision(config.precision, resolve_device(device))
    fabric = launch_fabric(device, numbers)
    rank, world = fabric.global_rank, fabric.world_size
    if rank:
        checkpoint, on_epoch_end = None, lambda epoch: None
    course, kept = fabric.broadcast(
        load_checkpoint(checkpoint) if checkpoint else (TrainingRun(), {})
    )
    if "system" not in kept and not rank:
        system.normaliser.fit(train.frames[id_] for id_ in train.ids)
    for name, task in system.tasks.items():
        task.prepare(train.targets[name])
    optimiser = _build_optimizer(system, config)
    rates = lr_schedule(config, len(train.ids))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rates)
    model, stepper = fabric.setup(system, optimiser)
    average = WeightAverage(system, config.ema_decay)
    parts: dict[str, Any] = {"system": system, "optimiser": optimiser, "schedule": schedule}
    parts["average"] = average
    for name, part in parts.items():
        if name in kept:
            part.load_state_dict(kept[name])
    place, diary = (
        EpochPosition(**kept.get("place", {})),
        CheckpointWriter(checkpoint, config.checkpoint),
    )
    if course.epochs:
        on_epoch_end(course.epochs[-1])
    while len(course.epochs) < config.epochs and not (course.epochs and should_stop(course)):
        number = len(course.epochs) + 1
        started = time.perf_counter() - place.seconds
        torch.manual_seed(_derive_seed(seed, number))
        heard = train.draw_epoch(_derive_seed(seed, number))
        order = heard.shuffled_order(config.batch, config.bucket, _derive_seed(seed, number))
        place.restore_rng()
        model.train()
        with flush_denormals() if config.flush_denormals else nullcontext():
            for batch in shard_batches(heard, order, config.batch, place.batches, rank, world):
                if world > 1:
                    torch.manual_seed(_derive_seed(seed, number, place.batches, rank))
                inputs, targets = fabric.to_device((batch.inputs, batch.targets))
                stepper.zero_grad()
                cost = system.loss(gather_output(model(inputs), batch.counts, rank), targets)
                fabric.backward(cost * world)  # DDP takes the mean over processes, not the sum
                if config.clip:
                    fabric.clip_gradients(model, stepper, clip_val=config.clip)
                stepper.step()
                schedule.step()
                average.step()
                place.loss += float(cost.detach()) * len(batch) / len(train.ids)
                place.batches += 1
                if diary.is_due:
                    place.capture_rng(time.perf_counter() - started)
                    diary.write(course, parts, place)
        looks = (
            ({}, {})
            if rank
            else evaluate_subsets(average.system, eval_subsets, config.batch, numbers)
        )
        foretold, scores = fabric.broadcast(looks)
        seconds = time.perf_counter() - started
        course.epochs.append(Epoch(epoch=number, loss=place.loss, seconds=seconds, scores=scores))
        course.predictions.append(foretold)
        if keep_weights(course):
            weights = average.system.state_dict()
            course.weights = {name: x.detach().cpu().clone() for name, x in weights.items()}
        place = EpochPosition()
        diary.write(course, parts, place)
        on_epoch_end(course.epochs[-1])
    system.load_state_dict(average.system.state_dict())
    return course


def _build_optimizer(system: System, config: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay, groups = (
        config.rate,
        config.weight_decay,
        _build_parameter_groups(system, config.rate),
    )
    if config.optimiser == "adam":
        return torch.optim.Adam(groups, rate, weight_decay=decay)
    return torch.optim.RMSprop(groups, rate, 0.9, 1e-7, weight_decay=decay)


def _build_parameter_groups(system: System, rate: float) -> list[dict[str, Any]]:
    """All weights; those of a module with a ``share`` learn at that share of the rate."""
    shares: dict[Any, float] = {}
    for module in system.modules():
        if isinstance(share := getattr(module, "lr_factor", None), float):
            shares |= dict.fromkeys(module.parameters(), share)
    groups: dict[float, list[Any]] = {}
    for parameter in system.parameters():
        groups.setdefault(shares.get(parameter, 1.0), []).append(parameter)
    return [{"params": some, "lr": share * rate} for share, some in groups.items()]


def _derive_seed(*numbers: int) -> int:
    """A seed of its own for every epoch, so that none depends on what ran before it."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


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


class WeightAverage:
    """An exponential moving average of a system's weights; with a decay of 0, the system itself.

    Over the first steps the decay is lower, (1 + n) / (10 + n) after n of them, so that the weights
    that a training began with are soon forgotten.

    Attributes:
        system: the average; what is watched, kept and saved.
    """

    def __init__(self, system: System, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            system: that trains, on its device.
            decay: what remains of the average at each step.
        """
        self.decay = decay
        self.steps = 0
        self.system = deepcopy(system) if decay else system
        self._last = system

    def step(self) -> None:
        """Take in the weights of a step."""
        if not self.decay:
            return
        self.steps += 1
        gain = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for mean, last in zip(self.system.parameters(), self._last.parameters(), strict=True):
                mean.lerp_(last, gain)
            buffers = zip(self.system.buffers(), self._last.buffers(), strict=True)
            for kept, now in buffers:
                kept.copy_(now)

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on needs."""
        return {"steps": self.steps, "system": self.system.state_dict()} if self.decay else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self.decay:
            self.steps = state["steps"]
            self.system.load_state_dict(state["system"])
