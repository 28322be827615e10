"""The training loop of networks, learning rate schedules, and averaging of weights."""

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
from serein.utils.device import (
    flush_denormals,
    resolve_device,
    resolve_precision,
    restore_torch_state,
)

DEFAULT_EPSILON = {"adam": 1e-8, "rmsprop": 1e-7}
"""Epsilon of each optimizer where the settings have 0."""


@handle_lost_processes()
@restore_torch_state()
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
    keep_weights: EpochPredicate = lambda run: False,
    should_stop: EpochPredicate = lambda run: False,
) -> TrainingRun:
    """Train a system, and evaluate it after every epoch.

    Evaluation does not influence the training; epochs are selected from the returned history. The
    processes that torchrun or srun started train one system together: rank 0 writes the files, and
    the batch size counts the utterances of all processes.

    Args:
        system: is trained in place; its normalisation is fitted on the training subset.
        train: subset to train on.
        eval_subsets: to evaluate after each epoch, by name.
        config: settings of training.
        seed: of the order of utterances, dropout and augmentation.
        device: "cpu", "cuda", or "auto".
        checkpoint: file to write after every epoch, and within epochs at the interval of the
            settings. If it exists, training continues from it, with the same numbers as without
            an interruption.
        on_epoch_end: called with every epoch, and at the start with the last epoch of a
            checkpoint.
        keep_weights: decides after each epoch whether the history keeps its weights.
        should_stop: decides after each epoch whether to stop early.

    Returns:
        The history, with the predictions of every epoch on every evaluated subset.

    Raises:
        StorageError: the checkpoint cannot be written, or another process of this training is
            lost.
    """
    torch.set_num_threads(config.threads)
    precision = resolve_precision(config.precision, resolve_device(device))
    fabric = launch_fabric(device, precision)
    rank, world = fabric.global_rank, fabric.world_size
    if rank:
        checkpoint, on_epoch_end = None, lambda epoch: None
    run, states = fabric.broadcast(
        load_checkpoint(checkpoint) if checkpoint else (TrainingRun(), {})
    )
    if "system" not in states and not rank:
        system.normaliser.fit(train.frames[id_] for id_ in train.ids)
    for name, task in system.tasks.items():
        task.fit_statistics(train.targets[name])
    optimizer = _build_optimizer(system, config)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_schedule(config, len(train.ids)))
    model, fabric_optimizer = fabric.setup(system, optimizer)
    average = WeightAverage(system, config.ema_decay)
    stateful: dict[str, Any] = {
        "system": system,
        "optimiser": optimizer,
        "schedule": scheduler,
        "average": average,
    }
    for name, part in stateful.items():
        if name in states:
            part.load_state_dict(states[name])
    position = EpochPosition(**states.get("position", {}))
    writer = CheckpointWriter(checkpoint, config.checkpoint)
    if run.epochs:
        on_epoch_end(run.epochs[-1])
    while len(run.epochs) < config.epochs and not (run.epochs and should_stop(run)):
        number = len(run.epochs) + 1
        epoch_seed = _derive_seed(seed, number)
        started = time.perf_counter() - position.seconds
        torch.manual_seed(epoch_seed)
        subset = train.draw_epoch(epoch_seed)
        order = subset.shuffled_order(config.batch, config.bucket, epoch_seed)
        position.restore_rng()
        model.train()
        with flush_denormals() if config.flush_denormals else nullcontext():
            for batch in shard_batches(subset, order, config.batch, position.batches, rank, world):
                if world > 1:
                    torch.manual_seed(_derive_seed(seed, number, position.batches, rank))
                inputs, targets = fabric.to_device((batch.inputs, batch.targets))
                fabric_optimizer.zero_grad()
                loss = system.loss(gather_output(model(inputs), batch.counts, rank), targets)
                fabric.backward(loss * world)  # DDP averages gradients; we need their sum
                if config.clip:
                    fabric.clip_gradients(model, fabric_optimizer, clip_val=config.clip)
                fabric_optimizer.step()
                scheduler.step()
                average.step()
                position.loss += float(loss.detach()) * len(batch) / len(train.ids)
                position.batches += 1
                if writer.is_due:
                    position.seconds = time.perf_counter() - started
                    position.capture_rng()
                    writer.write(run, stateful, position)
        evaluation = (
            ({}, {})
            if rank
            else evaluate_subsets(average.system, eval_subsets, config.batch, precision)
        )
        predictions, scores = fabric.broadcast(evaluation)
        seconds = time.perf_counter() - started
        run.epochs.append(Epoch(epoch=number, loss=position.loss, seconds=seconds, scores=scores))
        run.predictions.append(predictions)
        if keep_weights(run):
            weights = average.system.state_dict()
            run.weights = {name: x.detach().cpu().clone() for name, x in weights.items()}
        position = EpochPosition()
        writer.write(run, stateful, position)
        on_epoch_end(run.epochs[-1])
    system.load_state_dict(average.system.state_dict())
    return run


def _build_optimizer(system: System, config: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = config.rate, config.weight_decay
    groups = _build_parameter_groups(system, config)
    epsilon = config.epsilon or DEFAULT_EPSILON[config.optimiser]
    if config.optimiser == "adam":
        return torch.optim.Adam(groups, rate, eps=epsilon, weight_decay=decay)
    return torch.optim.RMSprop(groups, rate, 0.9, epsilon, weight_decay=decay)


def _build_parameter_groups(system: System, config: TrainingConfig) -> list[dict[str, Any]]:
    """Group parameters by learning rate and L2 penalty.

    A module may have factors of both, ``lr_factor`` and ``decay_factor``; without them, they are 1.
    """
    factors: dict[Any, tuple[float, float]] = {}
    for module in system.modules():
        pair = getattr(module, "lr_factor", None), getattr(module, "decay_factor", None)
        if any(isinstance(factor, float) for factor in pair):
            lr_factor, decay_factor = (x if isinstance(x, float) else 1.0 for x in pair)
            factors |= dict.fromkeys(module.parameters(), (lr_factor, decay_factor))
    groups: dict[tuple[float, float], list[Any]] = {}
    for parameter in system.parameters():
        groups.setdefault(factors.get(parameter, (1.0, 1.0)), []).append(parameter)
    return [
        {
            "params": group,
            "lr": lr_factor * config.rate,
            "weight_decay": decay_factor * config.weight_decay,
        }
        for (lr_factor, decay_factor), group in groups.items()
    ]


def _derive_seed(*numbers: int) -> int:
    """Return a seed for these numbers, such as the run's seed and the epoch."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def lr_schedule(config: TrainingConfig, count: int) -> Callable[[int], float]:
    """Return the function from the number of finished steps to the factor of the learning rate.

    Args:
        config: settings of training.
        count: number of utterances of the training subset.
    """
    steps = config.epochs * -(-count // config.batch)

    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / (config.warmup + 1))
        return warmup * _schedule_factor(config, step, steps) / (1 + config.decay * step)

    return factor


def _schedule_factor(config: TrainingConfig, step: int, steps: int) -> float:
    """Return the schedule's factor: 1, or half a cosine from the end of warm-up to the end."""
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, progress)))


class WeightAverage:
    """An exponential moving average (EMA) of a system's weights.

    The decay after n steps is at most (1 + n) / (10 + n), so that the initial weights soon lose
    their influence. With a decay of 0, the average is the system itself.

    Attributes:
        system: with the averaged weights; it is evaluated and saved.
    """

    def __init__(self, system: System, decay: float) -> None:
        """Start from the current weights.

        Args:
            system: that is trained, on its device.
            decay: weight of the previous average at each step.
        """
        self.decay = decay
        self.steps = 0
        self.system = deepcopy(system) if decay else system
        self._trained = system

    def step(self) -> None:
        """Update the average after an optimizer step."""
        if not self.decay:
            return
        self.steps += 1
        gain = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        trained, average = self._trained, self.system
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), trained.parameters(), strict=True):
                mean.lerp_(weight, gain)
            for copy, buffer in zip(average.buffers(), trained.buffers(), strict=True):
                copy.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint; empty without averaging."""
        return {"steps": self.steps, "system": self.system.state_dict()} if self.decay else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        if self.decay:
            self.steps = state["steps"]
            self.system.load_state_dict(state["system"])
