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


class LoopWaker:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is finished yet."""
        self._loop = ref(loop)
        self._finished: deque[asyncio.Future[None]] = deque()
        self._rung = False

    def wake_soon(self, waiter: "asyncio.Future[None]") -> None:
        """Have who waits woken; from any thread."""
        self._finished.append(waiter)
        loop = self._loop()
        if loop is not None and not self._rung and not loop.is_closed():
            self._rung = True
            loop.call_soon_threadsafe(self._wake_waiters)

    def _wake_waiters(self) -> None:
        self._rung = False  # first, so that whoever comes while others are woken rings anew
        while self._finished:
            waiter = self._finished.popleft()
            if not waiter.done():
                waiter.set_result(None)


_WAKERS: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaker] = WeakKeyDictionary()


async def wait_for(future: Future[T]) -> T:
    """What a thread makes of a future, or raises; whoever waits no longer cancels it."""
    loop = asyncio.get_running_loop()
    bell = _WAKERS.setdefault(loop, LoopWaker(loop))
    waiter: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: bell.wake_soon(waiter))
    try:
        await waiter
    finally:
        future.cancel()
    if future.cancelled():
        raise asyncio.CancelledError
    return future.result()
