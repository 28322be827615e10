"""How far the headline's confidence can be believed, and what refusing to answer would buy.

A fold's temperature, and the thresholds over all folds, come from validation sides; what they are
worth is counted on test sides.

n = utterances, K = classes of a task.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serein.evaluation.plan import Plan
from serein.evaluation.scores import headline_epoch, true_labels
from serein.metrics import calibration as metrics
from serein.metrics.classification import (
    class_indices,
    confusion_matrix,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.scoring import nan_to_none
from serein.records import Fold
from serein.results.evaluation import Calibration, CalibrationScores, Prediction
from serein.training.checkpoint import TrainingRun

COVERAGE = 0.8
"""The share of utterances that a saved model answers, where it may withhold the rest."""

Temperatures = Mapping[str, Mapping[str, float]]
"""For each fold and task."""


class LabelledProbabilities(NamedTuple):
    """Probabilities (n, K) and the true classes (n,) of utterances whose label is known."""

    p_nk: NDArray[np.float64]
    truth_n: NDArray[np.int64]


def fit_temperatures(plan: Plan, fold: Fold, training_run: TrainingRun) -> dict[str, float]:
    """What fits each task's probabilities to the fold's validation side, at the headline's epoch.

    A task has none where that side has no labels, nothing fits it, or it answers with numbers.
    """
    sides = {
        task: _validation_probabilities(plan, fold, training_run, task)
        for task in _classification_tasks(plan.classes)
    }
    fitted = {task: metrics.fit_temperature(*side) for task, side in sides.items()}
    return {task: value for task, value in fitted.items() if not np.isnan(value)}


def measure_calibration(
    plan: Plan,
    training_runs: Mapping[str, TrainingRun],
    records: Sequence[Prediction],
    fitted: Temperatures,
) -> dict[str, Calibration]:
    """The confidence of each task of classes over the pooled predictions of all folds.

    Args:
        plan: the plan.
        training_runs: what came of each fold.
        records: every prediction.
        fitted: the temperatures.
    """
    return {
        task: _calibrate_task(plan, training_runs, records, fitted, task)
        for task in _classification_tasks(plan.classes)
    }


def measure_raw_confidence(
    classes: Mapping[str, Sequence[str]], records: Sequence[Prediction], selection: str
) -> dict[str, Calibration]:
    """The confidence of each task of classes as it is, where nothing is left to fit."""
    return {
        task: Calibration(
            raw=_measure_confidence(_test_probabilities(classes[task], records, selection, task)),
            calibrated=None,
            thresholds=[],
        )
        for task in _classification_tasks(classes)
    }


def _classification_tasks(classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Tasks that answer with probabilities; a number has none."""
    return [task for task, names in classes.items() if names]


def _calibrate_task(
    plan: Plan,
    training_runs: Mapping[str, TrainingRun],
    records: Sequence[Prediction],
    fitted: Temperatures,
    task: str,
) -> Calibration:
    selection = "validation" if any(fold.validation for fold in plan.protocol.folds) else "last"
    raw = _test_probabilities(plan.classes[task], records, selection, task)
    if not any(task in fitted[fold.name] for fold in plan.protocol.folds):
        return Calibration(raw=_measure_confidence(raw), calibrated=None, thresholds=[])
    heat = [fitted[one.fold].get(task, 1.0) for one in records if one.truth[task] is not None]
    warm = LabelledProbabilities(_apply_temperatures(raw.p_nk, heat), raw.truth_n)
    sides = {
        fold.name: _validation_probabilities(plan, fold, training_runs[fold.name], task)
        for fold in plan.protocol.folds
    }
    own = [
        LabelledProbabilities(metrics.apply_temperature(p_nk, fitted[name].get(task, 1.0)), truth_n)
        for name, (p_nk, truth_n) in sides.items()
    ]
    limits = [row[0] for row in metrics.coverage_curve(*_concatenate(own))]
    together = _concatenate(sides.values())
    temperature = nan_to_none(metrics.fit_temperature(*together))
    return Calibration(
        raw=_measure_confidence(raw),
        calibrated=_measure_confidence(warm),
        thresholds=[_score_at_threshold(warm, limit) for limit in limits],
        temperature=temperature,
        threshold=None if temperature is None else _coverage_threshold(together, temperature),
    )


def _concatenate(subsets: Iterable[LabelledProbabilities]) -> LabelledProbabilities:
    return LabelledProbabilities(*map(np.concatenate, zip(*subsets, strict=True)))


def _coverage_threshold(answers: LabelledProbabilities, temperature: float) -> float:
    """The confidence that four in five answers reach at one temperature."""
    warm = metrics.apply_temperature(answers.p_nk, temperature)
    return metrics.coverage_curve(warm, answers.truth_n, coverages=(COVERAGE,))[0][0]


def _test_probabilities(
    classes: Sequence[str], records: Sequence[Prediction], selection: str, task: str
) -> LabelledProbabilities:
    labelled = [one for one in records if one.truth[task] is not None]
    rows = [one.selections[selection][task] for one in labelled]
    truth_n = class_indices([one.truth[task] for one in labelled], classes)
    return LabelledProbabilities(_normalize_rows(np.array(rows).reshape(-1, len(classes))), truth_n)


def _validation_probabilities(
    plan: Plan, fold: Fold, training_run: TrainingRun, task: str
) -> LabelledProbabilities:
    """A fold's validation side at the headline's epoch."""
    classes = plan.classes[task]
    if not fold.validation:
        return LabelledProbabilities(np.empty((0, len(classes))), np.empty(0, dtype=np.int64))
    side = plan.corpus.select(fold.validation)
    labels = [true_labels(one, plan.recipe, plan.classes)[task] for one in side]
    p_nk = (
        training_run.predictions[headline_epoch(plan, fold, training_run) - 1]["validation"][task]
        .double()
        .numpy()
    )
    labelled = np.array([label is not None for label in labels])
    truth_n = class_indices([label for label in labels if label is not None], classes)
    return LabelledProbabilities(_normalize_rows(p_nk[labelled]), truth_n)


def _normalize_rows(p_nk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that sum to 1 in double precision, none of them 0 where single precision gave up."""
    lifted = np.maximum(p_nk, 1e-12)
    return lifted / lifted.sum(axis=1, keepdims=True)


def _apply_temperatures(
    p_nk: NDArray[np.float64], temperatures: Sequence[float]
) -> NDArray[np.float64]:
    """Each row at its own temperature."""
    found = np.empty_like(p_nk)
    for temperature in set(temperatures):
        own = np.array(temperatures) == temperature
        found[own] = metrics.apply_temperature(p_nk[own], temperature)
    return found


def _measure_confidence(answers: LabelledProbabilities) -> CalibrationScores:
    return CalibrationScores(
        ece=nan_to_none(metrics.expected_calibration_error(*answers)),
        brier=nan_to_none(metrics.brier_score_loss(*answers)),
        bins=metrics.reliability_bins(*answers),
    )


def _score_at_threshold(
    answers: LabelledProbabilities, threshold: float
) -> tuple[float, float, float | None, float | None]:
    """The threshold, the share that reaches it, and the WA and UA of that share."""
    kept = answers.p_nk.max(axis=1) >= threshold
    chosen = answers.p_nk[kept].argmax(axis=1)
    confusion = confusion_matrix(answers.truth_n[kept], chosen, range(answers.p_nk.shape[1]))
    return (
        threshold,
        float(kept.mean()),
        nan_to_none(weighted_accuracy_from_confusion(confusion)),
        nan_to_none(unweighted_accuracy_from_confusion(confusion)),
    )
