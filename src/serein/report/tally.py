"""How far a folder is: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console

from serein.report.progress import ProgressDisplay, build_bar, format_clock
from serein.results.evaluation import FolderProgress

PRINT_INTERVAL = 10.0
"""Seconds between plain lines."""


class FolderProgressBar(ProgressDisplay):
    """Shows files as they are done; use it in a ``with`` block."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            console: where to show it.
            clock: seconds.
        """
        self.console, self.clock = console, clock
        self.started_at = self.printed_at = clock()
        self.bar = build_bar(console)
        self.task = self.bar.add_task("listing", total=None)

    def update(self, progress: FolderProgress) -> None:
        """Some files are done."""
        now = self.clock()
        done, words = progress.before + progress.done, self._format_speed(progress, now)
        self.bar.update(self.task, description=words, completed=done, total=progress.total)
        if not self.console.is_terminal and now - self.printed_at >= PRINT_INTERVAL:
            self.printed_at = now
            of = "" if progress.total is None else f" of {progress.total:,}"
            line = f"{done:,}{of} files, {words}{self._format_remaining(progress, now)}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def _format_speed(self, progress: FolderProgress, now: float) -> str:
        speed = progress.seconds / max(now - self.started_at, 1e-9)
        failed = f"{progress.failed:,} failed, " if progress.failed else ""
        return f"{failed}{speed:,.0f}x real time"

    def _format_remaining(self, progress: FolderProgress, now: float) -> str:
        if progress.total is None:
            return ""
        rest = max(0, progress.total - progress.before - progress.done)
        return f", left {format_clock((now - self.started_at) / progress.done * rest)}"
