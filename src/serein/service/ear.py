"""The thread that hears all streams: what came while it was busy is heard together."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple

from serein.audio import Block
from serein.errors import BundleError
from serein.inference import streams
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.speech import detector
from serein.inference.stream import Stream


class Part(NamedTuple):
    """A block of a stream, or its end, and where the answer is awaited."""

    stream: Stream
    block: Block | None
    future: Future[list[Segment]]


class Ear:
    """One thread; nobody waits in it for others to come."""

    def __init__(self, took: Callable[[int], None]) -> None:
        """Start the thread.

        Args:
            took: is told of how many streams parts were heard together.
        """
        self.took = took
        self._queue: SimpleQueue[Part | None] = SimpleQueue()
        self._closing = False
        with suppress(BundleError):  # who asks for speech detection is told
            detector()  # now, so that no stream's start waits for it
        self._thread = threading.Thread(target=self._run, name="ear", daemon=True)
        self._thread.start()

    def submit(self, stream: Stream, block: Block | None) -> Future[list[Segment]]:
        """Have a block heard, or for None the stream ended; one at a time of each stream."""
        future: Future[list[Segment]] = Future()
        self._queue.put(Part(stream, block, future))
        return future

    def alive(self) -> bool:
        """Whether somebody listens."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Hear what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            parts = [
                part for part in self._gathered() if part.future.set_running_or_notify_cancel()
            ]
            for recognizer in dict.fromkeys(part.stream.recognizer for part in parts):
                own = [part for part in parts if part.stream.recognizer is recognizer]
                self.took(len(own))
                self._answer(recognizer, own)

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

    def _answer(self, recognizer: Recognizer, parts: list[Part]) -> None:
        told = streams.feed(recognizer, [(part.stream, part.block) for part in parts])
        for part, segments in zip(parts, told, strict=True):
            if isinstance(segments, Exception):
                part.future.set_exception(segments)
            else:
                part.future.set_result(segments)
