"""The same evaluation with several seeds: how far chance alone moves its scores."""

from collections.abc import Iterable
from statistics import fmean, stdev

from serein.metrics.scoring import Metric
from serein.report import audit, summary
from serein.report.table import Column, Table, make_row, text_columns
from serein.results.evaluation import Results


def build_seed_table(results: Results, task: str) -> Table | None:
    """Each seed's scores under every selection, their mean and deviation; None for one seed."""
    if len(results.repeats) < 2:
        return None
    scores_of = summary.get_task_scorer(results, task).metrics
    kinds = [(name, kind) for name in results.selections for kind in scores_of]
    columns = [
        Column(name=kind.title, group=audit.format_selection(results, name, task))
        for name, kind in kinds
    ]
    by_seed = [
        [repeat.scores.get(name, {}).get(task, {}).get(kind.name) for name, kind in kinds]
        for repeat in results.repeats
    ]

    def cells(scores: Iterable[float | None]) -> list[str]:
        pairs = zip(kinds, scores, strict=True)
        return [summary.format_score(kind, score) for (_, kind), score in pairs]

    points = ", in points" if results.classes[task] else ""
    return Table(
        title=f"{task}: seeds{summary.format_title_unit(results, task)}",
        note="The same evaluation with other weights, order and dropout; the deviation is that of "
        f"a sample (n - 1){points}.",
        columns=(*text_columns("seed"), *columns),
        rows=(
            *(
                make_row(f"{repeat.seed}{_get_seed_mark(results, repeat.seed)}", *cells(scores))
                for repeat, scores in zip(results.repeats, by_seed, strict=True)
            ),
            make_row("mean", *cells(map(_mean_score, zip(*by_seed, strict=True)))),
            make_row(
                "standard deviation", *cells(map(_score_deviation, zip(*by_seed, strict=True)))
            ),
        ),
    )


def _get_seed_mark(results: Results, seed: int) -> str:
    return audit.KIND_MARKS["headline"] if results.environment.get("seed") == seed else ""


def describe_seeds(results: Results, task: str) -> str | None:
    """Mean and deviation of the headline's scores over seeds, in a sentence; None for one seed."""
    clauses = [
        f"{kind.title} {pair[0]}{summary.format_unit(kind)} (standard deviation {pair[1]})"
        for kind in summary.get_task_scorer(results, task).metrics
        if (pair := format_seed_moments(results, task, kind))
    ]
    if not clauses:
        return None
    names = ", ".join(str(repeat.seed) for repeat in results.repeats)
    seed = results.environment.get("seed")
    here = f"; quoted is seed {seed}" if seed is not None else ""
    count = len(results.repeats)
    return f"Mean of {task} over {count} seeds ({names}): {', '.join(clauses)}{here}."


def format_seed_moments(results: Results, task: str, metric: Metric) -> tuple[str, str] | None:
    """Mean and deviation of one of the headline's scores over seeds, as a table holds them.

    None for one seed, and where a seed's score is undefined.
    """
    by_task = [repeat.scores.get(results.headline, {}).get(task, {}) for repeat in results.repeats]
    scores = [own.get(metric.name) for own in by_task]
    deviation = _score_deviation(scores)
    if deviation is None:
        return None
    return summary.format_score(metric, _mean_score(scores)), summary.format_score(
        metric, deviation
    )


def _mean_score(scores: Iterable[float | None]) -> float | None:
    known = _get_complete_scores(scores)
    return fmean(known) if known else None


def _score_deviation(scores: Iterable[float | None]) -> float | None:
    known = _get_complete_scores(scores)
    return stdev(known) if len(known) > 1 else None


def _get_complete_scores(scores: Iterable[float | None]) -> list[float]:
    # A mean of the seeds that happen to be defined would be one of something else.
    scores = list(scores)
    known = [score for score in scores if score is not None]
    return known if len(known) == len(scores) else []
