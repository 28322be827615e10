"""Sources of audio, and conversions and checks of samples that all readers share."""

import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt

from serein.audio.times import to_seconds
from serein.errors import AudioError

Samples = npt.NDArray[np.float32]

MIN_SECONDS = 0.025
"""Minimum duration of a recording in seconds: one frame of most front ends."""

RATE_RANGE = (1_000, 768_000)
"""Lowest and highest sampling rate in Hz."""

MAX_MAGNITUDE = 1e6
"""Floating-point samples beyond are no audio: full scale is 1, or 32,768 where it is not scaled."""
INT16_PEAK = 2**15
AUDIBLE_POWER, CANCELLED_POWER = 1e-8, 1e-4
"""Mean square of channels with sound, and of their mean relative to it if they cancel."""
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
        self.samples = _to_array(samples)
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


def _to_array(samples: Any) -> npt.NDArray[Any]:
    """Return samples as an array; tensors of any device and floating-point type, too."""
    if hasattr(samples, "detach"):  # NumPy has no bfloat16, and no other device
        samples = samples.detach().cpu()
        samples = samples.float() if samples.is_floating_point() else samples
    return np.asarray(samples)


def check_int32_scale(samples: npt.NDArray[Any]) -> None:
    """Raise AudioError for 32-bit integers that hold the values of 16-bit ones.

    Scaled as 32-bit integers, they are 96 dB too quiet.
    """
    if samples.dtype.kind != "i" or samples.dtype.itemsize != 4 or not samples.size:
        return
    peak = max(abs(int(samples.min())), abs(int(samples.max())))
    if 2 <= peak <= INT16_PEAK:
        raise AudioError(
            f"the given array has 32-bit integers whose largest is {peak}, which is silence; "
            "expected the range of their type. If they are 16-bit samples, give "
            "samples.astype('int16')."
        )


class CancellationCheck:
    """Notices channels that cancel each other, such as stereo with one inverted channel.

    Their mean is silence, in which nobody would find the speech.
    """

    def __init__(self) -> None:
        self._channel_energy = self._mono_energy = 0.0
        self._count = 0

    def add(self, samples: Samples, mono: Samples) -> None:
        """Add a block of (n, channels), and its mean (n,)."""
        if samples.shape[1] > 1:
            flat = samples.ravel()
            self._channel_energy += float(np.dot(flat, flat)) / samples.shape[1]
            self._mono_energy += float(np.dot(mono, mono))
            self._count += len(mono)

    def finish(self, name: str) -> None:
        """Raise AudioError if the mean is 40 dB below the channels."""
        is_audible = self._channel_energy > AUDIBLE_POWER * self._count
        if is_audible and self._mono_energy < CANCELLED_POWER * self._channel_energy:
            raise AudioError(
                f"the channels of {name} cancel each other, and their mean is silence; expected "
                "channels in phase. Recognize each channel (--channels each, or channel=1), or "
                "invert one of them."
            )


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


def parse_part(name: str, start: Any, end: Any) -> tuple[float, float | None]:
    """Return start and end of a part in seconds; a missing end is the end of the recording.

    Raises:
        AudioError: one of them is no time, or the part is empty.
    """
    seconds = to_seconds(start, "start")
    if seconds is None:
        raise AudioError(f"start of a part of {name} is missing ({start!r}); give 0 for the start")
    part = seconds, to_seconds(end, "end")
    check_part(name, *part)
    return part


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
    if not len(samples) or max(abs(samples.min()), abs(samples.max())) < MAX_MAGNITUDE:
        return  # NaN is not less than anything
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


Source = (
    str | os.PathLike[str] | bytes | BinaryIO | tuple[npt.NDArray[Any], float] | Mapping[str, Any]
)
"""A path, the bytes of a file, a file opened for reading bytes, or (samples, rate) with samples
of shape (n,) or (n, channels); Gradio's (rate, samples), and a mapping with ``array`` and
``sampling_rate`` as in Hugging Face's datasets."""


def unify_source(source: Source) -> Any:
    """Return (samples, rate) for every form of samples in memory, and other sources as they are.

    Raises:
        AudioError: a mapping or a pair does not have samples and a rate.
    """
    if isinstance(source, Mapping):
        if not {"array", "sampling_rate"} <= source.keys():
            raise AudioError(
                f"the recording is a mapping with {', '.join(map(str, source)) or 'nothing'}; "
                "expected 'array' and 'sampling_rate', or a path"
            )
        return source["array"], source["sampling_rate"]
    if not isinstance(source, tuple):
        if hasattr(source, "ndim") and hasattr(source, "dtype"):
            shape = tuple(getattr(source, "shape", ()))
            raise AudioError(
                f"the recording is an array of the shape {shape} without a sampling "
                "rate; give (samples, rate)"
            )
        return source
    if len(source) != 2:
        raise AudioError(
            f"the recording is a tuple of {len(source)}; expected (samples, rate) with samples of "
            "shape (n,) or (n, channels)"
        )
    first, second = source
    return (second, first) if np.ndim(first) == 0 < np.ndim(second) else (first, second)


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
    scheme, is_url, _ = str(path).partition(":/")
    if is_url and len(scheme) > 1 and scheme.isalpha() and not path.exists():
        raise AudioError(f"{name} is an address; expected a file. {_describe_address(scheme)}")
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


def _describe_address(scheme: str) -> str:
    if scheme.lower() == "file":
        return "Give the path without file://."
    return "Download it, and give the path of the file."


def source_name(source: object) -> str:
    """Return the name of a source for error messages."""
    if isinstance(source, tuple | Mapping) or hasattr(source, "dtype"):
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
