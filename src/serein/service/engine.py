"""What answers: decoders, the batcher and its model, and how much of them is in use."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.service.batching import Batcher
from serein.service.decode import Decoders
from serein.service.ear import Ear
from serein.service.hall import Hall
from serein.service.metrics import Metrics
from serein.service.problems import Problem
from serein.service.settings import Settings


class Engine:
    """Everything behind the HTTP; runs until it is closed."""

    def __init__(self, recognizer: Recognizer, settings: Settings) -> None:
        """Start processes and threads.

        Args:
            recognizer: answers; nobody else may use it meanwhile.
            settings: limits.
        """
        self.recognizer, self.settings, self.metrics = recognizer, settings, Metrics()
        self.closing, self._in_progress = False, 0
        self.decoders = Decoders(recognizer.rate, settings, self.metrics.deaths.inc)
        took, coming = self.metrics.together.observe, lambda: self._in_progress
        self.batcher = Batcher(recognizer, settings.batch, settings.wait, coming, took)
        self.ear = Ear(recognizer, self.metrics.ears.observe)
        self.hall = Hall(settings.streams, self.metrics)

    def close(self) -> None:
        """Finish what was accepted, and end."""
        self.closing = True
        self.decoders.close()
        self.batcher.close()
        self.ear.close()

    def ready(self) -> bool:
        """Whether a request would be answered."""
        return not self.closing and self.batcher.alive() and self.ear.alive()

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places in the queue.

        Raises:
            Problem: all are taken.
        """
        if self._in_progress >= self.settings.queue:
            raise Problem(
                429,
                f"{self.settings.queue} requests are in progress, the most that are taken at a "
                "time; ask again later",
                Retry_After="1",
                Connection="close",
            )
        self._in_progress += 1
        self.metrics.in_progress.set(self._in_progress)
        try:
            yield
        finally:
            self._in_progress -= 1
            self.metrics.in_progress.set(self._in_progress)

    async def answer(self, name: str, body: bytes) -> Recognition:
        """Decode and recognise; what is cancelled before its turn is dropped.

        Raises:
            Problem: it is not audio, or takes too much or too long.
        """
        try:
            async with asyncio.timeout(self.settings.answer_seconds):
                wave_s = await asyncio.wrap_future(self.decoders.submit(body))
                self.metrics.audio.inc(len(wave_s) / self.recognizer.rate)
                return await asyncio.wrap_future(self.batcher.submit(name, wave_s))
        except TimeoutError:
            raise Problem(
                503,
                f"no answer within {self.settings.answer_seconds:g} s; ask again later",
                Retry_After="5",
            ) from None
