"""How far the scores of a class, a speaker or a gender would move, had others been recorded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein.metrics.classification import recalls_from_confusion
from serein.metrics.measures import Score, interval
from serein.metrics.significance import speaker_or_utterance_groups
from serein.report import summary
from serein.report.summary import Interval
from serein.results import Prediction, Results

RESAMPLES = 2000
"""A bound of such an interval moves by some tenths of a point from seed to seed."""

Counts = NDArray[np.int64]


def recalls(results: Results, task: str) -> tuple[dict[str, Interval], str]:
    """An interval for the headline's recall of each class.

    Whole speakers are resampled where there are enough. A class that some draw leaves without
    an utterance has none.

    Returns:
        The intervals, and how they were made in words.
    """
    items = summary.answered(results, task, results.headline)
    groups, words = speaker_or_utterance_groups([item.speaker for item in items])
    confusions = _tallies(results, task, items, groups)
    return {
        name: interval(_one_class(confusions, index), RECALL, resamples=RESAMPLES)
        for index, name in enumerate(results.classes[task])
    }, words


def scores(
    results: Results, task: str, items: Sequence[Prediction], *, speakers: bool
) -> dict[str, Interval]:
    """Intervals of the headline's scores on a part of the utterances.

    Args:
        results: of the run.
        task: which task.
        items: the part; each has an answer and a truth.
        speakers: whether whole speakers are resampled, rather than utterances.
    """
    own = [str(item.speaker) for item in items]
    groups = own if speakers else [str(index) for index in range(len(items))]
    tallies = _tallies(results, task, items, groups)
    counts = right_and_wrong(tallies) if results.classes[task] else tallies
    every = summary.measure(results, task).scores
    return {one.name: interval(counts, one, resamples=RESAMPLES) for one in every}


def right_and_wrong(confusions: Counts) -> Counts:
    """Counts where every wrong answer is the same one, as WA, UA and recalls do not ask which.

    Far fewer kinds of utterances are left to draw from.

    Args:
        confusions: (G, K, K) counts of each group.

    Returns:
        (G, K, K) counts: the right answers, and beside them all wrong ones.

    >>> right_and_wrong(np.array([[[5, 1, 2], [0, 3, 0], [1, 1, 0]]]))[0].tolist()
    [[5, 3, 0], [0, 3, 0], [2, 0, 0]]
    """
    reduced = np.zeros_like(confusions)
    for index in range(confusions.shape[-1]):
        right = confusions[:, index, index]
        reduced[:, index, index] = right
        wrong = (index + 1) % confusions.shape[-1]
        reduced[:, index, wrong] += confusions[:, index].sum(axis=-1) - right
    return reduced


def _one_class(confusions: Counts, index: int) -> Counts:
    pairs = np.zeros((len(confusions), 2, 2), dtype=np.int64)
    pairs[:, 0, 0] = confusions[:, index, index]
    pairs[:, 0, 1] = confusions[:, index].sum(axis=-1) - pairs[:, 0, 0]
    return pairs


def _tallies(
    results: Results, task: str, items: Sequence[Prediction], groups: Sequence[str]
) -> NDArray[Any]:
    truth = [item.truth[task] for item in items]
    answers = summary.answers(results, task, results.headline, items)
    return summary.measure(results, task).tally(truth, answers, groups, results.classes[task])


def _first_recall(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    return recalls_from_confusion(confusions)[..., 0]


RECALL = Score("recall", "recall", "the share of a class that is found", _first_recall)
