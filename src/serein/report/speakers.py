"""Who was tested: the headline's scores speaker by speaker, and who chose the epochs.

How far the scores of a class, a speaker or a gender would move, had others been recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein.metrics.bootstrap import MIN_SPEAKERS, choose_resampling_groups
from serein.metrics.classification import recalls_from_confusion
from serein.metrics.scoring import Metric, Scores, compute_interval
from serein.report import summary
from serein.report.summary import Interval
from serein.results.evaluation import Prediction, Results

MAX_NAMED = 4
MIN_UTTERANCES = 10
"""Utterances that somebody must have to be called the best or the worst."""
"""More speakers than these are counted, not named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScores:
    """The headline's scores on the utterances of one speaker, gender, corpus, language or fold."""

    name: str
    utterances: int
    scores: Scores


def score_groups(results: Results, task: str, attribute: str) -> list[GroupScores]:
    """The headline's scores for each "speaker", "gender", "fold" and the like, in sorting order."""
    groups = _group_predictions(results, task, attribute)
    return [_score_group(results, task, name, items) for name, items in groups.items()]


def _group_predictions(results: Results, task: str, attribute: str) -> dict[str, list[Prediction]]:
    groups: dict[str, list[Prediction]] = {}
    for item in summary.select_scored(results, task, results.headline):
        name = getattr(item, attribute)
        if name is not None:
            groups.setdefault(name, []).append(item)
    return dict(sorted(groups.items()))


def _score_group(results: Results, task: str, name: str, items: list[Prediction]) -> GroupScores:
    answers = summary.get_answers(results, task, results.headline, items)
    truth = [item.truth[task] for item in items]
    measure = summary.get_task_scorer(results, task)
    total = measure.tally(truth, answers, [0] * len(items), results.classes[task]).sum(axis=0)
    return GroupScores(name=name, utterances=len(items), scores=measure.compute_scores(total))


def compute_group_intervals(
    results: Results, task: str, attribute: str
) -> tuple[dict[str, dict[str, Interval]], str]:
    """Intervals of every score for each part, and how they were made in words.

    Speakers are resampled where every part has enough of them; else its utterances, as though
    they were independent.
    """
    groups = _group_predictions(results, task, attribute)
    whole = bool(groups) and all(
        len({item.speaker for item in items} - {None}) >= MIN_SPEAKERS
        and all(item.speaker is not None for item in items)
        for items in groups.values()
    )
    found = {
        name: compute_score_intervals(results, task, items, by_speaker=whole)
        for name, items in groups.items()
    }
    if whole:
        return found, f"95 % bootstrap over the speakers of each {attribute}"
    return found, f"95 % bootstrap over the utterances of each {attribute}; likely too narrow"


def describe_extremes(results: Results, task: str, attribute: str = "speaker") -> str | None:
    """The best and the worst speaker or gender in one sentence; None where there are not two."""
    main = summary.get_task_scorer(results, task).main
    every = [
        (score, part)
        for part in score_groups(results, task, attribute)
        if part.utterances >= MIN_UTTERANCES and (score := part.scores[main.name]) is not None
    ]
    found = sorted(every, key=lambda pair: -pair[0])
    if len(found) < 2:
        return None
    best, worst = (
        f"{part.name}, {main.title} {summary.format_score_with_interval(score, None, main)} "
        f"({part.utterances} utterances)"
        for score, part in (found[0], found[-1])
    )
    return f"Best {attribute} of {task}: {best}; worst: {worst}."


def has_speaker_folds(results: Results) -> bool:
    """Whether each fold tests one speaker, and is named like that speaker."""
    pairs = [item.speaker == item.fold for item in results.predictions]
    return bool(pairs) and all(pairs)


def find_validation_speakers(results: Results) -> dict[str, str]:
    """For each fold, the speakers of its validation side; empty where the split is not told."""
    speakers = {item.id: item.speaker for item in results.predictions}
    folds = [fold for fold in results.protocol.get("folds") or [] if isinstance(fold, dict)]
    found = {}
    for fold in folds:
        ids = fold.get("validation") or []
        found[str(fold.get("name"))] = _format_speakers([speakers.get(id_) for id_ in ids])
    return found


def _format_speakers(speakers: list[str | None]) -> str:
    names = sorted({speaker for speaker in speakers if speaker is not None})
    if None in speakers:  # nobody knows, or they are tested in no fold
        return f"{len(speakers)} utterances"
    return f"{len(names)} speakers" if len(names) > MAX_NAMED else ", ".join(names) or "none"


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

    >>> merge_wrong_answers(np.array([[[5, 1, 2], [0, 3, 0], [1, 1, 0]]]))[0].tolist()
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
