"""Requests that come at the same time share one forward pass; all else takes its turn.

One thread at which work is done together: what waits is taken, and grouped by who answers it.

The thread that hears all streams: what came while it was busy is heard together.

Event loops wait for threads: woken once for all that is finished by then.

``asyncio.wrap_future`` wakes its loop for each future by itself, and every time the threads hand
the interpreter to each other and back: of a batch, all but the first would wait for that.
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from serein.audio import Block, Samples
from serein.errors import BundleError
from serein.inference import streaming
from serein.inference.recognition import Recognition, Segment
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream
from serein.inference.vad import load_silero


class QueuedJob(Protocol):
    """Work that somebody waits for."""

    @property
    def recognizer(self) -> Recognizer | None:
        """Who is to answer; those of one are taken together."""
        ...

    @property
    def future(self) -> Future[Any]:
        """Where the answer is awaited; who cancels it while it waits is not answered."""
        ...


JobT = TypeVar("JobT", bound=QueuedJob)


class BatchingThread(Generic[JobT]):
    """The thread; what is done at it is said by ``_gathered`` and ``_answers``."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._queue: SimpleQueue[JobT | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether somebody answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            some = [one for one in self._collect() if one.future.set_running_or_notify_cancel()]
            for recognizer in dict.fromkeys(one.recognizer for one in some):
                own = [one for one in some if one.recognizer is recognizer]
                for one, answer in zip(own, self._process(own), strict=True):
                    _set_outcome(one.future, answer)

    def _collect(self) -> Sequence[JobT]:
        """Wait for work -> what is taken together; sets ``_closing`` where None is found."""
        raise NotImplementedError

    def _process(self, batch: Sequence[JobT]) -> Iterable[object]:
        """The answer to each of those that one recogniser answers, or the error that it is.

        Each is told before the next one is asked for.
        """
        raise NotImplementedError


def _set_outcome(future: Future[Any], outcome: object) -> None:
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


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


class StreamJob(NamedTuple):
    """A block of a stream, or its end, and where the answer is awaited."""

    stream: Stream
    block: Block | None
    future: Future[list[Segment]]

    @property
    def recognizer(self) -> Recognizer:
        """Who listens."""
        return self.stream.predictor


class StreamBatcher(BatchingThread[StreamJob]):
    """One thread; nobody waits in it for others to come."""

    def __init__(self, on_batch: Callable[[int], None]) -> None:
        """Start the thread.

        Args:
            on_batch: is told of how many streams parts were heard together.
        """
        self.on_batch = on_batch
        with suppress(BundleError):  # who asks for speech detection is told
            load_silero()  # now, so that no stream's start waits for it
        super().__init__("ear")

    def submit(self, stream: Stream, block: Block | None) -> Future[list[Segment]]:
        """Have a block heard, or for None the stream ended; one at a time of each stream."""
        future: Future[list[Segment]] = Future()
        self._queue.put(StreamJob(stream, block, future))
        return future

    def _collect(self) -> list[StreamJob]:
        """The first that comes, and all that came before somebody listened."""
        parts: list[StreamJob] = []
        with suppress(Empty):
            part = self._queue.get()
            while part is not None:
                parts.append(part)
                part = self._queue.get_nowait()
            self._closing = True
        return parts

    def _process(self, batch: Sequence[StreamJob]) -> Sequence[object]:
        self.on_batch(len(batch))
        feeds = [(part.stream, part.block) for part in batch]
        return streaming.feed_streams(batch[0].recognizer, feeds)


class LoopWaker:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is finished yet."""
        self._loop = ref(loop)
        self._finished: deque[asyncio.Future[None]] = deque()
        self._rung = False

    def wake_soon(self, waiter: "asyncio.Future[None]") -> None:
        """Have who waits woken; from any thread."""
        self._finished.append(waiter)
        loop = self._loop()
        if loop is not None and not self._rung and not loop.is_closed():
            self._rung = True
            loop.call_soon_threadsafe(self._wake_waiters)

    def _wake_waiters(self) -> None:
        self._rung = False  # first, so that whoever comes while others are woken rings anew
        while self._finished:
            waiter = self._finished.popleft()
            if not waiter.done():
                waiter.set_result(None)


_WAKERS: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaker] = WeakKeyDictionary()


async def wait_for(future: Future[T]) -> T:
    """What a thread makes of a future, or raises; whoever waits no longer cancels it."""
    loop = asyncio.get_running_loop()
    bell = _WAKERS.setdefault(loop, LoopWaker(loop))
    waiter: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: bell.wake_soon(waiter))
    try:
        await waiter
    finally:
        future.cancel()
    if future.cancelled():
        raise asyncio.CancelledError
    return future.result()
