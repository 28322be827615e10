"""A sweep, value by value: in the terminal, as Markdown, and as an HTML page."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from serein import config
from serein.report import comparison, figures, html, markdown, summary, terminal
from serein.report.comparison import format_p_value
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
from serein.utils.files import write_text

SWEEP_FILES = ("sweep.html", "sweep.md")
SIGNIFICANCE_LEVEL = 0.05
"""A trend is one where p is below, and the interval of its slope holds no 0."""
NO_SEED_SPREAD = "undefined: one seed"


def format_sweep_title(sweep: Sweep) -> str:
    """Which setting of which recipe was swept on which corpus."""
    return f"Sweep: {sweep.setting} of {sweep.recipe['name']} on {sweep.corpus['name']}"


def describe_sweep(sweep: Sweep) -> str:
    """How much was swept, in one clause."""
    seeds = [one.seed for one in sweep.points[0].seeds]
    return (
        f"{len(sweep.points)} values x {len(seeds)} seed{'s' * (len(seeds) > 1)} "
        f"({', '.join(map(str, seeds))}), {sweep.protocol}, {sweep.utterances} utterances tested, "
        f"{sweep.task}, {sweep.selection}"
    )


def describe_trend(sweep: Sweep) -> str:
    """Whether UA rises or falls with the setting, in two sentences."""
    trend = sweep.trend
    if trend is None:
        return (
            f"No trend was looked for: {sweep.setting} has values that are no numbers, or a score "
            "is undefined."
        )
    low_high = summary.format_interval(trend.interval) or "no interval"
    return (
        f"UA of {sweep.task} changes by {100 * trend.slope + 0.0:+.1f} points {low_high} for each "
        f"unit of {sweep.setting} (least squares over {len(sweep.points)} values); exchanging the "
        f"values within each seed gives as steep a slope with p {_format_p_equality(trend.p)}. "
        f"{_describe_significance(trend, sweep.setting)}"
    )


def _format_p_equality(p: float | None) -> str:
    found = format_p_value(p)
    return found if found.startswith("<") else f"= {found}"


def _describe_significance(trend: Trend, setting: str) -> str:
    if trend.arrangements * SIGNIFICANCE_LEVEL <= 1:
        return (
            f"Whether there is a trend cannot be told: {trend.arrangements} exchanges give no p "
            f"below {format_p_value(1 / trend.arrangements)}; more values or seeds would."
        )
    sure = trend.p is not None and trend.p < SIGNIFICANCE_LEVEL
    if not sure or trend.interval is None or trend.interval[0] <= 0 <= trend.interval[1]:
        return "This shows no trend; which is not to say that there is none."
    return f"This shows a trend: UA {'rises' if trend.slope > 0 else 'falls'} with {setting}."


def describe_run(setting: str, results: Results) -> str:
    """What to say when an evaluation ends."""
    task = summary.get_leading_task(results)
    seed = results.environment["seed"]
    return f"{setting}, seed {seed}: {summary.describe_scores(results, task)}"


def build_sweep_tables(sweep: Sweep) -> list[Table]:
    """Every value; each against the first one; and the runs."""
    splits = [_split_table(sweep)] * (len({one.split for one in sweep.points}) > 1)
    return [
        _point_table(sweep),
        *comparison.build_test_tables(sweep.paired_tests),
        *splits,
        _run_table(sweep),
    ]


def _point_table(sweep: Sweep) -> Table:
    return Table(
        title=f"{sweep.task}, {sweep.selection}: every value, %",
        note=f"All seeds' answers together. Intervals: {sweep.interval}. Trained: utterances of a "
        "fold's training side, the mean over folds.",
        columns=(
            Column(name=sweep.setting, is_text=True),
            *number_columns("trained", "WA"),
            make_interval_column(),
            Column(name="UA", has_bar=True),
            make_interval_column(),
            *number_columns("lowest UA", "highest UA", undefined_reason=NO_SEED_SPREAD),
        ),
        rows=tuple(_point_row(one, sweep) for one in sweep.points),
    )


def _point_row(one: SweepPoint, sweep: Sweep) -> Row:
    known = [seed.ua for seed in one.seeds if seed.ua is not None]
    ends = (min(known), max(known)) if len(known) > 1 else (None, None)
    return make_row(
        _format_value(one, sweep),
        f"{one.training_utterances:.0f}",
        summary.format_percent(one.wa),
        summary.format_interval(one.wa_interval) or UNDEFINED,
        summary.format_percent(one.ua),
        summary.format_interval(one.ua_interval) or UNDEFINED,
        *map(summary.format_percent, ends),
    )


def _format_value(one: SweepPoint, sweep: Sweep) -> str:
    return config.format_setting(sweep.setting, one.value).partition("=")[2]


def _split_table(sweep: Sweep) -> Table:
    return Table(
        title="Training sides",
        columns=text_columns(sweep.setting, "split"),
        rows=tuple(make_row(_format_value(one, sweep), one.split) for one in sweep.points),
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
                str(one.seed),
                summary.format_percent(one.wa),
                summary.format_percent(one.ua),
                one.run,
            )
            for point in sweep.points
            for one in point.seeds
        ),
    )


def build_sweep_figures(sweep: Sweep) -> Figures:
    """UA and WA against the setting, with intervals, and every seed."""
    return {
        "sweep": (
            figures.plot_sweep(sweep),
            f"UA and WA of {sweep.task} against {sweep.setting}, with 95 % intervals, and the UA "
            "of each seed; the table below holds the same numbers",
        )
    }


def render_sweep(sweep: Sweep) -> RenderableType:
    """The sweep for a `rich` console."""
    return Group(*_sweep_parts(sweep))


def _sweep_parts(sweep: Sweep) -> Iterator[RenderableType]:
    yield terminal.make_line(format_sweep_title(sweep), "bold")
    yield terminal.make_line(describe_sweep(sweep))
    yield terminal.make_line(describe_trend(sweep), "bold")
    for warning in sweep.warnings:
        yield terminal.make_line(f"Warning: {warning}", "yellow")
    for table in build_sweep_tables(sweep)[:-1]:
        yield Text()
        yield terminal.draw_table(table)


def render_sweep_markdown(sweep: Sweep) -> str:
    """The sweep as Markdown; ends with a newline."""
    warnings = [f"Warning: {warning}" for warning in sweep.warnings]
    sections = [
        Section(title="", paragraphs=(describe_sweep(sweep), describe_trend(sweep), *warnings)),
        Section(title="Scores", tables=tuple(build_sweep_tables(sweep))),
        Section(title="Reproduce", code=sweep.command),
    ]
    return markdown.render_markdown_sections(format_sweep_title(sweep), sections)


def render_sweep_html(sweep: Sweep) -> str:
    """The sweep as a page that opens offline."""
    from plotly.offline import get_plotlyjs

    drawn = build_sweep_figures(sweep)
    return html.render_template(
        "sweep.html",
        sweep=sweep,
        title=format_sweep_title(sweep),
        told=describe_sweep(sweep),
        verdict=describe_trend(sweep),
        tables=build_sweep_tables(sweep),
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        script=get_plotlyjs(),
        source="sweep.json",
    )


def write_sweep(sweep: Sweep, path: Path) -> tuple[Path, ...]:
    """Write ``sweep.html`` and ``sweep.md`` to a folder; give their paths.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    for name, text in zip(
        SWEEP_FILES, (render_sweep_html(sweep), render_sweep_markdown(sweep)), strict=True
    ):
        write_text(path / name, text)
    return tuple(path / name for name in SWEEP_FILES)
