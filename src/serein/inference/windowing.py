"""Cut speech segments into windows, average predictions per hop, and merge hops into segments.

Windows start every hop from the start of a speech segment; the last window ends with the segment.
The prediction of a hop (probabilities, or values of regression tasks) is the mean over all windows
that contain its centre, and then optionally over neighbouring hops. Neighbouring hops with the same
label form one segment; no segment reaches beyond its speech segment. Every result is given as soon
as it is final, and does not depend on the sizes of the blocks that were fed.

All positions are samples from the start of the recording. K = classes of all tasks, concatenated; a
regression task has one entry.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serein.audio import MIN_SECONDS, Samples
from serein.errors import ConfigError
from serein.inference.stream_config import StreamConfig

Probabilities = npt.NDArray[np.float64]

MIN_BUFFER_SAMPLES = 2**14


class ScoredSpan(NamedTuple):
    """A span of samples with its probabilities and values (K,)."""

    start: int
    end: int
    p_k: Probabilities


@dataclass(frozen=True)
class WindowingConfig:
    """Windows and hops in samples.

    Attributes:
        length: length of a window; a multiple of ``frame``.
        hop: distance from one window to the next; a multiple of ``frame``.
        frame: distance from one frame to the next.
        smooth: number of hops that are averaged; odd.
        min_length: speech segments shorter than this are not processed.
    """

    length: int
    hop: int
    frame: int
    smooth: int
    min_length: int

    @classmethod
    def from_stream_config(
        cls, config: StreamConfig, rate: int, frame_seconds: float, max_window: float | None
    ) -> "WindowingConfig":
        """Convert seconds to samples, rounded to whole frames.

        Args:
            config: window, hop and smoothing.
            rate: sampling rate of the model, in Hz.
            frame_seconds: seconds from one frame to the next.
            max_window: longest window of the model in seconds; None is unlimited.

        Raises:
            ConfigError: the windows are too short or too long for the model, or leave gaps; or
                the smoothing is not an odd number.
        """
        window, hop, smooth = config.window, config.hop, config.smooth
        frame = max(1, round(frame_seconds * rate))
        window_frames, hop_frames = round(window * rate / frame), round(hop * rate / frame)
        if window < MIN_SECONDS or window_frames < 1 or hop_frames < 1:
            raise ConfigError(
                f"windows of {window} s every {hop} s; the model needs at least {MIN_SECONDS} s "
                f"and a frame of {frame_seconds:g} s. Choose longer ones, such as 4 s every 1 s"
            )
        if max_window is not None and window > max_window:
            raise ConfigError(
                f"windows of {window} s; this model takes at most {max_window:g} s. "
                "Choose shorter ones"
            )
        if hop > window:
            raise ConfigError(
                f"a hop of {hop} s with windows of {window} s leaves gaps between windows; "
                "choose a hop that is no longer than the window"
            )
        if smooth < 1 or smooth % 2 == 0:
            raise ConfigError(
                f"smoothing over {smooth} hops; expected an odd number. Choose 1, 3 or 5"
            )
        return cls(
            length=window_frames * frame,
            hop=hop_frames * frame,
            frame=frame,
            smooth=smooth,
            min_length=round(MIN_SECONDS * rate),
        )


class SampleBuffer:
    """Buffer of the samples that a stream still needs, indexed by their recording position.

    Attributes:
        start: position of the first sample in the buffer.
        end: position after the last sample.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = self.end = start
        self._samples = np.zeros(MIN_BUFFER_SAMPLES, np.float32)
        self._offset = start

    def append(self, samples: Samples) -> None:
        """Append samples; the space of discarded samples is reused."""
        if self.end - self._offset + len(samples) > len(self._samples):
            kept = self[self.start : self.end]
            capacity = max(MIN_BUFFER_SAMPLES, 2 * (len(kept) + len(samples)))
            self._samples = np.concatenate([kept, np.zeros(capacity - len(kept), np.float32)])
            self._offset = self.start
        index = self.end - self._offset
        self._samples[index : index + len(samples)] = samples
        self.end += len(samples)

    def discard(self, before: int) -> None:
        """Discard the samples before a position."""
        self.start = min(max(self.start, before), self.end)

    def __getitem__(self, part: slice) -> Samples:
        """Return the samples between two positions; both must lie in the buffer."""
        if not self.start <= part.start <= part.stop <= self.end:
            raise IndexError(f"{part} of a buffer with samples {self.start} to {self.end}")
        return self._samples[part.start - self._offset : part.stop - self._offset]


class WindowCutter:
    """Cut one speech segment into windows while it grows.

    Attributes:
        start: start of the speech segment.
        next_start: start of the next window.
    """

    def __init__(self, config: WindowingConfig, start: int) -> None:
        self.start = self.next_start = start
        self._config = config

    def iter_windows(self, until: int, *, closed: bool) -> Iterator[tuple[int, int]]:
        """Yield the start and end of each new window.

        Args:
            until: position up to which the segment is known.
            closed: whether the segment ends there.
        """
        config = self._config
        while self.next_start + config.length <= until:
            yield self.next_start, self.next_start + config.length
            self.next_start += config.hop
        covered = self.start
        if self.next_start > self.start:
            covered = self.next_start - config.hop + config.length
        if closed and until > covered and until - self.start >= config.min_length:
            offset = max(0, until - config.length - self.start)
            yield self.start + -(-offset // config.frame) * config.frame, until

    @property
    def first_needed(self) -> int:
        """First sample of later windows; the last window may start before ``next_start``."""
        return max(self.start, self.next_start - self._config.hop)


class HopAverager:
    """Average the predictions of the windows of one speech segment for each hop.

    Attributes:
        position: end of the last hop, or the start of the segment.
    """

    def __init__(self, config: WindowingConfig, start: int) -> None:
        self._config, self.position = config, start
        self._windows: list[ScoredSpan] = []
        self._unsmoothed: list[ScoredSpan] = []
        self._emitted = 0

    def add(self, window: ScoredSpan) -> list[ScoredSpan]:
        """Add a window and return the hops that become final."""
        self._windows.append(window)
        # All later windows start after this one, the last window of the segment included.
        while self.position + self._config.hop // 2 < window.start:
            self._average_hop(self.position + self._config.hop)
        return self._smooth_hops(self._config.smooth // 2)

    def close(self, end: int) -> list[ScoredSpan]:
        """End the speech segment and return its remaining hops."""
        while self._windows and self.position < end:
            self._average_hop(min(self.position + self._config.hop, end))
        return self._smooth_hops(0)

    def _average_hop(self, end: int) -> None:
        centre = (self.position + end) // 2
        self._windows = [window for window in self._windows if window.end > centre]
        p_nk = [window.p_k for window in self._windows if window.start <= centre]
        self._unsmoothed.append(ScoredSpan(self.position, end, np.mean(p_nk, axis=0)))
        self.position = end

    def _smooth_hops(self, pending: int) -> list[ScoredSpan]:
        """Smooth all hops but the last ``pending``; hops at the ends have fewer neighbours."""
        reach = self._config.smooth // 2
        smoothed = []
        while self._emitted < len(self._unsmoothed) - pending:
            hop = self._unsmoothed[self._emitted]
            first = max(0, self._emitted - reach)
            neighbours = self._unsmoothed[first : self._emitted + reach + 1]
            p_k = np.mean([neighbour.p_k for neighbour in neighbours], axis=0)
            smoothed.append(ScoredSpan(hop.start, hop.end, p_k))
            self._emitted += 1
        unused = max(0, self._emitted - reach)
        self._unsmoothed, self._emitted = self._unsmoothed[unused:], self._emitted - unused
        return smoothed


class SegmentMerger:
    """Merge neighbouring hops with the same label into segments."""

    def __init__(self, label: Callable[[Probabilities], str | None], *, merge: bool = True) -> None:
        self._label, self._merge = label, merge
        self._start = self._end = 0
        self._sum_k: Probabilities | None = None
        self._current_label: str | None = None

    @property
    def partial(self) -> ScoredSpan | None:
        """The segment that is still growing, as far as it is known."""
        if self._sum_k is None:
            return None
        return ScoredSpan(self._start, self._end, self._sum_k / (self._end - self._start))

    def add(self, hop: ScoredSpan) -> Iterator[ScoredSpan]:
        """Add a hop and yield the segment that it ends, if any."""
        if not self._merge:
            yield hop
            return
        label, weighted_k = self._label(hop.p_k), hop.p_k * (hop.end - hop.start)
        if self._sum_k is not None and label == self._current_label:
            self._sum_k, self._end = self._sum_k + weighted_k, hop.end
            return
        yield from self.close()
        self._start, self._end = hop.start, hop.end
        self._sum_k, self._current_label = weighted_k, label

    def close(self) -> Iterator[ScoredSpan]:
        """End the speech segment and yield the segment that is still growing, if any."""
        if self.partial is not None:
            yield self.partial
        self._sum_k = None
