"""From the probability of speech, block by block, to stretches of speech.

Speech begins where a block reaches ``THRESHOLD`` and lasts while blocks reach ``LOWER``; shorter
pauses than ``PAUSE`` belong to it. What is shorter than ``SHORTEST`` is none. All times are whole
milliseconds from the recording's start.
"""

from math import ceil, floor
from typing import NamedTuple, Protocol

import numpy as np

from serein.audio import Samples
from serein.inference.vad import BLOCK_MS, BLOCK_SAMPLES, CHUNK_BLOCKS, ChunkedVAD

THRESHOLD = 0.5
NEG_THRESHOLD = 0.35
MIN_SILENCE_MS = 500
MIN_SILENCE_BLOCKS = ceil(MIN_SILENCE_MS / BLOCK_MS)
MIN_SPEECH_MS = 250
SPEECH_PAD_MS = 100
"""What is heard before and after speech."""


class SpeechSegment(NamedTuple):
    """What is known of a stretch of speech.

    Attributes:
        start: where it begins, in ms.
        until: where it ends, or how far it certainly goes, in ms.
        closed: whether it has ended.
    """

    start: int
    end: int
    closed: bool


class SpeechDetector(Protocol):
    """Finds stretches in samples."""

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """What samples tell: each stretch that ended, and then the one that goes on.

        Args:
            wave_s: (S,) samples; at 16 kHz where speech is looked for.
            last: whether they are the last.
            window_end: where the window ends, in ms, that is heard next of the stretch that goes on.
        """

    def next_update(self, window_end: int | None) -> int:
        """Until where, in ms, samples tell nothing new; ``window_end`` as above."""

    @property
    def first_needed(self) -> int:
        """From where on, in ms, samples may belong to a stretch that is not known yet."""


class NoVAD:
    """One stretch, whatever is said."""

    first_needed = 0

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """All samples until now."""
        self._count += len(wave_s)
        until = self._count * 1000 / self._rate
        return [SpeechSegment(0, ceil(until) if last else floor(until), last)]

    def next_update(self, window_end: int | None) -> int:
        """Only a window that is full tells something."""
        return window_end or 0


class SileroVAD:
    """What silero-vad hears. It listens as late as it may: to many blocks at once."""

    def __init__(self, window_ms: int, chunks: tuple[int, int] | None = None) -> None:
        """Listen from the start, or for what begins in some lanes of ``speech.LANE`` blocks.

        Args:
            window_ms: its length in ms.
            chunks: the first one and the one after the last. Listening begins a lane earlier:
                within those 32 s speech and pauses have told whether somebody is speaking.
        """
        first, last = chunks or (0, 2**31)
        self._lanes = ChunkedVAD(max(0, first - 1))
        self._mine = range(first * CHUNK_BLOCKS, last * CHUNK_BLOCKS)
        self._window = window_ms
        self._at = self._lanes.position
        self._waiting: list[Samples] = []
        self._samples = self._at * BLOCK_SAMPLES
        self._start: int | None = None
        self._last = 0

    @property
    def first_needed(self) -> int:
        """From where on, in ms, samples may belong to a stretch that is not known yet."""
        block = self._at if self._start is None else self._start
        return max(0, block * BLOCK_MS - SPEECH_PAD_MS)

    @property
    def is_finished(self) -> bool:
        """Whether all stretches that begin in its lanes have ended."""
        return self._at >= self._mine.stop and not self._is_in_shard()

    def __call__(
        self, wave_s: Samples, *, last: bool, window_end: int | None
    ) -> list[SpeechSegment]:
        """What samples at 16 kHz tell."""
        self._waiting.append(wave_s)
        self._samples += len(wave_s)
        if not last and self._samples // BLOCK_SAMPLES < self._next_update_block(window_end):
            return self._current_segments(closed=False)
        found = []
        for probability in self._lanes(np.concatenate(self._waiting), last=last).tolist():
            if probability >= (THRESHOLD if self._start is None else NEG_THRESHOLD):
                self._start = self._at if self._start is None else self._start
                self._last = self._at + 1
            elif self._start is not None and self._at + 1 - self._last >= MIN_SILENCE_BLOCKS:
                found += self._current_segments(closed=True)
                self._start = None
            self._at += 1
        self._waiting = []
        return found + self._current_segments(closed=last)

    def next_update(self, window_end: int | None) -> int:
        """When it listens next, or a window is full in speech that was heard already."""
        heard, known = (
            self._next_update_block(window_end) * BLOCK_MS,
            self._current_segments(closed=False),
        )
        return (
            min(heard, window_end) if known and window_end and window_end <= known[0].end else heard
        )

    def _next_update_block(self, window_end: int | None) -> int:
        """How many blocks must be there before they can end a stretch or a window."""
        pause = (self._at + 1 if self._start is None else self._last) + MIN_SILENCE_BLOCKS
        if window_end is None:
            start = self._at if self._start is None else self._start
            window_end = start * BLOCK_MS - 2 * SPEECH_PAD_MS + self._window
        return max(self._at + 1, min(pause, -((SPEECH_PAD_MS - window_end) // BLOCK_MS)))

    def _is_in_shard(self) -> bool:
        return self._start is not None and self._start in self._mine

    def _current_segments(self, *, closed: bool) -> list[SpeechSegment]:
        if self._start is None or not self._is_in_shard():
            return []
        if (self._last - self._start) * BLOCK_MS < MIN_SPEECH_MS:
            return []
        start = max(0, self._start * BLOCK_MS - SPEECH_PAD_MS)
        return [SpeechSegment(start, self._last * BLOCK_MS + SPEECH_PAD_MS, closed)]
