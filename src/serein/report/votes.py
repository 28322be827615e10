"""The table of scores against the distribution of several raters' votes."""

from serein.metrics.scoring import VOTES_SCORER
from serein.report import summary
from serein.report.table import (
    Column,
    Row,
    Table,
    make_interval_column,
    make_row,
    text_columns,
)
from serein.results.evaluation import Results, VoteScores

VOTES_HEADING = "Raters' votes"


def build_vote_tables(results: Results) -> list[Table]:
    """Build the table of each task whose tested utterances have votes."""
    return [_build_table(results, task) for task in results.vote_scores.get(results.headline, {})]


def describe_vote_scores(results: Results, task: str) -> str | None:
    """Return the quoted scores of a task against votes in one clause; None without votes."""
    scores = results.vote_scores.get(results.headline, {}).get(task)
    if scores is None:
        return None
    clauses = [
        f"{metric.title} "
        + summary.format_score_with_interval(
            scores.score(metric.name), scores.bounds(metric.name), metric
        )
        for metric in VOTES_SCORER.metrics
    ]
    return f"{task}, raters' votes: {', '.join(clauses)}, {scores.utterances} utterances"


def _build_table(results: Results, task: str) -> Table:
    quoted = results.vote_scores[results.headline][task]
    columns = [*text_columns("selection")]
    for metric in VOTES_SCORER.metrics:
        columns += [Column(name=metric.title), make_interval_column()]
    rows = [
        _build_row(selection, by_task[task], selection == results.headline)
        for selection, by_task in results.vote_scores.items()
        if task in by_task
    ]
    uniform = [
        cell
        for metric in VOTES_SCORER.metrics
        for cell in (summary.format_score(metric, quoted.uniform.get(metric.name)), "")
    ]
    bound = [summary.format_decimal(quoted.entropy), "", summary.format_decimal(0.0), ""]
    return Table(
        title=f"{task}: scores against the raters' votes",
        note=f"Means over {quoted.utterances} utterances with votes; lower is better. CE: "
        "cross-entropy in nats; TV: total variation distance, the share of the votes that would "
        f"have to go to other classes. Intervals: {quoted.interval or 'none was computed'}.",
        columns=tuple(columns),
        rows=(
            *rows,
            make_row("every class alike", *uniform, kind="baseline"),
            make_row("the votes themselves", *bound, kind="baseline"),
        ),
    )


def _build_row(selection: str, scores: VoteScores, is_headline: bool) -> Row:
    cells = [
        cell
        for metric in VOTES_SCORER.metrics
        for cell in (
            summary.format_score(metric, scores.score(metric.name)),
            summary.format_interval(scores.bounds(metric.name), metric),
        )
    ]
    return make_row(selection, *cells, kind="headline" if is_headline else "")
