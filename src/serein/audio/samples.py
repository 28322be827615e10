"""What samples must be, whoever gives them: mono, float32, numbers, enough of them.

Where a recording comes from: what names it, and how its bytes are opened.
"""

import io
import math
import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt

from serein.errors import AudioError

Samples = npt.NDArray[np.float32]

MIN_SECONDS = 0.025
"""Less audio than this, in seconds, is an error: one frame of most front ends."""

RATE_RANGE = (1_000, 768_000)
"""Lowest and highest sampling rate in Hz."""

MAX_MAGNITUDE = 1e30
CHANNEL_SHAPES = {(), *((channels,) for channels in range(1, 33))}


class AudioReader(Protocol):
    """What a source has once it is open; ``seconds`` is None where only decoding would tell."""

    rate: float
    channels: int
    seconds: float | None

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Samples from ``first`` to before ``last``, or to the end if that comes sooner.

        Blocks of (n, channels); n is ``size``, or what a decoder gives at a time.
        """
        ...

    def close(self) -> None: ...


class ArrayReader:
    """Samples that somebody else has read."""

    def __init__(self, samples: npt.NDArray[Any], rate: float) -> None:
        self.samples = np.asarray(samples)
        if self.samples.shape[1:] not in CHANNEL_SHAPES or not self.samples.ndim:
            raise AudioError(
                f"the given array has the shape {self.samples.shape}; expected (n,) or "
                "(n, channels) with 1 to 32 channels. Transpose an array of (channels, n)."
            )
        self.rate = float(rate)
        check_rate(self.rate, "the given array's rate")
        self.channels = self.samples.shape[1] if self.samples.ndim == 2 else 1
        self.seconds: float | None = len(self.samples) / self.rate

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Copied, so that a change of the result never changes what was given."""
        last = min(last, len(self.samples))
        for start in range(first, last, size):
            block = to_float32(self.samples[start : min(last, start + size)])
            yield block.reshape(len(block), -1)

    def close(self) -> None: ...


def to_mono(samples: Samples, channel: int | None = None) -> Samples:
    """(n, channels) -> (n,): one channel, counted from 1, or the mean of all."""
    if channel is not None:
        return np.ascontiguousarray(samples[:, channel - 1])
    if samples.shape[1] == 1:
        return samples[:, 0]
    # Five times as fast as mean(axis=1), and the same in every part of a file.
    total = np.zeros(len(samples), np.float32)
    for column in samples.T:
        total += column
    return total / np.float32(samples.shape[1])


def to_float32(samples: npt.NDArray[Any]) -> Samples:
    """A float32 copy; whole numbers are brought to [-1, 1)."""
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "f":
        return samples.astype(np.float32)
    if kind not in "iu" or bits > 32:
        raise AudioError(
            f"the samples are of type {samples.dtype}; expected floating point, or integers of at "
            "most 32 bits. Convert them, to float32 say."
        )
    zero = 2.0 ** (bits - 1)
    offset = zero if kind == "u" else 0.0
    return ((samples - offset) / zero).astype(np.float32)


def check_rate(rate: float, what: str) -> None:
    """Raises AudioError for a rate that no recording has."""
    if not RATE_RANGE[0] <= rate <= RATE_RANGE[1]:
        raise AudioError(
            f"{what} is {rate} Hz; expected {RATE_RANGE[0]} to {RATE_RANGE[1]} Hz. Check the number."
        )


def check_part(name: str, start: float, end: float | None) -> None:
    """Raises AudioError for a part that holds nothing."""
    if not (0 <= start < math.inf and (end is None or end > start)):
        raise AudioError(
            f"a part of {name} from {start} to {end} s; expected 0 <= start < end. Check both."
        )


def check_length(count: int, sound: AudioReader, name: str, start: float) -> None:
    """Raises AudioError for too little audio."""
    if count == 0 and start > 0 and sound.seconds != 0:
        length = "" if sound.seconds is None else f": it all lasts {sound.seconds:.3f} s"
        raise AudioError(f"no audio in {name} from {start} s{length}. Choose an earlier start.")
    if count < round(MIN_SECONDS * sound.rate):
        found = f"{1000 * count / sound.rate:.0f} ms of audio" if count else "no samples"
        raise AudioError(
            f"{name} holds {found}; expected at least {1000 * MIN_SECONDS:.0f} ms. Leave it out."
        )


def check_finite(samples: Samples, rate: float, name: str, start: float) -> None:
    """Raises AudioError for samples that are no numbers; ``start`` is where they begin."""
    if np.isfinite(samples.sum()):
        return
    bad = ~(np.abs(samples) < MAX_MAGNITUDE)
    if bad.any():
        first = start + int(bad.argmax()) / rate
        raise AudioError(
            f"{name} holds {bad.sum()} samples that are NaN, infinite or absurd, the first at "
            f"{first:.3f} s; expected numbers around [-1, 1]. Repair or leave it out."
        )


def check_channel(sound: AudioReader, name: str, channel: int | None) -> None:
    """Raises AudioError for a channel that is not there."""
    if channel is not None and not 1 <= channel <= sound.channels:
        raise AudioError(
            f"channel {channel} of {name} was asked for; it has {sound.channels}, the first of "
            "which is 1. Choose one of them."
        )


def truncated_error(
    name: str, readable_seconds: float, expected_seconds: float | None
) -> AudioError:
    """The error of a recording of which only ``readable_seconds`` seconds can be read."""
    of = "" if expected_seconds is None else f" of {expected_seconds:.2f} s"
    return AudioError(
        f"{name} breaks off: {readable_seconds:.2f} s{of} could be read; expected a whole file. Get it again."
    )


Source = str | os.PathLike[str] | bytes | BinaryIO | tuple[npt.NDArray[Any], float]
"""A path, the bytes of a file, a file opened for reading bytes, or (samples, rate) with samples
of shape (n,) or (n, channels)."""


def open_binary(source: Any) -> Any:
    """A context that gives a seekable binary file and closes it only if it is ours."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    if not hasattr(source, "read") or not isinstance(source.read(0), bytes):
        raise AudioError(
            f"a recording was given as {type(source).__name__}; expected a path, bytes, a file "
            "opened in binary mode, or (samples, rate)."
        )
    if not (hasattr(source, "seekable") and source.seekable()):
        return io.BytesIO(source.read())
    source.seek(0)
    return nullcontext(source)


def _open_path(path: Path) -> BinaryIO:
    name = source_name(path)
    try:
        if path.is_file():
            return cast(BinaryIO, path.open("rb", buffering=0))
    except OSError as error:
        raise AudioError(f"{name} cannot be opened: {error.strerror}. Check its rights.") from error
    if path.is_dir():
        raise AudioError(f"{name} is a folder; expected an audio file. Name a file in it.")
    if path.exists():
        raise AudioError(f"{name} is a device or pipe; expected an audio file. Save it to a file.")
    raise AudioError(f"{name} does not exist; expected an audio file. Check the path.")


def source_name(source: object) -> str:
    """What errors call a source."""
    if isinstance(source, tuple):
        return "the given array"
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes"
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    text = str(path) if isinstance(path, str | os.PathLike) else "the given file"
    return text if text.isprintable() and text else repr(text)


class UnnamedFile:
    """A file without a name: libraries take ``x.raw`` or ``x.g722`` for headerless samples."""

    def __init__(self, file: Any) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> None:
        with suppress(ValueError, OSError):  # C calls this, and no exception gets through C
            self.file.seek(offset, whence)
