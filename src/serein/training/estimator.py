"""Estimators, fitted at once where networks are trained in epochs; the course has one.

n = utterances of a side.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

from serein.contracts import Estimator
from serein.dataset import Side
from serein.layers.examples import Examples
from serein.results import Epoch
from serein.system import System
from serein.training.course import Course, Keep, Progress, looked, resume, save
from serein.training.settings import Settings


def fit_estimator(
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
    """Fit a system's model and heads, and look at the watched sides once.

    It is called as the training loop is.

    Args:
        system: is fitted in place, its normalisation on the training side here.
        train: what it learns from.
        watched: sides to score, by name; settings may be picked on "validation", and on no other.
        settings: of the loop; the batch, and the threads.
        seed: of whatever an estimator draws.
        device: is not used: an estimator is fitted on the processor.
        state: where the outcome is kept, and read from when it is there.
        progress: is told of the one epoch.
        keep: says whether the course is to hold the weights.
        enough: is not asked: there is nothing to end early.

    Returns:
        The course, with the probabilities on every watched side.
    """
    torch.set_num_threads(settings.threads)
    course, kept = resume(state) if state else (Course(), {})
    if course.epochs:
        system.load_state_dict(kept["system"])
        progress(course.epochs[-1])
        return course
    started = time.perf_counter()
    torch.manual_seed(seed)
    system.normaliser.fit(train.frames[id_] for id_ in train.ids)
    for name, task in system.tasks.items():
        task.prepare(train.targets[name])
    judge = watched.get("validation")
    known = _examples(system, train, settings.batch)
    checked = _examples(system, judge, settings.batch) if judge else None
    estimator = cast(Estimator, system.model)
    course.chosen = estimator.fit(known, checked, dict(system.heads.items()))
    loss = _loss(system, train, settings.batch)
    foretold, scores = looked(system, watched, settings.batch)
    seconds = time.perf_counter() - started
    course.epochs = [Epoch(epoch=1, loss=loss, seconds=seconds, scores=scores)]
    course.foretold = [foretold]
    weights = {name: x.detach().cpu().clone() for name, x in system.state_dict().items()}
    course.weights = weights if keep(course) else {}
    if state:
        save(state, course, {"system": weights})
    progress(course.epochs[-1])
    return course


def _examples(system: System, side: Side, size: int) -> Examples:
    """The vectors that the model makes of a side before it is fitted."""
    system.eval()
    with torch.no_grad():
        parts = [system.encode(batch.inputs).vectors for batch in side.batches(size)]
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Examples(vectors, side.targets)


def _loss(system: System, side: Side, size: int) -> float:
    """The mean loss over a side, as the loop counts it."""
    total = 0.0
    with torch.no_grad():
        for batch in side.batches(size):
            total += float(system.loss(system(batch.inputs), batch.targets)) * len(batch.ids)
    return total / len(side.ids)
