"""Scores of training runs: the epoch of each selection, its predictions, and their scores.

Scores pool the predictions of all folds; the mean over folds is given, too. Transcripts of models
that recognize words are scored by their word error rate.

n = utterances, L = words of the longest transcript.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from serein.evaluation import held_out
from serein.evaluation.labels import held_out_shares
from serein.evaluation.plan import Plan
from serein.evaluation.transcripts import build_word_list
from serein.labels.targets import get_task_label, get_task_labels, is_regression, is_scorable
from serein.labels.vocabulary import Vocabulary, normalize_text
from serein.metrics import classification as metrics
from serein.metrics.intervals import choose_groups
from serein.metrics.scoring import (
    Scores,
    compute_interval,
    describe_mean_score,
    get_scorer,
    nan_to_none,
)
from serein.metrics.word_error_rate import compute_word_scores, count_unknown_words
from serein.records import Fold, Recipe, Utterance
from serein.results.evaluation import MODEL, ClassScores, FoldResult, Prediction, ValueScores
from serein.results.inference import WordScores
from serein.system import TRANSCRIPT
from serein.training.checkpoint import TrainingRun

SELECTION_TEXTS = {
    "validation": "the epoch with the best {score} on the fold's validation speakers",
    "last": "the last epoch",
    "test": "the epoch with the best {score} on each fold's test subset: optimistic, selected "
    "on the data that it is scored on, as several papers report",
}
"""Meaning of each selection; "optimistic" marks the one that uses the test subset."""
ESTIMATOR_TEXTS = {
    "validation": "fitted once, C of each task by its own UA on the fold's validation speakers, "
    "unless the recipe gives it",
    "last": "fitted once, C as the recipe gives it: no validation speakers selected it",
}
"""Meaning of each selection of an estimator, which has no epochs to select from."""
UNSELECTED_TEXT = (
    "the last epoch (training.select_by = none); each fold's validation speakers only calibrate "
    "the confidence"
)


def describe_selection(plan: Plan, selection: str) -> str:
    """Describe what a selection means in this run."""
    if plan.external is not None and not plan.external.has_epochs:
        return plan.external.meaning
    if plan.is_fitted_once:
        return ESTIMATOR_TEXTS[selection]
    if selection == "validation" and plan.training.select_by == "none":
        return UNSELECTED_TEXT
    text = SELECTION_TEXTS[selection].format(score=_describe_selection_score(plan))
    if plan.external is not None:
        return f"{text} ({plan.external.meaning})"
    patience, window = plan.training.patience, plan.training.selection_window
    if selection == "last" and patience:
        return f"{text}; a fold ends after {patience} epochs without a better one"
    if selection == "validation" and window > 1:
        return f"{text}, averaged over {window} epochs, of which it is the last"
    return text


def _describe_selection_score(plan: Plan) -> str:
    """Describe the score that selects an epoch."""
    scorers = {task: get_scorer(plan.classes[task]) for task in selection_tasks(plan)}
    return describe_mean_score({task: scorer.main.title for task, scorer in scorers.items()})


def select_epochs(plan: Plan, fold: Fold, training_run: TrainingRun) -> dict[str, int]:
    """Return the epoch of each selection, counted from 1; an estimator has one selection."""
    if plan.external is not None and not plan.external.has_epochs:
        return {MODEL: 1}
    if plan.is_fitted_once:
        return {"validation" if fold.validation else "last": 1}
    epochs = {
        "last": len(training_run.epochs),
        "test": training_run.best_epoch("test", selection_tasks(plan)),
    }
    has_validation = plan.external is None or "validation" in plan.external.selections
    if fold.validation and has_validation:
        return {"validation": headline_epoch(plan, fold, training_run), **epochs}
    return epochs


def headline_epoch(plan: Plan, fold: Fold, training_run: TrainingRun) -> int:
    """Return the epoch of the headline among those that have ended, counted from 1."""
    if not fold.validation or plan.training.select_by == "none":
        return len(training_run.epochs)
    return training_run.best_epoch(
        "validation", selection_tasks(plan), window=plan.training.selection_window
    )


def selection_tasks(plan: Plan) -> tuple[str, ...]:
    """Return the tasks whose scores select an epoch."""
    tasks = tuple(plan.recipe.tasks)
    return tasks if plan.training.select_by == "mean" else tasks[:1]


def should_stop(plan: Plan, fold: Fold, training_run: TrainingRun) -> bool:
    """Return whether validation has not improved for as many epochs as the recipe's patience."""
    if not plan.training.patience or not fold.validation:
        return False
    waited = len(training_run.epochs) - headline_epoch(plan, fold, training_run)
    return waited >= plan.training.patience


def build_fold_result(plan: Plan, fold: Fold, training_run: TrainingRun) -> FoldResult:
    """Build the result of one fold."""
    epochs = select_epochs(plan, fold, training_run)
    held_out_tasks = held_out_shares(plan.recipe)
    scores = {}
    for selection, epoch in epochs.items():
        of_subset = training_run.epochs[epoch - 1].scores
        held_out_scores = {
            task: of_subset[held_out.held_out_subset_name(task)][task] for task in held_out_tasks
        }
        scores[selection] = {**of_subset["test"], **held_out_scores}
    return FoldResult(
        name=fold.name,
        epochs=epochs,
        scores=scores,
        history=training_run.epochs,
        selected_c=training_run.selected_settings,
    )


def build_predictions(plan: Plan, fold: Fold, training_run: TrainingRun) -> list[Prediction]:
    """Build the predictions of a fold's test subset, for every selection."""
    outputs = {
        name: training_run.predictions[epoch - 1]["test"]
        for name, epoch in select_epochs(plan, fold, training_run).items()
    }
    trained = plan.find_trained_classes(fold)
    rows = {
        name: {
            task: to_rows(spread_columns(output[task], trained[task], plan.classes[task]))
            for task in plan.classes
        }
        for name, output in outputs.items()
    }
    tested = plan.corpus.select(fold.test)
    predictions = [
        build_prediction(
            utterance, fold.name, true_labels(utterance, plan.recipe, plan.classes), index, rows
        )
        for index, utterance in enumerate(tested)
    ]
    word_ids = {
        name: output[TRANSCRIPT] for name, output in outputs.items() if TRANSCRIPT in output
    }
    if word_ids:
        return add_transcripts(plan, fold, predictions, word_ids)
    return add_read_transcripts(predictions, plan.load_asr_transcripts())


def build_held_out_predictions(
    plan: Plan, fold: Fold, training_run: TrainingRun
) -> list[Prediction]:
    """Build the predictions for held-out training utterances, for every selection."""
    epochs, predictions = select_epochs(plan, fold, training_run), []
    for task, ids in held_out.select_held_out(plan, fold).items():
        subset = held_out.held_out_subset_name(task)
        rows = {
            name: {task: to_rows(training_run.predictions[epoch - 1][subset][task])}
            for name, epoch in epochs.items()
        }
        for index, utterance in enumerate(plan.corpus.select(ids)):
            label = get_task_label(utterance, task, plan.recipe)
            truth = {**dict.fromkeys(plan.classes), task: label}
            predictions.append(build_prediction(utterance, fold.name, truth, index, rows))
    return predictions


def to_rows(output_nk: Tensor) -> list[list[float]]:
    """Return predictions in single precision as numbers with the fewest digits that identify them.

    In double precision, they would have twice as many digits, and be no more exact.
    """
    digits_nk = output_nk.float().numpy().astype(str)
    rows: list[list[float]] = digits_nk.astype(np.float64).tolist()
    return rows


def spread_columns(output_nk: Tensor, trained: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Put the probabilities of trained classes at their places among all; others get 0.

    Args:
        output_nk: (n, K) probabilities of the trained classes, or (n, 1) values.
        trained: K names.
        classes: all names of the task; empty for a regression.
    """
    if tuple(trained) == tuple(classes):
        return output_nk
    spread_nk = output_nk.new_zeros(len(output_nk), len(classes))
    spread_nk[:, [classes.index(name) for name in trained]] = output_nk
    return spread_nk


def true_labels(
    utterance: Utterance, recipe: Recipe, classes: Mapping[str, Sequence[str]]
) -> dict[str, str | float | None]:
    """Return the label of each task; None if it is missing or not among the classes.

    Tasks that are scored on held-out utterances have no label here.
    """
    held_out_tasks = held_out_shares(recipe)
    labels: dict[str, str | float | None] = {}
    for task, names in classes.items():
        label = None if task in held_out_tasks else get_task_label(utterance, task, recipe)
        labels[task] = label if is_scorable(names, label) else None
    return labels


def build_prediction(
    utterance: Utterance,
    fold: str,
    truth: dict[str, str | float | None],
    index: int,
    outputs: Mapping[str, Mapping[str, Sequence[list[float]]]],
) -> Prediction:
    """Build the record of one utterance from row ``index`` of every output."""
    return Prediction(
        id=utterance.id,
        fold=fold,
        speaker=utterance.speaker,
        gender=utterance.gender,
        corpus=utterance.corpus,
        language=utterance.language,
        text=utterance.text,
        truth=truth,
        selections={
            name: {task: rows[index] for task, rows in output.items()}
            for name, output in outputs.items()
        },
    )


def pool_scores(
    predictions: Sequence[Prediction],
    selections: Sequence[str],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the fields ``scores`` and ``value_scores`` of `Results`, over all predictions."""

    def score_tasks(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {
            name: {task: _score_task(predictions, name, task, classes[task]) for task in tasks}
            for name in selections
        }

    regressions = [task for task in classes if not classes[task]]
    scores = score_tasks([task for task in classes if classes[task]])
    return {"scores": scores, "value_scores": score_tasks(regressions) if regressions else {}}


def _score_task(
    predictions: Sequence[Prediction], selection: str, task: str, classes: Sequence[str]
) -> ClassScores | ValueScores:
    """Score one selection and task over all predictions with a label."""
    labelled = [p for p in predictions if p.truth[task] is not None]
    truth = [p.truth[task] for p in labelled]
    predicted = [p.predicted_label(selection, task, classes) for p in labelled]
    groups, description = choose_groups([p.speaker for p in labelled])
    scorer = get_scorer(classes)
    tallies = scorer.tally(truth, predicted, groups, classes)
    total = tallies.sum(axis=0)
    scores: dict[str, Any] = {"utterances": len(labelled), "interval": description}
    scores |= scorer.compute_scores(total)
    for metric in scorer.metrics:
        scores[f"{metric.name}_interval"] = compute_interval(tallies, metric)
    if not classes:
        return ValueScores(**scores)
    return ClassScores(**scores, **_per_class_scores(total, classes))


def _per_class_scores(confusion: NDArray[Any], classes: Sequence[str]) -> dict[str, Any]:
    recalls = map(nan_to_none, metrics.recalls_from_confusion(confusion))
    return {
        "recalls": dict(zip(classes, recalls, strict=True)),
        "confusion": confusion.tolist(),
    }


def score_groups(
    predictions: Sequence[Prediction], selection: str, classes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, dict[str, ClassScores]]]:
    """Score the classification tasks by corpus and by language, if several were tested."""
    scores: dict[str, dict[str, dict[str, ClassScores]]] = {}
    classifications = {task: names for task, names in classes.items() if names}
    for kind in ("corpus", "language"):
        groups: dict[str, list[Prediction]] = {}
        for prediction in predictions:
            groups.setdefault(getattr(prediction, kind) or "unknown", []).append(prediction)
        if len(groups) > 1:
            scores[kind] = {
                name: pool_scores(groups[name], [selection], classifications)["scores"][selection]
                for name in sorted(groups)
            }
    return scores


def average_folds(folds: Sequence[FoldResult]) -> dict[str, dict[str, Scores]]:
    """Average the scores of each selection and task over the folds where they are defined."""
    means: dict[str, dict[str, Scores]] = {}
    for selection, tasks in (folds[0].scores if folds else {}).items():
        means[selection] = {
            task: {name: _mean_over_folds(folds, selection, task, name) for name in scores}
            for task, scores in tasks.items()
        }
    return means


def score_baselines(
    predictions: Sequence[Prediction],
    constants: Mapping[str, Mapping[str, str | float]],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Scores]]:
    """Score baselines: chance and the majority class, or the mean of a regression.

    Args:
        predictions: the records of the tested utterances.
        constants: for each fold and task, the most frequent class or the mean of the training
            subset.
        classes: the classes of each task.
    """
    rows: dict[str, dict[str, Scores]] = {"chance": {}, "majority": {}, "mean": {}}
    for task, names in classes.items():
        if names:
            chance = metrics.chance_scores(names)
            rows["chance"][task] = dict(zip(("wa", "ua"), chance, strict=True))
        labelled = [p for p in predictions if p.truth[task] is not None]
        predicted = [constants[p.fold].get(task) for p in labelled]
        if None not in predicted:
            truth, scorer = [p.truth[task] for p in labelled], get_scorer(names)
            total = scorer.tally(truth, predicted, [0] * len(labelled), names).sum(axis=0)
            rows["majority" if names else "mean"][task] = scorer.compute_scores(total)
    return {name: row for name, row in rows.items() if row}


def majority_or_mean(utterances: Sequence[Utterance], recipe: Recipe) -> dict[str, str | float]:
    """Return the most frequent class of each task, or the mean of its values."""
    constants: dict[str, str | float] = {}
    for task in recipe.tasks:
        labels = get_task_labels(utterances, task, recipe)
        known = [label for label in labels if label is not None]
        if not known:
            continue
        if is_regression(task, recipe):
            constants[task] = fmean(map(float, known))
        else:
            constants[task] = str(metrics.majority_class(known))
    return constants


def _mean_over_folds(
    folds: Sequence[FoldResult], selection: str, task: str, name: str
) -> float | None:
    values = [fold.scores[selection][task][name] for fold in folds]
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def add_transcripts(
    plan: Plan,
    fold: Fold,
    predictions: Sequence[Prediction],
    word_ids: Mapping[str, Tensor],
) -> list[Prediction]:
    """Add the recognized transcripts to the predictions of a fold.

    Args:
        plan: the plan.
        fold: the fold, whose training subset the vocabulary comes from.
        predictions: one for each utterance of its test subset.
        word_ids: for each selection, (n, L) word ids.
    """
    vocabulary = Vocabulary(build_word_list(plan.corpus.select(fold.train), plan.recipe))
    rows = {name: id_nl.tolist() for name, id_nl in word_ids.items()}
    return [
        replace(
            prediction,
            transcripts={name: vocabulary.decode(row[index]) for name, row in rows.items()},
        )
        for index, prediction in enumerate(predictions)
    ]


def add_read_transcripts(
    predictions: Sequence[Prediction], transcripts: Mapping[str, str | None]
) -> list[Prediction]:
    """Add the ASR transcripts that a system read to its predictions; the same for every selection.

    Args:
        predictions: one for each utterance of a test subset.
        transcripts: by utterance id; empty for a system that reads none.
    """
    return [
        prediction
        if (words := transcripts.get(prediction.id)) is None
        else replace(prediction, transcripts=dict.fromkeys(prediction.selections, words))
        for prediction in predictions
    ]


def score_transcripts(
    plan: Plan, predictions: Sequence[Prediction], selections: Sequence[str]
) -> dict[str, WordScores]:
    """Score the transcripts of each selection: those of the system, or those that it read.

    Empty for a system without transcripts. Which sentences a recogniser was trained on is unknown
    of transcripts that were read.
    """
    transcribed = [p for p in predictions if p.text is not None and p.transcripts]
    if not transcribed:
        return {}
    texts = [str(p.text) for p in transcribed]
    closed = None
    if not plan.recipe.text.get("transcripts_from"):
        tested = {
            (p.fold, normalize_text(text)) for p, text in zip(transcribed, texts, strict=True)
        }
        closed = len(tested & _training_sentences(plan))
    vocabularies = {
        fold.name: set(build_word_list(plan.corpus.select(fold.train), plan.recipe))
        for fold in plan.protocol.folds
    }
    unknown = sum(
        count_unknown_words([text], vocabularies[p.fold])
        for p, text in zip(transcribed, texts, strict=True)
    )
    return {
        name: compute_word_scores(
            texts,
            [p.transcripts[name] for p in transcribed],
            [p.speaker for p in transcribed],
            closed=closed,
            unknown=unknown,
        )
        for name in selections
    }


def _training_sentences(plan: Plan) -> set[tuple[str, str]]:
    """Return pairs of a fold and a sentence of its training subset."""
    return {
        (fold.name, normalize_text(utterance.text))
        for fold in plan.protocol.folds
        for utterance in plan.corpus.select(fold.train)
        if utterance.text is not None
    }
