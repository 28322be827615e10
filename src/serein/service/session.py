"""One stream: a client sends PCM, and is told each segment as soon as it is certain.

What a client has sent and nobody has heard yet.

What goes over a WebSocket: messages of a bounded size in, JSON out to who takes it.
"""

import asyncio
import json
from collections import deque
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from serein.inference.recognition import Segment
from serein.inference.streaming import Stream
from serein.service.batching import wait_for
from serein.service.config import MEBIBYTE
from serein.service.engine import Engine
from serein.service.schemas import EndMessage, Problem, StartMessage

MAX_ARRIVALS = 4096
"""Blocks that are known by when they came; of a client that sends smaller ones, not all are."""


class PCMChunk(NamedTuple):
    """What is heard next.

    Attributes:
        content: whole samples of all channels.
        since: when enough of it had come, by ``time.monotonic``.
        last: whether nothing comes after it.
    """

    content: bytes
    arrival_time: float
    is_last: bool


class PCMBuffer:
    """Bytes in blocks of any size in, whole samples in parts out; one task puts, one takes."""

    def __init__(self, frame_bytes: int, max_bytes: int) -> None:
        """Begin.

        Args:
            frame_bytes: bytes of one sample of all channels.
            max_bytes: bytes that are taken at a time; whoever puts waits while there are more.
        """
        self.frame_bytes, self.max_bytes = (
            frame_bytes,
            max(frame_bytes, max_bytes // frame_bytes * frame_bytes),
        )
        self.ended = False
        self._held, self._taken, self._enough = bytearray(), 0, frame_bytes
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=MAX_ARRIVALS)
        self._news, self._room = asyncio.Event(), asyncio.Event()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are there."""
        return len(self._held)

    async def put(self, content: bytes) -> None:
        """Add what came, and wait until there is room for more."""
        self._held += content
        self._arrivals.append((self._taken + self.buffered_bytes, monotonic()))
        if self.buffered_bytes >= self._enough:
            self._news.set()
        while self.buffered_bytes > self.max_bytes:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self._news.set()

    async def take(self, count: int) -> PCMChunk:
        """Wait for so many samples, or the end; of more, all that may be taken at a time."""
        self._enough = min(max(1, count) * self.frame_bytes, self.max_bytes)
        while self.buffered_bytes < self._enough and not self.ended:
            self._news.clear()
            await self._news.wait()
        since = self._find_arrival_time(self._taken + self._enough)
        size = min(self.buffered_bytes // self.frame_bytes * self.frame_bytes, self.max_bytes)
        content = bytes(self._held[:size])
        del self._held[:size]
        self._taken += size
        if self.buffered_bytes <= self.max_bytes:
            self._room.set()
        return PCMChunk(content, since, self.ended and self.buffered_bytes < self.frame_bytes)

    def _find_arrival_time(self, position: int) -> float:
        """When the byte before a place came, or the last one."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < position:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else monotonic()


class ClientDisconnected(Exception):
    """The client is gone, or takes no answers."""


class MessageSocket:
    """A WebSocket, and what goes over it; says what it cannot do by a ``Problem``."""

    def __init__(self, socket: WebSocket, max_bytes: int, timeout: float) -> None:
        """Take a socket that was accepted.

        Args:
            socket: of the client.
            max_bytes: bytes of a message.
            timeout: seconds in which the client must take an answer.
        """
        self._socket, self._most, self._patience = socket, max_bytes, timeout

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            Left: there is none.
            Problem: it is too large.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnected
        content: bytes | str | None = message.get("bytes")
        if content is None:
            content = str(message["text"])
        if len(content) > self._most:
            raise Problem(
                413,
                f"a message is larger than {self._most / MEBIBYTE:g} MB, the most that is taken at "
                "once. Send smaller blocks, such as of 20 ms.",
            )
        return content

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message.

        Raises:
            Left: nobody takes it.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._socket.send_text(json.dumps({"type": kind, **fields}))
        except (TimeoutError, WebSocketDisconnect):
            raise ClientDisconnected from None


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
