"""From the probability of speech, block by block, to stretches of speech.

Speech begins where a block reaches ``THRESHOLD`` and lasts while blocks reach ``LOWER``; shorter
pauses than ``PAUSE`` belong to it. What is shorter than ``SHORTEST`` is none. All times are whole
milliseconds from the recording's start.
"""

from math import ceil, floor
from typing import NamedTuple, Protocol

import numpy as np

from serein.audio import Samples
from serein.inference.speech import BLOCK, BLOCK_MS, LANE, Lanes

THRESHOLD = 0.5
LOWER = 0.35
PAUSE = 500
PAUSE_BLOCKS = ceil(PAUSE / BLOCK_MS)
SHORTEST = 250
MARGIN = 100
"""What is heard before and after speech."""


class Stretch(NamedTuple):
    """What is known of a stretch of speech.

    Attributes:
        start: where it begins, in ms.
        until: where it ends, or how far it certainly goes, in ms.
        closed: whether it has ended.
    """

    start: int
    until: int
    closed: bool


class Finder(Protocol):
    """Finds stretches in samples."""

    def __call__(self, wave_s: Samples, *, last: bool, end: int | None) -> list[Stretch]:
        """What samples tell: each stretch that ended, and then the one that goes on.

        Args:
            wave_s: (S,) samples; at 16 kHz where speech is looked for.
            last: whether they are the last.
            end: where the window ends, in ms, that is heard next of the stretch that goes on.
        """

    def due(self, end: int | None) -> int:
        """Until where, in ms, samples tell nothing new; ``end`` as above."""

    @property
    def needed(self) -> int:
        """From where on, in ms, samples may belong to a stretch that is not known yet."""


class Everything:
    """One stretch, whatever is said."""

    needed = 0

    def __init__(self, rate: float) -> None:
        self._rate, self._count = rate, 0

    def __call__(self, wave_s: Samples, *, last: bool, end: int | None) -> list[Stretch]:
        """All samples until now."""
        self._count += len(wave_s)
        until = self._count * 1000 / self._rate
        return [Stretch(0, ceil(until) if last else floor(until), last)]

    def due(self, end: int | None) -> int:
        """Only a window that is full tells something."""
        return end or 0


class Speech:
    """What silero-vad hears. It listens as late as it may: to many blocks at once."""

    def __init__(self, window: int, lanes: tuple[int, int] | None = None) -> None:
        """Listen from the start, or for what begins in some lanes of ``speech.LANE`` blocks.

        Args:
            window: its length in ms.
            lanes: the first one and the one after the last. Listening begins a lane earlier:
                within those 32 s speech and pauses have told whether somebody is speaking.
        """
        first, last = lanes or (0, 2**31)
        self._lanes = Lanes(max(0, first - 1))
        self._mine = range(first * LANE, last * LANE)
        self._window = window
        self._at = self._lanes.at
        self._waiting: list[Samples] = []
        self._samples = self._at * BLOCK
        self._start: int | None = None
        self._last = 0

    @property
    def needed(self) -> int:
        """From where on, in ms, samples may belong to a stretch that is not known yet."""
        block = self._at if self._start is None else self._start
        return max(0, block * BLOCK_MS - MARGIN)

    @property
    def over(self) -> bool:
        """Whether all stretches that begin in its lanes have ended."""
        return self._at >= self._mine.stop and not self._is_mine()

    def __call__(self, wave_s: Samples, *, last: bool, end: int | None) -> list[Stretch]:
        """What samples at 16 kHz tell."""
        self._waiting.append(wave_s)
        self._samples += len(wave_s)
        if not last and self._samples // BLOCK < self._due(end):
            return self._known(closed=False)
        found = []
        for probability in self._lanes(np.concatenate(self._waiting), last=last).tolist():
            if probability >= (THRESHOLD if self._start is None else LOWER):
                self._start = self._at if self._start is None else self._start
                self._last = self._at + 1
            elif self._start is not None and self._at + 1 - self._last >= PAUSE_BLOCKS:
                found += self._known(closed=True)
                self._start = None
            self._at += 1
        self._waiting = []
        return found + self._known(closed=last)

    def due(self, end: int | None) -> int:
        """When it listens next, or a window is full in speech that was heard already."""
        heard, known = self._due(end) * BLOCK_MS, self._known(closed=False)
        return min(heard, end) if known and end and end <= known[0].until else heard

    def _due(self, end: int | None) -> int:
        """How many blocks must be there before they can end a stretch or a window."""
        pause = (self._at + 1 if self._start is None else self._last) + PAUSE_BLOCKS
        if end is None:
            start = self._at if self._start is None else self._start
            end = start * BLOCK_MS - 2 * MARGIN + self._window
        return max(self._at + 1, min(pause, -((MARGIN - end) // BLOCK_MS)))

    def _is_mine(self) -> bool:
        return self._start is not None and self._start in self._mine

    def _known(self, *, closed: bool) -> list[Stretch]:
        if self._start is None or not self._is_mine():
            return []
        if (self._last - self._start) * BLOCK_MS < SHORTEST:
            return []
        start = max(0, self._start * BLOCK_MS - MARGIN)
        return [Stretch(start, self._last * BLOCK_MS + MARGIN, closed)]
