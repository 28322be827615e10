"""How far a folder is: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console

from serein.report.progress import Shown, bar, clock
from serein.results import Progress

EVERY = 10.0
"""Seconds between plain lines."""


class Tally(Shown):
    """Shows files as they are done; use it in a ``with`` block."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            console: where to show it.
            clock: seconds.
        """
        self.console, self.clock = console, clock
        self.begun = self.said = clock()
        self.bar = bar(console)
        self.task = self.bar.add_task("listing", total=None)

    def tell(self, count: Progress) -> None:
        """Some files are done."""
        now = self.clock()
        done, words = count.before + count.done, self._words(count, now)
        self.bar.update(self.task, description=words, completed=done, total=count.total)
        if not self.console.is_terminal and now - self.said >= EVERY:
            self.said = now
            of = "" if count.total is None else f" of {count.total:,}"
            line = f"{done:,}{of} files, {words}{self._left(count, now)}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def _words(self, count: Progress, now: float) -> str:
        speed = count.seconds / max(now - self.begun, 1e-9)
        failed = f"{count.failed:,} failed, " if count.failed else ""
        return f"{failed}{speed:,.0f}x real time"

    def _left(self, count: Progress, now: float) -> str:
        if count.total is None:
            return ""
        rest = max(0, count.total - count.before - count.done)
        return f", left {clock((now - self.begun) / count.done * rest)}"
