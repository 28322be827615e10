"""What a report says, before it is known where it is shown: words and numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

from serein.metrics.significance import ENOUGH_SPEAKERS
from serein.results import Prediction, Results

Interval = tuple[float, float] | None


def percent(score: float | None) -> str:
    """A score in percent with one decimal.

    >>> percent(0.81649), percent(None)
    ('81.6', 'n/a')
    """
    return "n/a" if score is None else f"{100 * score:.1f}"


def bounds(interval: Interval) -> str:
    """An interval in percent; nothing where there is none.

    >>> bounds((0.7801, 0.85)), bounds(None)
    ('[78.0, 85.0]', '')
    """
    return f"[{percent(interval[0])}, {percent(interval[1])}]" if interval else ""


def quoted(score: float | None, interval: Interval) -> str:
    """A score as it is quoted in a sentence.

    >>> quoted(0.816, (0.7801, 0.85)), quoted(None, None)
    ('81.6 % [78.0, 85.0]', 'n/a')
    """
    return "n/a" if score is None else f"{percent(score)} % {bounds(interval)}".strip()


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(5025.4), duration(61), duration(0.25)
    ('1 h 23 min 45 s', '1 min 1 s', '0.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours} h ' if hours else ''}{minutes} min {rest} s"


def tasks(results: Results) -> list[str]:
    """The tasks that were scored, the deciding one first."""
    scored = results.scores.get(results.headline, {})
    return [task for task in results.classes if task in scored]


def leading(results: Results) -> str:
    """The task whose UA decides which epochs are picked, for every task."""
    return next(iter(results.classes), "")


def is_fitted(results: Results) -> bool:
    """Whether an estimator was fitted once, where networks are trained in epochs."""
    return any(fold.chosen for fold in results.folds)


def title(results: Results) -> str:
    """Which recipe was run on which corpus, and what was changed in it."""
    name = results.recipe.get("name", results.name)
    changed = results.recipe.get("about", {}).get("changed")
    name = f"{name} ({changed})" if changed else name
    return f"{name} on {results.corpus['name']}" if "name" in results.corpus else f"{name}"


def protocol(results: Results) -> str:
    """How the corpus was split and how much was tested, in one clause."""
    count = len(results.protocol.get("folds") or results.folds)
    name = str(results.protocol.get("name", "no protocol"))
    # Its scores answer another question, and must not be quoted without saying so.
    unsaid = "random" in name and not caution(results)
    clauses = [f"{name} (speaker-dependent)" if unsaid else name]
    if count:
        clauses.append(f"{count} fold{'s' * (count != 1)}")
    clauses.append(f"{len(results.predictions)} utterances tested")
    speakers = {item.speaker for item in results.predictions} - {None}
    if speakers:
        clauses.append(f"{len(speakers)} speaker{'s' * (len(speakers) != 1)}")
    return ", ".join(clauses)


def scored(results: Results, task: str) -> str:
    """The headline's scores of a task in one clause."""
    scores = results.scores[results.headline][task]
    wa, ua = quoted(scores.wa, scores.wa_interval), quoted(scores.ua, scores.ua_interval)
    return f"{task}: WA {wa}, UA {ua}"


def caution(results: Results) -> str:
    """What must be known of the split before any score is believed; empty where nothing."""
    return str(results.protocol.get("caution") or "")


def warnings(results: Results) -> list[str]:
    """What must be known besides: of the run, and of what the leakage check found."""
    found = [finding.words for finding in results.leakage if finding.verdict != "clean"]
    return [*results.warnings, *(words for words in found if words not in results.warnings)]


def brackets(results: Results, task: str) -> str:
    """How the intervals of a task were made, and what they leave out; nothing without any."""
    words = results.scores[results.headline][task].interval
    if not words:
        return ""
    speakers = {item.speaker for item in results.predictions} - {None}
    # Runs of older versions say nothing of it.
    if len(speakers) < ENOUGH_SPEAKERS and "narrow" not in words:
        words = f"{words} (few: likely too narrow)"
    if is_fitted(results):
        return words
    seed = "the quoted seed alone" if len(results.repeats) > 1 else "one training seed"
    return f"{words}; {seed}, another would give other scores"


def answered(results: Results, task: str, *selections: str) -> list[Prediction]:
    """The predictions whose truth is known, and which all these selections made."""
    return [
        item
        for item in results.predictions
        if item.truth.get(task) is not None
        and all(task in item.selections.get(name, {}) for name in selections)
    ]


def answers(results: Results, task: str, selection: str, items: Sequence[Prediction]) -> list[str]:
    """The likeliest class of each prediction."""
    return [item.answer(selection, task, results.classes[task]) for item in items]


def mistaken_for(results: Results, task: str) -> dict[str, str]:
    """For each class of the headline, the class that it is most often taken for.

    A class that never occurs, or is never missed, is left out.
    """
    classes = results.classes[task]
    found = {}
    for index, row in enumerate(results.scores[results.headline][task].confusion):
        missed = [count if other != index else 0 for other, count in enumerate(row)]
        if any(missed):
            most = max(missed)
            share = percent(most / sum(row))
            found[classes[index]] = f"{classes[missed.index(most)]} ({share} %)"
    return found


def flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested table as dotted names and values.

    >>> list(flat({"model": {"heads": 8, "sizes": [2, 3]}}))
    [('model.heads', '8'), ('model.sizes', '2, 3')]
    """
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
