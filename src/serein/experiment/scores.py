"""Courses to scores: which epoch each selection takes, and what it is worth.

Scores pool the predictions of all folds; the mean over folds stands beside them.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from numpy.typing import NDArray

from serein.experiment import heldout, spelling
from serein.experiment.labelling import held_out_shares
from serein.experiment.plan import Plan
from serein.metrics import classification as metrics
from serein.metrics.measures import Scores, defined, interval, measure_of
from serein.metrics.significance import speaker_or_utterance_groups
from serein.records import Fold, Recipe, Utterance
from serein.results import ClassScores, FoldResult, Prediction, ValueScores
from serein.system import SPOKEN, is_fitted
from serein.training.course import Course
from serein.truth import is_value, knows, label_of, labels_of

WORDS = {  # what each selection means; "optimistic" marks the one that saw the test side
    "validation": "the epoch with the best {score} on the fold's validation speakers",
    "last": "the last epoch",
    "test": "the epoch with the best {score} on each fold's test side: optimistic, picked "
    "on what it is scored on, as several papers report",
}


FITTED = {  # the same of an estimator, which has no epochs to choose from
    "validation": "fitted once, C of each task by its own UA on the fold's validation speakers, "
    "unless the recipe gives it",
    "last": "fitted once, C as the recipe gives it: no validation speakers picked it",
}
UNCHOSEN = (
    "the last epoch, which nobody chose; each fold's validation speakers tell only how sure the "
    "system may be"
)


def meaning(plan: Plan, selection: str) -> str:
    """What a selection means in this run, in words."""
    if is_fitted(plan.recipe):
        return FITTED[selection]
    if selection == "validation" and plan.training.choose == "none":
        return UNCHOSEN
    words = WORDS[selection].format(score=_chooser(plan))
    if selection == "last" and plan.training.patience:
        return f"{words}; a fold ends when {plan.training.patience} have brought no better one"
    count = plan.training.smooth
    if selection == "validation" and count > 1:
        return f"{words}, averaged over {count} epochs, the last of which it is"
    return words


def _chooser(plan: Plan) -> str:
    """The score that chooses an epoch, in words."""
    tasks = choosing(plan)
    titles = [measure_of(plan.classes[task]).main.title for task in tasks]
    mean = "mean " * (len(tasks) > 1)
    if len(set(titles)) == 1:
        return f"{mean}{titles[0]} of {', '.join(tasks)}"
    return f"{mean}of {', '.join(map(' of '.join, zip(titles, tasks, strict=True)))}"


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
    if not fold.validation or plan.training.choose == "none":
        return len(course.epochs)
    return course.best("validation", choosing(plan), smooth=plan.training.smooth)


def choosing(plan: Plan) -> tuple[str, ...]:
    """The tasks whose scores choose an epoch."""
    tasks = tuple(plan.recipe.tasks)
    return tasks if plan.training.choose == "mean" else tasks[:1]


def enough(plan: Plan, fold: Fold, course: Course) -> bool:
    """Whether validation has seen no better epoch for as long as the recipe waits."""
    waited = len(course.epochs) - quoted(plan, fold, course)
    return bool(plan.training.patience and fold.validation) and waited >= plan.training.patience


def fold_result(plan: Plan, fold: Fold, course: Course) -> FoldResult:
    """One fold's outcome."""
    epochs = selected(plan, fold, course)
    found = {name: course.epochs[epoch - 1].scores for name, epoch in epochs.items()}
    own = held_out_shares(plan.recipe)
    scores = {
        name: {**sides["test"], **{task: sides[heldout.side_of(task)][task] for task in own}}
        for name, sides in found.items()
    }
    return FoldResult(
        name=fold.name,
        epochs=epochs,
        scores=scores,
        history=course.epochs,
        chosen=course.chosen,
    )


def predictions(plan: Plan, fold: Fold, course: Course) -> list[Prediction]:
    """What each selection foretold of a fold's tested utterances."""
    found = {
        name: course.foretold[epoch - 1]["test"]
        for name, epoch in selected(plan, fold, course).items()
    }
    answers = {
        name: {task: answer[task].tolist() for task in plan.classes}
        for name, answer in found.items()
    }
    tested = plan.corpus.of(fold.test)
    records = [
        record(utterance, fold.name, truths(utterance, plan.recipe, plan.classes), place, answers)
        for place, utterance in enumerate(tested)
    ]
    ids = {name: answer[SPOKEN] for name, answer in found.items() if SPOKEN in answer}
    return spelling.heard(plan, fold, tested, records, ids) if ids else records


def held_out(plan: Plan, fold: Fold, course: Course) -> list[Prediction]:
    """What each selection foretold of the utterances that a task is scored on instead."""
    epochs, records = selected(plan, fold, course), []
    for task, ids in heldout.hidden(plan, fold).items():
        side = heldout.side_of(task)
        answers = {
            name: {task: course.foretold[epoch - 1][side][task].tolist()}
            for name, epoch in epochs.items()
        }
        for place, one in enumerate(plan.corpus.of(ids)):
            truth = {**dict.fromkeys(plan.classes), task: label_of(one, task, plan.recipe)}
            records.append(record(one, fold.name, truth, place, answers))
    return records


def truths(
    utterance: Utterance, recipe: Recipe, classes: Mapping[str, Sequence[str]]
) -> dict[str, str | float | None]:
    """The label of each task; None where there is none, or one that is not among the classes.

    A task that is scored on held-out utterances has none elsewhere.
    """
    own = held_out_shares(recipe)
    labels = {task: None if task in own else label_of(utterance, task, recipe) for task in classes}
    return {task: label if knows(classes[task], label) else None for task, label in labels.items()}


def record(
    utterance: Utterance,
    fold: str,
    truth: dict[str, str | float | None],
    place: int,
    answers: Mapping[str, Mapping[str, Sequence[list[float]]]],
) -> Prediction:
    """One utterance's record; it stands at ``place`` of every answer."""
    return Prediction(
        id=utterance.id,
        fold=fold,
        speaker=utterance.speaker,
        gender=utterance.gender,
        corpus=utterance.corpus,
        language=utterance.language,
        truth=truth,
        selections={
            name: {task: rows[place] for task, rows in answer.items()}
            for name, answer in answers.items()
        },
    )


def pooled(
    records: Sequence[Prediction], selections: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The scores of every selection and task, as the fields of ``Results`` that hold them."""

    def of(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {
            name: {task: _pooled(records, name, task, classes[task]) for task in tasks}
            for name in selections
        }

    values = [task for task in classes if not classes[task]]
    scores = of([task for task in classes if classes[task]])
    return {"scores": scores, "value_scores": of(values) if values else {}}


def _pooled(
    records: Sequence[Prediction], selection: str, task: str, classes: Sequence[str]
) -> ClassScores | ValueScores:
    """The scores of one selection and task over all predictions whose label is known."""
    known = [one for one in records if one.truth[task] is not None]
    truth = [one.truth[task] for one in known]
    answers = [one.answer(selection, task, classes) for one in known]
    groups, words = speaker_or_utterance_groups([one.speaker for one in known])
    measure = measure_of(classes)
    tallies = measure.tally(truth, answers, groups, classes)
    found: dict[str, Any] = {"utterances": len(known), "interval": words}
    found |= measure.scored(tallies.sum(axis=0))
    found |= {f"{one.name}_interval": interval(tallies, one) for one in measure.scores}
    if not classes:
        return ValueScores(**found)
    return ClassScores(**found, **_by_class(tallies.sum(axis=0), classes))


def _by_class(confusion: NDArray[Any], classes: Sequence[str]) -> dict[str, Any]:
    recalls = map(defined, metrics.recalls_from_confusion(confusion))
    return {
        "recalls": dict(zip(classes, recalls, strict=True)),
        "confusion": confusion.tolist(),
    }


def grouped(
    records: Sequence[Prediction], selection: str, classes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, dict[str, ClassScores]]]:
    """Scores of each corpus and each language by task of classes, where several were tested."""
    found: dict[str, dict[str, dict[str, ClassScores]]] = {}
    named = {task: names for task, names in classes.items() if names}
    for kind in ("corpus", "language"):
        groups: dict[str, list[Prediction]] = {}
        for one in records:
            groups.setdefault(getattr(one, kind) or "unknown", []).append(one)
        if len(groups) > 1:
            found[kind] = {
                name: pooled(groups[name], [selection], named)["scores"][selection]
                for name in sorted(groups)
            }
    return found


def fold_means(folds: Sequence[FoldResult]) -> dict[str, dict[str, Scores]]:
    """For each selection and task, scores averaged over the folds where they are defined."""
    means: dict[str, dict[str, Scores]] = {}
    for selection, tasks in (folds[0].scores if folds else {}).items():
        means[selection] = {
            task: {name: _mean(folds, selection, task, name) for name in pair}
            for task, pair in tasks.items()
        }
    return means


def baselines(
    records: Sequence[Prediction],
    usual: Mapping[str, Mapping[str, str | float]],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Scores]]:
    """The scores of knowing nothing.

    Args:
        records: what was tested.
        usual: for each fold and task, the most frequent class or the mean of the training side.
        classes: of each task.
    """
    rows: dict[str, dict[str, Scores]] = {"chance": {}, "majority": {}, "mean": {}}
    for task, names in classes.items():
        if names:
            chance = metrics.chance_scores(names)
            rows["chance"][task] = dict(zip(("wa", "ua"), chance, strict=True))
        known = [one for one in records if one.truth[task] is not None]
        answers = [usual[one.fold].get(task) for one in known]
        if None not in answers:
            truth, measure = [one.truth[task] for one in known], measure_of(names)
            total = measure.tally(truth, answers, [0] * len(known), names).sum(axis=0)
            rows["majority" if names else "mean"][task] = measure.scored(total)
    return {name: row for name, row in rows.items() if row}


def usual_of(utterances: Sequence[Utterance], recipe: Recipe) -> dict[str, str | float]:
    """The most frequent class of each task, or the mean of its values."""
    found: dict[str, str | float] = {}
    for task in recipe.tasks:
        labels = labels_of(utterances, task, recipe)
        known = [label for label in labels if label is not None]
        if known:
            mean = is_value(task, recipe)
            found[task] = fmean(map(float, known)) if mean else str(metrics.majority_class(known))
    return found


def _mean(folds: Sequence[FoldResult], selection: str, task: str, name: str) -> float | None:
    values = [fold.scores[selection][task][name] for fold in folds]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
