"""Checks and downloads on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from serein.copies.download import ProgressCallback as Told
from serein.download.integrity import IntegrityReport

MAX_EXAMPLES = 3


def report_table(check: IntegrityReport) -> Table:
    """A line for each thing that was found."""
    table = Table("files", "", box=None, header_style="bold")
    table.add_column("such as", overflow="fold")
    for count, words, examples in report_lines(check):
        table.add_row(str(count), words, examples)
    return table


def report_lines(check: IntegrityReport) -> list[tuple[int, str, str]]:
    """What was found: how many files, what they are, and some of them."""
    found: list[tuple[int, str, tuple[str, ...]]] = [
        (check.intact_count, "as published, byte by byte", ()),
        (len(check.changed), "changed", check.changed),
        (len(check.missing), "missing", check.missing),
        (len(check.extra), "not in the published corpus", check.extra),
        (
            len(check.other_format),
            "in another format: only names and count were compared",
            check.other_format,
        ),
    ]
    if not check.published_count:
        found = [(check.utterances, "utterances read; no hashes are known to compare with", ())]
    pairs = tuple(f"{one} = {other}" for one, other in check.duplicates)
    found.append((len(pairs), "repeat another one, byte by byte", pairs))
    return [
        (
            count,
            words,
            ", ".join(examples[:MAX_EXAMPLES]) + ", ..." * (len(examples) > MAX_EXAMPLES),
        )
        for count, words, examples in found
        if count
    ]


@contextmanager
def progress_bar(name: str, console: Console) -> Iterator[Told]:
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
