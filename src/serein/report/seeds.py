"""The same evaluation with several seeds: how far chance alone moves its scores."""

from collections.abc import Iterable
from statistics import fmean, stdev

from serein.report import audit
from serein.report.summary import percent
from serein.report.table import Column, Table, row, words
from serein.results import Results


def table(results: Results, task: str) -> Table | None:
    """Each seed's scores under every selection, their mean and deviation; None for one seed."""
    if len(results.repeats) < 2:
        return None
    columns = [
        Column(name=head, group=audit.marked(results, name, task))
        for name in results.selections
        for head in ("WA", "UA")
    ]
    pairs = [(name, score) for name in results.selections for score in ("wa", "ua")]
    by_seed = [
        [repeat.scores.get(name, {}).get(task, {}).get(score) for name, score in pairs]
        for repeat in results.repeats
    ]
    return Table(
        title=f"{task}: seeds, %",
        note="The same evaluation with other weights, order and dropout; the deviation is that of "
        "a sample (n - 1), in points.",
        columns=(*words("seed"), *columns),
        rows=(
            *(
                row(f"{repeat.seed}{_mark(results, repeat.seed)}", *map(percent, scores))
                for repeat, scores in zip(results.repeats, by_seed, strict=True)
            ),
            row("mean", *(percent(_mean(scores)) for scores in zip(*by_seed, strict=True))),
            row(
                "standard deviation",
                *(percent(_deviation(scores)) for scores in zip(*by_seed, strict=True)),
            ),
        ),
    )


def _mark(results: Results, seed: int) -> str:
    return audit.MARKS["headline"] if results.environment.get("seed") == seed else ""


def spread(results: Results, task: str) -> str | None:
    """Mean and deviation of the headline's scores over seeds, in a sentence; None for one seed."""
    found = {score: moments(results, task, score) for score in ("wa", "ua")}
    clauses = [
        f"{score.upper()} {pair[0]} % (standard deviation {pair[1]})"
        for score, pair in found.items()
        if pair
    ]
    if not clauses:
        return None
    names = ", ".join(str(repeat.seed) for repeat in results.repeats)
    seed = results.environment.get("seed")
    here = f"; quoted is seed {seed}" if seed is not None else ""
    count = len(results.repeats)
    return f"Mean of {task} over {count} seeds ({names}): {', '.join(clauses)}{here}."


def moments(results: Results, task: str, score: str) -> tuple[str, str] | None:
    """Mean and deviation of the headline's "wa" or "ua" over seeds, in percent and points.

    None for one seed, and where a seed's score is undefined.
    """
    by_task = [repeat.scores.get(results.headline, {}).get(task, {}) for repeat in results.repeats]
    scores = [own.get(score) for own in by_task]
    deviation = _deviation(scores)
    return None if deviation is None else (percent(_mean(scores)), percent(deviation))


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
