"""Checks and downloads on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from serein.copies.check import Check
from serein.copies.download import Progress as Told

EXAMPLES = 3


def as_table(check: Check) -> Table:
    """A line for each thing that was found."""
    table = Table("files", "", box=None, header_style="bold")
    table.add_column("such as", overflow="fold")
    for count, words, examples in lines(check):
        table.add_row(str(count), words, examples)
    return table


def lines(check: Check) -> list[tuple[int, str, str]]:
    """What was found: how many files, what they are, and some of them."""
    found: list[tuple[int, str, tuple[str, ...]]] = [
        (check.whole, "as published, byte by byte", ()),
        (len(check.changed), "changed", check.changed),
        (len(check.missing), "missing", check.missing),
        (len(check.extra), "not in the published corpus", check.extra),
        (
            len(check.incomparable),
            "in another format: only names and count were compared",
            check.incomparable,
        ),
    ]
    if not check.listed:
        found = [(check.utterances, "utterances read; no hashes are known to compare with", ())]
    pairs = tuple(f"{one} = {other}" for one, other in check.twins)
    found.append((len(pairs), "repeat another one, byte by byte", pairs))
    return [
        (count, words, ", ".join(examples[:EXAMPLES]) + ", ..." * (len(examples) > EXAMPLES))
        for count, words, examples in found
        if count
    ]


@contextmanager
def bar(name: str, console: Console) -> Iterator[Told]:
    """Show how far a download is, and nothing where no person watches.

    Args:
        name: what is downloaded.
        console: where to show it.

    Yields:
        What is told the bytes that are here, and how many there are.
    """
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as shown:
        task = shown.add_task(name, total=None)
        yield lambda here, total: shown.update(task, completed=here, total=total)
