"""Quoted scores of each speaker, gender, corpus, language or fold, with their intervals.

G = groups such as speakers, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein.metrics.bootstrap import MIN_SPEAKERS
from serein.metrics.classification import recalls_from_confusion
from serein.metrics.intervals import BOOTSTRAP, choose_groups
from serein.metrics.scoring import Metric, Scores, compute_interval
from serein.report import summary
from serein.report.summary import Interval
from serein.results.evaluation import Prediction, Results
from serein.results.intervals import find_interval_method

MAX_NAMED = 4
"""Validation speakers that are named; more are counted."""
MIN_UTTERANCES = 10
"""A speaker or gender with fewer utterances is not named as the best or the worst."""
RESAMPLES = 2000
"""With this many draws, a bound of the bootstrap varies by some tenths of a point between seeds."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScores:
    """The quoted scores on the utterances of one speaker, gender, corpus, language or fold."""

    name: str
    utterances: int
    scores: Scores


def compute_group_scores(results: Results, task: str, attribute: str) -> list[GroupScores]:
    """Compute the quoted scores of each "speaker", "gender", "fold" or the like, sorted by name."""
    scorer = summary.get_task_scorer(results, task)
    scores = []
    for name, items in _group_predictions(results, task, attribute).items():
        tally = _tally_groups(results, task, items, ["all"] * len(items))
        own = scorer.compute_scores(tally.sum(axis=0))
        scores.append(GroupScores(name=name, utterances=len(items), scores=own))
    return scores


def _group_predictions(results: Results, task: str, attribute: str) -> dict[str, list[Prediction]]:
    groups: dict[str, list[Prediction]] = {}
    for item in summary.select_scored(results, task, results.headline):
        name = getattr(item, attribute)
        if name is not None:
            groups.setdefault(name, []).append(item)
    return dict(sorted(groups.items()))


def describe_extremes(results: Results, task: str, attribute: str = "speaker") -> str | None:
    """Name the best and the worst speaker or gender in a sentence; None for fewer than two."""
    main = summary.get_task_scorer(results, task).main
    ranked = sorted(
        (
            (score, group)
            for group in compute_group_scores(results, task, attribute)
            if group.utterances >= MIN_UTTERANCES and (score := group.scores[main.name]) is not None
        ),
        key=lambda pair: -pair[0],
    )
    if len(ranked) < 2:
        return None
    best, worst = (
        f"{group.name}, {main.title} {summary.format_score_with_interval(score, None, main)} "
        f"({group.utterances} utterances)"
        for score, group in (ranked[0], ranked[-1])
    )
    return f"Best {attribute} of {task}: {best}; worst: {worst}."


def has_speaker_folds(results: Results) -> bool:
    """Return whether each fold tests one speaker and has this speaker's name."""
    return bool(results.predictions) and all(
        item.speaker == item.fold for item in results.predictions
    )


def find_validation_speakers(results: Results) -> dict[str, str]:
    """Return the validation speakers of each fold; empty if the results have no split."""
    speaker_of = {item.id: item.speaker for item in results.predictions}
    folds = [fold for fold in results.protocol.get("folds") or [] if isinstance(fold, dict)]
    return {
        str(fold.get("name")): _format_speakers(
            [speaker_of.get(id_) for id_ in fold.get("validation") or []]
        )
        for fold in folds
    }


def _format_speakers(speakers: list[str | None]) -> str:
    names = sorted({speaker for speaker in speakers if speaker is not None})
    if None in speakers:  # unknown speakers, or utterances that no fold tests
        return f"{len(speakers)} utterances"
    return f"{len(names)} speakers" if len(names) > MAX_NAMED else ", ".join(names) or "none"


def compute_group_intervals(
    results: Results, task: str, attribute: str
) -> tuple[dict[str, dict[str, Interval]], str]:
    """Compute the intervals of every score of each group, and describe the method.

    Intervals are over the speakers of a group, or over its utterances if a speaker is not known.
    A group of one speaker has none.
    """
    groups = _group_predictions(results, task, attribute)
    if find_interval_method(results) == BOOTSTRAP:
        return _bootstrap_group_intervals(results, task, attribute, groups)
    none = {metric.name: None for metric in summary.get_task_scorer(results, task).metrics}
    intervals: dict[str, dict[str, Interval]] = {}
    units = set()
    for name, items in groups.items():
        members = {item.speaker for item in items}
        if len(members) == 1 and None not in members:
            intervals[name] = dict(none)
            continue
        units.add("utterances" if None in members else "speakers")
        intervals[name] = compute_score_intervals(
            results, task, items, by_speaker=None not in members
        )
    if not units:
        return intervals, f"none, as each {attribute} is one speaker"
    described = f"95 % jackknife over the {' or '.join(sorted(units))} of each {attribute}"
    narrow = "; likely too narrow where speakers are not known" * ("utterances" in units)
    single = "; none for one speaker" * any(bounds == none for bounds in intervals.values())
    return intervals, f"{described}{narrow}{single}"


def _bootstrap_group_intervals(
    results: Results, task: str, attribute: str, groups: dict[str, list[Prediction]]
) -> tuple[dict[str, dict[str, Interval]], str]:
    """Resample speakers if every group has enough of them; else utterances, as if independent."""
    by_speaker = bool(groups) and all(
        len({item.speaker for item in items} - {None}) >= MIN_SPEAKERS
        and all(item.speaker is not None for item in items)
        for items in groups.values()
    )
    intervals = {
        name: compute_score_intervals(results, task, items, by_speaker=by_speaker)
        for name, items in groups.items()
    }
    units = "speakers" if by_speaker else "utterances"
    narrow = "" if by_speaker else "; likely too narrow"
    return intervals, f"95 % percentile bootstrap over the {units} of each {attribute}{narrow}"


def compute_recall_intervals(results: Results, task: str) -> tuple[dict[str, Interval], str]:
    """Compute the interval of the quoted recall of each class.

    A class that one speaker has, or without utterances in some draw of a bootstrap, has none.

    Returns:
        The intervals, and a description of the method.
    """
    items = summary.select_scored(results, task, results.headline)
    method = find_interval_method(results)
    groups, description = choose_groups([item.speaker for item in items], method)
    confusions = _tally_groups(results, task, items, groups)
    return {
        name: compute_interval(
            _one_vs_rest(confusions, index), RECALL, method=method, resamples=RESAMPLES
        )
        for index, name in enumerate(results.classes[task])
    }, description


def compute_score_intervals(
    results: Results, task: str, items: Sequence[Prediction], *, by_speaker: bool
) -> dict[str, Interval]:
    """Compute the intervals of the quoted scores on some of the utterances.

    Args:
        results: of the run.
        task: which task.
        items: predictions that have a label.
        by_speaker: whether the groups are whole speakers, instead of utterances.
    """
    groups = [str(item.speaker) if by_speaker else str(n) for n, item in enumerate(items)]
    tallies = _tally_groups(results, task, items, groups)
    counts = merge_wrong_answers(tallies) if results.classes[task] else tallies
    method = find_interval_method(results)
    return {
        metric.name: compute_interval(counts, metric, method=method, resamples=RESAMPLES)
        for metric in summary.get_task_scorer(results, task).metrics
    }


def merge_wrong_answers(confusions: Counts) -> Counts:
    """Move all wrong predictions of a class to one column; WA, UA and recalls stay the same.

    Fewer distinct matrices make the bootstrap faster.

    Args:
        confusions: (G, K, K) counts of each group.

    Returns:
        (G, K, K) counts: correct predictions on the diagonal, wrong ones in the next column.

    >>> merge_wrong_answers(np.array([[[5, 1, 2], [0, 3, 0], [1, 1, 0]]]))[0].tolist()
    [[5, 3, 0], [0, 3, 0], [2, 0, 0]]
    """
    merged = np.zeros_like(confusions)
    for index in range(confusions.shape[-1]):
        correct = confusions[:, index, index]
        merged[:, index, index] = correct
        wrong = (index + 1) % confusions.shape[-1]
        merged[:, index, wrong] += confusions[:, index].sum(axis=-1) - correct
    return merged


def _one_vs_rest(confusions: Counts, index: int) -> Counts:
    pairs = np.zeros((len(confusions), 2, 2), dtype=np.int64)
    pairs[:, 0, 0] = confusions[:, index, index]
    pairs[:, 0, 1] = confusions[:, index].sum(axis=-1) - pairs[:, 0, 0]
    return pairs


def _tally_groups(
    results: Results, task: str, items: Sequence[Prediction], groups: Sequence[str]
) -> NDArray[Any]:
    truth = [item.truth[task] for item in items]
    predicted = summary.get_predicted_values(results, task, results.headline, items)
    scorer = summary.get_task_scorer(results, task)
    return scorer.tally(truth, predicted, groups, results.classes[task])


def _first_recall(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    return recalls_from_confusion(confusions)[..., 0]


RECALL = Metric("recall", "recall", "share of a class that is predicted correctly", _first_recall)
