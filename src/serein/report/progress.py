"""How far an evaluation or a training is: a bar on a terminal, plain lines elsewhere."""

import time
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

from serein.metrics.measures import main_of, main_score
from serein.results import Epoch

LINES = 10
"""Plain lines that one fold gets."""


class Shown:
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


class Course(Shown):
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
        self.done: dict[str, int] = {}
        self.begun = time.monotonic()
        self.first = 0
        self.bar = bar(console)
        self.task = self.bar.add_task("starting", total=self.total)

    def tell(self, fold: str, epoch: Epoch) -> None:
        """One epoch of one fold has ended."""
        if fold not in self.done:
            self.first += epoch.epoch - 1
        self.done[fold] = epoch.epoch
        words = f"fold {fold} epoch {epoch.epoch}/{self.epochs} loss {epoch.loss:.3f}"
        words += self._validation(epoch)
        self.bar.update(self.task, description=words, completed=sum(self.done.values()))
        step = max(1, self.epochs // LINES)
        if not self.console.is_terminal and (epoch.epoch % step == 0 or epoch.epoch == self.epochs):
            self.console.print(f"{words} left {self._left()}", highlight=False, soft_wrap=True)

    def _validation(self, epoch: Epoch) -> str:
        tasks = epoch.scores.get("validation")
        if not tasks:
            return ""
        scores = next(iter(tasks.values()))
        score = main_score(scores)
        return "" if score is None else f" validation {main_of(scores).worded(score)}"

    def _left(self) -> str:
        done = sum(self.done.values())
        seconds = (time.monotonic() - self.begun) / max(done - self.first, 1) * (self.total - done)
        return clock(seconds)


def bar(console: Console) -> Progress:
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


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds.

    >>> clock(95), clock(7265)
    ('1:35', '2:01:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
