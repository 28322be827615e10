"""What answers: decoders, the batcher and its model, and how much of them is in use."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from serein.audio import Samples
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.stream import Settings as Hearing
from serein.inference.timeline import gradually
from serein.service.batching import Batcher
from serein.service.bell import finished
from serein.service.decode import Decoders
from serein.service.ear import Ear
from serein.service.hall import Hall
from serein.service.metrics import Metrics
from serein.service.problems import Problem
from serein.service.settings import Settings


class Engine:
    """Everything behind the HTTP; runs until it is closed."""

    def __init__(
        self, recognizer: Recognizer, settings: Settings, others: Sequence[Recognizer] = ()
    ) -> None:
        """Start processes and threads.

        Args:
            recognizer: answers; nobody else may use it meanwhile.
            settings: limits.
            others: answer where they are asked for by name.

        Raises:
            ConfigError: two of them have one name.
        """
        self.recognizers = {one.name: one for one in (recognizer, *others)}
        if len(self.recognizers) <= len(others):
            names = ", ".join(one.name for one in (recognizer, *others))
            raise ConfigError(f"models are chosen by name, found {names}; rename a file")
        self.recognizer, self.settings, self.metrics = recognizer, settings, Metrics()
        self.closing, self._in_progress = False, 0
        self._by_rate = {
            rate: Decoders(rate, settings, self.metrics.deaths.inc)
            for rate in dict.fromkeys(one.rate for one in self.recognizers.values())
        }
        self.decoders = self._by_rate[recognizer.rate]
        took, coming = self.metrics.together.observe, lambda: self._in_progress
        self.batcher = Batcher(recognizer, settings.batch, settings.wait, coming, took)
        self.ear = Ear(self.metrics.ears.observe)
        self.hall = Hall(settings.streams, self.metrics)

    def close(self) -> None:
        """Finish what was accepted, and end."""
        self.closing = True
        for decoders in self._by_rate.values():
            decoders.close()
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

    def chosen(self, name: str | None) -> Recognizer:
        """The recogniser of that name; without one, the first.

        Raises:
            Problem: there is none of that name.
        """
        if name is None:
            return self.recognizer
        if name not in self.recognizers:
            raise Problem(400, str(UnknownName("model", name, self.recognizers)))
        return self.recognizers[name]

    async def answer(
        self,
        name: str,
        body: bytes,
        recognizer: Recognizer | None = None,
        hearing: Hearing | None = None,
    ) -> Recognition:
        """Decode and recognise; what is cancelled before its turn is dropped.

        Args:
            name: what the answer calls it.
            body: an audio file.
            recognizer: who answers, if not the first one.
            hearing: how a timeline is made; None is one answer for all of it.

        Raises:
            Problem: it is not audio, or takes too much or too long.
        """
        who = recognizer or self.recognizer
        try:
            async with asyncio.timeout(self.settings.answer_seconds):
                wave_s = await finished(self._by_rate[who.rate].submit(body))
                self.metrics.audio.inc(len(wave_s) / who.rate)
                if hearing is None:
                    return await finished(self.batcher.submit(name, wave_s, who))
                return replace(await self._timeline(who, wave_s, hearing), source=name)
        except TimeoutError:
            raise Problem(
                503,
                f"no answer within {self.settings.answer_seconds:g} s; ask again later",
                Retry_After="5",
            ) from None

    async def _timeline(
        self, recognizer: Recognizer, wave_s: Samples, hearing: Hearing
    ) -> Recognition:
        """Segment by segment; after each block others have their turn."""
        source, answer = (wave_s, recognizer.rate), None
        steps = gradually(recognizer, source, settings=hearing, lanes_at_a_time=1)
        try:
            while answer is None:
                answer = await finished(self.batcher.turn(partial(next, steps)))
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        except AudioError as error:
            raise Problem(422, str(error)) from None
        return answer
