"""The streams that are open: how many there may be, and an end for all of them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from serein.service.metrics import Metrics
from serein.service.problems import Problem

LOOK = 0.02
"""Seconds between looks at who is still there."""


class Hall:
    """Places of streams."""

    def __init__(self, places: int, metrics: Metrics) -> None:
        """Open it."""
        self.places, self._metrics = places, metrics
        self._ends: list[Callable[[], None]] = []
        self._closing = False

    @contextmanager
    def place(self, end: Callable[[], None]) -> Iterator[None]:
        """One of the places; ``end`` is called when the service ends.

        Raises:
            Problem: all are taken, or the service is ending.
        """
        if self._closing:
            raise Problem(503, "this service is ending; connect again in a while")
        if len(self._ends) >= self.places:
            raise Problem(
                429,
                f"{self.places} streams are open, the most that are heard at a time; connect "
                "again later",
            )
        self._ends.append(end)
        self._metrics.open.set(len(self._ends))
        try:
            yield
        finally:
            self._ends.remove(end)
            self._metrics.open.set(len(self._ends))

    async def close(self, seconds: float) -> None:
        """Take no more streams, end those that are open, and wait so long until they are gone."""
        self._closing = True
        for end in list(self._ends):
            end()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._ends:
                    await asyncio.sleep(LOOK)
