"""One open stream: ``StreamSession`` reads PCM from a client and sends segments as they are final.

``MessageSocket`` is the WebSocket with limits on size and time; ``PCMBuffer`` holds audio that has
arrived and is not yet processed.
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
from serein.service.config import MEBIBYTE, ServiceConfig
from serein.service.engine import Engine
from serein.service.schemas import EndMessage, Problem, StartMessage

SAMPLE_BYTES = 2
"""Bytes of a sample of 16-bit PCM."""
MAX_BLOCK_SECONDS = 1.0
"""Longest block that is processed at a time, so that no stream occupies the model for long."""
GRACE_SECONDS = 0.1
"""Time for a message that has already arrived to be read before the service ends a stream."""
MIN_IDLE_AUDIO = 0.1
"""Seconds of audio that end an idle time; single bytes do not keep a stream open."""
MAX_MESSAGES_PER_SECOND = 1000
"""Messages for each second of audio, and before the first second."""
MESSAGES_PER_TURN = 64
"""Messages of a stream that are read before other clients have a turn."""
PROVISIONAL_BLOCK_SECONDS = 0.25
"""Length of the blocks that are processed for provisional answers."""
MAX_LAG_SECONDS = 0.5
"""Seconds of audio that may wait while provisional answers are computed."""
MAX_ARRIVALS = 4096
"""Number of blocks whose arrival times are kept."""


class StreamSession:
    """A stream from its first block to its last segment.

    Attributes:
        received_bytes: bytes of audio from the client.
        segment_count: segments sent to the client.
        ended_by: ``client``, or ``service`` if it shuts down.
        buffer: audio that has arrived and is not yet processed.
    """

    def __init__(
        self, socket: "MessageSocket", engine: Engine, stream: Stream, start: StartMessage
    ) -> None:
        """Create a session.

        Args:
            socket: connection to the client.
            engine: processes the audio.
            stream: a stream of the model.
            start: first message of the client.
        """
        self.socket, self.engine, self.stream, self.start = socket, engine, stream, start
        self.received_bytes = self.segment_count = self._processed_bytes = 0
        self._message_count = 0
        self.ended_by = "client"
        frame_bytes = SAMPLE_BYTES * start.channels
        self._bytes_per_second = frame_bytes * start.rate
        self.buffer = PCMBuffer(frame_bytes, round(MAX_BLOCK_SECONDS * self._bytes_per_second))
        self._reader: asyncio.Task[None] | None = None
        self._is_disconnected = False
        self._provisional: Segment | None = None

    @property
    def processed_seconds(self) -> float:
        """Seconds of audio that the model has processed."""
        return round(self._processed_bytes / self._bytes_per_second, 6)

    async def run(self) -> None:
        """Send segments until the client or the service ends the stream and all audio is processed.

        Raises:
            Problem: the client violates the protocol or a limit; what it sent before is answered.
            ClientDisconnected: the client has disconnected.
        """
        self._reader = reader = asyncio.create_task(self._read_messages())
        reader.add_done_callback(self._on_reader_done)
        if self.ended_by == "service":
            reader.cancel()
        try:
            await self._process_audio()
            if not reader.cancelled():
                reader.result()  # raises the exception that ended it
            if self.buffer.buffered_bytes:
                raise Problem(
                    400,
                    f"the stream ends within a sample: {self.buffer.buffered_bytes} bytes of "
                    f"{self.buffer.frame_bytes}; expected 16-bit PCM. Check the format of the "
                    "messages.",
                )
        finally:
            reader.cancel()

    def end(self) -> None:
        """End the stream for the service, after the messages that have already arrived."""
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._stop_reader)

    def _stop_reader(self) -> None:
        if self._reader is None or self._reader.cancel():
            self.ended_by = "service"

    def _on_reader_done(self, reader: "asyncio.Task[None]") -> None:
        if not reader.cancelled():
            self._is_disconnected = isinstance(reader.exception(), ClientDisconnected)
        self.buffer.end()

    async def _read_messages(self) -> None:
        """Move audio from the socket to the buffer until the client ends the stream."""
        config, now = self.engine.config, asyncio.get_running_loop().time
        idle_bytes = round(MIN_IDLE_AUDIO * self._bytes_per_second)
        idle_end, end, audio = now() + config.stream_idle, now() + config.stream_seconds, 0
        end += config.stream_idle
        try:
            async with asyncio.timeout(None) as timeout:
                while True:
                    timeout.reschedule(min(idle_end, end))
                    content = await self.socket.receive()
                    timeout.reschedule(None)
                    if isinstance(content, str):
                        return _check_end_message(content)
                    begin = now()
                    await self._count_message(content)
                    await self._buffer_audio(content)
                    audio += len(content)
                    waited = now() - begin  # for the model, which is not the client's fault
                    idle_end, end = idle_end + waited, end + waited
                    if audio >= idle_bytes:
                        idle_end, audio = now() + config.stream_idle, 0
        except TimeoutError:
            raise _timeout_problem(config, is_idle=idle_end < end, has_audio=audio > 0) from None

    async def _count_message(self, content: bytes) -> None:
        """Refuse floods of messages with next to no audio."""
        self._message_count += 1
        seconds = self.received_bytes / self._bytes_per_second
        if not content or self._message_count > MAX_MESSAGES_PER_SECOND * (1 + seconds):
            raise Problem(
                400,
                f"{self._message_count:,} messages for {seconds:.2f} s of audio, and none may be "
                "empty; expected blocks of at least 1 ms, such as of 20 ms",
            )
        if self._message_count % MESSAGES_PER_TURN == 0:
            await asyncio.sleep(0)

    async def _buffer_audio(self, content: bytes) -> None:
        max_seconds = self.engine.config.stream_seconds
        max_bytes = round(max_seconds * self.start.rate) * self.buffer.frame_bytes
        remaining = max_bytes - self.received_bytes
        self.received_bytes += len(content)
        await self.buffer.put(content[:remaining])
        if len(content) > remaining:
            raise Problem(
                413,
                f"the stream is longer than the limit of {max_seconds:g} s. Open another stream.",
            )

    async def _process_audio(self) -> None:
        """Process audio from the buffer until its end."""
        is_last = False
        while not is_last:
            count = self.stream.samples_needed
            if self.start.provisional:
                count = min(count, round(PROVISIONAL_BLOCK_SECONDS * self.start.rate))
            content, arrival_time, is_last = await self.buffer.take(count)
            if self._is_disconnected:
                raise ClientDisconnected
            if content:
                block = np.frombuffer(content, "<i2").reshape(-1, self.start.channels)
                await self._process_block(block, arrival_time)
        await self._process_block(None, monotonic())

    async def _process_block(
        self, block: npt.NDArray[np.int16] | None, arrival_time: float
    ) -> None:
        """Process a block, or None for the end, and send the segments that it completes."""
        # A model that cannot keep up with the audio computes final answers only.
        is_late = self.buffer.buffered_bytes > MAX_LAG_SECONDS * self._bytes_per_second
        self.stream.predicts_provisional = self.start.provisional and not is_late
        segments = await wait_for(self.engine.stream_batcher.submit(self.stream, block))
        size = 0 if block is None else block.nbytes
        self._processed_bytes += size
        metrics = self.engine.metrics
        metrics.streamed_seconds.inc(size / self._bytes_per_second)
        if segments:
            self.segment_count += len(segments)
            latency = monotonic() - arrival_time
            metrics.stream_latency.observe(latency)
            await self.socket.send(
                "segments",
                items=[segment_to_item(segment) for segment in segments],
                processed_seconds=self.processed_seconds,
                heard=self.processed_seconds,  # old name, for one release
                latency_ms=round(1000 * latency, 1),
            )
        if self.stream.provisional != self._provisional:
            self._provisional = self.stream.provisional
            item = None if self._provisional is None else segment_to_item(self._provisional)
            await self.socket.send(
                "provisional", item=item, processed_seconds=self.processed_seconds
            )


def segment_to_item(segment: Segment) -> dict[str, Any]:
    """Return a segment as in the JSON of a file, with the answer of the first task repeated."""
    item = segment.to_dict()
    for first in list(item["tasks"].values())[:1]:
        item |= {**first, "abstained": first["label"] is None}
    return item


def _timeout_problem(config: ServiceConfig, *, is_idle: bool, has_audio: bool) -> Problem:
    """Return the problem of a stream that was idle, or open, for too long."""
    seconds = config.stream_idle
    if not is_idle:
        fault = f"the stream was open for more than {config.stream_seconds:g} s; open another one"
    elif has_audio:
        fault = f"less than {MIN_IDLE_AUDIO:g} s of audio arrived in {seconds:g} s; send silence"
    else:
        fault = f"no message arrived for {seconds:g} s; send silence"
    return Problem(408, f'{fault}, or end the stream with {{"type": "end"}}')


def _check_end_message(text: str) -> None:
    try:
        EndMessage.model_validate_json(text)
    except ValidationError:
        raise Problem(
            400,
            'a text message that is not {"type": "end"}; expected that, or binary messages of '
            "16-bit little-endian PCM",
        ) from None


class ClientDisconnected(Exception):
    """The client has disconnected, or does not accept messages."""


class MessageSocket:
    """A WebSocket with limits: on the size of messages, and on the time to accept one."""

    def __init__(self, websocket: WebSocket, max_bytes: int, timeout: float) -> None:
        """Wrap a WebSocket.

        Args:
            websocket: to the client.
            max_bytes: largest message of the client.
            timeout: seconds in which the client must accept a message.
        """
        self._websocket, self._max_bytes, self._timeout = websocket, max_bytes, timeout

    async def receive(self) -> bytes | str:
        """Return the next message.

        Raises:
            ClientDisconnected: there is none.
            Problem: it is too large.
        """
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnected
        content: bytes | str | None = message.get("bytes")
        if content is None:
            content = str(message["text"])
        if len(content) > self._max_bytes:
            raise Problem(
                413,
                f"a message is larger than the limit of {self._max_bytes / MEBIBYTE:g} MB. "
                "Send smaller blocks, such as of 20 ms.",
            )
        return content

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message.

        Args:
            kind: its type.
            fields: its other fields.

        Raises:
            ClientDisconnected: the client does not accept it.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._websocket.send_text(json.dumps({"type": kind, **fields}))
        except (TimeoutError, WebSocketDisconnect):
            raise ClientDisconnected from None


class PCMChunk(NamedTuple):
    """Audio to be processed next.

    Attributes:
        content: whole samples of all channels.
        arrival_time: when the last byte that was waited for arrived, by ``time.monotonic``.
        is_last: whether no audio follows.
    """

    content: bytes
    arrival_time: float
    is_last: bool


class PCMBuffer:
    """A queue of audio between two tasks: bytes in blocks of any size in, whole samples out."""

    def __init__(self, frame_bytes: int, max_bytes: int) -> None:
        """Create an empty buffer.

        Args:
            frame_bytes: bytes of one sample of all channels.
            max_bytes: bytes to take at a time; ``put`` waits while there are more.
        """
        self.frame_bytes = frame_bytes
        self.max_bytes = max(frame_bytes, max_bytes // frame_bytes * frame_bytes)
        self.ended = False
        self._content, self._taken_bytes, self._needed_bytes = bytearray(), 0, frame_bytes
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=MAX_ARRIVALS)
        self._enough, self._room = asyncio.Event(), asyncio.Event()

    @property
    def buffered_bytes(self) -> int:
        """Bytes in the buffer."""
        return len(self._content)

    async def put(self, content: bytes) -> None:
        """Append bytes, then wait until the buffer is not too full."""
        self._content += content
        self._arrivals.append((self._taken_bytes + self.buffered_bytes, monotonic()))
        if self.buffered_bytes >= self._needed_bytes:
            self._enough.set()
        while self.buffered_bytes > self.max_bytes:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Mark the end of the audio."""
        self.ended = True
        self._enough.set()

    async def take(self, count: int) -> PCMChunk:
        """Wait for so many samples, or for the end, and take what is there up to ``max_bytes``."""
        self._needed_bytes = min(max(1, count) * self.frame_bytes, self.max_bytes)
        while self.buffered_bytes < self._needed_bytes and not self.ended:
            self._enough.clear()
            await self._enough.wait()
        arrival_time = self._find_arrival_time(self._taken_bytes + self._needed_bytes)
        size = min(self.buffered_bytes // self.frame_bytes * self.frame_bytes, self.max_bytes)
        content = bytes(self._content[:size])
        del self._content[:size]
        self._taken_bytes += size
        if self.buffered_bytes <= self.max_bytes:
            self._room.set()
        return PCMChunk(
            content, arrival_time, self.ended and self.buffered_bytes < self.frame_bytes
        )

    def _find_arrival_time(self, position: int) -> float:
        """Return when the byte before a position arrived, or else the last byte."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < position:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else monotonic()
