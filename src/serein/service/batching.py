"""Requests that come at the same time share one forward pass; all else takes its turn."""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from queue import Empty
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from serein.audio import Samples
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.service.desk import Desk

T = TypeVar("T")


class Job(NamedTuple):
    """One recording, who answers it, and where its answer is awaited."""

    recognizer: Recognizer
    name: str
    wave_s: Samples
    future: Future[Recognition]


class Turn(NamedTuple):
    """Other work that needs the models, and where its result is awaited."""

    work: Callable[[], Any]
    future: Future[Any]
    recognizer: None = None


class Batcher(Desk[Job | Turn]):
    """One thread that has the models to itself and takes what is there together."""

    def __init__(
        self,
        recognizer: Recognizer,
        most: int,
        wait: float,
        coming: Callable[[], int],
        took: Callable[[int], None],
    ) -> None:
        """Start the thread.

        Args:
            recognizer: answers where no other one is asked for.
            most: windows in a batch, after which no more recordings are taken into it.
            wait: seconds that the first one waits for others.
            coming: says how many could be there; once they are, nobody waits.
            took: is told how many recordings were answered together.
        """
        self.recognizer, self.most, self.wait = recognizer, most, wait
        self.coming, self.took = coming, took
        super().__init__("batch")

    def submit(
        self, name: str, wave_s: Samples, recognizer: Recognizer | None = None
    ) -> Future[Recognition]:
        """Have a recording answered; one that is cancelled while it waits is dropped.

        Args:
            name: what the answer calls it.
            wave_s: (n,) at the model's rate.
            recognizer: who answers, if not the usual one.
        """
        future: Future[Recognition] = Future()
        self._queue.put(Job(recognizer or self.recognizer, name, wave_s, future))
        return future

    def turn(self, work: Callable[[], T]) -> Future[T]:
        """Have something done between batches; it should be short, as everybody else waits."""
        future: Future[T] = Future()
        self._queue.put(Turn(work, future))
        return future

    def _gathered(self) -> list[Job | Turn]:
        """The first that comes, and whoever comes soon after it; a turn is the last."""
        some: list[Job | Turn] = []
        windows, end = 0, math.inf
        while not some or (windows < self.most and len(some) < self.coming()):
            try:
                one = self._queue.get(timeout=max(0.0, end - monotonic()) if some else None)
            except Empty:
                break
            if one is None:
                self._closing = True
                break
            if not some:
                end = monotonic() + self.wait
            some.append(one)
            if isinstance(one, Turn):
                break
            windows += _windows(one)
        return some

    def _answers(self, some: Sequence[Job | Turn]) -> Iterable[object]:
        jobs = [one for one in some if isinstance(one, Job)]
        if not jobs:
            return [_taken(one) for one in some if isinstance(one, Turn)]
        self.took(len(jobs))
        return _together(jobs)


def _together(jobs: list[Job]) -> Iterable[object]:
    try:
        return [*jobs[0].recognizer.together([(job.name, job.wave_s) for job in jobs])]
    except Exception as error:
        if len(jobs) == 1:
            return [error]
    # One that cannot be answered must not take the others with it.
    return (answer for job in jobs for answer in _together([job]))


def _windows(job: Job) -> int:
    """How much of a batch a recording takes."""
    return math.ceil(len(job.wave_s) / (job.recognizer.rate * (job.recognizer.window or 1e9)))


def _taken(turn: Turn) -> object:
    try:
        return turn.work()
    except Exception as error:
        return error
