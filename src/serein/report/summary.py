"""What a report says, before it is known where it is shown: words and numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

from serein.metrics.bootstrap import MIN_RELIABLE_SPEAKERS
from serein.metrics.scoring import WA, Metric, Scorer, get_scorer
from serein.results.evaluation import Prediction, Results

Interval = tuple[float, float] | None
HELD_OUT = "held-out utterances of training speakers"
"""What a task is scored on whose classes no tested speaker has."""


def format_percent(score: float | None) -> str:
    """A score in percent with one decimal.

    >>> format_percent(0.81649), format_percent(None)
    ('81.6', 'n/a')
    """
    return "n/a" if score is None else f"{100 * score:.1f}"


def format_decimal(value: float | None) -> str:
    """A number with three decimals.

    >>> format_decimal(0.0426), format_decimal(None)
    ('0.043', 'n/a')
    """
    return "n/a" if value is None else f"{value:.3f}"


def format_score(metric: Metric, score: float | None) -> str:
    """A score as a table holds it: shares in percent, others with three decimals."""
    return format_percent(score) if metric.is_percent else format_decimal(score)


def format_interval(interval: Interval, metric: Metric = WA) -> str:
    """An interval as a table holds it; nothing where there is none.

    >>> format_interval((0.7801, 0.85)), format_interval(None)
    ('[78.0, 85.0]', '')
    """
    return (
        f"[{format_score(metric, interval[0])}, {format_score(metric, interval[1])}]"
        if interval
        else ""
    )


def format_unit(metric: Metric) -> str:
    """What stands behind a number of this kind."""
    return " %" if metric.is_percent else ""


def format_score_with_interval(score: float | None, interval: Interval, metric: Metric = WA) -> str:
    """A score as it is quoted in a sentence.

    >>> format_score_with_interval(0.816, (0.7801, 0.85)), format_score_with_interval(None, None)
    ('81.6 % [78.0, 85.0]', 'n/a')
    """
    if score is None:
        return "n/a"
    return f"{format_score(metric, score)}{format_unit(metric)} {format_interval(interval, metric)}".strip()


def compute_gain(metric: Metric, score: float | None, other: float | None) -> float | None:
    """How far a score is above another one, in points where it is in percent.

    Of the printed scores, so that a reader who subtracts finds the same.
    """
    if score is None or other is None:
        return None
    return float(format_score(metric, score)) - float(format_score(metric, other))


def format_gain(metric: Metric, difference: float | None) -> str:
    """What `gain` gives, as a table holds it."""
    return "n/a" if difference is None else f"{difference:+.{1 if metric.is_percent else 3}f}"


def format_duration(seconds: float) -> str:
    """A time for people.

    >>> format_duration(5025.4), format_duration(61), format_duration(0.25)
    ('1 h 23 min 45 s', '1 min 1 s', '0.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours} h ' if hours else ''}{minutes} min {rest} s"


def list_scored_tasks(results: Results) -> list[str]:
    """The tasks that were scored, the deciding one first."""
    return list(results.scores_by_task(results.headline))


def list_classification_tasks(results: Results) -> list[str]:
    """The tasks that were scored and answer with a class."""
    return [task for task in list_scored_tasks(results) if results.classes[task]]


def get_task_scorer(results: Results, task: str) -> Scorer:
    """What a task is scored by."""
    return get_scorer(results.classes[task])


def format_title_unit(results: Results, task: str) -> str:
    """What follows the title of a table of a task's scores: the unit that all of them have."""
    return f",{format_unit(get_task_scorer(results, task).main)}" if results.classes[task] else ""


def get_leading_task(results: Results) -> str:
    """The task whose scores decide which epochs are picked, for every task."""
    return next(iter(results.classes), "")


def is_fitted(results: Results) -> bool:
    """Whether an estimator was fitted once, where networks are trained in epochs."""
    return any(fold.selected_c for fold in results.folds)


def format_title(results: Results) -> str:
    """Which recipe was run on which corpus, and what was changed in it."""
    name = results.recipe.get("name", results.name)
    changed = results.recipe.get("about", {}).get("changed")
    name = f"{name} ({changed})" if changed else name
    return f"{name} on {results.corpus['name']}" if "name" in results.corpus else f"{name}"


def describe_protocol(results: Results) -> str:
    """How the corpus was split and how much was tested, in one clause."""
    count = len(results.protocol.get("folds") or results.folds)
    name = str(results.protocol.get("name", "no protocol"))
    # Its scores answer another question, and must not be quoted without saying so.
    unsaid = "random" in name and not get_caution(results)
    clauses = [f"{name} (speaker-dependent)" if unsaid else name]
    if count:
        clauses.append(f"{count} fold{'s' * (count != 1)}")
    clauses.append(f"{len(results.predictions)} utterances tested")
    speakers = {item.speaker for item in results.predictions} - {None}
    if speakers:
        clauses.append(f"{len(speakers)} speaker{'s' * (len(speakers) != 1)}")
    return ", ".join(clauses)


def describe_scores(results: Results, task: str) -> str:
    """The headline's scores of a task in one clause."""
    scores = results.scores_by_task(results.headline)[task]
    told = (
        f"{one.title} {format_score_with_interval(scores.score(one.name), scores.bounds(one.name), one)}"
        for one in get_task_scorer(results, task).metrics
    )
    return f"{task}: {', '.join(told)}{f', on {HELD_OUT}' * (task in results.held_out_tasks)}"


def get_caution(results: Results) -> str:
    """What must be known of the split before any score is believed; empty where nothing."""
    return str(results.protocol.get("caution") or "")


def list_warnings(results: Results) -> list[str]:
    """What must be known besides: of the run, and of what the leakage check found."""
    found = [finding.description for finding in results.leakage if finding.verdict != "clean"]
    return [*results.warnings, *(words for words in found if words not in results.warnings)]


def describe_intervals(results: Results, task: str) -> str:
    """How the intervals of a task were made, and what they leave out; nothing without any."""
    words = results.scores_by_task(results.headline)[task].interval
    if not words:
        return ""
    speakers = {item.speaker for item in results.predictions} - {None}
    # Runs of older versions say nothing of it.
    if len(speakers) < MIN_RELIABLE_SPEAKERS and "narrow" not in words:
        words = f"{words} (few: likely too narrow)"
    if is_fitted(results):
        return words
    seed = "the quoted seed alone" if len(results.repeats) > 1 else "one training seed"
    return f"{words}; {seed}, another would give other scores"


def select_scored(results: Results, task: str, *selections: str) -> list[Prediction]:
    """The predictions whose truth is known, and which all these selections made."""
    return [
        item
        for item in results.scored_predictions
        if item.truth.get(task) is not None
        and all(task in item.selections.get(name, {}) for name in selections)
    ]


def get_answers(
    results: Results, task: str, selection: str, items: Sequence[Prediction]
) -> list[str | float]:
    """The likeliest class of each prediction, or its value."""
    return [item.predicted_label(selection, task, results.classes[task]) for item in items]


def get_value_pairs(results: Results, task: str) -> tuple[list[float], list[float]]:
    """The truth and the headline's answers of a task of numbers, utterance by utterance."""
    items = select_scored(results, task, results.headline)
    found = get_answers(results, task, results.headline, items)
    return [float(item.truth[task] or 0) for item in items], [float(value) for value in found]


def find_common_confusions(results: Results, task: str) -> dict[str, str]:
    """For each class of the headline, the class that it is most often taken for.

    A class that never occurs, or is never missed, is left out.
    """
    classes = results.classes[task]
    found = {}
    for index, row in enumerate(results.scores[results.headline][task].confusion):
        missed = [count if other != index else 0 for other, count in enumerate(row)]
        if any(missed):
            most = max(missed)
            share = format_percent(most / sum(row))
            found[classes[index]] = f"{classes[missed.index(most)]} ({share} %)"
    return found


def flatten(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested table as dotted names and values.

    >>> list(flatten({"model": {"heads": 8, "sizes": [2, 3]}}))
    [('model.heads', '8'), ('model.sizes', '2, 3')]
    """
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
