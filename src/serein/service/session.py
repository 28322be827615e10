"""One stream: a client sends PCM, and is told each segment as soon as it is certain."""

import asyncio
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from serein.inference.recognition import Segment
from serein.inference.streaming import Stream
from serein.service.bell import wait_for
from serein.service.engine import Engine
from serein.service.inbox import PCMBuffer
from serein.service.problems import Problem
from serein.service.schemas import EndMessage, StartMessage
from serein.service.talk import ClientDisconnected, MessageSocket

SAMPLE_BYTES = 2
"""Bytes of 16-bit PCM."""
MAX_BLOCK_SECONDS = 1.0
"""Seconds of a stream that are heard at a time, so that nobody has the model for long."""
GRACE_SECONDS = 0.1
"""Seconds in which a message that was received is taken over before a stream is ended."""


class StreamSession:
    """A stream from its first block to its last answer."""

    def __init__(
        self, socket: MessageSocket, engine: Engine, stream: Stream, start: StartMessage
    ) -> None:
        """Begin."""
        self.socket, self.engine, self.stream, self.start = socket, engine, stream, start
        self.received_bytes = self.segment_count = self._processed_bytes = 0
        self.ended_by = "client"
        frame = SAMPLE_BYTES * start.channels
        self._second = frame * start.rate
        self.buffer = PCMBuffer(frame, round(MAX_BLOCK_SECONDS * self._second))
        self._reading: asyncio.Task[None] | None = None
        self._left = False

    @property
    def processed_seconds(self) -> float:
        """Seconds."""
        return round(self._processed_bytes / self._second, 6)

    async def run(self) -> None:
        """Answer until the client ends it, or the service; then what came is answered too.

        Raises:
            Problem: the client does what it may not; what came before that was answered.
            Left: it is gone.
        """
        self._reading = reading = asyncio.create_task(self._read_messages())
        reading.add_done_callback(self._on_reader_done)
        if self.ended_by == "service":
            reading.cancel()
        try:
            await self._process_audio()
            if not reading.cancelled():
                reading.result()  # raises what ended it
            if self.buffer.buffered_bytes:
                raise Problem(
                    400,
                    f"the stream ends within a sample, {self.buffer.buffered_bytes} bytes of "
                    f"{self.buffer.frame_bytes}; expected 16-bit PCM. Check what else was sent.",
                )
        finally:
            reading.cancel()

    def end(self) -> None:
        """Take no more, but for what has come already."""
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._stop)

    def _stop(self) -> None:
        if self._reading is None or self._reading.cancel():
            self.ended_by = "service"

    def _on_reader_done(self, reading: "asyncio.Task[None]") -> None:
        self._left = not reading.cancelled() and isinstance(reading.exception(), ClientDisconnected)
        self.buffer.end()

    async def _read_messages(self) -> None:
        settings, now = self.engine.config, asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as limit:
                while True:
                    limit.reschedule(now() + settings.stream_idle)
                    content = await self.socket.receive()
                    limit.reschedule(None)
                    if isinstance(content, str):
                        return _check_end_message(content)
                    await self._buffer_audio(content)
        except TimeoutError:
            raise Problem(
                408,
                f"nothing came for {settings.stream_idle:g} s; send silence, or end the stream "
                'with {"type": "end"}',
            ) from None

    async def _buffer_audio(self, content: bytes) -> None:
        longest = self.engine.config.stream_seconds
        left = round(longest * self.start.rate) * self.buffer.frame_bytes - self.received_bytes
        self.received_bytes += len(content)
        await self.buffer.put(content[:left])
        if len(content) > left:
            raise Problem(
                413,
                f"the stream lasts longer than {longest:g} s, the most that is heard in one. "
                "Open another one.",
            )

    async def _process_audio(self) -> None:
        last = False
        while not last:
            content, since, last = await self.buffer.take(self.stream.samples_needed)
            if self._left:
                raise ClientDisconnected
            if content:
                block = np.frombuffer(content, "<i2").reshape(-1, self.start.channels)
                await self._process_block(block, since)
        await self._process_block(None, monotonic())

    async def _process_block(self, block: npt.NDArray[np.int16] | None, since: float) -> None:
        """Have a block heard, or the end, and tell what it makes certain."""
        segments = await wait_for(self.engine.stream_batcher.submit(self.stream, block))
        count = 0 if block is None else block.nbytes
        self._processed_bytes += count
        metrics = self.engine.metrics
        metrics.streamed_seconds.inc(count / self._second)
        if segments:
            self.segment_count += len(segments)
            late = monotonic() - since
            metrics.stream_latency.observe(late)
            items = [segment_to_item(segment) for segment in segments]
            ms = round(1000 * late, 1)
            await self.socket.send(
                "segments", items=items, heard=self.processed_seconds, latency_ms=ms
            )


def segment_to_item(segment: Segment) -> dict[str, Any]:
    """A segment as a client gets it: as in a file's JSON, and what the main task says again."""
    plain = segment.to_dict()
    for main in list(plain["tasks"].values())[:1]:
        plain |= {**main, "abstained": main["label"] is None}
    return plain


def _check_end_message(text: str) -> None:
    try:
        EndMessage.model_validate_json(text)
    except ValidationError:
        raise Problem(
            400,
            'a text message that is not {"type": "end"}; expected that, or binary messages of '
            "16-bit little-endian PCM",
        ) from None
