"""How far an evaluation or a training is: a bar on a terminal, plain lines elsewhere.

How far a folder is: a bar on a terminal, a plain line now and then elsewhere.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from serein.metrics.scoring import get_main_metric, get_main_score
from serein.results.evaluation import Epoch, FolderProgress

MAX_LINES = 10
"""Plain lines that one fold gets."""


class ProgressDisplay:
    """Has a bar that is there within a ``with`` block."""

    bar: Progress

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
        """End."""
        self.bar.stop()


class TrainingProgress(ProgressDisplay):
    """Shows epochs as they end; use it in a ``with`` block."""

    def __init__(self, folds: int, epochs: int, console: Console) -> None:
        """Prepare.

        Args:
            folds: trainings in all.
            epochs: of each.
            console: where to show it.
        """
        self.total = folds * epochs
        self.epochs = epochs
        self.console = console
        self.done_epochs: dict[str, int] = {}
        self.started_at = time.monotonic()
        self.resumed_epochs = 0
        self.bar = build_bar(console)
        self.task = self.bar.add_task("starting", total=self.total)

    def update(self, fold: str, epoch: Epoch) -> None:
        """One epoch of one fold has ended."""
        if fold not in self.done_epochs:
            self.resumed_epochs += epoch.epoch - 1
        self.done_epochs[fold] = epoch.epoch
        words = f"fold {fold} epoch {epoch.epoch}/{self.epochs} loss {epoch.loss:.3f}"
        words += self._format_validation(epoch)
        self.bar.update(self.task, description=words, completed=sum(self.done_epochs.values()))
        step = max(1, self.epochs // MAX_LINES)
        if not self.console.is_terminal and (epoch.epoch % step == 0 or epoch.epoch == self.epochs):
            self.console.print(
                f"{words} left {self._format_remaining()}", highlight=False, soft_wrap=True
            )

    def _format_validation(self, epoch: Epoch) -> str:
        tasks = epoch.scores.get("validation")
        if not tasks:
            return ""
        scores = next(iter(tasks.values()))
        score = get_main_score(scores)
        return "" if score is None else f" validation {get_main_metric(scores).format_score(score)}"

    def _format_remaining(self) -> str:
        done = sum(self.done_epochs.values())
        seconds = (
            (time.monotonic() - self.started_at)
            / max(done - self.resumed_epochs, 1)
            * (self.total - done)
        )
        return format_clock(seconds)


def build_bar(console: Console) -> Progress:
    """One that shows itself on a terminal alone."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def format_clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds.

    >>> format_clock(95), format_clock(7265)
    ('1:35', '2:01:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


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
        done, words = progress.done_before + progress.done, self._format_speed(progress, now)
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
        rest = max(0, progress.total - progress.done_before - progress.done)
        return f", left {format_clock((now - self.started_at) / progress.done * rest)}"
