"""Courses to scores: which epoch each selection takes, and what it is worth.

Scores pool the predictions of all folds; the mean over folds stands beside them.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.experiment.plan import Plan
from serein.metrics import classification as metrics
from serein.metrics.significance import (
    Statistic,
    bootstrap_interval,
    grouped_confusions,
    speaker_or_utterance_groups,
)
from serein.records import Fold, Recipe, Utterance
from serein.results import ClassScores, FoldResult, Prediction
from serein.system import is_fitted, label_of
from serein.training.course import Course

Pair = dict[str, float | None]
"""WA and UA."""
WORDS = {  # what each selection means; "optimistic" marks the one that saw the test side
    "validation": "the epoch with the best {ua} on the fold's validation speakers",
    "last": "the last epoch",
    "test": "the epoch with the best {ua} on each fold's test side: optimistic, picked "
    "on what it is scored on, as several papers report",
}


FITTED = {  # the same of an estimator, which has no epochs to choose from
    "validation": "fitted once, C of each task by its own UA on the fold's validation speakers, "
    "unless the recipe gives it",
    "last": "fitted once, C as the recipe gives it: no validation speakers picked it",
}


def meaning(plan: Plan, selection: str) -> str:
    """What a selection means in this run, in words."""
    if is_fitted(plan.recipe):
        return FITTED[selection]
    tasks = choosing(plan)
    kind = "UA" if len(tasks) == 1 else "mean UA"
    words = WORDS[selection].format(ua=f"{kind} of {', '.join(tasks)}")
    if selection == "last" and plan.training.patience:
        return f"{words}; a fold ends when {plan.training.patience} have brought no better one"
    count = plan.training.smooth
    if selection == "validation" and count > 1:
        return f"{words}, averaged over {count} epochs, the last of which it is"
    return words


def selected(plan: Plan, fold: Fold, course: Course) -> dict[str, int]:
    """The epoch that each selection takes, counted from 1; an estimator has but one to quote."""
    if is_fitted(plan.recipe):
        return {"validation" if fold.validation else "last": 1}
    epochs = {"last": len(course.epochs), "test": course.best("test", choosing(plan))}
    if fold.validation:
        return {"validation": quoted(plan, fold, course), **epochs}
    return epochs


def quoted(plan: Plan, fold: Fold, course: Course) -> int:
    """The epoch of the headline, counted from 1; it is known as soon as it has ended."""
    if not fold.validation:
        return len(course.epochs)
    return course.best("validation", choosing(plan), smooth=plan.training.smooth)


def choosing(plan: Plan) -> tuple[str, ...]:
    """The tasks whose UA chooses an epoch."""
    tasks = tuple(plan.recipe.tasks)
    return tasks if plan.training.choose == "mean" else tasks[:1]


def enough(plan: Plan, fold: Fold, course: Course) -> bool:
    """Whether validation has seen no better epoch for as long as the recipe waits."""
    waited = len(course.epochs) - quoted(plan, fold, course)
    return bool(plan.training.patience and fold.validation) and waited >= plan.training.patience


def fold_result(plan: Plan, fold: Fold, course: Course) -> FoldResult:
    """One fold's outcome."""
    epochs = selected(plan, fold, course)
    scores = {name: course.epochs[epoch - 1].scores["test"] for name, epoch in epochs.items()}
    return FoldResult(
        name=fold.name,
        epochs=epochs,
        scores=scores,
        history=course.epochs,
        chosen=course.chosen,
    )


def predictions(plan: Plan, fold: Fold, course: Course) -> list[Prediction]:
    """What each selection foretold of a fold's tested utterances."""
    answers = {
        name: {task: p.tolist() for task, p in course.foretold[epoch - 1]["test"].items()}
        for name, epoch in selected(plan, fold, course).items()
    }
    tested = plan.corpus.of(fold.test)
    return [
        record(utterance, fold.name, truths(utterance, plan.recipe, plan.classes), place, answers)
        for place, utterance in enumerate(tested)
    ]


def truths(
    utterance: Utterance, recipe: Recipe, classes: Mapping[str, Sequence[str]]
) -> dict[str, str | None]:
    """The label of each task; None where there is none, or one that is not among the classes."""
    labels = {task: label_of(utterance, task, recipe) for task in classes}
    return {task: label if label in classes[task] else None for task, label in labels.items()}


def record(
    utterance: Utterance,
    fold: str,
    truth: dict[str, str | None],
    place: int,
    answers: Mapping[str, Mapping[str, Sequence[list[float]]]],
) -> Prediction:
    """One utterance's record; it stands at ``place`` of every answer."""
    return Prediction(
        id=utterance.id,
        fold=fold,
        speaker=utterance.speaker,
        gender=utterance.gender,
        truth=truth,
        selections={
            name: {task: rows[place] for task, rows in answer.items()}
            for name, answer in answers.items()
        },
    )


def pooled(
    records: Sequence[Prediction], selection: str, task: str, classes: Sequence[str]
) -> ClassScores:
    """The scores of one selection and task over all predictions whose label is known."""
    known = [one for one in records if one.truth[task] is not None]
    truth = [one.truth[task] for one in known]
    answers = [one.answer(selection, task, classes) for one in known]
    groups, words = speaker_or_utterance_groups([one.speaker for one in known])
    confusions = grouped_confusions(truth, answers, groups, classes)
    total = confusions.sum(axis=0)
    recalls = metrics.recalls_from_confusion(total)
    return ClassScores(
        utterances=len(known),
        wa=defined(metrics.weighted_accuracy_from_confusion(total)),
        ua=defined(metrics.unweighted_accuracy_from_confusion(total)),
        wa_interval=_interval(confusions, metrics.weighted_accuracy_from_confusion),
        ua_interval=_interval(confusions, metrics.unweighted_accuracy_from_confusion),
        interval=words,
        recalls={name: defined(recall) for name, recall in zip(classes, recalls, strict=True)},
        confusion=total.tolist(),
    )


def fold_means(folds: Sequence[FoldResult]) -> dict[str, dict[str, Pair]]:
    """For each selection and task, WA and UA averaged over the folds where they are defined."""
    means: dict[str, dict[str, Pair]] = {}
    for selection, tasks in (folds[0].scores if folds else {}).items():
        means[selection] = {
            task: {name: _mean(folds, selection, task, name) for name in pair}
            for task, pair in tasks.items()
        }
    return means


def baselines(
    records: Sequence[Prediction],
    majority: Mapping[str, Mapping[str, str]],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Pair]]:
    """WA and UA of knowing nothing.

    Args:
        records: what was tested.
        majority: for each fold and task, the most frequent class of the training side.
        classes: of each task.
    """
    rows: dict[str, dict[str, Pair]] = {"chance": {}, "majority": {}}
    for task, names in classes.items():
        chance = metrics.chance_scores(names)
        rows["chance"][task] = dict(zip(("wa", "ua"), chance, strict=True))
        known = [one for one in records if one.truth[task] is not None]
        truth = [one.truth[task] for one in known]
        answers = [majority[one.fold].get(task) for one in known]
        if None in answers:
            continue
        rows["majority"][task] = {
            "wa": defined(metrics.weighted_accuracy_score(truth, answers)),
            "ua": defined(metrics.unweighted_accuracy_score(truth, answers)),
        }
    return rows


def majority_of(utterances: Sequence[Utterance], recipe: Recipe) -> dict[str, str]:
    """The most frequent class of each task."""
    found = {}
    for task in recipe.tasks:
        labels = [label_of(utterance, task, recipe) for utterance in utterances]
        known = [label for label in labels if label is not None]
        if known:
            found[task] = str(metrics.majority_class(known))
    return found


def _mean(folds: Sequence[FoldResult], selection: str, task: str, name: str) -> float | None:
    values = [fold.scores[selection][task][name] for fold in folds]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _interval(confusions: NDArray[np.int64], statistic: Statistic) -> tuple[float, float] | None:
    low, high = bootstrap_interval(confusions, statistic)
    return None if np.isnan(low) else (low, high)


def defined(score: ArrayLike) -> float | None:
    """A score as results hold it: None where it is undefined."""
    value = float(np.asarray(score))
    return None if np.isnan(value) else value
