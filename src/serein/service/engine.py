"""What answers: decoders, the batcher and its model, and how much of them is in use.

The streams that are open: how many there may be, and an end for all of them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from serein.audio import Samples
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference.long_form import iter_timeline
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import StreamConfig as Hearing
from serein.service.batching import RequestBatcher, StreamBatcher, wait_for
from serein.service.config import ServiceConfig
from serein.service.decoding import DecoderPool
from serein.service.observability import Metrics
from serein.service.schemas import Problem

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


class Engine:
    """Everything behind the HTTP; runs until it is closed."""

    def __init__(
        self, recognizer: Recognizer, config: ServiceConfig, others: Sequence[Recognizer] = ()
    ) -> None:
        """Start processes and threads.

        Args:
            recognizer: answers; nobody else may use it meanwhile.
            config: limits.
            others: answer where they are asked for by name.

        Raises:
            ConfigError: two of them have one name.
        """
        self.recognizers = {one.name: one for one in (recognizer, *others)}
        if len(self.recognizers) <= len(others):
            names = ", ".join(one.name for one in (recognizer, *others))
            raise ConfigError(f"models are chosen by name, found {names}; rename a file")
        self.recognizer, self.config, self.metrics = recognizer, config, Metrics()
        self.closing, self._in_progress = False, 0
        self._by_rate = {
            rate: DecoderPool(rate, config, self.metrics.decoder_deaths.inc)
            for rate in dict.fromkeys(one.rate for one in self.recognizers.values())
        }
        self.decoders = self._by_rate[recognizer.rate]
        took, coming = self.metrics.batch_sizes.observe, lambda: self._in_progress
        self.batcher = RequestBatcher(recognizer, config.batch, config.wait, coming, took)
        self.stream_batcher = StreamBatcher(self.metrics.stream_batch_sizes.observe)
        self.stream_slots = StreamSlots(config.streams, self.metrics)

    def close(self) -> None:
        """Finish what was accepted, and end."""
        self.closing = True
        for decoders in self._by_rate.values():
            decoders.close()
        self.batcher.close()
        self.stream_batcher.close()

    def is_ready(self) -> bool:
        """Whether a request would be answered."""
        return not self.closing and self.batcher.is_alive() and self.stream_batcher.is_alive()

    @contextmanager
    def hold_slot(self) -> Iterator[None]:
        """One of the places in the queue.

        Raises:
            Problem: all are taken.
        """
        if self._in_progress >= self.config.queue:
            raise Problem(
                429,
                f"{self.config.queue} requests are in progress, the most that are taken at a "
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

    def select_recognizer(self, name: str | None) -> Recognizer:
        """The recogniser of that name; without one, the first.

        Raises:
            Problem: there is none of that name.
        """
        if name is None:
            return self.recognizer
        if name not in self.recognizers:
            raise Problem(400, str(UnknownName("model", name, self.recognizers)))
        return self.recognizers[name]

    async def recognize(
        self,
        name: str,
        body: bytes,
        recognizer: Recognizer | None = None,
        stream_config: Hearing | None = None,
    ) -> Recognition:
        """Decode and recognise; what is cancelled before its turn is dropped.

        Args:
            name: what the answer calls it.
            body: an audio file.
            recognizer: who answers, if not the first one.
            stream_config: how a timeline is made; None is one answer for all of it.

        Raises:
            Problem: it is not audio, or takes too much or too long.
        """
        who = recognizer or self.recognizer
        try:
            async with asyncio.timeout(self.config.answer_seconds):
                wave_s = await wait_for(self._by_rate[who.rate].submit(body))
                self.metrics.audio_seconds.inc(len(wave_s) / who.rate)
                if stream_config is None:
                    return await wait_for(self.batcher.submit(name, wave_s, who))
                return replace(
                    await self._recognize_timeline(who, wave_s, stream_config), source=name
                )
        except TimeoutError:
            raise Problem(
                503,
                f"no answer within {self.config.answer_seconds:g} s; ask again later",
                Retry_After="5",
            ) from None

    async def _recognize_timeline(
        self, recognizer: Recognizer, wave_s: Samples, stream_config: Hearing
    ) -> Recognition:
        """Segment by segment; after each block others have their turn."""
        source, answer = (wave_s, recognizer.rate), None
        steps = iter_timeline(recognizer, source, config=stream_config, chunks_at_a_time=1)
        try:
            while answer is None:
                answer = await wait_for(self.batcher.submit_call(partial(next, steps)))
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        except AudioError as error:
            raise Problem(422, str(error)) from None
        return answer
