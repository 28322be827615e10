"""Reports for the terminal, readable in 80 columns and without colour."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from serein.report import audit, document, summary, tables, votes
from serein.report.table import Table
from serein.results.evaluation import Results

ROW_STYLES = {"headline": "bold", "optimistic": "yellow", "baseline": "dim"}
PREFIX_STYLES = {"CAUTION": "bold red", "Warning": "yellow"}
"""Styles of lines that start with these words."""


def render_terminal(results: Results) -> RenderableType:
    """Render the scores for a `rich` console: ``console.print(render_terminal(results))``."""
    parts: list[RenderableType] = [
        make_line(summary.format_title(results), "bold"),
        make_line(summary.describe_protocol(results)),
        *(
            make_line(line, _get_line_style(line, results))
            for line in document.describe_headline(results)
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
    for table in votes.build_vote_tables(results):
        parts += [Text(), draw_table(table)]
    word_table = tables.build_word_table(results)
    return Group(*parts, *([Text(), draw_table(word_table)] if word_table else []))


def _get_line_style(line: str, results: Results) -> str:
    prefix = line.split(":")[0]
    is_score = prefix in summary.list_scored_tasks(results)
    return "bold" if is_score else PREFIX_STYLES.get(prefix, "")


def _task_notes(results: Results, task: str) -> Iterator[Text]:
    for row in audit.compare_selections(results, task):
        if row.kind == "optimistic":
            yield make_line(f"{row.name}: {row.note}.", "yellow")
    gap = audit.describe_selection_gap(results) if task == summary.get_first_task(results) else None
    if gap:
        yield make_line(gap)


def draw_table(table: Table) -> RenderableType:
    """Render a table with its title above and its note below."""
    rendered = RichTable(
        title=make_line(table.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in table.columns:
        rendered.add_column(
            make_line(column.heading),
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    for row in table.rows:
        rendered.add_row(*map(make_line, row.cells), style=ROW_STYLES.get(row.kind, ""))
    note = f"{table.note} {table.describe_undefined()}".strip()
    return Group(rendered, make_line(note, "dim")) if note else rendered


def make_line(text: str, style: str = "") -> Text:
    """Create a line without markup and escape codes, since names may come from files."""
    return Text("".join(char if char.isprintable() else "?" for char in text), style=style)
