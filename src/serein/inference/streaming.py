"""A recogniser with a state: samples in, segments out as they become certain.

A long recording is this stream, fed with large blocks; so both answer alike.

Many streams at the same time: their windows go through the model together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serein.audio import Block, Resampler, convert_block
from serein.errors import AudioError, ConfigError
from serein.inference.predictor import Window, predict_windows, torch_threads
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.vad import (
    BLOCK_MS,
    CHUNK_BLOCKS,
    NoVAD,
    SileroVAD,
    SpeechDetector,
    SpeechSegment,
)
from serein.inference.vad import SAMPLE_RATE as SPEECH_RATE
from serein.inference.windowing import (
    HopAverager,
    Probabilities,
    SampleBuffer,
    ScoredSpan,
    SegmentMerger,
    WindowCutter,
    WindowingConfig,
)

if TYPE_CHECKING:
    from serein.inference.recognizer import Recognizer


NO_PREDICTIONS: Probabilities = np.zeros((0, 0))
"""What no windows say."""


@dataclass(frozen=True)
class StreamConfig:
    """How a long recording or a stream is heard.

    Attributes:
        window: seconds that the model hears at a time, to the nearest frame.
        hop: seconds from one window to the next, to the nearest frame.
        smooth: hops whose probabilities are averaged; 1 leaves it at the overlap of windows.
        speech: whether only speech is heard; otherwise everything is.
        merge: whether neighbouring hops of one label make one segment; of a model without
            classes each hop is one.
    """

    window: float = 4.0
    hop: float = 1.0
    smooth: int = 1
    speech: bool = True
    merge: bool = True


class Stream:
    """What ``Recognizer.stream`` gives; see there.

    Attributes:
        predictor: who listens.
    """

    def __init__(
        self,
        predictor: "Recognizer",
        rate: float,
        config: StreamConfig,
        origin: float = 0.0,
        chunks: tuple[int, int] | None = None,
        window_times: list[tuple[float, float]] | None = None,
    ) -> None:
        """Begin.

        Args:
            predictor: who listens.
            rate: of the samples, in Hz.
            config: how.
            origin: seconds that are added to all times.
            chunks: of a shard: only what begins in these is heard; feeding begins a lane earlier.
            window_times: gets each window's start and end in seconds.

        Raises:
            ConfigError: settings that do not fit each other or the model.
            AudioError: a rate that no recording has.
        """
        if chunks and not config.speech:
            raise ConfigError("shards are cut between stretches of speech; switch speech on")
        self.predictor, self._origin, self._heard = predictor, origin, window_times
        self._rate_in = rate
        front_end = predictor.system.front_end
        self._rate = front_end.rate
        sizes = config.window, config.hop, config.smooth
        self._plan = WindowingConfig.from_seconds(
            *sizes, front_end.rate, front_end.hop, front_end.max_seconds
        )
        self._resample = Resampler(rate, self._rate)
        same = self._rate == SPEECH_RATE or not config.speech
        self._for_speech = None if same else Resampler(rate, SPEECH_RATE)
        first = max(0, chunks[0] - 1) * CHUNK_BLOCKS * BLOCK_MS // 1000 if chunks else 0
        self._first, self._tape = first, SampleBuffer(first * self._rate)
        self._finder: SpeechDetector = NoVAD(self._rate)
        if config.speech:
            self._finder = SileroVAD(self._plan.length * 1000 // self._rate, chunks)
        labelled = any(predictor.classes.values())
        self._merger = SegmentMerger(self._find_label, merge=config.merge and labelled)
        self._cut: WindowCutter | None = None
        self._hops = HopAverager(self._plan, 0)
        self._fed, self._closed = 0, False

    @property
    def partial(self) -> Segment | None:
        """The segment that is not certain yet, as far as it is known; None in a pause."""
        piece = self._merger.partial
        return None if piece is None else self._to_segment(piece)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more can come of a shard, whatever is fed."""
        return isinstance(self._finder, SileroVAD) and self._finder.is_finished

    @property
    def samples_needed(self) -> int:
        """How many samples must still come before any segment can; at least one.

        Whoever feeds many streams need not feed them earlier.
        """
        due = self._finder.next_update(self._next_window_end) / 1000 - self._first
        return max(1, int(due * self._rate_in) - self._fed)

    def feed(self, block: Block) -> list[Segment]:
        """Hear a block of any size.

        Args:
            block: 16-bit little-endian PCM, or an array: whole numbers are brought to [-1, 1),
                and the mean is taken over channels.

        Returns:
            The segments that it makes certain, in order.

        Raises:
            AudioError: half a sample, or samples that are no numbers; the block is then as if it
                had not been fed. Or the stream is closed.
        """
        return self._process(block)

    def close(self) -> list[Segment]:
        """End the stream -> its last segments; nothing, if it was closed before."""
        return self._process(None)

    def prepare_steps(self, block: Block | None) -> list["Step"]:
        """The first half of ``feed``, or of ``close`` for None: what there is to do then.

        The windows of many streams can be heard together; ``inference.streams`` does that.
        """
        if self._closed and block is None:
            return []
        if self._closed:
            raise AudioError("this stream is closed; expected no more samples. Open another one.")
        last, samples = block is None, np.zeros(0, np.float32)
        if block is not None:
            samples = convert_block(block, self._rate_in, self._fed / self._rate_in)
        self._fed, self._closed = self._fed + len(samples), last
        wave_s = self._resample(samples, last=last)
        self._tape.append(wave_s)
        if self._for_speech is not None:
            wave_s = self._for_speech(samples, last=last)
        found = self._finder(wave_s, last=last, window_end=self._next_window_end)
        return [step for stretch in found for step in self._iter_steps(stretch)]

    def apply_predictions(self, steps: Sequence["Step"], p_bk: Probabilities) -> list[Segment]:
        """The second half: what was to do, what its windows said -> segments."""
        heard_k = iter(p_bk)
        segments = [piece for step in steps for piece in self._iter_spans(step, heard_k)]
        self._tape.discard(
            self._cut.first_needed if self._cut else self._frame_start(self._finder.first_needed)
        )
        return [self._to_segment(piece) for piece in segments]

    def _process(self, block: Block | None) -> list[Segment]:
        system, numbers = self.predictor.system, self.predictor.precision
        with torch_threads(self.predictor.threads):
            steps = self.prepare_steps(block)
            windows = [step.window for step in steps if step.window]
            return self.apply_predictions(
                steps, predict_windows(system, windows, numbers) if windows else NO_PREDICTIONS
            )

    @property
    def _next_window_end(self) -> int | None:
        """Where the next window ends, in ms."""
        if self._cut is None:
            return None
        return (self._cut.next_start + self._plan.length) * 1000 // self._rate

    def _iter_steps(self, segment: SpeechSegment) -> Iterator["Step"]:
        """What there is to do for a stretch: windows to hear, and then to end it."""
        if self._cut is None:
            start = self._frame_start(segment.start)
            self._cut, self._hops = WindowCutter(self._plan, start), HopAverager(self._plan, start)
        until = min(segment.end * self._rate // 1000, self._tape.end)
        for start, end in self._cut.iter_windows(until, closed=segment.closed):
            yield Step(self._hops, Window(self._tape, start, end), None)
            if self._heard is not None:
                self._heard.append((self._to_seconds(start), self._to_seconds(end)))
        if segment.closed:
            yield Step(self._hops, None, until)
            self._cut = None

    def _iter_spans(self, step: "Step", p_bk: Iterator[Probabilities]) -> Iterator[ScoredSpan]:
        """The segments that a step makes certain."""
        if step.window:
            _, start, end = step.window
            hops = step.averager.add(ScoredSpan(start, end, next(p_bk)))
        else:
            hops = step.averager.close(step.end or 0)
        for hop in hops:
            yield from self._merger.add(hop)
        if step.end is not None:
            yield from self._merger.close()

    def _frame_start(self, milliseconds: int) -> int:
        """The sample at which a frame begins there, or just before."""
        sample = milliseconds * self._rate // 1000
        return sample // self._plan.frame * self._plan.frame

    def _to_seconds(self, sample: int) -> float:
        return self._origin + sample / self._rate

    def _to_segment(self, span: ScoredSpan) -> Segment:
        found = self._split_tasks(span.p_k)
        return Segment(
            start=self._to_seconds(span.start),
            end=self._to_seconds(span.end),
            tasks=self.predictor.to_answers(found),
            values=self.predictor.to_values(found),
        )

    def _find_label(self, p_k: Probabilities) -> str | None:
        answers = self.predictor.to_answers(self._split_tasks(p_k))
        return next((answer.label for answer in answers.values()), None)

    def _split_tasks(self, p_k: Probabilities) -> dict[str, list[float]]:
        classes = self.predictor.classes
        ends = list(accumulate(len(names) or 1 for names in classes.values()))
        parts = np.split(p_k, ends[:-1])
        return {task: part.tolist() for task, part in zip(classes, parts, strict=True)}


class Step(NamedTuple):
    """A window to hear, or a stretch to end."""

    averager: HopAverager
    window: Window | None
    end: int | None


def feed_streams(
    predictor: Recognizer, feeds: Sequence[tuple[Stream, Block | None]]
) -> list[list[Segment] | Exception]:
    """Feed streams of one recogniser.

    Args:
        predictor: who listens in all of them.
        feeds: streams, each once, and their blocks as for ``Stream.feed``; None closes.

    Returns:
        Of each, in their order, what ``feed`` or ``close`` would return, but for rounding; or what
        they would raise, which the others do not notice.
    """
    with torch_threads(predictor.threads):
        taken = [_prepare_steps(stream, block) for stream, block in feeds]
        windows = [_collect_windows(steps) for steps in taken]
        heard = _predict_streams(predictor, windows)
        return [
            _apply_predictions(stream, steps, p_bk)
            for (stream, _), steps, p_bk in zip(feeds, taken, heard, strict=True)
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
    predictor: Recognizer, windows: list[list[Window]]
) -> list[Probabilities | Exception]:
    """What each stream's windows say; a stream whose windows cannot be heard is alone with that."""
    every = [window for some in windows for window in some]
    if not every:
        return [NO_PREDICTIONS for _ in windows]
    try:
        p_bk = predict_windows(predictor.system, every, predictor.precision)
    except Exception as error:
        if len(windows) == 1:
            return [error]
        return [heard for some in windows for heard in _predict_streams(predictor, [some])]
    ends = list(accumulate(map(len, windows)))
    return list(np.split(p_bk, ends[:-1]))


def _apply_predictions(
    stream: Stream, steps: list[Step] | Exception, p_bk: Probabilities | Exception
) -> list[Segment] | Exception:
    if isinstance(steps, Exception):
        return steps
    return p_bk if isinstance(p_bk, Exception) else stream.apply_predictions(steps, p_bk)
