"""One thread at which work is done together: what waits is taken, and grouped by who answers it."""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from serein.inference.recognizer import Recognizer


class Order(Protocol):
    """Work that somebody waits for."""

    @property
    def recognizer(self) -> Recognizer | None:
        """Who is to answer; those of one are taken together."""
        ...

    @property
    def future(self) -> Future[Any]:
        """Where the answer is awaited; who cancels it while it waits is not answered."""
        ...


W = TypeVar("W", bound=Order)


class Desk(Generic[W]):
    """The thread; what is done at it is said by ``_gathered`` and ``_answers``."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._queue: SimpleQueue[W | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether somebody answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            some = [one for one in self._gathered() if one.future.set_running_or_notify_cancel()]
            for recognizer in dict.fromkeys(one.recognizer for one in some):
                own = [one for one in some if one.recognizer is recognizer]
                for one, answer in zip(own, self._answers(own), strict=True):
                    _tell(one.future, answer)

    def _gathered(self) -> Sequence[W]:
        """Wait for work -> what is taken together; sets ``_closing`` where None is found."""
        raise NotImplementedError

    def _answers(self, some: Sequence[W]) -> Iterable[object]:
        """The answer to each of those that one recogniser answers, or the error that it is.

        Each is told before the next one is asked for.
        """
        raise NotImplementedError


def _tell(future: Future[Any], answer: object) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
