"""The thread that hears all streams: what came while it was busy is heard together."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty
from typing import NamedTuple

from serein.audio import Block
from serein.errors import BundleError
from serein.inference import streams
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.speech import detector
from serein.inference.stream import Stream
from serein.service.desk import Desk


class Part(NamedTuple):
    """A block of a stream, or its end, and where the answer is awaited."""

    stream: Stream
    block: Block | None
    future: Future[list[Segment]]

    @property
    def recognizer(self) -> Recognizer:
        """Who listens."""
        return self.stream.recognizer


class Ear(Desk[Part]):
    """One thread; nobody waits in it for others to come."""

    def __init__(self, took: Callable[[int], None]) -> None:
        """Start the thread.

        Args:
            took: is told of how many streams parts were heard together.
        """
        self.took = took
        with suppress(BundleError):  # who asks for speech detection is told
            detector()  # now, so that no stream's start waits for it
        super().__init__("ear")

    def submit(self, stream: Stream, block: Block | None) -> Future[list[Segment]]:
        """Have a block heard, or for None the stream ended; one at a time of each stream."""
        future: Future[list[Segment]] = Future()
        self._queue.put(Part(stream, block, future))
        return future

    def _gathered(self) -> list[Part]:
        """The first that comes, and all that came before somebody listened."""
        parts: list[Part] = []
        with suppress(Empty):
            part = self._queue.get()
            while part is not None:
                parts.append(part)
                part = self._queue.get_nowait()
            self._closing = True
        return parts

    def _answers(self, some: Sequence[Part]) -> Sequence[object]:
        self.took(len(some))
        feeds = [(part.stream, part.block) for part in some]
        return streams.feed(some[0].recognizer, feeds)
