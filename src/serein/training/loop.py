"""The training loop; nothing in it has to do with any one paper."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serein import memory
from serein.dataset import Side
from serein.devices import device_of
from serein.precision import flushed, settled
from serein.results import Epoch
from serein.system import System
from serein.training.average import Average
from serein.training.batches import shares
from serein.training.course import Course, Keep, Progress, looked, resume
from serein.training.place import Diary, Place
from serein.training.processes import answering, joined, whole
from serein.training.rates import share_of_rate
from serein.training.settings import Settings


@answering()
def fit(
    system: System,
    train: Side,
    watched: Mapping[str, Side],
    settings: Settings,
    *,
    seed: int = 0,
    device: str = "cpu",
    state: Path | None = None,
    progress: Progress = lambda epoch: None,
    keep: Keep = lambda course: False,
    enough: Keep = lambda course: False,
) -> Course:
    """Train a system, and look at the watched sides after every epoch.

    Nothing here chooses an epoch: watching costs the training side nothing, and who selects,
    selects from the course. Several processes that torchrun or srun started train one system:
    the first of them writes, and the batches of the settings are of all together.

    Args:
        system: is trained in place; its normalisation is fitted on the training side here.
        train: what it learns from.
        watched: sides to score after each epoch, by name.
        settings: of this loop.
        seed: of the weights, the order of utterances, and dropout.
        device: where to compute: "cpu", "cuda", or "auto".
        state: where to keep the state, written after every epoch, and within it as the settings
            say; a training that was interrupted goes on from there, with the same numbers.
        progress: is told of every epoch, and of the last one that an interruption left.
        keep: says after each epoch whether the course is to hold its weights.
        enough: says after each epoch whether the training is to end before its last one.

    Returns:
        The course, with the probabilities of every epoch on every watched side.

    Raises:
        StorageError: the state cannot be written, or another process of this training is gone.
    """
    torch.set_num_threads(settings.threads)
    memory.kept()
    numbers = settled(settings.precision, device_of(device))
    fabric = joined(device, numbers)
    rank, world = fabric.global_rank, fabric.world_size
    if rank:
        state, progress = None, lambda epoch: None
    course, kept = fabric.broadcast(resume(state) if state else (Course(), {}))
    if "system" not in kept and not rank:
        system.normaliser.fit(train.frames[id_] for id_ in train.ids)
    for name, task in system.tasks.items():
        task.prepare(train.targets[name])
    optimiser = _optimiser(system, settings)
    rates = share_of_rate(settings, len(train.ids))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rates)
    model, stepper = fabric.setup(system, optimiser)
    average = Average(system, settings.average)
    parts: dict[str, Any] = {"system": system, "optimiser": optimiser, "schedule": schedule}
    parts["average"] = average
    for name, part in parts.items():
        if name in kept:
            part.load_state_dict(kept[name])
    place, diary = Place(**kept.get("place", {})), Diary(state, settings.checkpoint)
    if course.epochs:
        progress(course.epochs[-1])
    while len(course.epochs) < settings.epochs and not (course.epochs and enough(course)):
        number = len(course.epochs) + 1
        started = time.perf_counter() - place.seconds
        torch.manual_seed(_seed(seed, number))
        heard = train.drawn(_seed(seed, number))
        order = heard.shuffled(settings.batch, settings.bucket, _seed(seed, number))
        place.draw_on()
        model.train()
        with flushed() if settings.flush else nullcontext():
            for batch in shares(heard, order, settings.batch, place.batches, rank, world):
                if world > 1:
                    torch.manual_seed(_seed(seed, number, place.batches, rank))
                inputs, targets = fabric.to_device((batch.inputs, batch.targets))
                stepper.zero_grad()
                cost = system.loss(whole(model(inputs), batch.counts, rank), targets)
                fabric.backward(cost * world)  # DDP takes the mean over processes, not the sum
                if settings.clip:
                    fabric.clip_gradients(model, stepper, clip_val=settings.clip)
                stepper.step()
                schedule.step()
                average.step()
                place.loss += float(cost.detach()) * len(batch) / len(train.ids)
                place.batches += 1
                if diary.due:
                    place.mark(time.perf_counter() - started)
                    diary.write(course, parts, place)
        looks = ({}, {}) if rank else looked(average.system, watched, settings.batch, numbers)
        foretold, scores = fabric.broadcast(looks)
        seconds = time.perf_counter() - started
        course.epochs.append(Epoch(epoch=number, loss=place.loss, seconds=seconds, scores=scores))
        course.foretold.append(foretold)
        if keep(course):
            weights = average.system.state_dict()
            course.weights = {name: x.detach().cpu().clone() for name, x in weights.items()}
        place = Place()
        diary.write(course, parts, place)
        progress(course.epochs[-1])
    system.load_state_dict(average.system.state_dict())
    return course


def _optimiser(system: System, settings: Settings) -> torch.optim.Optimizer:
    rate, decay, groups = settings.rate, settings.weight_decay, _groups(system, settings.rate)
    if settings.optimiser == "adam":
        return torch.optim.Adam(groups, rate, weight_decay=decay)
    return torch.optim.RMSprop(groups, rate, 0.9, 1e-7, weight_decay=decay)


def _groups(system: System, rate: float) -> list[dict[str, Any]]:
    """All weights; those of a module with a ``share`` learn at that share of the rate."""
    shares: dict[Any, float] = {}
    for module in system.modules():
        if isinstance(share := getattr(module, "share", None), float):
            shares |= dict.fromkeys(module.parameters(), share)
    groups: dict[float, list[Any]] = {}
    for parameter in system.parameters():
        groups.setdefault(shares.get(parameter, 1.0), []).append(parameter)
    return [{"params": some, "lr": share * rate} for share, some in groups.items()]


def _seed(*numbers: int) -> int:
    """A seed of its own for every epoch, so that none depends on what ran before it."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
