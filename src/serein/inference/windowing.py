"""Windows inside speech, and what they say together: an answer for each hop, and for each segment.

A stretch of speech is cut into windows that begin every hop from its start on; the last one ends
with it. Each hop's probabilities are the mean over the windows that hear its middle, and then, if
asked for, over the hops beside it; so are its values, of tasks of numbers. Neighbouring hops of one
label are a segment; none goes beyond its stretch. Everything here happens as soon as what it needs
is known, and comes out the same however that is.

All places are samples from the recording's start. K = classes of all tasks, one after the other; a
task of numbers has one place among them.

The samples that a stream still needs, by their places from the recording's start.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serein.audio import MIN_SECONDS, Samples
from serein.errors import ConfigError

Probabilities = npt.NDArray[np.float64]


class ScoredSpan(NamedTuple):
    """Some samples and their probabilities and values (K,)."""

    start: int
    end: int
    p_k: Probabilities


@dataclass(frozen=True)
class WindowingConfig:
    """How speech is cut.

    Attributes:
        length: of a window, in samples; whole frames.
        hop: from one window's start to the next one's; whole frames.
        frame: samples from frame to frame.
        smooth: hops that are averaged; odd.
        shortest: samples below which nothing is heard.
    """

    length: int
    hop: int
    frame: int
    smooth: int
    min_length: int

    @classmethod
    def from_seconds(
        cls,
        window: float,
        hop: float,
        smooth: int,
        rate: int,
        frame: float,
        max_window: float | None,
    ) -> "WindowingConfig":
        """Turn seconds into samples, to the nearest frame.

        Args:
            window: seconds of a window.
            hop: seconds from one window to the next.
            smooth: hops that are averaged.
            rate: in Hz.
            frame: seconds from frame to frame.
            max_window: seconds that the model hears at most; None is any number.

        Raises:
            ConfigError: the model cannot hear such windows, or they leave gaps.
        """
        step = max(1, round(frame * rate))
        count, hops = round(window * rate / step), round(hop * rate / step)
        if window < MIN_SECONDS or count < 1 or hops < 1:
            raise ConfigError(
                f"windows of {window} s every {hop} s; the model needs at least {MIN_SECONDS} s and a "
                f"frame of {frame:g} s. Choose longer ones, such as 4 s every 1 s"
            )
        if max_window is not None and window > max_window:
            raise ConfigError(
                f"windows of {window} s; this model hears at most {max_window:g} s. "
                "Choose shorter ones"
            )
        if hop > window:
            raise ConfigError(
                f"a hop of {hop} s with windows of {window} s leaves gaps that nobody hears; "
                "choose a hop that is no longer than the window"
            )
        if smooth < 1 or smooth % 2 == 0:
            raise ConfigError(
                f"smoothing over {smooth} hops; expected an odd number. Choose 1, 3 or 5"
            )
        return cls(count * step, hops * step, step, smooth, round(MIN_SECONDS * rate))


class WindowCutter:
    """One stretch of speech, as it becomes known."""

    def __init__(self, config: WindowingConfig, start: int) -> None:
        self.start = start
        self.next_start = start
        """Where the next window begins, and from where on samples are still needed."""
        self._plan = config

    def iter_windows(self, until: int, *, closed: bool) -> Iterator[tuple[int, int]]:
        """Each window that is certain and was not before: its first sample and its end."""
        plan = self._plan
        while self.next_start + plan.length <= until:
            yield self.next_start, self.next_start + plan.length
            self.next_start += plan.hop
        heard = (
            self.next_start - plan.hop + plan.length if self.next_start > self.start else self.start
        )
        if closed and until > heard and until - self.start >= plan.min_length:
            late = max(0, until - plan.length - self.start)
            yield self.start + -(-late // plan.frame) * plan.frame, until

    @property
    def first_needed(self) -> int:
        """The first sample that may still be heard; the last window may begin before the next."""
        return max(self.start, self.next_start - self._plan.hop)


class HopAverager:
    """The windows of one stretch to an answer for each hop."""

    def __init__(self, config: WindowingConfig, start: int) -> None:
        self._plan, self._at = config, start
        self._windows: list[ScoredSpan] = []
        self._raw: list[ScoredSpan] = []
        self._given = 0

    def add(self, window: ScoredSpan) -> list[ScoredSpan]:
        """Hear one more window -> the hops that it makes certain."""
        self._windows.append(window)
        # Whatever comes, a stretch's last window too, begins after this one.
        while self._at + self._plan.hop // 2 < window.start:
            self._average_hop(self._at + self._plan.hop)
        return self._smooth_hops(self._plan.smooth // 2)

    def close(self, end: int) -> list[ScoredSpan]:
        """End the stretch -> the rest of its hops."""
        while self._windows and self._at < end:
            self._average_hop(min(self._at + self._plan.hop, end))
        return self._smooth_hops(0)

    def _average_hop(self, end: int) -> None:
        middle = (self._at + end) // 2
        self._windows = [window for window in self._windows if window.end > middle]
        heard = [window.p_k for window in self._windows if window.start <= middle]
        self._raw.append(ScoredSpan(self._at, end, np.mean(heard, axis=0)))
        self._at = end

    def _smooth_hops(self, pending: int) -> list[ScoredSpan]:
        """Hops with all their neighbours there; at the end of a stretch there are fewer."""
        reach = self._plan.smooth // 2
        done = []
        while self._given < len(self._raw) - pending:
            near = self._raw[max(0, self._given - reach) : self._given + reach + 1]
            start, end, _ = self._raw[self._given]
            done.append(ScoredSpan(start, end, np.mean([piece.p_k for piece in near], axis=0)))
            self._given += 1
        spare = max(0, self._given - reach)
        self._raw, self._given = self._raw[spare:], self._given - spare
        return done


class SegmentMerger:
    """Neighbouring hops of one label to segments."""

    def __init__(self, label: Callable[[Probabilities], str | None], *, merge: bool = True) -> None:
        self._label, self._merge = label, merge
        self._start = self._end = 0
        self._sum_k: Probabilities | None = None
        self._of: str | None = None

    @property
    def partial(self) -> ScoredSpan | None:
        """The segment that is not certain yet, as far as it is known."""
        if self._sum_k is None:
            return None
        return ScoredSpan(self._start, self._end, self._sum_k / (self._end - self._start))

    def add(self, hop: ScoredSpan) -> Iterator[ScoredSpan]:
        """Take one more hop -> the segment that it ends, if it does."""
        if not self._merge:
            yield hop
            return
        label, weighed_k = self._label(hop.p_k), hop.p_k * (hop.end - hop.start)
        if self._sum_k is not None and label == self._of:
            self._sum_k, self._end = self._sum_k + weighed_k, hop.end
            return
        yield from self.close()
        self._start, self._end, self._sum_k, self._of = hop.start, hop.end, weighed_k, label

    def close(self) -> Iterator[ScoredSpan]:
        """End a stretch -> its last segment."""
        if self.partial is not None:
            yield self.partial
        self._sum_k = None


class SampleBuffer:
    """Samples are appended at the end and forgotten from the front."""

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.end = start
        """The place behind the last sample."""
        self._held = np.zeros(2**14, np.float32)
        self._offset = start

    def append(self, samples: Samples) -> None:
        """Add samples; what is forgotten makes room for them."""
        if self.end - self._offset + len(samples) > len(self._held):
            kept = self[self.start : self.end]
            room = max(2**14, 2 * (len(kept) + len(samples)))
            self._held = np.concatenate([kept, np.zeros(room - len(kept), np.float32)])
            self._offset = self.start
        at = self.end - self._offset
        self._held[at : at + len(samples)] = samples
        self.end += len(samples)

    def discard(self, before: int) -> None:
        """Samples before a place are not asked for any more."""
        self.start = min(max(self.start, before), self.end)

    def __getitem__(self, part: slice) -> Samples:
        """Samples from one place to before another; both must still be there."""
        if not self.start <= part.start <= part.stop <= self.end:
            raise IndexError(f"{part} of a tape that holds {self.start} to {self.end}")
        return self._held[part.start - self._offset : part.stop - self._offset]
