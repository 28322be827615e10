"""Calibration of the headline's probabilities: temperature, thresholds and their scores.

Temperatures of folds and thresholds over all folds are fitted on validation subsets; their scores
are computed on test subsets.

n = utterances, K = classes of a task.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serein.evaluation.plan import Plan
from serein.evaluation.scores import headline_epoch, spread_columns, true_labels
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
"""Fraction of utterances at or above a saved model's confidence threshold."""

Temperatures = Mapping[str, Mapping[str, float]]
"""Temperature of each fold and task."""


class LabelledProbabilities(NamedTuple):
    """Probabilities (n, K) and true classes (n,) of utterances that have a label."""

    p_nk: NDArray[np.float64]
    truth_n: NDArray[np.int64]


def fit_temperatures(plan: Plan, fold: Fold, training_run: TrainingRun) -> dict[str, float]:
    """Fit a temperature for each task on a fold's validation subset, at the headline's epoch.

    A task has no temperature if it is a regression, if the validation subset has no labels, or if
    the fit is undefined.
    """
    temperatures = {
        task: metrics.fit_temperature(*_validation_probabilities(plan, fold, training_run, task))
        for task in _classification_tasks(plan.classes)
    }
    return {task: value for task, value in temperatures.items() if not np.isnan(value)}


def measure_calibration(
    plan: Plan,
    training_runs: Mapping[str, TrainingRun],
    predictions: Sequence[Prediction],
    temperatures: Temperatures,
) -> dict[str, Calibration]:
    """Measure the calibration of each classification task over the pooled predictions.

    Args:
        plan: the plan.
        training_runs: the training run of each fold.
        predictions: every prediction.
        temperatures: the fitted temperatures.
    """
    return {
        task: _calibrate_task(plan, training_runs, predictions, temperatures, task)
        for task in _classification_tasks(plan.classes)
    }


def measure_raw_confidence(
    classes: Mapping[str, Sequence[str]], predictions: Sequence[Prediction], selection: str
) -> dict[str, Calibration]:
    """Measure the calibration of each classification task as it is, without fitting anything.

    The thresholds are those of the scored predictions themselves: a risk-coverage curve.
    """
    return {
        task: _measure_task(_test_probabilities(classes[task], predictions, selection, task))
        for task in _classification_tasks(classes)
    }


def _measure_task(labelled: LabelledProbabilities) -> Calibration:
    rows = metrics.coverage_curve(*labelled) if len(labelled.truth_n) else []
    return Calibration(
        raw=_measure_confidence(labelled),
        calibrated=None,
        thresholds=[
            (lowest, share, nan_to_none(wa), nan_to_none(ua)) for lowest, share, wa, ua in rows
        ],
    )


def _classification_tasks(classes: Mapping[str, Sequence[str]]) -> list[str]:
    return [task for task, names in classes.items() if names]


def _calibrate_task(
    plan: Plan,
    training_runs: Mapping[str, TrainingRun],
    predictions: Sequence[Prediction],
    temperatures: Temperatures,
    task: str,
) -> Calibration:
    folds = plan.protocol.folds
    selection = "validation" if any(fold.validation for fold in folds) else "last"
    if plan.external is not None:
        selection = plan.external.selections[0]
    raw = _test_probabilities(plan.classes[task], predictions, selection, task)
    if not any(task in temperatures[fold.name] for fold in folds):
        if plan.external is not None:
            return _measure_task(raw)
        return Calibration(raw=_measure_confidence(raw), calibrated=None, thresholds=[])
    test_temperatures = [
        temperatures[prediction.fold].get(task, 1.0)
        for prediction in predictions
        if prediction.truth[task] is not None
    ]
    calibrated = LabelledProbabilities(
        metrics.apply_temperatures(raw.p_nk, test_temperatures), raw.truth_n
    )
    validation = {
        fold.name: _validation_probabilities(plan, fold, training_runs[fold.name], task)
        for fold in folds
    }
    calibrated_validation = [
        LabelledProbabilities(
            metrics.apply_temperature(p_nk, temperatures[name].get(task, 1.0)), truth_n
        )
        for name, (p_nk, truth_n) in validation.items()
    ]
    thresholds = [row[0] for row in metrics.coverage_curve(*_concatenate(calibrated_validation))]
    pooled = _concatenate(validation.values())
    temperature = nan_to_none(metrics.fit_temperature(*pooled))
    return Calibration(
        raw=_measure_confidence(raw),
        calibrated=_measure_confidence(calibrated),
        thresholds=[_score_at_threshold(calibrated, threshold) for threshold in thresholds],
        temperature=temperature,
        threshold=None if temperature is None else _coverage_threshold(pooled, temperature),
    )


def _concatenate(subsets: Iterable[LabelledProbabilities]) -> LabelledProbabilities:
    return LabelledProbabilities(*map(np.concatenate, zip(*subsets, strict=True)))


def _coverage_threshold(labelled: LabelledProbabilities, temperature: float) -> float:
    """Return the confidence that a fraction `COVERAGE` of the utterances reaches."""
    p_nk = metrics.apply_temperature(labelled.p_nk, temperature)
    return metrics.coverage_curve(p_nk, labelled.truth_n, coverages=(COVERAGE,))[0][0]


def _test_probabilities(
    classes: Sequence[str], predictions: Sequence[Prediction], selection: str, task: str
) -> LabelledProbabilities:
    labelled = [prediction for prediction in predictions if prediction.truth[task] is not None]
    rows = [prediction.selections[selection][task] for prediction in labelled]
    truth_n = class_indices([prediction.truth[task] for prediction in labelled], classes)
    return LabelledProbabilities(
        metrics.normalize_probabilities(np.array(rows).reshape(-1, len(classes))), truth_n
    )


def _validation_probabilities(
    plan: Plan, fold: Fold, training_run: TrainingRun, task: str
) -> LabelledProbabilities:
    """Return the labelled part of a fold's validation subset, at the headline's epoch.

    Utterances of classes that the fold does not train are left out: no temperature helps them.
    """
    classes, trained = plan.classes[task], plan.find_trained_classes(fold)[task]
    if not fold.validation or not any("validation" in p for p in training_run.predictions):
        return LabelledProbabilities(np.empty((0, len(classes))), np.empty(0, dtype=np.int64))
    utterances = plan.corpus.select(fold.validation)
    labels = [true_labels(utterance, plan.recipe, plan.classes)[task] for utterance in utterances]
    epoch = headline_epoch(plan, fold, training_run)
    output_nk = training_run.predictions[epoch - 1]["validation"][task]
    p_nk = spread_columns(output_nk, trained, classes).double().numpy()
    is_labelled_n = np.array([label in trained for label in labels])
    truth_n = class_indices([label for label in labels if label in trained], classes)
    return LabelledProbabilities(metrics.normalize_probabilities(p_nk[is_labelled_n]), truth_n)


def _measure_confidence(labelled: LabelledProbabilities) -> CalibrationScores:
    return CalibrationScores(
        ece=nan_to_none(metrics.expected_calibration_error(*labelled)),
        brier=nan_to_none(metrics.brier_score_loss(*labelled)),
        bins=metrics.reliability_bins(*labelled),
        auroc=nan_to_none(metrics.confidence_auroc(*labelled)),
        aurc=nan_to_none(metrics.area_under_risk_coverage(*labelled)),
    )


def _score_at_threshold(
    labelled: LabelledProbabilities, threshold: float
) -> tuple[float, float, float | None, float | None]:
    """Return the threshold, the fraction of utterances that reach it, and their WA and UA."""
    p_nk, truth_n = labelled
    is_answered_n = p_nk.max(axis=1) >= threshold
    predicted = p_nk[is_answered_n].argmax(axis=1)
    confusion = confusion_matrix(truth_n[is_answered_n], predicted, range(p_nk.shape[1]))
    return (
        threshold,
        float(is_answered_n.mean()),
        nan_to_none(weighted_accuracy_from_confusion(confusion)),
        nan_to_none(unweighted_accuracy_from_confusion(confusion)),
    )
