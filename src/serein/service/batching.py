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
from serein.service.desk import BatchingThread

T = TypeVar("T")


class RecordingJob(NamedTuple):
    """One recording, who answers it, and where its answer is awaited."""

    recognizer: Recognizer
    name: str
    wave_s: Samples
    future: Future[Recognition]


class CallJob(NamedTuple):
    """Other work that needs the models, and where its result is awaited."""

    function: Callable[[], Any]
    future: Future[Any]
    recognizer: None = None


class RequestBatcher(BatchingThread[RecordingJob | CallJob]):
    """One thread that has the models to itself and takes what is there together."""

    def __init__(
        self,
        recognizer: Recognizer,
        max_windows: int,
        wait: float,
        count_expected: Callable[[], int],
        on_batch: Callable[[int], None],
    ) -> None:
        """Start the thread.

        Args:
            recognizer: answers where no other one is asked for.
            max_windows: windows in a batch, after which no more recordings are taken into it.
            wait: seconds that the first one waits for others.
            count_expected: says how many could be there; once they are, nobody waits.
            on_batch: is told how many recordings were answered together.
        """
        self.recognizer, self.max_windows, self.wait = recognizer, max_windows, wait
        self.count_expected, self.on_batch = count_expected, on_batch
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
        self._queue.put(RecordingJob(recognizer or self.recognizer, name, wave_s, future))
        return future

    def submit_call(self, function: Callable[[], T]) -> Future[T]:
        """Have something done between batches; it should be short, as everybody else waits."""
        future: Future[T] = Future()
        self._queue.put(CallJob(function, future))
        return future

    def _collect(self) -> list[RecordingJob | CallJob]:
        """The first that comes, and whoever comes soon after it; a turn is the last."""
        some: list[RecordingJob | CallJob] = []
        windows, end = 0, math.inf
        while not some or (windows < self.max_windows and len(some) < self.count_expected()):
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
            if isinstance(one, CallJob):
                break
            windows += _count_windows(one)
        return some

    def _process(self, batch: Sequence[RecordingJob | CallJob]) -> Iterable[object]:
        jobs = [one for one in batch if isinstance(one, RecordingJob)]
        if not jobs:
            return [_run_call(one) for one in batch if isinstance(one, CallJob)]
        self.on_batch(len(jobs))
        return _recognize_batch(jobs)


def _recognize_batch(jobs: list[RecordingJob]) -> Iterable[object]:
    try:
        return [*jobs[0].recognizer.predict_many([(job.name, job.wave_s) for job in jobs])]
    except Exception as error:
        if len(jobs) == 1:
            return [error]
    # One that cannot be answered must not take the others with it.
    return (answer for job in jobs for answer in _recognize_batch([job]))


def _count_windows(job: RecordingJob) -> int:
    """How much of a batch a recording takes."""
    return math.ceil(len(job.wave_s) / (job.recognizer.rate * (job.recognizer.window or 1e9)))


def _run_call(turn: CallJob) -> object:
    try:
        return turn.function()
    except Exception as error:
        return error
