"""What a client has sent and nobody has heard yet."""

import asyncio
from collections import deque
from time import monotonic
from typing import NamedTuple

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
