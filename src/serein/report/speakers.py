"""Who was tested: the headline's scores speaker by speaker, and who chose the epochs."""

from dataclasses import dataclass

from serein.metrics.measures import Scores
from serein.metrics.significance import FEWEST_SPEAKERS
from serein.report import intervals, summary
from serein.report.summary import Interval
from serein.results import Prediction, Results

NAMED = 4
FEWEST = 10
"""Utterances that somebody must have to be called the best or the worst."""
"""More speakers than these are counted, not named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The headline's scores on the utterances of one speaker, gender, corpus, language or fold."""

    name: str
    utterances: int
    scores: Scores


def parts(results: Results, task: str, attribute: str) -> list[Part]:
    """The headline's scores for each "speaker", "gender", "fold" and the like, in sorting order."""
    groups = _groups(results, task, attribute)
    return [_part(results, task, name, items) for name, items in groups.items()]


def _groups(results: Results, task: str, attribute: str) -> dict[str, list[Prediction]]:
    groups: dict[str, list[Prediction]] = {}
    for item in summary.answered(results, task, results.headline):
        name = getattr(item, attribute)
        if name is not None:
            groups.setdefault(name, []).append(item)
    return dict(sorted(groups.items()))


def _part(results: Results, task: str, name: str, items: list[Prediction]) -> Part:
    answers = summary.answers(results, task, results.headline, items)
    truth = [item.truth[task] for item in items]
    measure = summary.measure(results, task)
    total = measure.tally(truth, answers, [0] * len(items), results.classes[task]).sum(axis=0)
    return Part(name=name, utterances=len(items), scores=measure.scored(total))


def bounds(
    results: Results, task: str, attribute: str
) -> tuple[dict[str, dict[str, Interval]], str]:
    """Intervals of every score for each part, and how they were made in words.

    Speakers are resampled where every part has enough of them; else its utterances, as though
    they were independent.
    """
    groups = _groups(results, task, attribute)
    whole = bool(groups) and all(
        len({item.speaker for item in items} - {None}) >= FEWEST_SPEAKERS
        and all(item.speaker is not None for item in items)
        for items in groups.values()
    )
    found = {
        name: intervals.scores(results, task, items, speakers=whole)
        for name, items in groups.items()
    }
    if whole:
        return found, f"95 % bootstrap over the speakers of each {attribute}"
    return found, f"95 % bootstrap over the utterances of each {attribute}; likely too narrow"


def extremes(results: Results, task: str, attribute: str = "speaker") -> str | None:
    """The best and the worst speaker or gender in one sentence; None where there are not two."""
    main = summary.measure(results, task).main
    every = [
        (score, part)
        for part in parts(results, task, attribute)
        if part.utterances >= FEWEST and (score := part.scores[main.name]) is not None
    ]
    found = sorted(every, key=lambda pair: -pair[0])
    if len(found) < 2:
        return None
    best, worst = (
        f"{part.name}, {main.title} {summary.quoted(score, None, main)} "
        f"({part.utterances} utterances)"
        for score, part in (found[0], found[-1])
    )
    return f"Best {attribute} of {task}: {best}; worst: {worst}."


def are_folds(results: Results) -> bool:
    """Whether each fold tests one speaker, and is named like that speaker."""
    pairs = [item.speaker == item.fold for item in results.predictions]
    return bool(pairs) and all(pairs)


def validators(results: Results) -> dict[str, str]:
    """For each fold, the speakers of its validation side; empty where the split is not told."""
    speakers = {item.id: item.speaker for item in results.predictions}
    folds = [fold for fold in results.protocol.get("folds") or [] if isinstance(fold, dict)]
    found = {}
    for fold in folds:
        ids = fold.get("validation") or []
        found[str(fold.get("name"))] = _named([speakers.get(id_) for id_ in ids])
    return found


def _named(speakers: list[str | None]) -> str:
    names = sorted({speaker for speaker in speakers if speaker is not None})
    if None in speakers:  # nobody knows, or they are tested in no fold
        return f"{len(speakers)} utterances"
    return f"{len(names)} speakers" if len(names) > NAMED else ", ".join(names) or "none"
