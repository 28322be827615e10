"""Estimators, fitted at once where networks are trained in epochs; the course has one.

n = utterances of a side.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

from serein.interfaces import Estimator
from serein.layers.outputs import Examples
from serein.results.evaluation import Epoch
from serein.system import System
from serein.training.checkpoint import (
    EpochCallback,
    EpochPredicate,
    TrainingRun,
    evaluate_subsets,
    load_checkpoint,
    save_checkpoint,
)
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset


def fit_estimator(
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
    """Fit a system's model and heads, and look at the watched sides once.

    It is called as the training loop is.

    Args:
        system: is fitted in place, its normalisation on the training side here.
        train: what it learns from.
        eval_subsets: sides to score, by name; settings may be picked on "validation", and on no other.
        config: of the loop; the batch, and the threads.
        seed: of whatever an estimator draws.
        device: is not used: an estimator is fitted on the processor.
        checkpoint: where the outcome is kept, and read from when it is there.
        on_epoch_end: is told of the one epoch.
        keep_weights: says whether the course is to hold the weights.
        should_stop: is not asked: there is nothing to end early.

    Returns:
        The course, with the probabilities on every watched side.
    """
    torch.set_num_threads(config.threads)
    course, kept = load_checkpoint(checkpoint) if checkpoint else (TrainingRun(), {})
    if course.epochs:
        system.load_state_dict(kept["system"])
        on_epoch_end(course.epochs[-1])
        return course
    started = time.perf_counter()
    torch.manual_seed(seed)
    system.normaliser.fit(train.frames[id_] for id_ in train.ids)
    for name, task in system.tasks.items():
        task.prepare(train.targets[name])
    judge = eval_subsets.get("validation")
    known = _collect_examples(system, train, config.batch)
    checked = _collect_examples(system, judge, config.batch) if judge else None
    estimator = cast(Estimator, system.model)
    course.selected_settings = estimator.fit(known, checked, dict(system.heads.items()))
    loss = _mean_loss(system, train, config.batch)
    foretold, scores = evaluate_subsets(system, eval_subsets, config.batch)
    seconds = time.perf_counter() - started
    course.epochs = [Epoch(epoch=1, loss=loss, seconds=seconds, scores=scores)]
    course.predictions = [foretold]
    weights = {name: x.detach().cpu().clone() for name, x in system.state_dict().items()}
    course.weights = weights if keep_weights(course) else {}
    if checkpoint:
        save_checkpoint(checkpoint, course, {"system": weights})
    on_epoch_end(course.epochs[-1])
    return course


def _collect_examples(system: System, subset: Subset, size: int) -> Examples:
    """The vectors that the model makes of a side before it is fitted."""
    system.eval()
    with torch.no_grad():
        parts = [system.encode(batch.inputs).vectors for batch in subset.iter_batches(size)]
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Examples(vectors, subset.targets)


def _mean_loss(system: System, subset: Subset, size: int) -> float:
    """The mean loss over a side, as the loop counts it."""
    total = 0.0
    with torch.no_grad():
        for batch in subset.iter_batches(size):
            total += float(system.loss(system(batch.inputs), batch.targets)) * len(batch.ids)
    return total / len(subset.ids)
