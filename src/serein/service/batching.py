"""Worker threads that run queued jobs in batches.

``RequestBatcher`` runs recordings of several requests in one forward pass, ``StreamBatcher`` blocks
of several streams. ``wait_for`` awaits their results in an event loop.
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from serein.audio import Block, Samples
from serein.errors import SereinError
from serein.inference import streaming
from serein.inference.predictor import Predictor
from serein.inference.recognition import Recognition, Segment
from serein.inference.streaming import Stream
from serein.inference.vad import load_silero
from serein.service.fair_queue import FairQueue


class QueuedJob(Protocol):
    """Work for a ``BatchingThread``."""

    @property
    def recognizer(self) -> Predictor | None:
        """The model; jobs of the same model form a batch."""
        ...

    @property
    def future(self) -> Future[Any]:
        """Receives the result; if it is cancelled before the job starts, the job is dropped."""
        ...


T = TypeVar("T")
JobT = TypeVar("JobT", bound=QueuedJob)


class BatchingThread(Generic[JobT]):
    """A worker thread that collects queued jobs and runs them in batches, grouped by model.

    Subclasses define ``_collect`` and ``_process``.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._queue: FairQueue[JobT] = FairQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Process the queued jobs, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            jobs = [job for job in self._collect() if job.future.set_running_or_notify_cancel()]
            for recognizer in dict.fromkeys(job.recognizer for job in jobs):
                batch = [job for job in jobs if job.recognizer is recognizer]
                for job, outcome in zip(batch, self._process(batch), strict=True):
                    _set_outcome(job.future, outcome)

    def _collect(self) -> Sequence[JobT]:
        """Wait for jobs, and return those to run together.

        None in the queue ends the thread: it sets ``_closing``.
        """
        raise NotImplementedError

    def _process(self, batch: Sequence[JobT]) -> Iterable[object]:
        """Return the result of each job of a batch, which all use one model, or its exception.

        A result is passed on before the next one is computed, if this is a generator.
        """
        raise NotImplementedError


def _set_outcome(future: Future[Any], outcome: object) -> None:
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


class RecordingJob(NamedTuple):
    """A recording to recognize, perhaps with its words."""

    recognizer: Predictor
    name: str
    wave_s: Samples
    future: Future[Recognition]
    words: str | None = None


class CallJob(NamedTuple):
    """A function to call while no other thread uses the models."""

    function: Callable[[], Any]
    future: Future[Any]
    recognizer: None = None


class RequestBatcher(BatchingThread[RecordingJob | CallJob]):
    """A thread that recognizes the recordings of concurrent requests in one forward pass."""

    def __init__(
        self,
        recognizer: Predictor,
        max_windows: int,
        wait: float,
        count_expected: Callable[[], int],
        on_batch: Callable[[int], None],
    ) -> None:
        """Start the thread.

        Args:
            recognizer: the default model.
            max_windows: number of windows at which a batch is complete.
            wait: seconds that the first recording of a batch waits for others.
            count_expected: returns how many recordings are queued or still being decoded; a batch
                of that many does not wait.
            on_batch: called with the number of recordings of each batch.
        """
        self.recognizer, self.max_windows, self.wait = recognizer, max_windows, wait
        self.count_expected, self.on_batch = count_expected, on_batch
        super().__init__("batch")

    def submit(
        self,
        name: str,
        wave_s: Samples,
        recognizer: Predictor | None = None,
        words: str | None = None,
        *,
        owner: str = "",
    ) -> Future[Recognition]:
        """Queue a recording.

        Args:
            name: source to be named in the answer.
            wave_s: (n,) at the rate of the model.
            recognizer: the model, if not the default one.
            words: of the recording, for a model that reads words.
            owner: whose request it is; owners take turns.
        """
        future: Future[Recognition] = Future()
        job = RecordingJob(recognizer or self.recognizer, name, wave_s, future, words)
        self._queue.put(job, (owner, "recordings"), len(wave_s) / job.recognizer.rate)
        return future

    def submit_call(
        self, function: Callable[[], T], *, owner: str = "", cost: float = 1.0
    ) -> Future[T]:
        """Queue a function to be called between two batches; it should be short.

        Args:
            function: to call.
            owner: whose request it is; recordings and calls of all owners take turns.
            cost: of the call, in seconds of audio that the model processes.
        """
        future: Future[T] = Future()
        self._queue.put(CallJob(function, future), (owner, "calls"), cost)
        return future

    def _collect(self) -> list[RecordingJob | CallJob]:
        """Wait for a job, and for further ones for a short time; a call ends the batch."""
        jobs: list[RecordingJob | CallJob] = []
        windows, deadline = 0, math.inf
        while not jobs or (windows < self.max_windows and len(jobs) < self.count_expected()):
            try:
                job = self._queue.get(timeout=max(0.0, deadline - monotonic()) if jobs else None)
            except Empty:
                break
            if job is None:
                self._closing = True
                break
            if not jobs:
                deadline = monotonic() + self.wait
            jobs.append(job)
            if isinstance(job, CallJob):
                break
            windows += _count_windows(job)
        return jobs

    def _process(self, batch: Sequence[RecordingJob | CallJob]) -> Iterable[object]:
        recordings = [job for job in batch if isinstance(job, RecordingJob)]
        if not recordings:
            return [_run_call(job) for job in batch if isinstance(job, CallJob)]
        self.on_batch(len(recordings))
        return _recognize_batch(recordings)


def _recognize_batch(jobs: list[RecordingJob]) -> Iterable[object]:
    try:
        recordings = [(job.name, job.wave_s) for job in jobs]
        return [*jobs[0].recognizer.predict_many(recordings, words=[job.words for job in jobs])]
    except Exception as error:
        if len(jobs) == 1:
            return [error]
    # One recording that fails must not make the others of its batch fail.
    return (outcome for job in jobs for outcome in _recognize_batch([job]))


def _count_windows(job: RecordingJob) -> int:
    """Count the windows of a recording, rounded up."""
    return math.ceil(len(job.wave_s) / (job.recognizer.rate * (job.recognizer.window or 1e9)))


def _run_call(job: CallJob) -> object:
    try:
        return job.function()
    except Exception as error:
        return error


class StreamJob(NamedTuple):
    """A block of a stream, or None for its end."""

    stream: Stream
    block: Block | None
    future: Future[list[Segment]]

    @property
    def recognizer(self) -> Predictor:
        """The model of the stream."""
        return self.stream.predictor


class StreamBatcher(BatchingThread[StreamJob]):
    """A thread that feeds blocks to streams; those queued during one batch form the next."""

    def __init__(self, on_batch: Callable[[int], None]) -> None:
        """Start the thread.

        Args:
            on_batch: called with the number of blocks of each batch.
        """
        self.on_batch = on_batch
        with suppress(SereinError):  # reported when a stream needs speech detection
            load_silero()  # now, so that the first stream does not wait for it
        super().__init__("stream-batch")

    def submit(self, stream: Stream, block: Block | None) -> Future[list[Segment]]:
        """Queue a block, or None for the end. A stream may have only one job at a time."""
        future: Future[list[Segment]] = Future()
        self._queue.put(StreamJob(stream, block, future))
        return future

    def _collect(self) -> list[StreamJob]:
        """Wait for a job, and return it with all that are queued by then."""
        jobs: list[StreamJob] = []
        with suppress(Empty):
            job = self._queue.get()
            while job is not None:
                jobs.append(job)
                job = self._queue.get_nowait()
            self._closing = True
        return jobs

    def _process(self, batch: Sequence[StreamJob]) -> Sequence[object]:
        self.on_batch(len(batch))
        blocks = [(job.stream, job.block) for job in batch]
        return streaming.feed_streams(batch[0].recognizer, blocks)


class LoopWaker:
    """Wakes an event loop once for all futures that threads have finished by then.

    ``asyncio.wrap_future`` wakes the loop for each future. Each time, the threads pass the
    interpreter lock to each other and back, and all results of a batch but the first wait for that.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Create the waker of an event loop."""
        self._loop = ref(loop)
        self._finished: deque[asyncio.Future[None]] = deque()
        self._is_scheduled = False

    def wake_soon(self, waiter: "asyncio.Future[None]") -> None:
        """Schedule that a waiter is woken; may be called from any thread."""
        self._finished.append(waiter)
        loop = self._loop()
        if loop is not None and not self._is_scheduled and not loop.is_closed():
            self._is_scheduled = True
            loop.call_soon_threadsafe(self._wake_waiters)

    def _wake_waiters(self) -> None:
        self._is_scheduled = False  # first, so that a future finished meanwhile schedules again
        while self._finished:
            waiter = self._finished.popleft()
            if not waiter.done():
                waiter.set_result(None)


_WAKERS: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaker] = WeakKeyDictionary()


async def wait_for(future: Future[T]) -> T:
    """Await the result of a thread's future; cancelling this call cancels the future."""
    loop = asyncio.get_running_loop()
    waker = _WAKERS.setdefault(loop, LoopWaker(loop))
    waiter: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: waker.wake_soon(waiter))
    try:
        await waiter
    finally:
        future.cancel()
    if future.cancelled():
        raise asyncio.CancelledError
    return future.result()
