"""What a client has sent and nobody has heard yet."""

import asyncio
from collections import deque
from time import monotonic
from typing import NamedTuple

ARRIVALS = 4096
"""Blocks that are known by when they came; of a client that sends smaller ones, not all are."""


class Part(NamedTuple):
    """What is heard next.

    Attributes:
        content: whole samples of all channels.
        since: when enough of it had come, by ``time.monotonic``.
        last: whether nothing comes after it.
    """

    content: bytes
    since: float
    last: bool


class Inbox:
    """Bytes in blocks of any size in, whole samples in parts out; one task puts, one takes."""

    def __init__(self, frame: int, most: int) -> None:
        """Begin.

        Args:
            frame: bytes of one sample of all channels.
            most: bytes that are taken at a time; whoever puts waits while there are more.
        """
        self.frame, self.most = frame, max(frame, most // frame * frame)
        self.over = False
        self._held, self._taken, self._enough = bytearray(), 0, frame
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=ARRIVALS)
        self._news, self._room = asyncio.Event(), asyncio.Event()

    @property
    def rest(self) -> int:
        """Bytes that are there."""
        return len(self._held)

    async def put(self, content: bytes) -> None:
        """Add what came, and wait until there is room for more."""
        self._held += content
        self._arrivals.append((self._taken + self.rest, monotonic()))
        if self.rest >= self._enough:
            self._news.set()
        while self.rest > self.most:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing more comes."""
        self.over = True
        self._news.set()

    async def take(self, count: int) -> Part:
        """Wait for so many samples, or the end; of more, all that may be taken at a time."""
        self._enough = min(max(1, count) * self.frame, self.most)
        while self.rest < self._enough and not self.over:
            self._news.clear()
            await self._news.wait()
        since = self._arrived(self._taken + self._enough)
        size = min(self.rest // self.frame * self.frame, self.most)
        content = bytes(self._held[:size])
        del self._held[:size]
        self._taken += size
        if self.rest <= self.most:
            self._room.set()
        return Part(content, since, self.over and self.rest < self.frame)

    def _arrived(self, place: int) -> float:
        """When the byte before a place came, or the last one."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < place:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else monotonic()
