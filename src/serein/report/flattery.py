"""How one could have been fooled, and what each way would have been worth here."""

from collections.abc import Iterator, Sequence

from serein.metrics.measures import Score, Scores
from serein.report import audit, summary
from serein.report.table import Column, Row, Table, row, words
from serein.results import Results

ASK = "Run the evaluation with --audit to measure a random split and test-speaker normalisation too"


def table(results: Results) -> Table | None:
    """The quoted scores, and what less careful evaluations of the same system report."""
    task = summary.leading(results)
    scores = results.scored(results.headline).get(task)
    ways = list(_ways(results, task)) if scores else []
    if scores is None or not ways:
        return None
    kinds = summary.measure(results, task).scores
    quoted = {one.name: scores.score(one.name) for one in kinds}
    points = " in points" if results.classes[task] else ""
    measured = "" if results.flatteries else f" {ASK}."
    seed = results.environment.get("seed")
    return Table(
        title=f"{task}: what fooling oneself would have been worth{summary.head(results, task)}",
        note=f"All of seed {seed}, pooled over folds; gains{points} over the quoted row.{measured}",
        columns=(
            *words("evaluation", "what was done"),
            *(Column(name=one.title) for one in kinds),
            *(Column(name=f"gain in {one.title}") for one in kinds),
        ),
        rows=(
            row(
                "as quoted",
                results.selections.get(results.headline, ""),
                *(summary.cell(one, quoted[one.name]) for one in kinds),
                *("" for _ in kinds),
                kind="headline",
            ),
            *(_row(name, note, found, quoted, kinds) for name, note, found in ways),
        ),
    )


def _ways(results: Results, task: str) -> Iterator[tuple[str, str, Scores]]:
    for name in results.selections:
        if audit.is_optimistic(results, name, task):
            own = results.scored(name)[task]
            found = {one.name: own.score(one.name) for one in summary.measure(results, task).scores}
            yield "test-picked epochs", results.selections[name], found
    for one in results.flatteries:
        if task in one.scores:
            yield one.name.replace("-", " "), one.words, one.scores[task]


def _row(name: str, note: str, found: Scores, quoted: Scores, kinds: Sequence[Score]) -> Row:
    pairs = [(one, found.get(one.name)) for one in kinds]
    shown = (summary.cell(one, score) for one, score in pairs)
    gains = (summary.gain(one, score, quoted[one.name]) for one, score in pairs)
    signed = (summary.signed(one, gain) for one, gain in zip(kinds, gains, strict=True))
    return row(name, note, *shown, *signed, kind="optimistic")
