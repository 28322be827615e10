"""Everything behind the HTTP: models, decoding processes, batching threads, and their limits."""

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
from serein.inference.stream_config import StreamConfig
from serein.service.batching import RequestBatcher, StreamBatcher, wait_for
from serein.service.config import ServiceConfig
from serein.service.decoding import DecoderPool
from serein.service.observability import Metrics
from serein.service.schemas import Problem

POLL_SECONDS = 0.02
"""Seconds between two checks for open streams at shutdown."""


class Engine:
    """Processes and threads that compute answers, until ``close``."""

    def __init__(
        self, recognizer: Recognizer, config: ServiceConfig, others: Sequence[Recognizer] = ()
    ) -> None:
        """Start processes and threads.

        Args:
            recognizer: the default model, which must not be used elsewhere while the engine runs.
            config: limits.
            others: further models, selected by name.

        Raises:
            ConfigError: two models have the same name.
        """
        models = (recognizer, *others)
        self.recognizers = {model.name: model for model in models}
        if len(self.recognizers) < len(models):
            names = ", ".join(model.name for model in models)
            raise ConfigError(f"models are selected by name, found {names}; rename a file")
        self.recognizer, self.config, self.metrics = recognizer, config, Metrics()
        self.closing, self._in_progress = False, 0
        self._decoders_by_rate = {
            rate: DecoderPool(rate, config, self.metrics.decoder_deaths.inc)
            for rate in dict.fromkeys(model.rate for model in models)
        }
        self.decoders = self._decoders_by_rate[recognizer.rate]
        self.batcher = RequestBatcher(
            recognizer,
            config.batch,
            config.wait,
            count_expected=lambda: self._in_progress,
            on_batch=self.metrics.batch_sizes.observe,
        )
        self.stream_batcher = StreamBatcher(self.metrics.stream_batch_sizes.observe)
        self.stream_slots = StreamSlots(config.streams, self.metrics)

    def close(self) -> None:
        """Finish the accepted work, then end all processes and threads."""
        self.closing = True
        for decoders in self._decoders_by_rate.values():
            decoders.close()
        self.batcher.close()
        self.stream_batcher.close()

    def is_ready(self) -> bool:
        """Return whether a request would be answered."""
        return not self.closing and self.batcher.is_alive() and self.stream_batcher.is_alive()

    @contextmanager
    def hold_slot(self) -> Iterator[None]:
        """Count a request as in progress within the ``with`` block.

        Raises:
            Problem: too many requests are in progress.
        """
        if self._in_progress >= self.config.max_requests:
            raise Problem(
                429,
                f"{self.config.max_requests} requests are in progress, the limit of this service; "
                "try again later",
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
        """Return the model of that name, or the default model for None.

        Raises:
            Problem: there is no such model.
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
        stream_config: StreamConfig | None = None,
        words: str | None = None,
    ) -> Recognition:
        """Decode and recognize a recording; work that has not begun is dropped on cancellation.

        Args:
            name: source to be named in the answer.
            body: bytes of an audio file.
            recognizer: the model, if not the default one.
            stream_config: how to answer by segments; None gives one answer for the recording.
            words: of the recording, for a model that reads words.

        Raises:
            Problem: it is not audio, or exceeds a limit.
        """
        recognizer = recognizer or self.recognizer
        try:
            async with asyncio.timeout(self.config.answer_seconds):
                wave_s = await wait_for(self._decoders_by_rate[recognizer.rate].submit(body))
                self.metrics.audio_seconds.inc(len(wave_s) / recognizer.rate)
                if stream_config is None:
                    return await wait_for(self.batcher.submit(name, wave_s, recognizer, words))
                answer = await self._recognize_timeline(recognizer, wave_s, stream_config)
                return replace(answer, source=name)
        except TimeoutError:
            raise Problem(
                503,
                f"no answer within {self.config.answer_seconds:g} s; try again later",
                Retry_After="5",
            ) from None

    async def _recognize_timeline(
        self, recognizer: Recognizer, wave_s: Samples, stream_config: StreamConfig
    ) -> Recognition:
        """Answer by segments, one block at a time, with other requests between the blocks."""
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


class StreamSlots:
    """The limit on open streams, and a way to end all of them."""

    def __init__(self, max_streams: int, metrics: Metrics) -> None:
        """Create ``max_streams`` free slots."""
        self.max_streams, self._metrics = max_streams, metrics
        self._close_callbacks: list[Callable[[], None]] = []
        self._closing = False

    @contextmanager
    def hold_slot(self, on_close: Callable[[], None]) -> Iterator[None]:
        """Count a stream as open within the ``with`` block.

        Args:
            on_close: called when the service shuts down; must make the stream end.

        Raises:
            Problem: too many streams are open, or the service is shutting down.
        """
        if self._closing:
            raise Problem(503, "this service is shutting down; connect again later")
        if len(self._close_callbacks) >= self.max_streams:
            raise Problem(
                429,
                f"{self.max_streams} streams are open, the limit of this service; connect again "
                "later",
            )
        self._close_callbacks.append(on_close)
        self._metrics.open_streams.set(len(self._close_callbacks))
        try:
            yield
        finally:
            self._close_callbacks.remove(on_close)
            self._metrics.open_streams.set(len(self._close_callbacks))

    async def close(self, timeout: float) -> None:
        """Refuse new streams, make the open ones end, and wait at most ``timeout`` seconds."""
        self._closing = True
        for on_close in list(self._close_callbacks):
            on_close()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._close_callbacks:
                    await asyncio.sleep(POLL_SECONDS)
