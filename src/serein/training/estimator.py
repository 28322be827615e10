"""Fitting of estimators (such as an SVM), which are not trained in epochs."""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from serein.interfaces import Estimator
from serein.labels.votes import vote_target_name
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
from serein.training.sampling import AugmentedSubset
from serein.utils.device import restore_torch_state


@restore_torch_state()
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
    keep_weights: EpochPredicate = lambda run: False,
    should_stop: EpochPredicate = lambda run: False,
) -> TrainingRun:
    """Fit the model and heads of a system, and evaluate it once.

    The signature is that of ``fit`` for networks; the history has one epoch.

    Args:
        system: is fitted in place; its normalisation on the training subset.
        train: subset to fit.
        eval_subsets: to evaluate, by name; settings are selected on "validation" only.
        config: ``batch`` and ``threads`` are used.
        seed: of torch's generator.
        device: not used; estimators are fitted on the CPU.
        checkpoint: file of the result; if it exists, it is read and nothing is fitted.
        on_epoch_end: called with the only epoch.
        keep_weights: decides whether the history keeps the weights.
        should_stop: not used; there is nothing to stop early.

    Returns:
        The history, with predictions on every evaluated subset.
    """
    torch.set_num_threads(config.threads)
    run, states = load_checkpoint(checkpoint) if checkpoint else (TrainingRun(), {})
    if run.epochs:
        system.load_state_dict(states["system"])
        on_epoch_end(run.epochs[-1])
        return run
    started = time.perf_counter()
    torch.manual_seed(seed)
    system.normaliser.fit(train.frames[id_] for id_ in train.ids)
    for name, task in system.tasks.items():
        task.fit_statistics(train.targets[name])
    validation = eval_subsets.get("validation")
    run.selected_settings = cast(Estimator, system.model).fit(
        _collect_examples(system, train, config.batch),
        _collect_examples(system, validation, config.batch) if validation else None,
        dict(system.heads.items()),
    )
    loss = _mean_loss(system, train, config.batch)
    predictions, scores = evaluate_subsets(system, eval_subsets, config.batch)
    seconds = time.perf_counter() - started
    run.epochs = [Epoch(epoch=1, loss=loss, seconds=seconds, scores=scores)]
    run.predictions = [predictions]
    weights = {name: x.detach().cpu().clone() for name, x in system.state_dict().items()}
    run.weights = weights if keep_weights(run) else {}
    if checkpoint:
        save_checkpoint(checkpoint, run, {"system": weights})
    on_epoch_end(run.epochs[-1])
    return run


def _collect_examples(system: System, subset: Subset, size: int) -> Examples:
    """Compute the vectors of a subset, which the model makes before it is fitted."""
    votes = {name: subset.targets.get(vote_target_name(name)) for name in system.tasks}
    copies: list[Subset] = []
    groups: Sequence[Hashable] = ()
    if isinstance(subset, AugmentedSubset):
        copies = [replace(subset, frames=frames) for frames in subset.augmented_frames]
        groups = subset.groups
    return Examples(
        _collect_vectors(system, subset, size),
        subset.targets,
        [_collect_vectors(system, copy, size) for copy in copies],
        groups,
        {name: votes_nk for name, votes_nk in votes.items() if votes_nk is not None},
    )


def _collect_vectors(system: System, subset: Subset, size: int) -> dict[str, torch.Tensor]:
    system.eval()
    with torch.no_grad():
        batches = [system.encode(batch.inputs).vectors for batch in subset.iter_batches(size)]
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _mean_loss(system: System, subset: Subset, size: int) -> float:
    """Compute the mean loss over a subset, as the training loop does."""
    total = 0.0
    with torch.no_grad():
        for batch in subset.iter_batches(size):
            total += float(system.loss(system(batch.inputs), batch.targets)) * len(batch.ids)
    return total / len(subset.ids)
