"""A run's scores in the terminal: legible in 80 columns and without colour."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from serein.report import audit, document, summary, tables
from serein.report.table import Table
from serein.results.evaluation import Results

ROW_STYLES = {"headline": "bold", "optimistic": "yellow", "baseline": "dim"}
PREFIX_STYLES = {"CAUTION": "bold red", "Warning": "yellow"}
"""How lines that begin so are set off, besides by that word."""


def render_terminal(results: Results) -> RenderableType:
    """The scores for a `rich` console: ``console.print(render(results))``."""
    parts: list[RenderableType] = [
        make_line(summary.format_title(results), "bold"),
        make_line(summary.describe_protocol(results)),
        *(
            make_line(words, _get_line_style(words, results))
            for words in document.describe_headline(results)
        ),
    ]
    for task in summary.list_scored_tasks(results):
        parts += [
            Text(),
            draw_table(tables.build_selection_table(results, task)),
            *_task_notes(results, task),
        ]
        if results.classes[task]:
            parts += [Text(), draw_table(tables.build_class_table(results, task))]
    spoken = tables.build_word_table(results)
    return Group(*parts, *([Text(), draw_table(spoken)] if spoken else []))


def _get_line_style(line: str, results: Results) -> str:
    first = line.split(":")[0]
    return "bold" if first in summary.list_scored_tasks(results) else PREFIX_STYLES.get(first, "")


def _task_notes(results: Results, task: str) -> Iterator[Text]:
    for row in audit.compare_selections(results, task):
        if row.kind == "optimistic":
            yield make_line(f"{row.name}: {row.note}.", "yellow")
    sentence = (
        audit.describe_selection_gap(results) if task == summary.get_leading_task(results) else None
    )
    if sentence:
        yield make_line(sentence)


def draw_table(table: Table) -> RenderableType:
    """A table with its title above and its note below it."""
    drawn = Drawn(
        title=make_line(table.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in table.columns:
        drawn.add_column(
            make_line(column.heading),
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*map(make_line, row.cells), style=ROW_STYLES.get(row.kind, ""))
    return Group(drawn, make_line(table.note, "dim")) if table.note else drawn


def make_line(text: str, style: str = "") -> Text:
    """Words as they are: neither markup nor a terminal's escape codes pass.

    Names come from files.
    """
    return Text("".join(c if c.isprintable() else "?" for c in text), style=style)
