"""A run's scores in the terminal: legible in 80 columns and without colour."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serein.report import audit, speakers, summary
from serein.results import Results

STYLES = {"headline": "bold", "selection": "", "optimistic": "yellow", "baseline": "dim"}


def render(results: Results) -> RenderableType:
    """The scores for a `rich` console: ``console.print(render(results))``."""
    parts: list[RenderableType] = [*_headline(results)]
    for task in summary.tasks(results):
        parts += [Text(), _comparison(results, task), *_notes(results, task)]
        parts += [Text(), _recalls(results, task)]
    return Group(*parts)


def _headline(results: Results) -> Iterator[RenderableType]:
    yield _line(summary.title(results), "bold")
    yield _line(summary.protocol(results))
    meaning = results.selections.get(results.headline, "")
    yield _line(f"Quoted: {results.headline} ({meaning})" if meaning else results.headline)
    for task in summary.tasks(results):
        scores = results.scores[results.headline][task]
        wa = summary.quoted(scores.wa, scores.wa_interval)
        ua = summary.quoted(scores.ua, scores.ua_interval)
        yield _line(f"{task}: WA {wa}, UA {ua}", "bold")
    extremes = speakers.extremes(results, summary.leading(results))
    if extremes:
        yield _line(extremes)
    for warning in results.warnings:
        yield _line(f"Warning: {warning}", "yellow")


def _comparison(results: Results, task: str) -> Table:
    rows = audit.comparison(results, task)
    folds = any(row.fold_ua is not None for row in rows)
    table = _table(f"{task}: scores in %", "selection")
    for name in ["WA", "UA"] + ["WA folds", "UA folds"] * folds:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [_score(row.wa, row.wa_interval), _score(row.ua, row.ua_interval)]
        if folds and row.kind != "baseline":
            cells += [summary.percent(row.fold_wa), summary.percent(row.fold_ua)]
        table.add_row(*map(_line, [_label(row), *cells]), style=STYLES[row.kind])
    return table


def _label(row: audit.Row) -> str:
    mark = {"headline": ", quoted", "optimistic": ", optimistic"}
    return row.name + mark.get(row.kind, "")


def _score(score: float | None, interval: summary.Interval) -> str:
    return f"{summary.percent(score)} {summary.bounds(interval)}".strip()


def _notes(results: Results, task: str) -> Iterator[Text]:
    rows = audit.comparison(results, task)
    for row in rows:
        if row.kind == "optimistic":
            yield _line(f"{row.name}: {row.note}.", "yellow")
    followers = [row for row in rows if row.chosen_by]
    if followers:
        names = ", ".join(row.name for row in followers)
        yield _line(f"{names}: epoch chosen by {followers[0].chosen_by}.", "dim")
    if any(row.fold_ua is not None for row in rows):
        yield _line("WA folds, UA folds: means over folds.", "dim")
    words = summary.brackets(results, task)
    if words:
        yield _line(f"Brackets: {words}.", "dim")
    sentence = audit.gap(results) if task == summary.leading(results) else None
    if sentence:
        yield _line(sentence)


def _recalls(results: Results, task: str) -> Table:
    scores = results.scores[results.headline][task]
    mistaken = summary.mistaken_for(results, task)
    table = _table(f"{task}: classes, {results.headline}", "class")
    table.add_column("utterances", justify="right")
    table.add_column("recall %", justify="right", no_wrap=True)
    table.add_column("most often mistaken for")
    for name, row in zip(results.classes[task], scores.confusion, strict=True):
        recall = summary.percent(scores.recalls.get(name))
        table.add_row(*map(_line, [name, str(sum(row)), recall, mistaken.get(name, "")]))
    return table


def _table(caption: str, first: str) -> Table:
    table = Table(
        title=_line(caption, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column(first, overflow="fold")
    return table


def _line(words: str, style: str = "") -> Text:
    # Names come from files: neither rich's markup nor a terminal's escape codes may pass.
    return Text("".join(c if c.isprintable() else "?" for c in words), style=style)
