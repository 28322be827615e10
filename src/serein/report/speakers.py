"""Who was tested: the headline's scores speaker by speaker, and who chose the epochs."""

from dataclasses import dataclass

from serein.metrics.bootstrap import MIN_SPEAKERS
from serein.metrics.scoring import Scores
from serein.report import intervals, summary
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
        name: intervals.compute_score_intervals(results, task, items, by_speaker=whole)
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
