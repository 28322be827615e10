"""The samples that a stream still needs, by their places from the recording's start."""

import numpy as np

from serein.audio import Samples


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
