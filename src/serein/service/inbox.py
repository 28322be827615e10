"""What a client has sent and nobody has heard yet."""

import asyncio
from time import monotonic
from typing import NamedTuple


class Part(NamedTuple):
    """What is heard next.

    Attributes:
        content: whole samples of all channels.
        since: when the oldest of it came, by ``time.monotonic``.
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
        self._held, self._since = bytearray(), 0.0
        self._news, self._room = asyncio.Event(), asyncio.Event()

    @property
    def rest(self) -> int:
        """Bytes that are there."""
        return len(self._held)

    async def put(self, content: bytes) -> None:
        """Add what came, and wait until there is room for more."""
        if self.rest < self.frame:
            self._since = monotonic()
        self._held += content
        self._news.set()
        while self.rest > self.most:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing more comes."""
        self.over = True
        self._news.set()

    async def take(self) -> Part:
        """Wait for whole samples, or the end."""
        while self.rest < self.frame and not self.over:
            self._news.clear()
            await self._news.wait()
        size = min(self.rest // self.frame * self.frame, self.most)
        content = bytes(self._held[:size])
        del self._held[:size]
        if self.rest <= self.most:
            self._room.set()
        return Part(content, self._since, self.over and self.rest < self.frame)
