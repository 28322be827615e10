"""How far the headline's confidence can be believed, and what refusing to answer would buy.

A fold's temperature, and the thresholds over all folds, come from validation sides; what they are
worth is counted on test sides.

n = utterances, K = classes of a task.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serein.experiment.plan import Plan
from serein.experiment.scores import quoted, truths
from serein.metrics import calibration as metrics
from serein.metrics.classification import (
    class_indices,
    confusion_matrix,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.measures import defined
from serein.records import Fold
from serein.results import Calibration, Confidence, Prediction
from serein.training.course import Course

ANSWERED = 0.8
"""The share of utterances that a saved model answers, where it may withhold the rest."""

Temperatures = Mapping[str, Mapping[str, float]]
"""For each fold and task."""


class Answers(NamedTuple):
    """Probabilities (n, K) and the true classes (n,) of utterances whose label is known."""

    p_nk: NDArray[np.float64]
    truth_n: NDArray[np.int64]


def temperatures(todo: Plan, fold: Fold, course: Course) -> dict[str, float]:
    """What fits each task's probabilities to the fold's validation side, at the headline's epoch.

    A task has none where that side has no labels, nothing fits it, or it answers with numbers.
    """
    sides = {task: _validated(todo, fold, course, task) for task in _unsure(todo.classes)}
    fitted = {task: metrics.temperature(*side) for task, side in sides.items()}
    return {task: value for task, value in fitted.items() if not np.isnan(value)}


def calibrations(
    todo: Plan, courses: Mapping[str, Course], records: Sequence[Prediction], fitted: Temperatures
) -> dict[str, Calibration]:
    """The confidence of each task of classes over the pooled predictions of all folds.

    Args:
        todo: the plan.
        courses: what came of each fold.
        records: every prediction.
        fitted: the temperatures.
    """
    return {
        task: _calibration(todo, courses, records, fitted, task) for task in _unsure(todo.classes)
    }


def unfitted(
    classes: Mapping[str, Sequence[str]], records: Sequence[Prediction], selection: str
) -> dict[str, Calibration]:
    """The confidence of each task of classes as it is, where nothing is left to fit."""
    return {
        task: Calibration(
            raw=_confidence(_tested(classes[task], records, selection, task)),
            tempered=None,
            thresholds=[],
        )
        for task in _unsure(classes)
    }


def _unsure(classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Tasks that answer with probabilities; a number has none."""
    return [task for task, names in classes.items() if names]


def _calibration(
    todo: Plan,
    courses: Mapping[str, Course],
    records: Sequence[Prediction],
    fitted: Temperatures,
    task: str,
) -> Calibration:
    selection = "validation" if any(fold.validation for fold in todo.protocol.folds) else "last"
    raw = _tested(todo.classes[task], records, selection, task)
    if not any(task in fitted[fold.name] for fold in todo.protocol.folds):
        return Calibration(raw=_confidence(raw), tempered=None, thresholds=[])
    heat = [fitted[one.fold].get(task, 1.0) for one in records if one.truth[task] is not None]
    warm = Answers(_tempered(raw.p_nk, heat), raw.truth_n)
    sides = {
        fold.name: _validated(todo, fold, courses[fold.name], task) for fold in todo.protocol.folds
    }
    own = [
        Answers(metrics.tempered(p_nk, fitted[name].get(task, 1.0)), truth_n)
        for name, (p_nk, truth_n) in sides.items()
    ]
    limits = [row[0] for row in metrics.coverage_curve(*_joined(own))]
    together = _joined(sides.values())
    temperature = defined(metrics.temperature(*together))
    return Calibration(
        raw=_confidence(raw),
        tempered=_confidence(warm),
        thresholds=[_answered(warm, limit) for limit in limits],
        temperature=temperature,
        threshold=None if temperature is None else _reached(together, temperature),
    )


def _joined(sides: Iterable[Answers]) -> Answers:
    return Answers(*map(np.concatenate, zip(*sides, strict=True)))


def _reached(answers: Answers, temperature: float) -> float:
    """The confidence that four in five answers reach at one temperature."""
    warm = metrics.tempered(answers.p_nk, temperature)
    return metrics.coverage_curve(warm, answers.truth_n, shares=(ANSWERED,))[0][0]


def _tested(
    classes: Sequence[str], records: Sequence[Prediction], selection: str, task: str
) -> Answers:
    labelled = [one for one in records if one.truth[task] is not None]
    rows = [one.selections[selection][task] for one in labelled]
    truth_n = class_indices([one.truth[task] for one in labelled], classes)
    return Answers(_shares(np.array(rows).reshape(-1, len(classes))), truth_n)


def _validated(todo: Plan, fold: Fold, course: Course, task: str) -> Answers:
    """A fold's validation side at the headline's epoch."""
    classes = todo.classes[task]
    if not fold.validation:
        return Answers(np.empty((0, len(classes))), np.empty(0, dtype=np.int64))
    side = todo.corpus.of(fold.validation)
    labels = [truths(one, todo.recipe, todo.classes)[task] for one in side]
    p_nk = course.foretold[quoted(todo, fold, course) - 1]["validation"][task].double().numpy()
    labelled = np.array([label is not None for label in labels])
    truth_n = class_indices([label for label in labels if label is not None], classes)
    return Answers(_shares(p_nk[labelled]), truth_n)


def _shares(p_nk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that sum to 1 in double precision, none of them 0 where single precision gave up."""
    lifted = np.maximum(p_nk, 1e-12)
    return lifted / lifted.sum(axis=1, keepdims=True)


def _tempered(p_nk: NDArray[np.float64], heat: Sequence[float]) -> NDArray[np.float64]:
    """Each row at its own temperature."""
    found = np.empty_like(p_nk)
    for temperature in set(heat):
        own = np.array(heat) == temperature
        found[own] = metrics.tempered(p_nk[own], temperature)
    return found


def _confidence(answers: Answers) -> Confidence:
    return Confidence(
        ece=defined(metrics.expected_calibration_error(*answers)),
        brier=defined(metrics.brier_score_loss(*answers)),
        bins=metrics.reliability_bins(*answers),
    )


def _answered(
    answers: Answers, threshold: float
) -> tuple[float, float, float | None, float | None]:
    """The threshold, the share that reaches it, and the WA and UA of that share."""
    kept = answers.p_nk.max(axis=1) >= threshold
    chosen = answers.p_nk[kept].argmax(axis=1)
    confusion = confusion_matrix(answers.truth_n[kept], chosen, range(answers.p_nk.shape[1]))
    return (
        threshold,
        float(kept.mean()),
        defined(weighted_accuracy_from_confusion(confusion)),
        defined(unweighted_accuracy_from_confusion(confusion)),
    )
