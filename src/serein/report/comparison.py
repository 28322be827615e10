"""Reports of a comparison of runs: in the terminal, as Markdown and as an HTML page."""

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
from serein.utils.files import write_texts

TITLE = "Comparison"
NO_TEST = "this test was not done"
TESTS = {"mcnemar": "McNemar", "permutation": "permutation", "z": "z-test"}
CLASS_TEST_NOTE = (
    " The z-test of two proportions is one-tailed (the first is better). It assumes independent "
    "utterances, and so does McNemar's test. Effect: Cohen's h of the two WA; 0.2 is small, 0.5 "
    "medium, 0.8 large."
)


def build_tables(comparison: Comparison) -> list[Table]:
    """Build the tables of runs, scores and tests."""
    runs = [_run_table(comparison)] if comparison.runs else []
    return [*runs, *build_test_tables(comparison.paired_tests)]


def build_test_tables(paired_tests: list[PairedTest]) -> list[Table]:
    """Build the tables of scores and of tests for each task and selection."""
    groups: dict[tuple[str, str], list[PairedTest]] = {}
    for pair in paired_tests:
        groups.setdefault((pair.task, pair.selection), []).append(pair)
    tables = []
    for (task, selection), pairs in groups.items():
        tables += [_score_table(task, selection, pairs), _test_table(task, selection, pairs)]
    return tables


def _run_table(comparison: Comparison) -> Table:
    runs = comparison.runs
    keys = dict.fromkeys(key for run in runs for key in run)
    used = [key for key in keys if any(_format_cell(run.get(key)) for run in runs)]
    return Table(
        title="Runs",
        columns=text_columns(*used),
        rows=tuple(make_row(*(_format_cell(run.get(key)) for key in used)) for run in runs),
    )


def _format_cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _score_table(task: str, selection: str, pairs: list[PairedTest]) -> Table:
    methods = "; ".join(dict.fromkeys(pair.interval for pair in pairs if pair.interval))
    metrics, main = list(map(get_metric, pairs[0].scores)), get_metric(pairs[0].main)
    pooling = "mean over seeds" if main.is_percent else "pooled over the predictions of all seeds"
    return Table(
        title=f"{task}, {selection}: scores{', %' * main.is_percent}",
        note=f"Over the utterances that both tested, {pooling}; difference: {main.title} of the "
        f"first minus that of the second{', in points' * main.is_percent}. Intervals: "
        f"{methods or 'none was computed'}.{_describe_masks(pairs)}",
        columns=(
            *text_columns("first", "second"),
            *number_columns("utterances"),
            *(Column(name=number, group=metric.title) for metric in metrics for number in "12"),
            *number_columns("difference"),
            Column(name="interval", undefined_reason=NO_INTERVAL),
        ),
        rows=tuple(_score_row(pair) for pair in pairs),
    )


def _describe_masks(pairs: list[PairedTest]) -> str:
    """Describe the pairs with different classes, which answer among those that both have."""
    clauses = [
        f"{pair.first} and {pair.second} ({', '.join(pair.classes)})"
        for pair in pairs
        if pair.classes
    ]
    return f" Among the classes that both have: {'; '.join(clauses)}." if clauses else ""


def _score_row(pair: PairedTest) -> Row:
    main = get_metric(pair.main)
    difference = (100 if main.is_percent else 1) * pair.difference
    return make_row(
        pair.first,
        pair.second,
        str(pair.utterances),
        *(
            summary.format_score(get_metric(name), score)
            for name, scores in pair.scores.items()
            for score in scores
        ),
        summary.format_gain(main, difference),
        summary.format_interval(pair.difference_interval, main) or UNDEFINED,
    )


def _test_table(task: str, selection: str, pairs: list[PairedTest]) -> Table:
    tests = [test for test in TESTS if any(getattr(pair, test) is not None for pair in pairs)]
    units = "; ".join(dict.fromkeys(pair.permutation_unit for pair in pairs))
    has_classes = pairs[0].main == UA.name
    effect_columns = number_columns("effect", undefined_reason="undefined: a score is undefined")
    return Table(
        title=f"{task}, {selection}: tests",
        note="p-value of each test, and in brackets after Holm's correction over all pairs. The "
        f"permutation test swaps {units}.{CLASS_TEST_NOTE * has_classes}",
        columns=(
            *text_columns("first", "second"),
            *number_columns(*(TESTS[test] for test in tests), undefined_reason=NO_TEST),
            *effect_columns * has_classes,
        ),
        rows=tuple(
            make_row(
                pair.first,
                pair.second,
                *(_format_test(pair, test) for test in tests),
                *[_format_effect(pair)] * has_classes,
            )
            for pair in pairs
        ),
    )


def _format_effect(pair: PairedTest) -> str:
    return UNDEFINED if pair.effect is None else f"{round(pair.effect, 2) + 0.0:+.2f}"


def _format_test(pair: PairedTest, test: str) -> str:
    p, adjusted = getattr(pair, test), pair.adjusted.get(test)
    if p is None or adjusted is None:
        return summary.format_p_value(p)
    return f"{summary.format_p_value(p)} ({summary.format_p_value(adjusted)})"


def render_terminal(comparison: Comparison) -> RenderableType:
    """Render the comparison for a `rich` console."""
    parts: list[RenderableType] = [
        terminal.make_line(f"Warning: {warning}", "yellow") for warning in comparison.warnings
    ]
    for table in build_tables(comparison):
        parts += [terminal.draw_table(table), Text()]
    return Group(*parts)


def render_markdown(comparison: Comparison) -> str:
    """Render the comparison as Markdown; ends with a newline."""
    warnings = tuple(f"Warning: {warning}" for warning in comparison.warnings)
    sections = [
        Section(title="", paragraphs=warnings, tables=tuple(build_tables(comparison))),
        Section(title="Reproduce", code=comparison.command),
    ]
    return markdown.render_markdown_sections(TITLE, sections)


def render_html(comparison: Comparison) -> str:
    """Render the comparison as a page that opens offline."""
    return html.render_template(
        "comparison.html",
        comparison=comparison,
        tables=build_tables(comparison),
        title=TITLE,
        source="comparison.json",
    )


def write_comparison(comparison: Comparison, path: Path) -> tuple[Path, ...]:
    """Write ``comparison.json``, ``.html`` and ``.md`` to a folder; return their paths.

    Raises:
        StorageError: a file could not be written; an earlier file of its name is unchanged.
    """
    texts = {
        "comparison.json": io.to_json(comparison),
        "comparison.html": render_html(comparison),
        "comparison.md": render_markdown(comparison),
    }
    return write_texts(path, texts)
