"""Requests that come at the same time share one forward pass; all else takes its turn."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from serein.audio import Samples
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer

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


class Batcher:
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
            wait: seconds that the first recording waits for others.
            coming: says how many could be there; once they are, nobody waits.
            took: is told how many recordings were answered together.
        """
        self.recognizer, self.most, self.wait = recognizer, most, wait
        self.coming, self.took = coming, took
        self._queue: SimpleQueue[Job | Turn | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)
        self._thread.start()

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

    def alive(self) -> bool:
        """Whether somebody answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            gathered, turn = self._gathered()
            jobs = [job for job in gathered if job.future.set_running_or_notify_cancel()]
            for recognizer in dict.fromkeys(job.recognizer for job in jobs):
                own = [job for job in jobs if job.recognizer is recognizer]
                self.took(len(own))
                self._answer(own)
            if turn is not None and turn.future.set_running_or_notify_cancel():
                _take(turn)

    def _gathered(self) -> tuple[list[Job], Turn | None]:
        """The first that comes, and whoever comes soon after it; a turn is the last."""
        jobs: list[Job] = []
        windows, end = 0, math.inf
        while not jobs or (windows < self.most and len(jobs) < self.coming()):
            try:
                left = None if not jobs else max(0.0, end - monotonic())
                job = self._queue.get(timeout=left)
            except Empty:
                break
            if job is None:
                self._closing = True
                break
            if isinstance(job, Turn):
                return jobs, job
            if not jobs:
                end = monotonic() + self.wait
            jobs.append(job)
            windows += _windows(job)
        return jobs, None

    def _answer(self, jobs: list[Job]) -> None:
        try:
            answers = jobs[0].recognizer.together([(job.name, job.wave_s) for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:  # one that cannot be answered must not take the others with it
                self._answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)


def _windows(job: Job) -> int:
    """How much of a batch a recording takes."""
    return math.ceil(len(job.wave_s) / (job.recognizer.rate * (job.recognizer.window or 1e9)))


def _take(turn: Turn) -> None:
    try:
        turn.future.set_result(turn.work())
    except Exception as error:
        turn.future.set_exception(error)
