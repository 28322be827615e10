"""How one could have been fooled, and what each way would have been worth here."""

from collections.abc import Iterator, Sequence

from serein.metrics.scoring import Metric, Scores
from serein.report import audit, summary
from serein.report.table import Column, Row, Table, make_row, text_columns
from serein.results.evaluation import Results

AUDIT_HINT = (
    "Run the evaluation with --audit to measure a random split and test-speaker normalisation too"
)


def build_optimistic_table(results: Results) -> Table | None:
    """The quoted scores, and what less careful evaluations of the same system report."""
    task = summary.get_leading_task(results)
    scores = results.scores_by_task(results.headline).get(task)
    ways = list(_list_optimistic_variants(results, task)) if scores else []
    if scores is None or not ways:
        return None
    kinds = summary.get_task_scorer(results, task).metrics
    quoted = {one.name: scores.score(one.name) for one in kinds}
    points = " in points" if results.classes[task] else ""
    measured = "" if results.flatteries else f" {AUDIT_HINT}."
    seed = results.environment.get("seed")
    return Table(
        title=f"{task}: what fooling oneself would have been worth{summary.format_title_unit(results, task)}",
        note=f"All of seed {seed}, pooled over folds; gains{points} over the quoted row.{measured}",
        columns=(
            *text_columns("evaluation", "what was done"),
            *(Column(name=one.title) for one in kinds),
            *(Column(name=f"gain in {one.title}") for one in kinds),
        ),
        rows=(
            make_row(
                "as quoted",
                results.selections.get(results.headline, ""),
                *(summary.format_score(one, quoted[one.name]) for one in kinds),
                *("" for _ in kinds),
                kind="headline",
            ),
            *(_optimistic_row(name, note, found, quoted, kinds) for name, note, found in ways),
        ),
    )


def _list_optimistic_variants(results: Results, task: str) -> Iterator[tuple[str, str, Scores]]:
    for name in results.selections:
        if audit.is_optimistic(results, name, task):
            own = results.scores_by_task(name)[task]
            found = {
                one.name: own.score(one.name)
                for one in summary.get_task_scorer(results, task).metrics
            }
            yield "test-picked epochs", results.selections[name], found
    for one in results.flatteries:
        if task in one.scores:
            yield one.name.replace("-", " "), one.words, one.scores[task]


def _optimistic_row(
    name: str, note: str, found: Scores, quoted: Scores, kinds: Sequence[Metric]
) -> Row:
    pairs = [(one, found.get(one.name)) for one in kinds]
    shown = (summary.format_score(one, score) for one, score in pairs)
    gains = (summary.compute_gain(one, score, quoted[one.name]) for one, score in pairs)
    signed = (summary.format_gain(one, gain) for one, gain in zip(kinds, gains, strict=True))
    return make_row(name, note, *shown, *signed, kind="optimistic")
