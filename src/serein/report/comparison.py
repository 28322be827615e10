"""Several runs against each other: in the terminal, as Markdown, and as an HTML page."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from serein.metrics.scoring import UA, get_metric
from serein.report import html, markdown, summary, terminal
from serein.report.document import Section
from serein.report.table import (
    NO_INTERVAL,
    UNDEFINED,
    Column,
    Row,
    Table,
    make_row,
    number_columns,
    text_columns,
)
from serein.results import io
from serein.results.studies import Comparison, PairedTest
from serein.utils.files import write_text

TITLE = "Comparison"
NO_TEST = "this test was not made"
TESTS = {"mcnemar": "McNemar", "permutation": "permutation", "z": "z-test"}
CLASS_TEST_NOTE = (
    " The test of two proportions is one-tailed (the first is better) and takes utterances as "
    "independent, as McNemar's does. Effect: Cohen's h of the two WA; 0.2 is small, 0.5 medium, "
    "0.8 large."
)
MIN_PRINTED_P = 0.001
"""A smaller p is not told apart from this one."""


def build_tables(comparison: Comparison) -> list[Table]:
    """The runs; then for each task and selection the scores, and the tests of their differences."""
    runs = [_run_table(comparison)] if comparison.runs else []
    return [*runs, *build_test_tables(comparison.paired_tests)]


def build_test_tables(every: list[PairedTest]) -> list[Table]:
    """For each task and selection the scores, and the tests of their differences."""
    found = []
    for task, selection in dict.fromkeys((one.task, one.selection) for one in every):
        own = [c for c in every if (c.task, c.selection) == (task, selection)]
        found += [_score_table(task, selection, own), _test_table(task, selection, own)]
    return found


def _run_table(comparison: Comparison) -> Table:
    every = dict.fromkeys(key for run in comparison.runs for key in run)
    heads = [head for head in every if any(_format_cell(run.get(head)) for run in comparison.runs)]
    return Table(
        title="Runs",
        columns=text_columns(*heads),
        rows=tuple(
            make_row(*(_format_cell(run.get(head)) for head in heads)) for run in comparison.runs
        ),
    )


def _format_cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _score_table(task: str, selection: str, contests: list[PairedTest]) -> Table:
    ways = "; ".join(dict.fromkeys(one.interval for one in contests if one.interval))
    kinds, main = list(map(get_metric, contests[0].scores)), get_metric(contests[0].main)
    over = "the mean over seeds" if main.is_percent else "over the answers of all seeds"
    return Table(
        title=f"{task}, {selection}: scores{', %' * main.is_percent}",
        note=f"Over the utterances that both tested, {over}; the difference is the {main.title} "
        f"of the first less that of the second{', in points' * main.is_percent}. Intervals: "
        f"{ways or 'none was made'}.",
        columns=(
            *text_columns("first", "second"),
            *number_columns("utterances"),
            *(Column(name=side, group=one.title) for one in kinds for side in "12"),
            *number_columns("difference"),
            Column(name="interval", undefined_reason=NO_INTERVAL),
        ),
        rows=tuple(_score_row(one) for one in contests),
    )


def _score_row(one: PairedTest) -> Row:
    main = get_metric(one.main)
    difference = (100 if main.is_percent else 1) * one.difference
    return make_row(
        one.first,
        one.second,
        str(one.utterances),
        *(
            summary.format_score(get_metric(name), score)
            for name, pair in one.scores.items()
            for score in pair
        ),
        summary.format_gain(main, difference),
        summary.format_interval(one.difference_interval, main) or UNDEFINED,
    )


def _test_table(task: str, selection: str, contests: list[PairedTest]) -> Table:
    made = [test for test in TESTS if any(getattr(one, test) is not None for one in contests)]
    swapped = "; ".join(dict.fromkeys(one.permutation_unit for one in contests))
    of_classes = contests[0].main == UA.name
    effects = (
        number_columns("effect", undefined_reason="undefined: a score is") if of_classes else ()
    )
    return Table(
        title=f"{task}, {selection}: tests",
        note="p of each test, and in brackets after Holm's correction over all contests. The "
        f"permutation swaps {swapped}.{CLASS_TEST_NOTE * of_classes}",
        columns=(
            *text_columns("first", "second"),
            *number_columns(*(TESTS[test] for test in made), undefined_reason=NO_TEST),
            *effects,
        ),
        rows=tuple(
            make_row(
                one.first,
                one.second,
                *(_format_test(one, test) for test in made),
                *(_format_effect(one) for _ in effects),
            )
            for one in contests
        ),
    )


def _format_effect(one: PairedTest) -> str:
    return UNDEFINED if one.effect is None else f"{round(one.effect, 2) + 0.0:+.2f}"


def _format_test(one: PairedTest, test: str) -> str:
    p, adjusted = getattr(one, test), one.adjusted.get(test)
    return (
        format_p_value(p)
        if p is None or adjusted is None
        else f"{format_p_value(p)} ({format_p_value(adjusted)})"
    )


def format_p_value(p: float | None) -> str:
    """A probability as papers print it.

    >>> format_p_value(0.0421), format_p_value(0.00004), format_p_value(None)
    ('0.042', '< 0.001', 'n/a')
    """
    if p is None:
        return UNDEFINED
    return f"< {MIN_PRINTED_P}" if p < MIN_PRINTED_P else f"{p:.3f}"


def render_terminal(comparison: Comparison) -> RenderableType:
    """The comparison for a `rich` console."""
    return Group(*_terminal_parts(comparison))


def _terminal_parts(comparison: Comparison) -> Iterator[RenderableType]:
    for warning in comparison.warnings:
        yield terminal.make_line(f"Warning: {warning}", "yellow")
    for table in build_tables(comparison):
        yield terminal.draw_table(table)
        yield Text()


def render_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown; ends with a newline."""
    warnings = tuple(f"Warning: {warning}" for warning in comparison.warnings)
    code = comparison.command
    shown = Section(title="", paragraphs=warnings, tables=tuple(build_tables(comparison)))
    return markdown.render_markdown_sections(TITLE, [shown, Section(title="Reproduce", code=code)])


def render_html(comparison: Comparison) -> str:
    """The comparison as a page that opens offline."""
    return html.render_template(
        "comparison.html",
        comparison=comparison,
        tables=build_tables(comparison),
        title=TITLE,
        source="comparison.json",
    )


def write_comparison(comparison: Comparison, path: Path) -> tuple[Path, ...]:
    """Write ``comparison.json``, ``.html`` and ``.md`` to a folder; give their paths.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    texts = {
        "comparison.json": io.to_json(comparison),
        "comparison.html": render_html(comparison),
        "comparison.md": render_markdown(comparison),
    }
    for name, text in texts.items():
        write_text(path / name, text)
    return tuple(path / name for name in texts)
