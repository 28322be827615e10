"""One thread at which work is done together: what waits is taken, and grouped by who answers it."""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from serein.inference.recognizer import Recognizer


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
