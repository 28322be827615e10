"""Reports of a comparison of runs: in the terminal, as Markdown and as an HTML page."""

from collections.abc import Sequence
from html import escape
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
CHART_MARGIN = 2
"""Free space at both edges of the chart of differences, in percent."""
CLASS_TEST_NOTE = (
    " The z-test of two proportions is one-tailed (the first is better). It assumes independent "
    "utterances, and so does McNemar's test. Effect: Cohen's h of the two WA; 0.2 is small, 0.5 "
    "medium, 0.8 large."
)


def describe_winners(comparison: Comparison) -> list[str]:
    """Say for each pair of runs, task and selection which run is better, or that neither is shown.

    A run is better if the permutation test of the main score, after Holm's correction, is below
    5 %, and the interval of the difference does not have 0.
    """
    return [_describe_winner(pair) for pair in comparison.paired_tests]


def _describe_winner(pair: PairedTest) -> str:
    main, p = get_metric(pair.main), pair.corrected_p
    scale = 100 if main.is_percent else 1
    points = " points" if main.is_percent else ""
    where = f"{pair.task}, {pair.selection}"
    p_text = "no permutation test" if p is None else f"p {summary.format_p_value(p)}"
    if pair.winner is not None:
        low, high = pair.difference_interval or (0.0, 0.0)
        better, worse = pair.first, pair.second
        if pair.difference < 0:
            (better, worse), (low, high) = (worse, better), (-high, -low)
        gain = summary.format_gain(main, scale * abs(pair.difference))
        detail = f"{summary.format_interval((low, high), main)}, {p_text}"
        return f"{where}: {better} is better than {worse}: {main.title} {gain}{points} {detail}."
    gain = summary.format_gain(main, scale * pair.difference)
    bounds = summary.format_interval(pair.difference_interval, main)
    detail = f"{bounds}, {p_text}" if bounds else p_text
    return (
        f"{where}: no winner between {pair.first} and {pair.second}: {main.title} {gain}{points} "
        f"{detail}."
    )


def draw_differences(pairs: Sequence[PairedTest]) -> str:
    """Draw the difference of each pair with its interval, as HTML; empty without an interval.

    The text is that of the page, so that it can be read on a phone, too.
    """
    drawn = [pair for pair in pairs if pair.difference_interval]
    if not drawn:
        return ""
    ends = [0.0, *(end for pair in drawn for end in pair.difference_interval or ())]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        """Return the distance from the left edge, in percent; the edges stay free."""
        return round(CHART_MARGIN + (value - low) / span * (100 - 2 * CHART_MARGIN), 2)

    rows = []
    for pair in drawn:
        left, right = pair.difference_interval or (0.0, 0.0)
        main = get_metric(pair.main)
        gain = summary.format_gain(main, (100 if main.is_percent else 1) * pair.difference)
        text = f"{pair.first} minus {pair.second}: {main.title} {gain}"
        bounds = summary.format_interval(pair.difference_interval, main)
        width = round(place(right) - place(left), 2)
        rows.append(
            f'<p>{escape(text)} <span class="soft">{bounds}</span></p>'
            f'<div class="track" aria-hidden="true"><i class="zero" style="left:{place(0)}%"></i>'
            f'<i class="range" style="left:{place(left)}%;width:{width}%"></i>'
            f'<i class="dot" style="left:{place(pair.difference)}%"></i></div>'
        )
    return f'<div class="differences">{"".join(rows)}</div>'


def build_tables(comparison: Comparison) -> list[Table]:
    """Build the tables of runs, scores and tests."""
    runs = [_run_table(comparison)] if comparison.runs else []
    return [*runs, *build_test_tables(comparison.paired_tests)]


def build_test_tables(paired_tests: list[PairedTest]) -> list[Table]:
    """Build the tables of scores and of tests for each task and selection."""
    tables = []
    for (task, selection), pairs in group_pairs(paired_tests).items():
        tables += [_score_table(task, selection, pairs), _test_table(task, selection, pairs)]
    return tables


def group_pairs(paired_tests: list[PairedTest]) -> dict[tuple[str, str], list[PairedTest]]:
    """Return the tests of each task and selection."""
    groups: dict[tuple[str, str], list[PairedTest]] = {}
    for pair in paired_tests:
        groups.setdefault((pair.task, pair.selection), []).append(pair)
    return groups


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
    parts += [terminal.make_line(sentence, "bold") for sentence in describe_winners(comparison)]
    return Group(*parts)


def render_markdown(comparison: Comparison) -> str:
    """Render the comparison as Markdown; ends with a newline."""
    warnings = tuple(f"Warning: {warning}" for warning in comparison.warnings)
    sections = [
        Section(
            title="",
            paragraphs=(*warnings, *describe_winners(comparison)),
            tables=tuple(build_tables(comparison)),
        ),
        Section(title="Reproduce", code=comparison.command),
    ]
    return markdown.render_markdown_sections(TITLE, sections)


def render_html(comparison: Comparison) -> str:
    """Render the comparison as a page that opens offline."""
    return html.render_template(
        "comparison.html",
        comparison=comparison,
        tables=build_tables(comparison),
        winners=describe_winners(comparison),
        charts=[
            (f"{task}, {selection}", chart)
            for (task, selection), pairs in group_pairs(comparison.paired_tests).items()
            if (chart := draw_differences(pairs))
        ],
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
