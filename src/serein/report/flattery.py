"""How one could have been fooled, and what each way would have been worth here."""

from collections.abc import Iterator

from serein.report import audit, summary
from serein.report.table import Column, Row, Table, row, words
from serein.results import Results

ASK = "Run the evaluation with --audit to measure a random split and test-speaker normalisation too"


def table(results: Results) -> Table | None:
    """The quoted scores, and what less careful evaluations of the same system report."""
    task = summary.leading(results)
    scores = results.scores.get(results.headline, {}).get(task)
    ways = list(_ways(results, task)) if scores else []
    if scores is None or not ways:
        return None
    quoted = {"wa": scores.wa, "ua": scores.ua}
    measured = "" if results.flatteries else f" {ASK}."
    seed = results.environment.get("seed")
    return Table(
        title=f"{task}: what fooling oneself would have been worth, %",
        note=f"All of seed {seed}, pooled over folds; gains in points over the quoted row."
        f"{measured}",
        columns=(
            *words("evaluation", "what was done"),
            *(Column(name=name) for name in ("WA", "UA", "gain in WA", "gain in UA")),
        ),
        rows=(
            row(
                "as quoted",
                results.selections.get(results.headline, ""),
                *map(summary.percent, quoted.values()),
                *("", ""),
                kind="headline",
            ),
            *(_row(name, note, found, quoted) for name, note, found in ways),
        ),
    )


Scores = dict[str, float | None]


def _ways(results: Results, task: str) -> Iterator[tuple[str, str, Scores]]:
    for name in results.selections:
        if audit.is_optimistic(results, name, task):
            found = results.scores[name][task]
            yield "test-picked epochs", results.selections[name], {"wa": found.wa, "ua": found.ua}
    for one in results.flatteries:
        if task in one.scores:
            yield one.name.replace("-", " "), one.words, one.scores[task]


def _row(name: str, note: str, found: Scores, quoted: Scores) -> Row:
    gains = (_gain(found.get(score), quoted[score]) for score in ("wa", "ua"))
    shown = (summary.percent(found.get(score)) for score in ("wa", "ua"))
    return row(name, note, *shown, *gains, kind="optimistic")


def _gain(found: float | None, quoted: float | None) -> str:
    if found is None or quoted is None:
        return summary.percent(None)
    # Of the printed scores, so that a reader who subtracts finds the same.
    return f"{round(100 * found, 1) - round(100 * quoted, 1):+.1f}"
