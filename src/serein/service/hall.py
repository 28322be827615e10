"""The streams that are open: how many there may be, and an end for all of them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from serein.service.metrics import Metrics
from serein.service.problems import Problem

POLL_SECONDS = 0.02
"""Seconds between looks at who is still there."""


class StreamSlots:
    """Places of streams."""

    def __init__(self, max_streams: int, metrics: Metrics) -> None:
        """Open it."""
        self.max_streams, self._metrics = max_streams, metrics
        self._ends: list[Callable[[], None]] = []
        self._closing = False

    @contextmanager
    def hold_slot(self, on_close: Callable[[], None]) -> Iterator[None]:
        """One of the places; ``on_close`` is called when the service ends.

        Raises:
            Problem: all are taken, or the service is ending.
        """
        if self._closing:
            raise Problem(503, "this service is ending; connect again in a while")
        if len(self._ends) >= self.max_streams:
            raise Problem(
                429,
                f"{self.max_streams} streams are open, the most that are heard at a time; connect "
                "again later",
            )
        self._ends.append(on_close)
        self._metrics.open_streams.set(len(self._ends))
        try:
            yield
        finally:
            self._ends.remove(on_close)
            self._metrics.open_streams.set(len(self._ends))

    async def close(self, timeout: float) -> None:
        """Take no more streams, end those that are open, and wait so long until they are gone."""
        self._closing = True
        for end in list(self._ends):
            end()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._ends:
                    await asyncio.sleep(POLL_SECONDS)
