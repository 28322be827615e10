"""Everything behind the HTTP: models, decoding processes, batching threads, and their limits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from time import monotonic

from serein.audio import Samples
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference.long_form import (
    choose_stream_config,
    is_long,
    iter_long_answer,
    iter_timeline,
    merge_hops,
)
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.stream_config import StreamConfig
from serein.inference.vad import CHUNK_SECONDS
from serein.labels.class_sets import ClassSet, resolve_class_set
from serein.service.batching import RequestBatcher, StreamBatcher, wait_for
from serein.service.config import ServiceConfig
from serein.service.decoding import DecoderPool
from serein.service.observability import Metrics
from serein.service.schemas import Problem

MAX_CLASS_SETS = 256
"""Number of class sets of recent requests whose recognizers are kept."""
TURN_SECONDS = 0.1
"""Time of a turn of a timeline, if its model is as fast as those before."""
FIRST_TURN_COST = 8.0
"""Cost of a turn before any was measured, in seconds of audio in windows."""
MAX_TURN_COST = 100.0
"""Largest cost of a turn, in the same unit."""
MAX_WAIT_FACTOR = 10
"""Times ``answer_seconds`` in which the accepted timelines must be done."""
DETECTION_COST = 2.0
"""Cost of reading a second of audio and finding its speech, in the same unit."""
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
        self._restricted: dict[object, Recognizer] = {}
        self.closing, self._in_progress = False, 0
        self._slots_by_owner: Counter[str] = Counter()
        self._load = TimelineLoad(config)
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
        threads_are_alive = self.batcher.is_alive() and self.stream_batcher.is_alive()
        decoders_are_ready = all(pool.is_ready() for pool in self._decoders_by_rate.values())
        return not self.closing and threads_are_alive and decoders_are_ready

    @contextmanager
    def hold_slot(self, owner: str = "") -> Iterator[None]:
        """Count a request as in progress within the ``with`` block.

        Args:
            owner: key or address of the client; one without a request in progress has a share
                of further slots.

        Raises:
            Problem: too many requests are in progress.
        """
        slots = self.config.max_requests
        if owner and not self._slots_by_owner[owner]:
            slots += -(-slots // 4)
        if self._in_progress >= slots:
            raise Problem(
                429,
                f"{self.config.max_requests} requests are in progress, the limit of this service; "
                "try again later",
                Retry_After="1",
                Connection="close",
            )
        self._in_progress += 1
        self._slots_by_owner[owner] += 1
        self.metrics.in_progress.set(self._in_progress)
        try:
            yield
        finally:
            self._in_progress -= 1
            self._slots_by_owner[owner] -= 1
            if not self._slots_by_owner[owner]:
                del self._slots_by_owner[owner]
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

    def restrict_classes(self, recognizer: Recognizer, class_set: ClassSet | None) -> Recognizer:
        """Return the model within a class set; requests with the same one share batches.

        Args:
            recognizer: the model.
            class_set: the classes to answer; None is every class of the model.

        Raises:
            ConfigError: the model has no such classes, or fewer than two are left.
        """
        selected = resolve_class_set(class_set, recognizer.classes)
        if not selected:
            return recognizer
        key = recognizer.name, tuple(selected.items())
        if key not in self._restricted:
            if len(self._restricted) >= MAX_CLASS_SETS:
                del self._restricted[next(iter(self._restricted))]
            self._restricted[key] = recognizer.with_classes(selected)
        return self._restricted[key]

    async def recognize(
        self,
        name: str,
        body: bytes,
        recognizer: Recognizer | None = None,
        stream_config: StreamConfig | None = None,
        words: str | None = None,
        owner: str = "",
    ) -> Recognition:
        """Decode and recognize a recording; work that has not begun is dropped on cancellation.

        Args:
            name: source to be named in the answer.
            body: bytes of an audio file.
            recognizer: the model, if not the default one.
            stream_config: how to answer by segments; None gives one answer for the recording.
            words: of the recording, for a model that reads words.
            owner: key or address of the client; owners take turns.

        Raises:
            Problem: it is not audio, or exceeds a limit.
        """
        recognizer = recognizer or self.recognizer
        async with self._limit_time() as timeout:
            wave_s = await self._decode(body, recognizer, owner)
            seconds = len(wave_s) / recognizer.rate
            is_short = words is not None or not is_long(recognizer, seconds)
            if stream_config is None and is_short:
                submit = self.batcher.submit
                return await wait_for(submit(name, wave_s, recognizer, words, owner=owner))
            timeout.reschedule(None)  # accepted work is finished, and bounded by its cost
            config = stream_config or choose_stream_config(recognizer)
            timeline = await self._recognize_timeline(recognizer, wave_s, config, owner)
            timeline = replace(timeline, source=name)
            if stream_config is not None:
                return timeline
            return await self._complete_answer(recognizer, wave_s, timeline, owner)

    @asynccontextmanager
    async def _limit_time(self) -> AsyncIterator[asyncio.Timeout]:
        """Limit the time of an answer within the ``async with`` block."""
        try:
            async with asyncio.timeout(self.config.answer_seconds) as timeout:
                yield timeout
        except TimeoutError:
            raise Problem(
                503,
                f"no answer within {self.config.answer_seconds:g} s; try again later",
                Retry_After="5",
            ) from None

    async def _decode(self, body: bytes, recognizer: Recognizer, owner: str) -> Samples:
        wave_s = await wait_for(self._decoders_by_rate[recognizer.rate].submit(body, owner))
        self.metrics.audio_seconds.inc(len(wave_s) / recognizer.rate)
        return wave_s

    async def recognize_overview(
        self, name: str, body: bytes, recognizer: Recognizer, config: StreamConfig, owner: str
    ) -> tuple[Recognition, Recognition]:
        """Decode a recording once, and return its one answer and the hops of its timeline.

        Args:
            name: source to be named in the answers.
            body: bytes of an audio file.
            recognizer: the model.
            config: windowing and smoothing; hops are not merged.
            owner: key or address of the client; owners take turns.

        Raises:
            Problem: it is not audio, or exceeds a limit.
        """
        hops = replace(config, merge=False)
        async with self._limit_time() as timeout:
            wave_s = await self._decode(body, recognizer, owner)
            if not is_long(recognizer, len(wave_s) / recognizer.rate):
                whole = await wait_for(self.batcher.submit(name, wave_s, recognizer, owner=owner))
                timeout.reschedule(None)
                timeline = await self._recognize_timeline(recognizer, wave_s, hops, owner)
                return whole, replace(timeline, source=name)
            timeout.reschedule(None)
            timeline = await self._recognize_timeline(recognizer, wave_s, hops, owner)
            timeline = replace(timeline, source=name)
            merged = merge_hops(recognizer, timeline)
            return await self._complete_answer(recognizer, wave_s, merged, owner), timeline

    async def _recognize_timeline(
        self, recognizer: Recognizer, wave_s: Samples, stream_config: StreamConfig, owner: str
    ) -> Recognition:
        """Answer by segments in short turns, with other requests between them.

        Args:
            recognizer: the model.
            wave_s: (n,) at its rate.
            stream_config: windowing, smoothing and merging.
            owner: whose turns they are.
        """
        seconds = len(wave_s) / recognizer.rate
        source = wave_s, recognizer.rate
        with self._load.add_timeline(seconds, stream_config) as cost:
            block_seconds = max(stream_config.hop, self._load.turn_cost * seconds / cost)
            turn_cost, chunks = block_seconds * cost / seconds, block_seconds / CHUNK_SECONDS
            steps = iter_timeline(recognizer, source, config=stream_config, chunks_at_a_time=chunks)
            return await self._take_turns(steps, turn_cost, owner)

    async def _complete_answer(
        self, recognizer: Recognizer, wave_s: Samples, timeline: Recognition, owner: str
    ) -> Recognition:
        """Complete the answer to a long recording; see ``iter_long_answer``."""
        steps = iter_long_answer(recognizer, wave_s, timeline, batch_size=1)
        seconds = len(wave_s) / recognizer.rate
        return await self._take_turns(steps, min(recognizer.window or seconds, seconds), owner)

    async def _take_turns(
        self, steps: Iterator[Recognition | None], cost: float, owner: str
    ) -> Recognition:
        """Run the steps of an answer, each in a turn of this cost.

        Raises:
            Problem: the settings do not fit the model, or the recording is too short.
        """
        turn = partial(self._load.time_turn, cost, partial(next, steps))
        answer = None
        try:
            while answer is None:
                answer = await wait_for(self.batcher.submit_call(turn, owner=owner, cost=cost))
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        except AudioError as error:
            raise Problem(422, str(error)) from None
        return answer


class TimelineLoad:
    """The cost of the timelines that are in progress, and which further ones can be accepted.

    The cost is in seconds of audio in windows. How much of it the service can do in a second is
    measured.
    """

    def __init__(self, config: ServiceConfig) -> None:
        """Start without timelines."""
        self._config, self._waiting_cost, self._cost_per_second = config, 0.0, 0.0

    @property
    def turn_cost(self) -> float:
        """Cost of a turn of about ``TURN_SECONDS``."""
        measured = TURN_SECONDS * self._cost_per_second
        return min(measured or FIRST_TURN_COST, MAX_TURN_COST)

    @contextmanager
    def add_timeline(self, seconds: float, stream_config: StreamConfig) -> Iterator[float]:
        """Accept a timeline within the ``with`` block, or refuse it before any work.

        Args:
            seconds: duration of the recording.
            stream_config: its windows and hops.

        Yields:
            Its cost.

        Raises:
            Problem: it has too many windows, or those accepted before take too long.
        """
        config = self._config
        windows = seconds * stream_config.window / stream_config.hop
        if windows > config.max_window_seconds:
            longest = config.max_window_seconds / stream_config.window * stream_config.hop
            raise Problem(
                413,
                f"windows of {stream_config.window:g} s every {stream_config.hop:g} s for "
                f"{seconds:.0f} s of audio are {windows:,.0f} s of windows, and the limit of this "
                f"service is {config.max_window_seconds:,.0f}; choose a longer hop, or send parts "
                f"of at most {longest:.0f} s",
            )
        cost = windows + DETECTION_COST * seconds
        if self._waiting_cost and self._cost_per_second:
            expected = (self._waiting_cost + cost) / self._cost_per_second
            limit = MAX_WAIT_FACTOR * config.answer_seconds
            if expected > limit:
                raise Problem(
                    503,
                    f"the recordings that were accepted before take {expected:.0f} s with this "
                    f"one, and the limit of this service is {limit:g} s; "
                    "try again later",
                    Retry_After=str(max(1, round(self._waiting_cost / self._cost_per_second / 2))),
                )
        self._waiting_cost += cost
        try:
            yield cost
        finally:
            self._waiting_cost -= cost

    def time_turn(self, cost: float, turn: Callable[[], Recognition | None]) -> Recognition | None:
        """Run a turn, and measure how much of the cost is done in a second."""
        begin = monotonic()
        answer = turn()
        measured = cost / max(monotonic() - begin, 1e-3)
        previous = self._cost_per_second or measured
        self._cost_per_second = 0.9 * previous + 0.1 * measured
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
