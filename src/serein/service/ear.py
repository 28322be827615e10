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
from serein.inference.streaming import Stream
from serein.inference.vad import load_silero
from serein.service.desk import BatchingThread


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
        return streams.feed_streams(batch[0].recognizer, feeds)
