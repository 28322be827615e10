"""Pipes to and from another process, at which nobody waits beyond a moment."""

import fcntl
import os
import select
from contextlib import suppress
from time import monotonic
from typing import IO

ROOM = 2**20
"""Bytes that a pipe holds, where the system lets it: one message mostly, so that it goes at once.
What a pipe holds by itself, 64 KiB on Linux, is a third of the samples of a sentence."""


class Line:
    """What is written to one pipe and read from the other."""

    def __init__(self, sending: IO[bytes], receiving: IO[bytes]) -> None:
        """Take pipes that are not buffered."""
        self._sending, self._receiving = sending.fileno(), receiving.fileno()
        self._end = monotonic()
        for pipe in (self._sending, self._receiving):
            os.set_blocking(pipe, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                with suppress(OSError):
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, ROOM)

    def until(self, seconds: float) -> "Line":
        """Itself, with so much time from now on."""
        self._end = monotonic() + seconds
        return self

    def write(self, content: bytes) -> None:
        """Send all of it.

        Raises:
            TimeoutError: it was not taken in time.
            BrokenPipeError: the other side is gone.
        """
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[os.write(self._sending, rest) :]
            except BlockingIOError:
                self._wait(self._sending, select.POLLOUT)

    def flush(self) -> None:
        """Nothing is held back."""

    def read(self, size: int) -> bytearray:
        """Receive so many bytes; fewer where the other side is gone.

        Raises:
            TimeoutError: they did not come in time.
        """
        held, count = bytearray(size), 0
        while count < size:
            try:
                got = os.readv(self._receiving, [memoryview(held)[count:]])
            except BlockingIOError:
                self._wait(self._receiving, select.POLLIN)
                continue
            if not got:
                return held[:count]
            count += got
        return held

    def _wait(self, pipe: int, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(1000 * max(0.0, self._end - monotonic())):
            raise TimeoutError
