"""Progress of trainings and of folders: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from serein.metrics.scoring import get_main_metric, get_main_score
from serein.results.evaluation import Epoch, FolderProgress

MAX_LINES = 10
"""Plain lines per fold."""
PRINT_INTERVAL = 10.0
"""Seconds between plain lines of a folder."""


class ProgressDisplay:
    """Shows a bar within a ``with`` block."""

    bar: Progress

    def __enter__(self) -> Self:
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        self.bar.stop()


class StepLines:
    """Bars for work that is done before or between trainings, and plain lines elsewhere."""

    def __init__(
        self, bar: Progress, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Add to a display.

        Args:
            bar: of the display.
            console: to print to.
            clock: returns seconds.
        """
        self.bar, self.console, self.clock = bar, console, clock
        self.tasks: dict[str, TaskID] = {}
        self.started_at: dict[str, float] = {}
        self.printed_at = clock()

    def update(self, what: str, done: int, total: int) -> None:
        """Show how much of a work is done; after it, its bar disappears.

        Args:
            what: the work, such as "features logmel".
            done: finished utterances.
            total: number of utterances.
        """
        now, is_over = self.clock(), done >= total
        self.started_at.setdefault(what, now)
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total)
        self.bar.update(self.tasks[what], completed=done, total=total, visible=not is_over)
        if can_show_bar(self.console) or is_over or now - self.printed_at < PRINT_INTERVAL:
            return
        self.printed_at = now
        left = (now - self.started_at[what]) / done * (total - done) if done else None
        rest = "" if left is None else f", left {format_clock(left)}"
        line = f"{what}: {done:,} of {total:,} utterances{rest}"
        self.console.print(line, highlight=False, soft_wrap=True)


class TrainingProgress(ProgressDisplay):
    """Progress of trainings, by epochs; use it in a ``with`` block."""

    def __init__(self, folds: int, epochs: int, console: Console) -> None:
        """Create the display.

        Args:
            folds: number of trainings.
            epochs: of each training.
            console: to print to.
        """
        self.total = folds * epochs
        self.epochs = epochs
        self.console = console
        self.done_epochs: dict[str, int] = {}
        self.started_at = time.monotonic()
        self.resumed_epochs = 0
        self.bar = build_bar(console)
        self.task = self.bar.add_task("starting", total=self.total)
        self.show_step = StepLines(self.bar, console).update

    def __call__(self, fold: str, epoch: Epoch) -> None:
        """Record that an epoch of a fold has ended."""
        self.update(fold, epoch)

    def bind(self, fold: str) -> "FoldProgress":
        """Return the display of a single training, which is called with an epoch alone."""
        return FoldProgress(self, fold)

    def update(self, fold: str, epoch: Epoch) -> None:
        """Record that an epoch of a fold has ended."""
        if not self.done_epochs:  # features are extracted first, and only once
            self.started_at = time.monotonic() - epoch.seconds
        if fold not in self.done_epochs:
            self.resumed_epochs += epoch.epoch - 1
        self.done_epochs[fold] = epoch.epoch
        line = f"fold {fold} epoch {epoch.epoch}/{self.epochs} loss {epoch.loss:.3f}"
        line += self._format_validation(epoch)
        self.bar.update(self.task, description=line, completed=sum(self.done_epochs.values()))
        step = max(1, self.epochs // MAX_LINES)
        is_due = epoch.epoch % step == 0 or epoch.epoch == self.epochs
        if is_due and not can_show_bar(self.console):
            self.console.print(
                f"{line} left {self._format_remaining()}", highlight=False, soft_wrap=True
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
        elapsed = time.monotonic() - self.started_at
        per_epoch = elapsed / max(done - self.resumed_epochs, 1)
        return format_clock(per_epoch * (self.total - done))


class FoldProgress:
    """The display of a single training."""

    def __init__(self, progress: TrainingProgress, fold: str) -> None:
        """Show the training under a name.

        Args:
            progress: the display.
            fold: the name.
        """
        self.progress, self.fold = progress, fold
        self.show_step = progress.show_step

    def __call__(self, epoch: Epoch) -> None:
        """Record that an epoch has ended."""
        self.progress.update(self.fold, epoch)


def show_training(plan: Any) -> TrainingProgress:
    """Open the progress display of an evaluation: ``serein.evaluate(open_progress=show_training)``.

    It is a bar in a terminal and in Jupyter with ipywidgets; elsewhere, some lines for each fold.
    """
    return TrainingProgress(len(plan.protocol.folds), plan.training.epochs, Console())


def can_show_bar(console: Console) -> bool:
    """Return whether a bar can be drawn: on a terminal, or in Jupyter with ipywidgets.

    Without ipywidgets, rich warns and shows nothing until the end.
    """
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal


def build_bar(console: Console) -> Progress:
    """Create a bar that is visible only where it can be drawn."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not can_show_bar(console),
        transient=True,
    )


def format_clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, or as hours, minutes and seconds.

    >>> format_clock(95), format_clock(7265)
    ('1:35', '2:01:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class FolderProgressBar(ProgressDisplay):
    """Progress of a folder, by files; use it in a ``with`` block."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the display.

        Args:
            console: to print to.
            clock: returns seconds.
        """
        self.console, self.clock = console, clock
        self.started_at = self.printed_at = clock()
        self.bar = build_bar(console)
        self.task = self.bar.add_task("listing", total=None)

    def update(self, progress: FolderProgress) -> None:
        """Show the progress of the folder."""
        now = self.clock()
        done, speed = progress.done_before + progress.done, self._format_speed(progress, now)
        self.bar.update(self.task, description=speed, completed=done, total=progress.total)
        if not can_show_bar(self.console) and now - self.printed_at >= PRINT_INTERVAL:
            self.printed_at = now
            total = "" if progress.total is None else f" of {progress.total:,}"
            line = f"{done:,}{total} files, {speed}{self._format_remaining(progress, now)}"
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


class StepProgress(ProgressDisplay):
    """Progress of work on utterances, such as the computation of features."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the display.

        Args:
            console: to print to.
            clock: returns seconds.
        """
        self.console = console
        self.bar = build_bar(console)
        self.steps = StepLines(self.bar, console, clock)
        self.update = self.steps.update
