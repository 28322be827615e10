"""A sweep, value by value: in the terminal, as Markdown, and as an HTML page."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from serein import config
from serein.files import write_text
from serein.report import comparison, markdown, page, plots, summary, terminal
from serein.report.comparison import chance
from serein.report.document import Section
from serein.report.page import Figures
from serein.report.table import UNDEFINED, Column, Row, Table, interval_column, numbers, row, words
from serein.results import Results
from serein.sweeps import Point, Sweep, Trend

FILES = ("sweep.html", "sweep.md")
SURE = 0.05
"""A trend is one where p is below, and the interval of its slope holds no 0."""
NO_SPREAD = "undefined: one seed"


def title(sweep: Sweep) -> str:
    """Which setting of which recipe was swept on which corpus."""
    return f"Sweep: {sweep.setting} of {sweep.recipe['name']} on {sweep.corpus['name']}"


def told(sweep: Sweep) -> str:
    """How much was swept, in one clause."""
    seeds = [one.seed for one in sweep.points[0].seeds]
    return (
        f"{len(sweep.points)} values x {len(seeds)} seed{'s' * (len(seeds) > 1)} "
        f"({', '.join(map(str, seeds))}), {sweep.protocol}, {sweep.utterances} utterances tested, "
        f"{sweep.task}, {sweep.selection}"
    )


def verdict(sweep: Sweep) -> str:
    """Whether UA rises or falls with the setting, in two sentences."""
    trend = sweep.trend
    if trend is None:
        return (
            f"No trend was looked for: {sweep.setting} has values that are no numbers, or a score "
            "is undefined."
        )
    low_high = summary.bounds(trend.interval) or "no interval"
    return (
        f"UA of {sweep.task} changes by {100 * trend.slope + 0.0:+.1f} points {low_high} for each "
        f"unit of {sweep.setting} (least squares over {len(sweep.points)} values); exchanging the "
        f"values within each seed gives as steep a slope with p {_equal(trend.p)}. "
        f"{_sentence(trend, sweep.setting)}"
    )


def _equal(p: float | None) -> str:
    found = chance(p)
    return found if found.startswith("<") else f"= {found}"


def _sentence(trend: Trend, setting: str) -> str:
    if trend.arrangements * SURE <= 1:
        return (
            f"Whether there is a trend cannot be told: {trend.arrangements} exchanges give no p "
            f"below {chance(1 / trend.arrangements)}; more values or seeds would."
        )
    sure = trend.p is not None and trend.p < SURE
    if not sure or trend.interval is None or trend.interval[0] <= 0 <= trend.interval[1]:
        return "This shows no trend; which is not to say that there is none."
    return f"This shows a trend: UA {'rises' if trend.slope > 0 else 'falls'} with {setting}."


def line(setting: str, results: Results) -> str:
    """What to say when an evaluation ends."""
    task = summary.leading(results)
    seed = results.environment["seed"]
    return f"{setting}, seed {seed}: {summary.scored(results, task)}"


def tables(sweep: Sweep) -> list[Table]:
    """Every value; each against the first one; and the runs."""
    splits = [_splits(sweep)] * (len({one.split for one in sweep.points}) > 1)
    return [_points(sweep), *comparison.contests(sweep.contests), *splits, _runs(sweep)]


def _points(sweep: Sweep) -> Table:
    return Table(
        title=f"{sweep.task}, {sweep.selection}: every value, %",
        note=f"All seeds' answers together. Intervals: {sweep.interval}. Trained: utterances of a "
        "fold's training side, the mean over folds.",
        columns=(
            Column(name=sweep.setting, words=True),
            *numbers("trained", "WA"),
            interval_column(),
            Column(name="UA", bar=True),
            interval_column(),
            *numbers("lowest UA", "highest UA", undefined=NO_SPREAD),
        ),
        rows=tuple(_point(one, sweep) for one in sweep.points),
    )


def _point(one: Point, sweep: Sweep) -> Row:
    known = [seed.ua for seed in one.seeds if seed.ua is not None]
    ends = (min(known), max(known)) if len(known) > 1 else (None, None)
    return row(
        _value(one, sweep),
        f"{one.trained:.0f}",
        summary.percent(one.wa),
        summary.bounds(one.wa_interval) or UNDEFINED,
        summary.percent(one.ua),
        summary.bounds(one.ua_interval) or UNDEFINED,
        *map(summary.percent, ends),
    )


def _value(one: Point, sweep: Sweep) -> str:
    return config.worded(sweep.setting, one.value).partition("=")[2]


def _splits(sweep: Sweep) -> Table:
    return Table(
        title="Training sides",
        columns=words(sweep.setting, "split"),
        rows=tuple(row(_value(one, sweep), one.split) for one in sweep.points),
    )


def _runs(sweep: Sweep) -> Table:
    return Table(
        title="Runs",
        columns=(*words(sweep.setting), *numbers("seed", "WA", "UA"), *words("run")),
        rows=tuple(
            row(
                _value(point, sweep),
                str(one.seed),
                summary.percent(one.wa),
                summary.percent(one.ua),
                one.run,
            )
            for point in sweep.points
            for one in point.seeds
        ),
    )


def figures(sweep: Sweep) -> Figures:
    """UA and WA against the setting, with intervals, and every seed."""
    return {
        "sweep": (
            plots.sweep(sweep),
            f"UA and WA of {sweep.task} against {sweep.setting}, with 95 % intervals, and the UA "
            "of each seed; the table below holds the same numbers",
        )
    }


def render(sweep: Sweep) -> RenderableType:
    """The sweep for a `rich` console."""
    return Group(*_parts(sweep))


def _parts(sweep: Sweep) -> Iterator[RenderableType]:
    yield terminal.line(title(sweep), "bold")
    yield terminal.line(told(sweep))
    yield terminal.line(verdict(sweep), "bold")
    for warning in sweep.warnings:
        yield terminal.line(f"Warning: {warning}", "yellow")
    for table in tables(sweep)[:-1]:
        yield Text()
        yield terminal.draw(table)


def as_markdown(sweep: Sweep) -> str:
    """The sweep as Markdown; ends with a newline."""
    warnings = [f"Warning: {warning}" for warning in sweep.warnings]
    sections = [
        Section(title="", words=(told(sweep), verdict(sweep), *warnings)),
        Section(title="Scores", tables=tuple(tables(sweep))),
        Section(title="Reproduce", code=sweep.command),
    ]
    return markdown.write(title(sweep), sections)


def html(sweep: Sweep) -> str:
    """The sweep as a page that opens offline."""
    from plotly.offline import get_plotlyjs

    drawn = figures(sweep)
    return page.fill(
        "sweep.html",
        sweep=sweep,
        title=title(sweep),
        told=told(sweep),
        verdict=verdict(sweep),
        tables=tables(sweep),
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        script=get_plotlyjs(),
        source="sweep.json",
    )


def write(sweep: Sweep, path: Path) -> tuple[Path, ...]:
    """Write ``sweep.html`` and ``sweep.md`` to a folder; give their paths.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    for name, text in zip(FILES, (html(sweep), as_markdown(sweep)), strict=True):
        write_text(path / name, text)
    return tuple(path / name for name in FILES)
