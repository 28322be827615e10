"""Reports of a sweep over one setting: in the terminal, as Markdown and as an HTML page."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from serein import config
from serein.report import comparison, figures, html, markdown, summary, terminal
from serein.report.document import Section
from serein.report.html import Figures
from serein.report.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    make_interval_column,
    make_row,
    number_columns,
    text_columns,
)
from serein.results.evaluation import Results
from serein.results.studies import Sweep, SweepPoint, Trend
from serein.utils.files import write_texts

SWEEP_FILES = ("sweep.html", "sweep.md")
SIGNIFICANCE_LEVEL = 0.05
"""A trend has a p-value below this level and an interval of the slope without 0."""
NO_SEED_SPREAD = "undefined: one seed"


def format_sweep_title(sweep: Sweep) -> str:
    """Return setting, recipe and corpus of the sweep."""
    return f"Sweep: {sweep.setting} of {sweep.recipe['name']} on {sweep.corpus['name']}"


def describe_sweep(sweep: Sweep) -> str:
    """Return values, seeds, protocol, utterances, task and selection in one clause."""
    seeds = [seed.seed for seed in sweep.points[0].seeds]
    return (
        f"{len(sweep.points)} values x {len(seeds)} seed{'s' * (len(seeds) > 1)} "
        f"({', '.join(map(str, seeds))}), {sweep.protocol}, {sweep.utterances} utterances tested, "
        f"{sweep.task}, {sweep.selection}"
    )


def describe_trend(sweep: Sweep) -> str:
    """Return in two sentences whether UA rises or falls with the setting."""
    trend = sweep.trend
    if trend is None:
        return (
            f"No test of a trend: {sweep.setting} has values that are not numbers, or a score is "
            "undefined."
        )
    interval = summary.format_interval(trend.interval) or "no interval"
    p_value = summary.format_p_value(trend.p)
    equality = p_value if p_value.startswith("<") else f"= {p_value}"
    return (
        f"UA of {sweep.task} changes by {100 * trend.slope + 0.0:+.1f} points {interval} per unit "
        f"of {sweep.setting} (least squares over {len(sweep.points)} values); permuting the values "
        f"within each seed gives as steep a slope with p {equality}. "
        f"{_describe_significance(trend, sweep)}"
    )


def _describe_significance(trend: Trend, sweep: Sweep) -> str:
    if trend.arrangements * SIGNIFICANCE_LEVEL <= 1:
        return (
            f"A trend cannot be tested: {trend.arrangements} permutations give no p below "
            f"{summary.format_p_value(1 / trend.arrangements)}; use more values or seeds."
        )
    significant = trend.p is not None and trend.p < SIGNIFICANCE_LEVEL
    if not significant or trend.interval is None or trend.interval[0] <= 0 <= trend.interval[1]:
        return "No trend was found, which does not prove that there is none."
    if "bootstrap" in sweep.interval and "narrow" in sweep.interval:
        # A sweep has no predictions, so that intervals of earlier versions stay as they are.
        return (
            "Whether there is a trend cannot be told: the interval is a bootstrap of few speakers, "
            "which is too narrow."
        )
    return f"There is a trend: UA {'rises' if trend.slope > 0 else 'falls'} with {sweep.setting}."


def describe_run(setting: str, results: Results) -> str:
    """Return the progress line of an evaluation that has ended."""
    task = summary.get_first_task(results)
    seed = results.environment["seed"]
    return f"{setting}, seed {seed}: {summary.describe_scores(results, task)}"


def build_sweep_tables(sweep: Sweep) -> list[Table]:
    """Build the tables of values, of tests against the first value, of splits and of runs."""
    has_several_splits = len({point.split for point in sweep.points}) > 1
    return [
        _point_table(sweep),
        *comparison.build_test_tables(sweep.paired_tests),
        *([_split_table(sweep)] if has_several_splits else []),
        _run_table(sweep),
    ]


def _point_table(sweep: Sweep) -> Table:
    return Table(
        title=f"{sweep.task}, {sweep.selection}: every value, %",
        note=f"Pooled over the predictions of all seeds. Intervals: {sweep.interval}. Trained: "
        "utterances of the training subset, mean over folds.",
        columns=(
            *text_columns(sweep.setting),
            *number_columns("trained", "WA"),
            make_interval_column(),
            Column(name="UA", has_bar=True),
            make_interval_column(),
            *number_columns("lowest UA", "highest UA", undefined_reason=NO_SEED_SPREAD),
        ),
        rows=tuple(_point_row(point, sweep) for point in sweep.points),
    )


def _point_row(point: SweepPoint, sweep: Sweep) -> Row:
    scores = [seed.ua for seed in point.seeds if seed.ua is not None]
    extremes = (min(scores), max(scores)) if len(scores) > 1 else (None, None)
    return make_row(
        _format_value(point, sweep),
        f"{point.training_utterances:.0f}",
        summary.format_percent(point.wa),
        summary.format_interval(point.wa_interval) or UNDEFINED,
        summary.format_percent(point.ua),
        summary.format_interval(point.ua_interval) or UNDEFINED,
        *map(summary.format_percent, extremes),
    )


def _format_value(point: SweepPoint, sweep: Sweep) -> str:
    return config.format_setting(sweep.setting, point.value).partition("=")[2]


def _split_table(sweep: Sweep) -> Table:
    return Table(
        title="Splits",
        columns=text_columns(sweep.setting, "split"),
        rows=tuple(make_row(_format_value(point, sweep), point.split) for point in sweep.points),
    )


def _run_table(sweep: Sweep) -> Table:
    return Table(
        title="Runs",
        columns=(
            *text_columns(sweep.setting),
            *number_columns("seed", "WA", "UA"),
            *text_columns("run"),
        ),
        rows=tuple(
            make_row(
                _format_value(point, sweep),
                str(seed.seed),
                summary.format_percent(seed.wa),
                summary.format_percent(seed.ua),
                seed.run,
            )
            for point in sweep.points
            for seed in point.seeds
        ),
    )


def build_sweep_figures(sweep: Sweep) -> Figures:
    """Build the figure of UA and WA against the setting, with intervals and seeds."""
    return {
        "sweep": (
            figures.plot_sweep(sweep),
            f"UA and WA of {sweep.task} against {sweep.setting}, with 95 % intervals, and the UA "
            "of each seed; the table below has the same numbers",
        )
    }


def render_sweep(sweep: Sweep) -> RenderableType:
    """Render the sweep for a `rich` console, without the table of runs."""
    parts: list[RenderableType] = [
        terminal.make_line(format_sweep_title(sweep), "bold"),
        terminal.make_line(describe_sweep(sweep)),
        terminal.make_line(describe_trend(sweep), "bold"),
        *(terminal.make_line(f"Warning: {warning}", "yellow") for warning in sweep.warnings),
    ]
    for table in build_sweep_tables(sweep)[:-1]:
        parts += [Text(), terminal.draw_table(table)]
    return Group(*parts)


def render_sweep_markdown(sweep: Sweep) -> str:
    """Render the sweep as Markdown; ends with a newline."""
    warnings = [f"Warning: {warning}" for warning in sweep.warnings]
    sections = [
        Section(title="", paragraphs=(describe_sweep(sweep), describe_trend(sweep), *warnings)),
        Section(title="Scores", tables=tuple(build_sweep_tables(sweep))),
        Section(title="Reproduce", code=sweep.command),
    ]
    return markdown.render_markdown_sections(format_sweep_title(sweep), sections)


def render_sweep_html(sweep: Sweep) -> str:
    """Render the sweep as a page that opens offline."""
    return html.render_template(
        "sweep.html",
        **html.figure_values(build_sweep_figures(sweep)),
        sweep=sweep,
        title=format_sweep_title(sweep),
        description=describe_sweep(sweep),
        trend=describe_trend(sweep),
        tables=build_sweep_tables(sweep),
        source="sweep.json",
    )


def write_sweep(sweep: Sweep, path: Path) -> tuple[Path, ...]:
    """Write ``sweep.html`` and ``sweep.md`` to a folder; return their paths.

    Raises:
        StorageError: a file could not be written; an earlier file of its name is unchanged.
    """
    pages = (render_sweep_html(sweep), render_sweep_markdown(sweep))
    return write_texts(path, dict(zip(SWEEP_FILES, pages, strict=True)))
