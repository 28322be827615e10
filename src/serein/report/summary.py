"""Sentences and formatted numbers that every format of a report uses."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from serein.metrics.bootstrap import MIN_RELIABLE_SPEAKERS
from serein.metrics.scoring import CCC, WA, Metric, Scorer, get_metric, get_scorer
from serein.results.evaluation import (
    EXTERNAL,
    MODEL,
    Prediction,
    Results,
    remove_model_folders,
)
from serein.results.studies import Search

Interval = tuple[float, float] | None
MIN_PRINTED_P = 0.001
"""A smaller p-value is printed as below this one."""
HELD_OUT = "held-out utterances of training speakers"
"""Utterances that score a task, such as speaker, whose classes no test speaker has."""


def format_percent(score: float | None) -> str:
    """Format a score in percent with one decimal.

    >>> format_percent(0.81649), format_percent(None)
    ('81.6', 'n/a')
    """
    return "n/a" if score is None else f"{100 * score:.1f}"


def format_decimal(value: float | None) -> str:
    """Format a number with three decimals.

    >>> format_decimal(0.0426), format_decimal(None)
    ('0.043', 'n/a')
    """
    return "n/a" if value is None else f"{value:.3f}"


def format_p_value(p: float | None) -> str:
    """Format a p-value.

    >>> format_p_value(0.0421), format_p_value(0.00004), format_p_value(None)
    ('0.042', '< 0.001', 'n/a')
    """
    if p is None:
        return "n/a"
    return f"< {MIN_PRINTED_P}" if p < MIN_PRINTED_P else f"{p:.3f}"


def format_score(metric: Metric, score: float | None) -> str:
    """Format a score without its unit."""
    return format_percent(score) if metric.is_percent else format_decimal(score)


def format_interval(interval: Interval, metric: Metric = WA) -> str:
    """Format an interval; empty where there is none.

    >>> format_interval((0.7801, 0.85)), format_interval(None)
    ('[78.0, 85.0]', '')
    """
    if interval is None:
        return ""
    low, high = (format_score(metric, bound) for bound in interval)
    return f"[{low}, {high}]"


def format_unit(metric: Metric) -> str:
    """Return the unit of a score with a space before it; empty for a score without unit."""
    return " %" if metric.is_percent else ""


def format_score_with_interval(score: float | None, interval: Interval, metric: Metric = WA) -> str:
    """Format a score with its unit and interval.

    >>> format_score_with_interval(0.816, (0.7801, 0.85)), format_score_with_interval(None, None)
    ('81.6 % [78.0, 85.0]', 'n/a')
    """
    if score is None:
        return "n/a"
    value = f"{format_score(metric, score)}{format_unit(metric)}"
    return f"{value} {format_interval(interval, metric)}".strip()


def trial_metric(search: Search) -> Metric:
    """Return the metric that ranks the trials of a search; "mean" is in its title if it is one."""
    metric = get_metric(search.score)
    if len(search.ranked_by) < 2:
        return metric
    if len(set(search.ranked_by.values())) == 1:
        return replace(metric, title=f"mean {metric.title}")
    return replace(CCC, name="mean", title="mean score", description="mean of UA and CCC")


def compute_gain(metric: Metric, score: float | None, other: float | None) -> float | None:
    """Compute the difference of two scores as printed, in points if they are in percent."""
    if score is None or other is None:
        return None
    return float(format_score(metric, score)) - float(format_score(metric, other))


def format_gain(metric: Metric, gain: float | None) -> str:
    """Format a difference from `compute_gain` with its sign."""
    return "n/a" if gain is None else f"{gain:+.{1 if metric.is_percent else 3}f}"


def format_duration(seconds: float) -> str:
    """Format a duration in hours, minutes and seconds.

    >>> format_duration(5025.4), format_duration(61), format_duration(0.25)
    ('1 h 23 min 45 s', '1 min 1 s', '0.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours} h ' if hours else ''}{minutes} min {rest} s"


def list_scored_tasks(results: Results) -> list[str]:
    """Return the tasks that have scores, the first task of the recipe first."""
    return list(results.scores_by_task(results.headline))


def list_classification_tasks(results: Results) -> list[str]:
    """Return the classification tasks that have scores."""
    return [task for task in list_scored_tasks(results) if results.classes[task]]


def get_task_scorer(results: Results, task: str) -> Scorer:
    """Return the metrics of a task."""
    return get_scorer(results.classes[task])


def format_title_unit(results: Results, task: str) -> str:
    """Return the unit of a task's scores for the end of a title; empty without a common unit."""
    return f",{format_unit(get_task_scorer(results, task).main)}" if results.classes[task] else ""


def get_first_task(results: Results) -> str:
    """Return the first task of the recipe, whose scores select the epochs by default."""
    return next(iter(results.classes), "")


def is_external(results: Results) -> bool:
    """Return whether serein did not build the model."""
    return bool(results.recipe.get("model", {}).get("name") == EXTERNAL)


def is_fitted(results: Results) -> bool:
    """Return whether the model has no epochs, such as an estimator that is fitted once."""
    if is_external(results):
        return MODEL in results.selections
    return any(fold.selected_c for fold in results.folds)


def is_trained_with_seed(results: Results) -> bool:
    """Return whether another seed gives another model."""
    if is_external(results):
        return bool(results.recipe["model"].get("trained"))
    return not is_fitted(results)


def format_title(results: Results) -> str:
    """Return recipe, changes of the recipe, and corpus."""
    name = results.recipe.get("name", results.name)
    changed = results.recipe.get("about", {}).get("changed")
    name = f"{name} ({remove_model_folders(changed)})" if changed else name
    return f"{name} on {results.corpus['name']}" if "name" in results.corpus else f"{name}"


def describe_protocol(results: Results) -> str:
    """Return protocol, folds, test utterances and speakers in one clause."""
    count = len(results.protocol.get("folds") or results.folds)
    name = str(results.protocol.get("name", "no protocol"))
    # Speaker-dependent scores must not be quoted without this word.
    unmarked = "random" in name and not get_caution(results)
    clauses = [f"{name} (speaker-dependent)" if unmarked else name]
    if count:
        clauses.append(f"{count} fold{'s' * (count != 1)}")
    clauses.append(f"{len(results.predictions)} utterances tested")
    speakers = {item.speaker for item in results.predictions} - {None}
    if speakers:
        clauses.append(f"{len(speakers)} speaker{'s' * (len(speakers) != 1)}")
    return ", ".join(clauses)


def describe_scores(results: Results, task: str) -> str:
    """Return the quoted scores of a task in one clause."""
    scores = results.scores_by_task(results.headline)[task]
    clauses = []
    for metric in get_task_scorer(results, task).metrics:
        score, interval = scores.score(metric.name), scores.bounds(metric.name)
        clauses.append(f"{metric.title} {format_score_with_interval(score, interval, metric)}")
    held_out = f", on {HELD_OUT}" * (task in results.held_out_tasks)
    return f"{task}: {', '.join(clauses)}{held_out}"


def get_caution(results: Results) -> str:
    """Return the caution of the protocol, which is printed before every score; may be empty."""
    return str(results.protocol.get("caution") or "")


def list_warnings(results: Results) -> list[str]:
    """Return the warnings of the run and of the leakage check."""
    leaks = [
        finding.description
        for finding in results.leakage
        if finding.verdict not in ("clean", "unknown")
    ]
    return [*results.warnings, *(leak for leak in leaks if leak not in results.warnings)]


def describe_intervals(results: Results, task: str) -> str:
    """Return how the intervals of a task were computed and what they do not cover; may be empty."""
    method = results.scores_by_task(results.headline)[task].interval
    if not method:
        return ""
    speakers = {item.speaker for item in results.predictions} - {None}
    # Results of older versions do not say that few speakers give narrow bootstrap intervals.
    is_few = len(speakers) < MIN_RELIABLE_SPEAKERS
    if is_few and "bootstrap" in method and "narrow" not in method:
        method = f"{method} (few: likely too narrow)"
    if not is_trained_with_seed(results):
        return method
    seed = "the quoted seed only" if len(results.repeats) > 1 else "one training seed"
    return f"{method}; {seed}; scores differ between seeds"


def select_scored(results: Results, task: str, *selections: str) -> list[Prediction]:
    """Return the predictions that have a label and a prediction by all these selections."""
    items = [item for item in results.scored_predictions if item.truth.get(task) is not None]
    for name in selections:
        items = [item for item in items if task in item.selections.get(name, {})]
    return items


def get_predicted_values(
    results: Results, task: str, selection: str, items: Sequence[Prediction]
) -> list[str | float]:
    """Return the most probable class, or the value, of each prediction."""
    return [item.predicted_label(selection, task, results.classes[task]) for item in items]


def get_value_pairs(results: Results, task: str) -> tuple[list[float], list[float]]:
    """Return the labels and the quoted predictions of a regression task."""
    items = select_scored(results, task, results.headline)
    predicted = get_predicted_values(results, task, results.headline, items)
    return [float(item.truth[task] or 0) for item in items], [float(value) for value in predicted]


def find_common_confusions(results: Results, task: str) -> dict[str, str]:
    """Return, for each class, the wrong class that is predicted most often and its share.

    A class that has no utterances, or no errors, is left out.
    """
    classes = results.classes[task]
    confusions = {}
    for index, row in enumerate(results.scores[results.headline][task].confusion):
        errors = [count if other != index else 0 for other, count in enumerate(row)]
        if any(errors):
            highest = max(errors)
            share = format_percent(highest / sum(row))
            confusions[classes[index]] = f"{classes[errors.index(highest)]} ({share} %)"
    return confusions


def flatten(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted names and the values of a nested table.

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
