"""Checks and downloads on a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from serein.copies.check import Check

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


class Bar:
    """Shows how far a download is; use it in a ``with`` block."""

    def __init__(self, name: str, console: Console) -> None:
        """Prepare; nothing is shown where no person watches."""
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        self.bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task(name, total=None)

    def __enter__(self) -> Self:
        """Begin to show."""
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the line."""
        self.bar.stop()

    def tell(self, here: int, total: int | None) -> None:
        """Say how many bytes are here, and how many there are."""
        self.bar.update(self.task, completed=here, total=total)
