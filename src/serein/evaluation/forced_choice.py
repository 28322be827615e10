"""Forced choice: a saved model's answers among a class set, next to those among all its classes.

A model may have classes that a corpus lacks, and each such answer is wrong. Its scores among the
classes that both have are another question with fewer answers, so that both are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serein.labels.class_sets import find_columns, renormalize
from serein.results.evaluation import FORCED, MODEL, ClassScores, Prediction

MIN_CLASSES = 2
"""Number of classes among the labels without which there is no score."""


def find_shared_classes(
    predictions: Sequence[Prediction], classes: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the classes of each task that model and corpus share.

    Tasks are left out if the corpus has all classes of the model, or fewer than two.

    Args:
        predictions: one for each scored utterance.
        classes: of each task of the model; empty for a regression task.
    """
    shared = {}
    for task, names in classes.items():
        present = {p.truth[task] for p in predictions}
        common = tuple(name for name in names if name in present)
        if MIN_CLASSES <= len(common) < len(names):
            shared[task] = common
    return shared


def add_forced_answers(
    predictions: Sequence[Prediction],
    class_set: Mapping[str, Sequence[str]],
    classes: Mapping[str, Sequence[str]],
    priors: Mapping[str, Sequence[float]],
) -> list[Prediction]:
    """Add the answers within a class set to predictions; other classes have probability 0.

    Args:
        predictions: with the answers of the model as it is.
        class_set: for each restricted task, its classes.
        classes: of each task of the model.
        priors: for each restricted task, what the priors of the model multiply the probability of
            each of its classes with.
    """
    if not predictions:
        return []
    outputs = {task: [p.selections[MODEL][task] for p in predictions] for task in classes}
    for task, selected in class_set.items():
        columns = find_columns(selected, classes[task])
        rows = renormalize(outputs[task], columns, priors[task]).tolist()
        outputs[task] = [_spread(row, columns, len(classes[task])) for row in rows]
    return [
        replace(
            prediction,
            selections={
                **prediction.selections,
                FORCED: {task: rows[index] for task, rows in outputs.items()},
            },
            transcripts=_copy_transcript(prediction.transcripts),
        )
        for index, prediction in enumerate(predictions)
    ]


def _copy_transcript(transcripts: Mapping[str, str]) -> dict[str, str]:
    """Give the forced choice the transcript of the model, which a class set does not change."""
    if MODEL not in transcripts:
        return dict(transcripts)
    return {**transcripts, FORCED: transcripts[MODEL]}


def _spread(row: Sequence[float], columns: Sequence[int], count: int) -> list[float]:
    """Put the probabilities of a class set at their places among ``count`` classes."""
    spread = [0.0] * count
    for column, probability in zip(columns, row, strict=True):
        spread[column] = probability
    return spread


def withhold_single_class_scores(
    scores: Mapping[str, Mapping[str, ClassScores]],
) -> dict[str, dict[str, ClassScores]]:
    """Remove WA and UA of tasks of which all labels are one class; its recall stays.

    Args:
        scores: for each selection, or each other key, the scores of each task.
    """
    return {
        name: {task: _withhold(own) for task, own in tasks.items()}
        for name, tasks in scores.items()
    }


def _withhold(scores: ClassScores) -> ClassScores:
    if sum(any(row) for row in scores.confusion) >= MIN_CLASSES:
        return scores
    return replace(scores, wa=None, ua=None, wa_interval=None, ua_interval=None, interval="")
