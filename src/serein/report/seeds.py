"""The same evaluation with several seeds: how far chance alone moves its scores."""

from collections.abc import Iterable
from statistics import fmean, stdev

from serein.metrics.measures import Score
from serein.report import audit, summary
from serein.report.table import Column, Table, row, words
from serein.results import Results


def table(results: Results, task: str) -> Table | None:
    """Each seed's scores under every selection, their mean and deviation; None for one seed."""
    if len(results.repeats) < 2:
        return None
    scores_of = summary.measure(results, task).scores
    kinds = [(name, kind) for name in results.selections for kind in scores_of]
    columns = [
        Column(name=kind.title, group=audit.marked(results, name, task)) for name, kind in kinds
    ]
    by_seed = [
        [repeat.scores.get(name, {}).get(task, {}).get(kind.name) for name, kind in kinds]
        for repeat in results.repeats
    ]

    def cells(scores: Iterable[float | None]) -> list[str]:
        pairs = zip(kinds, scores, strict=True)
        return [summary.cell(kind, score) for (_, kind), score in pairs]

    points = ", in points" if results.classes[task] else ""
    return Table(
        title=f"{task}: seeds{summary.head(results, task)}",
        note="The same evaluation with other weights, order and dropout; the deviation is that of "
        f"a sample (n - 1){points}.",
        columns=(*words("seed"), *columns),
        rows=(
            *(
                row(f"{repeat.seed}{_mark(results, repeat.seed)}", *cells(scores))
                for repeat, scores in zip(results.repeats, by_seed, strict=True)
            ),
            row("mean", *cells(map(_mean, zip(*by_seed, strict=True)))),
            row("standard deviation", *cells(map(_deviation, zip(*by_seed, strict=True)))),
        ),
    )


def _mark(results: Results, seed: int) -> str:
    return audit.MARKS["headline"] if results.environment.get("seed") == seed else ""


def spread(results: Results, task: str) -> str | None:
    """Mean and deviation of the headline's scores over seeds, in a sentence; None for one seed."""
    clauses = [
        f"{kind.title} {pair[0]}{summary.unit(kind)} (standard deviation {pair[1]})"
        for kind in summary.measure(results, task).scores
        if (pair := moments(results, task, kind))
    ]
    if not clauses:
        return None
    names = ", ".join(str(repeat.seed) for repeat in results.repeats)
    seed = results.environment.get("seed")
    here = f"; quoted is seed {seed}" if seed is not None else ""
    count = len(results.repeats)
    return f"Mean of {task} over {count} seeds ({names}): {', '.join(clauses)}{here}."


def moments(results: Results, task: str, kind: Score) -> tuple[str, str] | None:
    """Mean and deviation of one of the headline's scores over seeds, as a table holds them.

    None for one seed, and where a seed's score is undefined.
    """
    by_task = [repeat.scores.get(results.headline, {}).get(task, {}) for repeat in results.repeats]
    scores = [own.get(kind.name) for own in by_task]
    deviation = _deviation(scores)
    if deviation is None:
        return None
    return summary.cell(kind, _mean(scores)), summary.cell(kind, deviation)


def _mean(scores: Iterable[float | None]) -> float | None:
    known = _known(scores)
    return fmean(known) if known else None


def _deviation(scores: Iterable[float | None]) -> float | None:
    known = _known(scores)
    return stdev(known) if len(known) > 1 else None


def _known(scores: Iterable[float | None]) -> list[float]:
    # A mean of the seeds that happen to be defined would be one of something else.
    scores = list(scores)
    known = [score for score in scores if score is not None]
    return known if len(known) == len(scores) else []
