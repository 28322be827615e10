"""What a report says, before it is known where it is shown: words and numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

from serein.metrics.measures import WA, Measure, Score, measure_of
from serein.metrics.significance import ENOUGH_SPEAKERS
from serein.results import Prediction, Results

Interval = tuple[float, float] | None
HELD_OUT = "held-out utterances of training speakers"
"""What a task is scored on whose classes no tested speaker has."""


def percent(score: float | None) -> str:
    """A score in percent with one decimal.

    >>> percent(0.81649), percent(None)
    ('81.6', 'n/a')
    """
    return "n/a" if score is None else f"{100 * score:.1f}"


def decimal(value: float | None) -> str:
    """A number with three decimals.

    >>> decimal(0.0426), decimal(None)
    ('0.043', 'n/a')
    """
    return "n/a" if value is None else f"{value:.3f}"


def cell(kind: Score, score: float | None) -> str:
    """A score as a table holds it: shares in percent, others with three decimals."""
    return percent(score) if kind.percent else decimal(score)


def bounds(interval: Interval, kind: Score = WA) -> str:
    """An interval as a table holds it; nothing where there is none.

    >>> bounds((0.7801, 0.85)), bounds(None)
    ('[78.0, 85.0]', '')
    """
    return f"[{cell(kind, interval[0])}, {cell(kind, interval[1])}]" if interval else ""


def unit(kind: Score) -> str:
    """What stands behind a number of this kind."""
    return " %" if kind.percent else ""


def quoted(score: float | None, interval: Interval, kind: Score = WA) -> str:
    """A score as it is quoted in a sentence.

    >>> quoted(0.816, (0.7801, 0.85)), quoted(None, None)
    ('81.6 % [78.0, 85.0]', 'n/a')
    """
    if score is None:
        return "n/a"
    return f"{cell(kind, score)}{unit(kind)} {bounds(interval, kind)}".strip()


def gain(kind: Score, score: float | None, other: float | None) -> float | None:
    """How far a score is above another one, in points where it is in percent.

    Of the printed scores, so that a reader who subtracts finds the same.
    """
    if score is None or other is None:
        return None
    return float(cell(kind, score)) - float(cell(kind, other))


def signed(kind: Score, difference: float | None) -> str:
    """What `gain` gives, as a table holds it."""
    return "n/a" if difference is None else f"{difference:+.{1 if kind.percent else 3}f}"


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
    return list(results.scored(results.headline))


def of_classes(results: Results) -> list[str]:
    """The tasks that were scored and answer with a class."""
    return [task for task in tasks(results) if results.classes[task]]


def measure(results: Results, task: str) -> Measure:
    """What a task is scored by."""
    return measure_of(results.classes[task])


def head(results: Results, task: str) -> str:
    """What follows the title of a table of a task's scores: the unit that all of them have."""
    return f",{unit(measure(results, task).main)}" if results.classes[task] else ""


def leading(results: Results) -> str:
    """The task whose scores decide which epochs are picked, for every task."""
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
    scores = results.scored(results.headline)[task]
    told = (
        f"{one.title} {quoted(scores.score(one.name), scores.bounds(one.name), one)}"
        for one in measure(results, task).scores
    )
    return f"{task}: {', '.join(told)}{f', on {HELD_OUT}' * (task in results.held_out_tasks)}"


def caution(results: Results) -> str:
    """What must be known of the split before any score is believed; empty where nothing."""
    return str(results.protocol.get("caution") or "")


def warnings(results: Results) -> list[str]:
    """What must be known besides: of the run, and of what the leakage check found."""
    found = [finding.words for finding in results.leakage if finding.verdict != "clean"]
    return [*results.warnings, *(words for words in found if words not in results.warnings)]


def brackets(results: Results, task: str) -> str:
    """How the intervals of a task were made, and what they leave out; nothing without any."""
    words = results.scored(results.headline)[task].interval
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
        for item in results.judged
        if item.truth.get(task) is not None
        and all(task in item.selections.get(name, {}) for name in selections)
    ]


def answers(
    results: Results, task: str, selection: str, items: Sequence[Prediction]
) -> list[str | float]:
    """The likeliest class of each prediction, or its value."""
    return [item.answer(selection, task, results.classes[task]) for item in items]


def pairs(results: Results, task: str) -> tuple[list[float], list[float]]:
    """The truth and the headline's answers of a task of numbers, utterance by utterance."""
    items = answered(results, task, results.headline)
    found = answers(results, task, results.headline, items)
    return [float(item.truth[task] or 0) for item in items], [float(value) for value in found]


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
