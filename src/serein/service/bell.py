"""Event loops wait for threads: woken once for all that is finished by then.

``asyncio.wrap_future`` wakes its loop for each future by itself, and every time the threads hand
the interpreter to each other and back: of a batch, all but the first would wait for that.
"""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import TypeVar
from weakref import WeakKeyDictionary, ref

T = TypeVar("T")


class Bell:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is finished yet."""
        self._loop = ref(loop)
        self._finished: deque[asyncio.Future[None]] = deque()
        self._rung = False

    def ring(self, waiter: "asyncio.Future[None]") -> None:
        """Have who waits woken; from any thread."""
        self._finished.append(waiter)
        loop = self._loop()
        if loop is not None and not self._rung and not loop.is_closed():
            self._rung = True
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._rung = False  # first, so that whoever comes while others are woken rings anew
        while self._finished:
            waiter = self._finished.popleft()
            if not waiter.done():
                waiter.set_result(None)


_BELLS: WeakKeyDictionary[asyncio.AbstractEventLoop, Bell] = WeakKeyDictionary()


async def finished(future: Future[T]) -> T:
    """What a thread makes of a future, or raises; whoever waits no longer cancels it."""
    loop = asyncio.get_running_loop()
    bell = _BELLS.setdefault(loop, Bell(loop))
    waiter: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: bell.ring(waiter))
    try:
        await waiter
    finally:
        future.cancel()
    if future.cancelled():
        raise asyncio.CancelledError
    return future.result()
