"""Courses to scores: which epoch each selection takes, and what it is worth.

Scores pool the predictions of all folds; the mean over folds stands beside them.

How well a model that finds words found them.

n = utterances, L = words of the longest transcript.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from serein.evaluation import held_out
from serein.evaluation.labels import held_out_shares
from serein.evaluation.plan import Plan
from serein.evaluation.transcripts import build_word_list
from serein.labels.targets import get_task_label, get_task_labels, is_regression, is_scorable
from serein.labels.vocabulary import Vocabulary, normalize_text, tokenize
from serein.metrics import classification as metrics
from serein.metrics.bootstrap import choose_resampling_groups
from serein.metrics.scoring import Scores, compute_interval, get_scorer, nan_to_none
from serein.metrics.word_error_rate import compute_word_scores
from serein.records import Fold, Recipe, Utterance
from serein.results.evaluation import ClassScores, FoldResult, Prediction, ValueScores
from serein.results.inference import WordScores
from serein.system import TRANSCRIPT, is_estimator
from serein.training.checkpoint import TrainingRun

SELECTION_TEXTS = {  # what each selection means; "optimistic" marks the one that saw the test side
    "validation": "the epoch with the best {score} on the fold's validation speakers",
    "last": "the last epoch",
    "test": "the epoch with the best {score} on each fold's test side: optimistic, picked "
    "on what it is scored on, as several papers report",
}


ESTIMATOR_TEXTS = {  # the same of an estimator, which has no epochs to choose from
    "validation": "fitted once, C of each task by its own UA on the fold's validation speakers, "
    "unless the recipe gives it",
    "last": "fitted once, C as the recipe gives it: no validation speakers picked it",
}
UNSELECTED_TEXT = (
    "the last epoch, which nobody chose; each fold's validation speakers tell only how sure the "
    "system may be"
)


def describe_selection(plan: Plan, selection: str) -> str:
    """What a selection means in this run, in words."""
    if is_estimator(plan.recipe):
        return ESTIMATOR_TEXTS[selection]
    if selection == "validation" and plan.training.select_by == "none":
        return UNSELECTED_TEXT
    words = SELECTION_TEXTS[selection].format(score=_describe_selection_score(plan))
    if selection == "last" and plan.training.patience:
        return f"{words}; a fold ends when {plan.training.patience} have brought no better one"
    count = plan.training.selection_window
    if selection == "validation" and count > 1:
        return f"{words}, averaged over {count} epochs, the last of which it is"
    return words


def _describe_selection_score(plan: Plan) -> str:
    """The score that chooses an epoch, in words."""
    tasks = selection_tasks(plan)
    titles = [get_scorer(plan.classes[task]).main.title for task in tasks]
    mean = "mean " * (len(tasks) > 1)
    if len(set(titles)) == 1:
        return f"{mean}{titles[0]} of {', '.join(tasks)}"
    return f"{mean}of {', '.join(map(' of '.join, zip(titles, tasks, strict=True)))}"


def select_epochs(plan: Plan, fold: Fold, training_run: TrainingRun) -> dict[str, int]:
    """The epoch that each selection takes, counted from 1; an estimator has but one to quote."""
    if is_estimator(plan.recipe):
        return {"validation" if fold.validation else "last": 1}
    epochs = {
        "last": len(training_run.epochs),
        "test": training_run.best_epoch("test", selection_tasks(plan)),
    }
    if fold.validation:
        return {"validation": headline_epoch(plan, fold, training_run), **epochs}
    return epochs


def headline_epoch(plan: Plan, fold: Fold, training_run: TrainingRun) -> int:
    """The epoch of the headline, counted from 1; it is known as soon as it has ended."""
    if not fold.validation or plan.training.select_by == "none":
        return len(training_run.epochs)
    return training_run.best_epoch(
        "validation", selection_tasks(plan), smooth=plan.training.selection_window
    )


def selection_tasks(plan: Plan) -> tuple[str, ...]:
    """The tasks whose scores choose an epoch."""
    tasks = tuple(plan.recipe.tasks)
    return tasks if plan.training.select_by == "mean" else tasks[:1]


def should_stop(plan: Plan, fold: Fold, training_run: TrainingRun) -> bool:
    """Whether validation has seen no better epoch for as long as the recipe waits."""
    waited = len(training_run.epochs) - headline_epoch(plan, fold, training_run)
    return bool(plan.training.patience and fold.validation) and waited >= plan.training.patience


def build_fold_result(plan: Plan, fold: Fold, training_run: TrainingRun) -> FoldResult:
    """One fold's outcome."""
    epochs = select_epochs(plan, fold, training_run)
    found = {name: training_run.epochs[epoch - 1].scores for name, epoch in epochs.items()}
    own = held_out_shares(plan.recipe)
    scores = {
        name: {
            **sides["test"],
            **{task: sides[held_out.held_out_subset_name(task)][task] for task in own},
        }
        for name, sides in found.items()
    }
    return FoldResult(
        name=fold.name,
        epochs=epochs,
        scores=scores,
        history=training_run.epochs,
        selected_c=training_run.selected_settings,
    )


def build_predictions(plan: Plan, fold: Fold, training_run: TrainingRun) -> list[Prediction]:
    """What each selection foretold of a fold's tested utterances."""
    found = {
        name: training_run.predictions[epoch - 1]["test"]
        for name, epoch in select_epochs(plan, fold, training_run).items()
    }
    answers = {
        name: {task: answer[task].tolist() for task in plan.classes}
        for name, answer in found.items()
    }
    tested = plan.corpus.select(fold.test)
    records = [
        build_prediction(
            utterance, fold.name, true_labels(utterance, plan.recipe, plan.classes), place, answers
        )
        for place, utterance in enumerate(tested)
    ]
    ids = {name: answer[TRANSCRIPT] for name, answer in found.items() if TRANSCRIPT in answer}
    return add_transcripts(plan, fold, tested, records, ids) if ids else records


def build_held_out_predictions(
    plan: Plan, fold: Fold, training_run: TrainingRun
) -> list[Prediction]:
    """What each selection foretold of the utterances that a task is scored on instead."""
    epochs, records = select_epochs(plan, fold, training_run), []
    for task, ids in held_out.select_held_out(plan, fold).items():
        side = held_out.held_out_subset_name(task)
        answers = {
            name: {task: training_run.predictions[epoch - 1][side][task].tolist()}
            for name, epoch in epochs.items()
        }
        for place, one in enumerate(plan.corpus.select(ids)):
            truth = {**dict.fromkeys(plan.classes), task: get_task_label(one, task, plan.recipe)}
            records.append(build_prediction(one, fold.name, truth, place, answers))
    return records


def true_labels(
    utterance: Utterance, recipe: Recipe, classes: Mapping[str, Sequence[str]]
) -> dict[str, str | float | None]:
    """The label of each task; None where there is none, or one that is not among the classes.

    A task that is scored on held-out utterances has none elsewhere.
    """
    own = held_out_shares(recipe)
    labels = {
        task: None if task in own else get_task_label(utterance, task, recipe) for task in classes
    }
    return {
        task: label if is_scorable(classes[task], label) else None for task, label in labels.items()
    }


def build_prediction(
    utterance: Utterance,
    fold: str,
    truth: dict[str, str | float | None],
    index: int,
    outputs: Mapping[str, Mapping[str, Sequence[list[float]]]],
) -> Prediction:
    """One utterance's record; it stands at ``index`` of every answer."""
    return Prediction(
        id=utterance.id,
        fold=fold,
        speaker=utterance.speaker,
        gender=utterance.gender,
        corpus=utterance.corpus,
        language=utterance.language,
        truth=truth,
        selections={
            name: {task: rows[index] for task, rows in answer.items()}
            for name, answer in outputs.items()
        },
    )


def pool_scores(
    records: Sequence[Prediction], selections: Sequence[str], classes: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The scores of every selection and task, as the fields of ``Results`` that hold them."""

    def of(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {
            name: {task: _score_task(records, name, task, classes[task]) for task in tasks}
            for name in selections
        }

    values = [task for task in classes if not classes[task]]
    scores = of([task for task in classes if classes[task]])
    return {"scores": scores, "value_scores": of(values) if values else {}}


def _score_task(
    records: Sequence[Prediction], selection: str, task: str, classes: Sequence[str]
) -> ClassScores | ValueScores:
    """The scores of one selection and task over all predictions whose label is known."""
    known = [one for one in records if one.truth[task] is not None]
    truth = [one.truth[task] for one in known]
    answers = [one.predicted_label(selection, task, classes) for one in known]
    groups, words = choose_resampling_groups([one.speaker for one in known])
    measure = get_scorer(classes)
    tallies = measure.tally(truth, answers, groups, classes)
    found: dict[str, Any] = {"utterances": len(known), "interval": words}
    found |= measure.compute_scores(tallies.sum(axis=0))
    found |= {f"{one.name}_interval": compute_interval(tallies, one) for one in measure.metrics}
    if not classes:
        return ValueScores(**found)
    return ClassScores(**found, **_per_class_scores(tallies.sum(axis=0), classes))


def _per_class_scores(confusion: NDArray[Any], classes: Sequence[str]) -> dict[str, Any]:
    recalls = map(nan_to_none, metrics.recalls_from_confusion(confusion))
    return {
        "recalls": dict(zip(classes, recalls, strict=True)),
        "confusion": confusion.tolist(),
    }


def score_groups(
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
                name: pool_scores(groups[name], [selection], named)["scores"][selection]
                for name in sorted(groups)
            }
    return found


def average_folds(folds: Sequence[FoldResult]) -> dict[str, dict[str, Scores]]:
    """For each selection and task, scores averaged over the folds where they are defined."""
    means: dict[str, dict[str, Scores]] = {}
    for selection, tasks in (folds[0].scores if folds else {}).items():
        means[selection] = {
            task: {name: _mean_over_folds(folds, selection, task, name) for name in pair}
            for task, pair in tasks.items()
        }
    return means


def score_baselines(
    records: Sequence[Prediction],
    constants: Mapping[str, Mapping[str, str | float]],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Scores]]:
    """The scores of knowing nothing.

    Args:
        records: what was tested.
        constants: for each fold and task, the most frequent class or the mean of the training side.
        classes: of each task.
    """
    rows: dict[str, dict[str, Scores]] = {"chance": {}, "majority": {}, "mean": {}}
    for task, names in classes.items():
        if names:
            chance = metrics.chance_scores(names)
            rows["chance"][task] = dict(zip(("wa", "ua"), chance, strict=True))
        known = [one for one in records if one.truth[task] is not None]
        answers = [constants[one.fold].get(task) for one in known]
        if None not in answers:
            truth, measure = [one.truth[task] for one in known], get_scorer(names)
            total = measure.tally(truth, answers, [0] * len(known), names).sum(axis=0)
            rows["majority" if names else "mean"][task] = measure.compute_scores(total)
    return {name: row for name, row in rows.items() if row}


def majority_or_mean(utterances: Sequence[Utterance], recipe: Recipe) -> dict[str, str | float]:
    """The most frequent class of each task, or the mean of its values."""
    found: dict[str, str | float] = {}
    for task in recipe.tasks:
        labels = get_task_labels(utterances, task, recipe)
        known = [label for label in labels if label is not None]
        if known:
            mean = is_regression(task, recipe)
            found[task] = fmean(map(float, known)) if mean else str(metrics.majority_class(known))
    return found


def _mean_over_folds(
    folds: Sequence[FoldResult], selection: str, task: str, name: str
) -> float | None:
    values = [fold.scores[selection][task][name] for fold in folds]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def add_transcripts(
    plan: Plan,
    fold: Fold,
    tested: Sequence[Utterance],
    records: Sequence[Prediction],
    word_ids: Mapping[str, Tensor],
) -> list[Prediction]:
    """The records of a fold with what was said and what was found.

    Args:
        plan: the plan.
        fold: whose training side the vocabulary comes from.
        tested: its test side.
        records: one for each of these.
        word_ids: for each selection, (n, L) numbers of words.
    """
    words = Vocabulary(build_word_list(plan.corpus.select(fold.train), plan.recipe))
    rows = {name: id_nl.tolist() for name, id_nl in word_ids.items()}
    return [
        replace(
            record,
            text=utterance.text,
            transcripts={name: words.decode(row[place]) for name, row in rows.items()},
        )
        for place, (record, utterance) in enumerate(zip(records, tested, strict=True))
    ]


def score_transcripts(
    plan: Plan, records: Sequence[Prediction], selections: Sequence[str]
) -> dict[str, WordScores]:
    """For each selection, how well words were found; nothing of a model that finds none."""
    written = [one for one in records if one.text is not None and one.transcripts]
    if not written:
        return {}
    closed = len({_fold_sentence(one) for one in written} & _training_sentences(plan))
    words = {
        fold.name: set(build_word_list(plan.corpus.select(fold.train), plan.recipe))
        for fold in plan.protocol.folds
    }
    unknown = sum(
        word not in words[one.fold] for one in written for word in tokenize(str(one.text))
    )
    texts, speakers = [str(one.text) for one in written], [one.speaker for one in written]
    return {
        name: compute_word_scores(
            texts,
            [one.transcripts[name] for one in written],
            speakers,
            closed=closed,
            unknown=unknown,
        )
        for name in selections
    }


def _fold_sentence(one: Prediction) -> tuple[str, str]:
    return one.fold, normalize_text(str(one.text))


def _training_sentences(plan: Plan) -> set[tuple[str, str]]:
    """Every fold with the sentences of its training side."""
    return {
        (fold.name, normalize_text(one.text))
        for fold in plan.protocol.folds
        for one in plan.corpus.select(fold.train)
        if one.text is not None
    }
