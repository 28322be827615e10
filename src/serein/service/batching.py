"""Requests that come at the same time share one forward pass."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from time import monotonic
from typing import NamedTuple

from serein.audio import Samples
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer


class Job(NamedTuple):
    """One recording, and where its answer is awaited."""

    name: str
    wave_s: Samples
    future: Future[Recognition]


class Batcher:
    """One thread that has the model to itself and takes what is there together."""

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
            recognizer: answers.
            most: windows in a batch, after which no more recordings are taken into it.
            wait: seconds that the first recording waits for others.
            coming: says how many could be there; once they are, nobody waits.
            took: is told how many recordings were answered together.
        """
        self.recognizer, self.most, self.wait = recognizer, most, wait
        self.coming, self.took = coming, took
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)
        self._thread.start()

    def submit(self, name: str, wave_s: Samples) -> Future[Recognition]:
        """Have a recording answered; one that is cancelled while it waits is dropped.

        Args:
            name: what the answer calls it.
            wave_s: (n,) at the model's rate.
        """
        future: Future[Recognition] = Future()
        self._queue.put(Job(name, wave_s, future))
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
            jobs = [job for job in self._gathered() if job.future.set_running_or_notify_cancel()]
            if jobs:
                self.took(len(jobs))
                self._answer(jobs)

    def _gathered(self) -> list[Job]:
        """The first that comes, and whoever comes soon after it."""
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
            if not jobs:
                end = monotonic() + self.wait
            jobs.append(job)
            windows += self._windows(job.wave_s)
        return jobs

    def _windows(self, wave_s: Samples) -> int:
        """How much of a batch a recording takes."""
        return math.ceil(len(wave_s) / (self.recognizer.rate * (self.recognizer.window or 1e9)))

    def _answer(self, jobs: list[Job]) -> None:
        try:
            answers = self.recognizer.together([(job.name, job.wave_s) for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:  # one that cannot be answered must not take the others with it
                self._answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)
