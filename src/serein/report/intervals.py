"""How far the scores of a class, a speaker or a gender would move, had others been recorded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein.metrics.bootstrap import choose_resampling_groups
from serein.metrics.classification import recalls_from_confusion
from serein.metrics.scoring import Metric, compute_interval
from serein.report import summary
from serein.report.summary import Interval
from serein.results.evaluation import Prediction, Results

RESAMPLES = 2000
"""A bound of such an interval moves by some tenths of a point from seed to seed."""

Counts = NDArray[np.int64]


def compute_recall_intervals(results: Results, task: str) -> tuple[dict[str, Interval], str]:
    """An interval for the headline's recall of each class.

    Whole speakers are resampled where there are enough. A class that some draw leaves without
    an utterance has none.

    Returns:
        The intervals, and how they were made in words.
    """
    items = summary.select_scored(results, task, results.headline)
    groups, words = choose_resampling_groups([item.speaker for item in items])
    confusions = _tally_groups(results, task, items, groups)
    return {
        name: compute_interval(_one_vs_rest(confusions, index), RECALL, resamples=RESAMPLES)
        for index, name in enumerate(results.classes[task])
    }, words


def compute_score_intervals(
    results: Results, task: str, items: Sequence[Prediction], *, by_speaker: bool
) -> dict[str, Interval]:
    """Intervals of the headline's scores on a part of the utterances.

    Args:
        results: of the run.
        task: which task.
        items: the part; each has an answer and a truth.
        by_speaker: whether whole speakers are resampled, rather than utterances.
    """
    own = [str(item.speaker) for item in items]
    groups = own if by_speaker else [str(index) for index in range(len(items))]
    tallies = _tally_groups(results, task, items, groups)
    counts = merge_wrong_answers(tallies) if results.classes[task] else tallies
    every = summary.get_task_scorer(results, task).metrics
    return {one.name: compute_interval(counts, one, resamples=RESAMPLES) for one in every}


def merge_wrong_answers(confusions: Counts) -> Counts:
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


def _one_vs_rest(confusions: Counts, index: int) -> Counts:
    pairs = np.zeros((len(confusions), 2, 2), dtype=np.int64)
    pairs[:, 0, 0] = confusions[:, index, index]
    pairs[:, 0, 1] = confusions[:, index].sum(axis=-1) - pairs[:, 0, 0]
    return pairs


def _tally_groups(
    results: Results, task: str, items: Sequence[Prediction], groups: Sequence[str]
) -> NDArray[Any]:
    truth = [item.truth[task] for item in items]
    answers = summary.get_answers(results, task, results.headline, items)
    return summary.get_task_scorer(results, task).tally(
        truth, answers, groups, results.classes[task]
    )


def _first_recall(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    return recalls_from_confusion(confusions)[..., 0]


RECALL = Metric("recall", "recall", "the share of a class that is found", _first_recall)
