"""A run's scores in the terminal: legible in 80 columns and without colour."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from serein.report import audit, document, summary, tables, transcripts
from serein.report.table import Table
from serein.results import Results

STYLES = {"headline": "bold", "optimistic": "yellow", "baseline": "dim"}
LOUD = {"CAUTION": "bold red", "Warning": "yellow"}
"""How lines that begin so are set off, besides by that word."""


def render(results: Results) -> RenderableType:
    """The scores for a `rich` console: ``console.print(render(results))``."""
    parts: list[RenderableType] = [
        line(summary.title(results), "bold"),
        line(summary.protocol(results)),
        *(line(words, _style(words, results)) for words in document.headline(results)),
    ]
    for task in summary.tasks(results):
        parts += [Text(), draw(tables.selections(results, task)), *_notes(results, task)]
        if results.classes[task]:
            parts += [Text(), draw(tables.classes(results, task))]
    spoken = transcripts.table(results)
    return Group(*parts, *([Text(), draw(spoken)] if spoken else []))


def _style(words: str, results: Results) -> str:
    first = words.split(":")[0]
    return "bold" if first in summary.tasks(results) else LOUD.get(first, "")


def _notes(results: Results, task: str) -> Iterator[Text]:
    for row in audit.comparison(results, task):
        if row.kind == "optimistic":
            yield line(f"{row.name}: {row.note}.", "yellow")
    sentence = audit.gap(results) if task == summary.leading(results) else None
    if sentence:
        yield line(sentence)


def draw(shown: Table) -> RenderableType:
    """A table with its title above and its note below it."""
    drawn = Drawn(
        title=line(shown.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in shown.columns:
        drawn.add_column(
            line(column.heading),
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            overflow="fold",
        )
    for row in shown.rows:
        drawn.add_row(*map(line, row.cells), style=STYLES.get(row.kind, ""))
    return Group(drawn, line(shown.note, "dim")) if shown.note else drawn


def line(words: str, style: str = "") -> Text:
    """Words as they are: neither markup nor a terminal's escape codes pass.

    Names come from files.
    """
    return Text("".join(c if c.isprintable() else "?" for c in words), style=style)
