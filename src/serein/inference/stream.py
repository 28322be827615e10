"""A recogniser with a state: samples in, segments out as they become certain.

A long recording is this stream, fed with large blocks; so both answer alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serein.audio import Block, Resampler, prepared
from serein.errors import AudioError, ConfigError
from serein.inference.hearing import Window, hear, threads
from serein.inference.recognition import Segment
from serein.inference.speech import BLOCK_MS, LANE
from serein.inference.speech import RATE as SPEECH_RATE
from serein.inference.stretches import Everything, Finder, Speech, Stretch
from serein.inference.tape import Tape
from serein.inference.windows import Cut, Hops, Merger, Piece, Plan, Probabilities

if TYPE_CHECKING:
    from serein.inference.recognizer import Recognizer


NOTHING: Probabilities = np.zeros((0, 0))
"""What no windows say."""


@dataclass(frozen=True)
class Settings:
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
        recognizer: who listens.
    """

    def __init__(
        self,
        recognizer: "Recognizer",
        rate: float,
        settings: Settings,
        origin: float = 0.0,
        lanes: tuple[int, int] | None = None,
        heard: list[tuple[float, float]] | None = None,
    ) -> None:
        """Begin.

        Args:
            recognizer: who listens.
            rate: of the samples, in Hz.
            settings: how.
            origin: seconds that are added to all times.
            lanes: of a shard: only what begins in these is heard; feeding begins a lane earlier.
            heard: gets each window's start and end in seconds.

        Raises:
            ConfigError: settings that do not fit each other or the model.
            AudioError: a rate that no recording has.
        """
        if lanes and not settings.speech:
            raise ConfigError("shards are cut between stretches of speech; switch speech on")
        self.recognizer, self._origin, self._heard = recognizer, origin, heard
        self._rate_in = rate
        front_end = recognizer.system.front_end
        self._rate = front_end.rate
        sizes = settings.window, settings.hop, settings.smooth
        self._plan = Plan.of(*sizes, front_end.rate, front_end.hop, front_end.longest)
        self._resample = Resampler(rate, self._rate)
        same = self._rate == SPEECH_RATE or not settings.speech
        self._for_speech = None if same else Resampler(rate, SPEECH_RATE)
        first = max(0, lanes[0] - 1) * LANE * BLOCK_MS // 1000 if lanes else 0
        self._first, self._tape = first, Tape(first * self._rate)
        self._finder: Finder = Everything(self._rate)
        if settings.speech:
            self._finder = Speech(self._plan.length * 1000 // self._rate, lanes)
        labelled = any(recognizer.classes.values())
        self._merger = Merger(self._label, merge=settings.merge and labelled)
        self._cut: Cut | None = None
        self._hops = Hops(self._plan, 0)
        self._fed, self._closed = 0, False

    @property
    def growing(self) -> Segment | None:
        """The segment that is not certain yet, as far as it is known; None in a pause."""
        piece = self._merger.growing
        return None if piece is None else self._segment(piece)

    @property
    def over(self) -> bool:
        """Whether nothing more can come of a shard, whatever is fed."""
        return isinstance(self._finder, Speech) and self._finder.over

    @property
    def wanted(self) -> int:
        """How many samples must still come before any segment can; at least one.

        Whoever feeds many streams need not feed them earlier.
        """
        due = self._finder.due(self._next) / 1000 - self._first
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
        return self._now(block)

    def close(self) -> list[Segment]:
        """End the stream -> its last segments; nothing, if it was closed before."""
        return self._now(None)

    def take(self, block: Block | None) -> list["Step"]:
        """The first half of ``feed``, or of ``close`` for None: what there is to do then.

        The windows of many streams can be heard together; ``inference.streams`` does that.
        """
        if self._closed and block is None:
            return []
        if self._closed:
            raise AudioError("this stream is closed; expected no more samples. Open another one.")
        last, samples = block is None, np.zeros(0, np.float32)
        if block is not None:
            samples = prepared(block, self._rate_in, self._fed / self._rate_in)
        self._fed, self._closed = self._fed + len(samples), last
        wave_s = self._resample(samples, last=last)
        self._tape.append(wave_s)
        if self._for_speech is not None:
            wave_s = self._for_speech(samples, last=last)
        found = self._finder(wave_s, last=last, end=self._next)
        return [step for stretch in found for step in self._steps(stretch)]

    def tell(self, steps: Sequence["Step"], p_bk: Probabilities) -> list[Segment]:
        """The second half: what was to do, what its windows said -> segments."""
        heard_k = iter(p_bk)
        segments = [piece for step in steps for piece in self._pieces(step, heard_k)]
        self._tape.forget(self._cut.needed if self._cut else self._place(self._finder.needed))
        return [self._segment(piece) for piece in segments]

    def _now(self, block: Block | None) -> list[Segment]:
        system, numbers = self.recognizer.system, self.recognizer.numbers
        with threads(self.recognizer.threads):
            steps = self.take(block)
            windows = [step.window for step in steps if step.window]
            return self.tell(steps, hear(system, windows, numbers) if windows else NOTHING)

    @property
    def _next(self) -> int | None:
        """Where the next window ends, in ms."""
        if self._cut is None:
            return None
        return (self._cut.next + self._plan.length) * 1000 // self._rate

    def _steps(self, stretch: Stretch) -> Iterator["Step"]:
        """What there is to do for a stretch: windows to hear, and then to end it."""
        if self._cut is None:
            start = self._place(stretch.start)
            self._cut, self._hops = Cut(self._plan, start), Hops(self._plan, start)
        until = min(stretch.until * self._rate // 1000, self._tape.end)
        for start, end in self._cut.windows(until, closed=stretch.closed):
            yield Step(self._hops, Window(self._tape, start, end), None)
            if self._heard is not None:
                self._heard.append((self._seconds(start), self._seconds(end)))
        if stretch.closed:
            yield Step(self._hops, None, until)
            self._cut = None

    def _pieces(self, step: "Step", heard_k: Iterator[Probabilities]) -> Iterator[Piece]:
        """The segments that a step makes certain."""
        if step.window:
            _, start, end = step.window
            hops = step.hops.add(Piece(start, end, next(heard_k)))
        else:
            hops = step.hops.close(step.end or 0)
        for hop in hops:
            yield from self._merger.add(hop)
        if step.end is not None:
            yield from self._merger.close()

    def _place(self, milliseconds: int) -> int:
        """The sample at which a frame begins there, or just before."""
        sample = milliseconds * self._rate // 1000
        return sample // self._plan.frame * self._plan.frame

    def _seconds(self, sample: int) -> float:
        return self._origin + sample / self._rate

    def _segment(self, piece: Piece) -> Segment:
        found = self._split(piece.p_k)
        return Segment(
            start=self._seconds(piece.start),
            end=self._seconds(piece.end),
            tasks=self.recognizer.answers(found),
            values=self.recognizer.values(found),
        )

    def _label(self, p_k: Probabilities) -> str | None:
        answers = self.recognizer.answers(self._split(p_k))
        return next((answer.label for answer in answers.values()), None)

    def _split(self, p_k: Probabilities) -> dict[str, list[float]]:
        classes = self.recognizer.classes
        ends = list(accumulate(len(names) or 1 for names in classes.values()))
        parts = np.split(p_k, ends[:-1])
        return {task: part.tolist() for task, part in zip(classes, parts, strict=True)}


class Step(NamedTuple):
    """A window to hear, or a stretch to end."""

    hops: Hops
    window: Window | None
    end: int | None
