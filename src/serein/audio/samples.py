"""Sources of audio, and conversions and checks of samples that all readers share."""

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
"""Minimum duration of a recording in seconds: one frame of most front ends."""

RATE_RANGE = (1_000, 768_000)
"""Lowest and highest sampling rate in Hz."""

MAX_MAGNITUDE = 1e30
CHANNEL_SHAPES = {(), *((channels,) for channels in range(1, 33))}


class AudioReader(Protocol):
    """An open source of audio.

    Attributes:
        rate: sampling rate in Hz.
        channels: number of channels.
        seconds: duration; None if it is unknown before decoding.
    """

    rate: float
    channels: int
    duration: float | None

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Yield the frames from ``first`` up to ``last`` (exclusive) or the end of the audio.

        Blocks have the shape (n, channels); n is ``size`` or what the decoder returns at once.
        """
        ...

    def close(self) -> None:
        """Close the decoder; a file of the caller stays open."""
        ...


class ArrayReader:
    """A reader of samples that the caller has in memory."""

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
        self.duration: float | None = len(self.samples) / self.rate

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Yield copies, so that changing a block does not change the given array."""
        last = min(last, len(self.samples))
        for start in range(first, last, size):
            block = to_float32(self.samples[start : min(last, start + size)])
            yield block.reshape(len(block), -1)

    def close(self) -> None:
        """Do nothing: there is no file."""


def to_mono(samples: Samples, channel: int | None = None) -> Samples:
    """Convert (n, channels) to (n,): one channel, counted from 1, or the mean of all."""
    if channel is not None:
        return np.ascontiguousarray(samples[:, channel - 1])
    if samples.shape[1] == 1:
        return samples[:, 0]
    # Five times as fast as mean(axis=1), and independent of how a file is split into blocks.
    total = np.zeros(len(samples), np.float32)
    for column in samples.T:
        total += column
    return total / np.float32(samples.shape[1])


def to_float32(samples: npt.NDArray[Any]) -> Samples:
    """Return a float32 copy; integers are scaled to [-1, 1)."""
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "f":
        return samples.astype(np.float32)
    if kind not in "iu" or bits > 32:
        raise AudioError(
            f"the samples are of type {samples.dtype}; expected floating point, or integers of at "
            "most 32 bits. Convert them, for example to float32."
        )
    zero = 2.0 ** (bits - 1)
    offset = zero if kind == "u" else 0.0
    return ((samples - offset) / zero).astype(np.float32)


def check_rate(rate: float, what: str) -> None:
    """Raise AudioError for a rate outside ``RATE_RANGE``."""
    if not RATE_RANGE[0] <= rate <= RATE_RANGE[1]:
        raise AudioError(
            f"{what} is {rate} Hz; expected {RATE_RANGE[0]} to {RATE_RANGE[1]} Hz. Check the "
            "number."
        )


def check_part(name: str, start: float, end: float | None) -> None:
    """Raise AudioError for a part without any samples."""
    if not (0 <= start < math.inf and (end is None or end > start)):
        raise AudioError(
            f"a part of {name} from {start} to {end} s; expected 0 <= start < end. Check both."
        )


def check_length(count: int, reader: AudioReader, name: str, start: float) -> None:
    """Raise AudioError for audio shorter than ``MIN_SECONDS``."""
    if count == 0 and start > 0 and reader.duration != 0:
        length = "" if reader.duration is None else f": its duration is {reader.duration:.3f} s"
        raise AudioError(f"no audio in {name} from {start} s{length}. Choose an earlier start.")
    if count < round(MIN_SECONDS * reader.rate):
        amount = f"{1000 * count / reader.rate:.0f} ms of audio" if count else "no samples"
        raise AudioError(
            f"{name} has {amount}; expected at least {1000 * MIN_SECONDS:.0f} ms. Leave it out."
        )


def check_finite(samples: Samples, rate: float, name: str, start: float) -> None:
    """Raise AudioError for samples that are NaN, infinite or far too large.

    Args:
        samples: to check.
        rate: in Hz.
        name: of the recording, for the message.
        start: time of the first sample in seconds.
    """
    if np.isfinite(samples.sum()):
        return
    bad = ~(np.abs(samples) < MAX_MAGNITUDE)
    if bad.any():
        first = start + int(bad.argmax()) / rate
        raise AudioError(
            f"{name} has {bad.sum()} samples that are NaN, infinite or far too large, the first at "
            f"{first:.3f} s; expected numbers around [-1, 1]. Repair or leave it out."
        )


def check_channel(reader: AudioReader, name: str, channel: int | None) -> None:
    """Raise AudioError for a channel that does not exist."""
    if channel is not None and not 1 <= channel <= reader.channels:
        raise AudioError(
            f"channel {channel} of {name} does not exist; expected 1 to {reader.channels}. Choose "
            "one of them."
        )


def truncated_error(
    name: str, readable_seconds: float, expected_seconds: float | None
) -> AudioError:
    """Build the error for a recording of which only ``readable_seconds`` can be read."""
    of = "" if expected_seconds is None else f" of {expected_seconds:.2f} s"
    return AudioError(
        f"{name} is truncated: {readable_seconds:.2f} s{of} could be read; expected a complete "
        "file. Get it again."
    )


Source = str | os.PathLike[str] | bytes | BinaryIO | tuple[npt.NDArray[Any], float]
"""A path, the bytes of a file, a file opened for reading bytes, or (samples, rate) with samples
of shape (n,) or (n, channels)."""


def open_binary(source: Any) -> Any:
    """Return a context manager of a seekable binary file; it does not close a caller's file."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    if not hasattr(source, "read") or not isinstance(source.read(0), bytes):
        raise AudioError(
            f"a recording has the type {type(source).__name__}; expected a path, bytes, a file "
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
        raise AudioError(
            f"{name} cannot be opened: {error.strerror}. Check its permissions."
        ) from error
    if path.is_dir():
        raise AudioError(f"{name} is a folder; expected an audio file. Name a file in it.")
    if path.exists():
        raise AudioError(f"{name} is a device or pipe; expected an audio file. Save it to a file.")
    raise AudioError(f"{name} does not exist; expected an audio file. Check the path.")


def source_name(source: object) -> str:
    """Return the name of a source for error messages."""
    if isinstance(source, tuple):
        return "the given array"
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes"
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    text = str(path) if isinstance(path, str | os.PathLike) else "the given file"
    return text if text.isprintable() and text else repr(text)


class UnnamedFile:
    """A file without a name, since libraries read ``x.raw`` or ``x.g722`` as headerless samples."""

    def __init__(self, file: Any) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> None:
        """Seek in the file, and ignore its errors."""
        with suppress(ValueError, OSError):  # called from C, which exceptions cannot pass
            self.file.seek(offset, whence)
