"""Recognize streams: samples in, segments out as soon as they are final.

A long recording is processed as a stream with large blocks, so both give the same segments. The
windows of many streams can share forward passes (``feed_streams``).

B = windows, K = classes of all tasks, concatenated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from serein.audio import Block, Resampler, convert_block
from serein.errors import AudioError, ConfigError
from serein.inference.backend import Window
from serein.inference.predictor import Predictor
from serein.inference.recognition import Segment
from serein.inference.stream_config import StreamConfig
from serein.inference.vad import (
    BLOCK_MS,
    CHUNK_BLOCKS,
    NoVAD,
    SileroVAD,
    SpeechDetector,
    SpeechSegment,
)
from serein.inference.vad import SAMPLE_RATE as VAD_RATE
from serein.inference.windowing import (
    HopAverager,
    Probabilities,
    SampleBuffer,
    ScoredSpan,
    SegmentMerger,
    WindowCutter,
    WindowingConfig,
)

NO_PREDICTIONS: Probabilities = np.zeros((0, 0))
"""The predictions for no windows."""


PROVISIONAL_SECONDS = 0.4
"""Seconds of further speech after which the provisional answer is predicted again."""


class Step(NamedTuple):
    """One step of a stream: predict a window, or end a speech segment (``end``, in samples).

    A step without an averager predicts the provisional answer, of the speech that has no final
    hops yet.
    """

    averager: HopAverager | None
    window: Window | None
    end: int | None


class Stream:
    """A stream of samples of one recording; ``Recognizer.stream`` opens one.

    Attributes:
        predictor: the model that predicts its windows.
        spans: the samples and predictions of all segments so far, if ``keep_spans``.
        predicts_provisional: whether to predict provisional answers at present.
        provisional: the answer, which may change, of the speech that has no final hops yet; None
            in a pause, and unless it is predicted.
    """

    def __init__(
        self,
        predictor: Predictor,
        rate: float,
        config: StreamConfig,
        origin: float = 0.0,
        chunks: tuple[int, int] | None = None,
        window_times: list[tuple[float, float]] | None = None,
        *,
        provisional: bool = False,
        keep_spans: bool = False,
    ) -> None:
        """Open a stream.

        Args:
            predictor: the model that predicts its windows.
            rate: sampling rate of the samples, in Hz.
            config: windowing, smoothing and merging.
            origin: time of the first sample in the recording, in seconds.
            chunks: for a shard, its first VAD chunk and the one after its last: only speech that
                starts in the shard is recognized. Samples are fed from one chunk before it.
            window_times: list to which start and end of each window are appended, in seconds.
            provisional: whether to predict provisional answers as well.
            keep_spans: whether to keep ``spans``.

        Raises:
            ConfigError: the settings do not fit each other or the model, or the model needs words.
            AudioError: the rate is out of range.
        """
        predictor.check_segment_words()
        if chunks and not config.speech:
            raise ConfigError(
                "shards are split between segments of speech; switch speech detection on"
            )
        self.predictor, self._origin, self._window_times = predictor, origin, window_times
        self._input_rate, self._rate = rate, predictor.rate
        self._windowing = WindowingConfig.from_stream_config(
            config, self._rate, predictor.description.hop, predictor.window
        )
        self._resample = Resampler(rate, self._rate)
        needs_vad_rate = config.speech and self._rate != VAD_RATE
        self._resample_for_vad = Resampler(rate, VAD_RATE) if needs_vad_rate else None
        self._first_second = 0
        if chunks:
            self._first_second = max(0, chunks[0] - 1) * CHUNK_BLOCKS * BLOCK_MS // 1000
        self._buffer = SampleBuffer(self._first_second * self._rate)
        self._detector: SpeechDetector = NoVAD(self._rate)
        if config.speech:
            window_ms = self._windowing.length * 1000 // self._rate
            self._detector = SileroVAD(window_ms, chunks, eager=provisional)
        has_labels = any(predictor.classes.values())
        self._merger = SegmentMerger(self._find_label, merge=config.merge and has_labels)
        self._cutter: WindowCutter | None = None
        self._averager = HopAverager(self._windowing, 0)
        self._received, self._closed = 0, False
        self.predicts_provisional, self._keeps_spans = provisional, keep_spans
        self.spans: list[ScoredSpan] = []
        self.provisional: Segment | None = None
        self._provisional_end = 0

    @property
    def partial(self) -> Segment | None:
        """The segment that is still growing, as far as it is known; None in a pause."""
        span = self._merger.partial
        return None if span is None else self.to_segment(span)

    @property
    def is_finished(self) -> bool:
        """Whether a shard is finished, so that further samples give no segments."""
        return isinstance(self._detector, SileroVAD) and self._detector.is_finished

    @property
    def samples_needed(self) -> int:
        """Number of samples, at least one, without which no further segment becomes final.

        A caller with many streams can wait for so many before it feeds them.
        """
        next_update = self._detector.next_update(self._next_window_end) / 1000
        return max(1, int((next_update - self._first_second) * self._input_rate) - self._received)

    def feed(self, block: Block) -> list[Segment]:
        """Process a block of any size.

        Args:
            block: 16-bit little-endian PCM, or an array: integers are scaled to [-1, 1), and
                channels are averaged.

        Returns:
            The segments that become final, in order.

        Raises:
            AudioError: the block ends within a sample or has samples that are not finite; it is
                then ignored. Or the stream is closed.
        """
        return self._process(block)

    def close(self) -> list[Segment]:
        """End the stream and return its last segments; none if it was closed before."""
        return self._process(None)

    def _process(self, block: Block | None) -> list[Segment]:
        predictor = self.predictor
        with predictor.limit_threads():
            steps = self.prepare_steps(block)
            windows = [step.window for step in steps if step.window]
            p_bk = NO_PREDICTIONS
            if windows:
                p_bk = predictor.predict_windows(windows)
            return self.apply_predictions(steps, p_bk)

    def prepare_steps(self, block: Block | None) -> list[Step]:
        """Do the first half of ``feed``, or of ``close`` for None: everything before prediction.

        Returns:
            The steps to take; ``feed_streams`` predicts the windows of several streams together.
        """
        if self._closed and block is None:
            return []
        if self._closed:
            raise AudioError("this stream is closed; expected no more samples. Open another one.")
        last, samples = block is None, np.zeros(0, np.float32)
        if block is not None:
            start = self._received / self._input_rate
            samples = convert_block(block, self._input_rate, start)
        self._received, self._closed = self._received + len(samples), last
        wave_s = self._resample(samples, last=last)
        self._buffer.append(wave_s)
        if self._resample_for_vad is not None:
            wave_s = self._resample_for_vad(samples, last=last)
        speech = self._detector(wave_s, last=last, window_end=self._next_window_end)
        steps = [step for segment in speech for step in self._iter_steps(segment)]
        if self.predicts_provisional or self.provisional:
            steps += self._plan_provisional(None if last or not speech else speech[-1])
        return steps

    def apply_predictions(self, steps: Sequence[Step], p_bk: Probabilities) -> list[Segment]:
        """Do the second half of ``feed`` or ``close``: turn predictions into segments.

        Args:
            steps: the result of ``prepare_steps``.
            p_bk: (B, K) predictions for their windows.

        Returns:
            The segments that become final, in order.
        """
        predictions = iter(p_bk)
        spans = [span for step in steps for span in self._iter_spans(step, predictions)]
        self.discard_samples()
        if self._keeps_spans:
            self.spans += spans
        if self.provisional is not None:
            start = self._to_seconds(self._averager.position)
            is_left = start < self.provisional.end
            self.provisional = replace(self.provisional, start=start) if is_left else None
        return [self.to_segment(span) for span in spans]

    def discard_samples(self) -> None:
        """Discard the samples that later windows do not need; windows of steps are then gone."""
        if self._cutter:
            self._buffer.discard(self._cutter.first_needed)
        else:
            self._buffer.discard(self._frame_start(self._detector.first_needed))

    @property
    def _next_window_end(self) -> int | None:
        """End of the next window in ms; None outside speech."""
        if self._cutter is None:
            return None
        return (self._cutter.next_start + self._windowing.length) * 1000 // self._rate

    def _iter_steps(self, segment: SpeechSegment) -> Iterator[Step]:
        """Yield a step per new window of a speech segment, and one that ends it."""
        if self._cutter is None:
            start = self._frame_start(segment.start)
            self._cutter = WindowCutter(self._windowing, start)
            self._averager = HopAverager(self._windowing, start)
        until = min(segment.end * self._rate // 1000, self._buffer.end)
        for start, end in self._cutter.iter_windows(until, closed=segment.closed):
            yield Step(self._averager, Window(self._buffer, start, end), None)
            if self._window_times is not None:
                self._window_times.append((self._to_seconds(start), self._to_seconds(end)))
        if segment.closed:
            yield Step(self._averager, None, until)
            self._cutter = None

    def _plan_provisional(self, segment: SpeechSegment | None) -> list[Step]:
        """Return the step that predicts the newest speech again, if enough has been added."""
        if segment is None or segment.closed or self._cutter is None:
            self.provisional, self._provisional_end = None, 0
            return []
        if not self.predicts_provisional:
            return []
        length, frame = self._windowing.length, self._windowing.frame
        until = min(segment.end * self._rate // 1000, self._buffer.end)
        start = max(self._cutter.start, until - length)
        start = self._cutter.start + (start - self._cutter.start) // frame * frame
        start = max(start, self._buffer.start)
        is_new = until - self._provisional_end >= PROVISIONAL_SECONDS * self._rate
        if not is_new or until - start < self._windowing.min_length:
            return []
        self._provisional_end = until
        return [Step(None, Window(self._buffer, start, until), None)]

    def _iter_spans(self, step: Step, predictions: Iterator[Probabilities]) -> Iterator[ScoredSpan]:
        """Yield the merged hops that become final with a step."""
        if step.averager is None:
            end = self._provisional_end
            if step.window and self._averager.position < end:
                span = ScoredSpan(self._averager.position, end, next(predictions))
                self.provisional = self.to_segment(span)
            return
        if step.window:
            _, start, end = step.window
            hops = step.averager.add(ScoredSpan(start, end, next(predictions)))
        else:
            hops = step.averager.close(step.end or 0)
        for hop in hops:
            yield from self._merger.add(hop)
        if step.end is not None:
            yield from self._merger.close()

    def _frame_start(self, milliseconds: int) -> int:
        """Return the first sample of the frame at a time."""
        sample = milliseconds * self._rate // 1000
        return sample // self._windowing.frame * self._windowing.frame

    def _to_seconds(self, sample: int) -> float:
        return self._origin + sample / self._rate

    def to_segment(self, span: ScoredSpan) -> Segment:
        """Return a span as a segment, with its answers and times in seconds."""
        outputs = self._split_tasks(span.p_k)
        tasks, values = self.predictor.to_answers(outputs), self.predictor.to_values(outputs)
        return Segment(
            start=self._to_seconds(span.start),
            end=self._to_seconds(span.end),
            tasks=tasks,
            values=values,
            dimensions=self.predictor.to_dimensions(tasks, values),
        )

    def _find_label(self, p_k: Probabilities) -> str | None:
        answers = self.predictor.to_answers(self._split_tasks(p_k))
        return next((answer.label for answer in answers.values()), None)

    def _split_tasks(self, p_k: Probabilities) -> dict[str, list[float]]:
        classes = self.predictor.classes
        ends = list(accumulate(len(names) or 1 for names in classes.values()))
        outputs = np.split(p_k, ends[:-1])
        return {task: output.tolist() for task, output in zip(classes, outputs, strict=True)}


def feed_streams(
    predictor: Predictor, feeds: Sequence[tuple[Stream, Block | None]]
) -> list[list[Segment] | Exception]:
    """Feed several streams of one model; their windows share forward passes.

    Args:
        predictor: the model of all streams.
        feeds: different streams, each with a block as for ``Stream.feed``, or None to close it.

    Returns:
        For each stream what ``feed`` or ``close`` returns, up to rounding, or the exception that
        it raises; an exception of one stream does not affect the others.
    """
    with predictor.limit_threads():
        steps = [_prepare_steps(stream, block) for stream, block in feeds]
        windows = [_collect_windows(stream_steps) for stream_steps in steps]
        predictions = _predict_streams(predictor, windows)
        return [
            _apply_predictions(stream, stream_steps, p_bk)
            for (stream, _), stream_steps, p_bk in zip(feeds, steps, predictions, strict=True)
        ]


def _prepare_steps(stream: Stream, block: Block | None) -> list[Step] | Exception:
    try:
        return stream.prepare_steps(block)
    except Exception as error:
        return error


def _collect_windows(steps: list[Step] | Exception) -> list[Window]:
    if isinstance(steps, Exception):
        return []
    return [step.window for step in steps if step.window]


def _predict_streams(
    predictor: Predictor, windows: list[list[Window]]
) -> list[Probabilities | Exception]:
    """Predict the windows of all streams together; if that fails, of each stream on its own."""
    all_windows = [window for stream_windows in windows for window in stream_windows]
    if not all_windows:
        return [NO_PREDICTIONS for _ in windows]
    try:
        p_bk = predictor.predict_windows(all_windows)
    except Exception as error:
        if len(windows) == 1:
            return [error]
        return [
            result
            for stream_windows in windows
            for result in _predict_streams(predictor, [stream_windows])
        ]
    ends = list(accumulate(map(len, windows)))
    return list(np.split(p_bk, ends[:-1]))


def _apply_predictions(
    stream: Stream, steps: list[Step] | Exception, p_bk: Probabilities | Exception
) -> list[Segment] | Exception:
    if isinstance(steps, Exception):
        return steps
    return p_bk if isinstance(p_bk, Exception) else stream.apply_predictions(steps, p_bk)
