"""One stream: a client sends PCM, and is told each segment as soon as it is certain."""

import asyncio
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from serein.inference.recognition import Segment
from serein.inference.stream import Stream
from serein.service.bell import finished
from serein.service.engine import Engine
from serein.service.inbox import Inbox
from serein.service.problems import Problem
from serein.service.schemas import End, Start
from serein.service.talk import Left, Talk

SAMPLE = 2
"""Bytes of 16-bit PCM."""
AT_A_TIME = 1.0
"""Seconds of a stream that are heard at a time, so that nobody has the model for long."""
GRACE = 0.1
"""Seconds in which a message that was received is taken over before a stream is ended."""


class Session:
    """A stream from its first block to its last answer."""

    def __init__(self, talk: Talk, engine: Engine, stream: Stream, start: Start) -> None:
        """Begin."""
        self.talk, self.engine, self.stream, self.start = talk, engine, stream, start
        self.bytes = self.segments = self._heard = 0
        self.by = "client"
        frame = SAMPLE * start.channels
        self._second = frame * start.rate
        self.inbox = Inbox(frame, round(AT_A_TIME * self._second))
        self._reading: asyncio.Task[None] | None = None
        self._left = False

    @property
    def heard(self) -> float:
        """Seconds."""
        return round(self._heard / self._second, 6)

    async def run(self) -> None:
        """Answer until the client ends it, or the service; then what came is answered too.

        Raises:
            Problem: the client does what it may not; what came before that was answered.
            Left: it is gone.
        """
        self._reading = reading = asyncio.create_task(self._received())
        reading.add_done_callback(self._over)
        if self.by == "service":
            reading.cancel()
        try:
            await self._answered()
            if not reading.cancelled():
                reading.result()  # raises what ended it
            if self.inbox.rest:
                raise Problem(
                    400,
                    f"the stream ends within a sample, {self.inbox.rest} bytes of "
                    f"{self.inbox.frame}; expected 16-bit PCM. Check what else was sent.",
                )
        finally:
            reading.cancel()

    def end(self) -> None:
        """Take no more, but for what has come already."""
        asyncio.get_running_loop().call_later(GRACE, self._stop)

    def _stop(self) -> None:
        if self._reading is None or self._reading.cancel():
            self.by = "service"

    def _over(self, reading: "asyncio.Task[None]") -> None:
        self._left = not reading.cancelled() and isinstance(reading.exception(), Left)
        self.inbox.end()

    async def _received(self) -> None:
        settings, now = self.engine.settings, asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as limit:
                while True:
                    limit.reschedule(now() + settings.stream_idle)
                    content = await self.talk.receive()
                    limit.reschedule(None)
                    if isinstance(content, str):
                        return _ends(content)
                    await self._put(content)
        except TimeoutError:
            raise Problem(
                408,
                f"nothing came for {settings.stream_idle:g} s; send silence, or end the stream "
                'with {"type": "end"}',
            ) from None

    async def _put(self, content: bytes) -> None:
        longest = self.engine.settings.stream_seconds
        left = round(longest * self.start.rate) * self.inbox.frame - self.bytes
        self.bytes += len(content)
        await self.inbox.put(content[:left])
        if len(content) > left:
            raise Problem(
                413,
                f"the stream lasts longer than {longest:g} s, the most that is heard in one. "
                "Open another one.",
            )

    async def _answered(self) -> None:
        last = False
        while not last:
            content, since, last = await self.inbox.take(self.stream.wanted)
            if self._left:
                raise Left
            if content:
                block = np.frombuffer(content, "<i2").reshape(-1, self.start.channels)
                await self._hear(block, since)
        await self._hear(None, monotonic())

    async def _hear(self, block: npt.NDArray[np.int16] | None, since: float) -> None:
        """Have a block heard, or the end, and tell what it makes certain."""
        segments = await finished(self.engine.ear.submit(self.stream, block))
        count = 0 if block is None else block.nbytes
        self._heard += count
        metrics = self.engine.metrics
        metrics.streamed.inc(count / self._second)
        if segments:
            self.segments += len(segments)
            late = monotonic() - since
            metrics.late.observe(late)
            items = [item_of(segment) for segment in segments]
            ms = round(1000 * late, 1)
            await self.talk.send("segments", items=items, heard=self.heard, latency_ms=ms)


def item_of(segment: Segment) -> dict[str, Any]:
    """A segment as a client gets it: as in a file's JSON, and what the main task says again."""
    plain = segment.plain()
    for main in list(plain["tasks"].values())[:1]:
        plain |= {**main, "abstained": main["label"] is None}
    return plain


def _ends(text: str) -> None:
    try:
        End.model_validate_json(text)
    except ValidationError:
        raise Problem(
            400,
            'a text message that is not {"type": "end"}; expected that, or binary messages of '
            "16-bit little-endian PCM",
        ) from None
