"""A recording, wherever it comes from, as mono float32 at the rate that is wanted.

libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; FFmpeg reads m4a, webm, video and what else it knows.
What a file holds decides, never how it is named. Nothing is cut short in silence: a file that
holds less than its header promises is an error (RF64, W64, AU and CAF alone are taken at their
size). Times are in seconds, rates in Hz.
"""

import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt
import soundfile

from serein.errors import AudioError

Samples = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | bytes | BinaryIO | tuple[npt.NDArray[Any], float]
"""A path, the bytes of a file, a file opened for reading bytes, or (samples, rate) with samples
of shape (n,) or (n, channels)."""

SHORTEST = 0.025
"""Less audio than this, in seconds, is an error: one frame of most front ends."""

RATES = (1_000, 768_000)
"""Lowest and highest sampling rate in Hz."""

FOREVER = 1e9
BLOCK = 2**24  # samples decoded at once: bounds what a header that lies can make us allocate
HEADER = 44  # some writers count the header as audio
ABSURD = 1e30


def load(
    source: Source, rate: int = 16_000, *, start: float = 0.0, end: float | None = None
) -> Samples:
    """Read a recording, or a part of it.

    Args:
        source: a path, bytes, a binary file object, or (samples, rate) with samples of shape
            (n,) or (n, channels).
        rate: wanted sampling rate in Hz.
        start: where the part begins, in seconds; to the nearest sample of the file.
        end: where it ends, in seconds; None, or beyond the end, is the end of the file.

    Returns:
        Samples of shape (n,), the mean of all channels; full scale is 1, nothing is clipped.

    Raises:
        AudioError: there is no such file, it is not audio, or it is damaged or too short.
    """
    name = _name(source)
    _check_rate(rate, "the wanted rate")
    _check_part(name, start, end)
    with _decoding(name), _opened(source, name) as sound:
        first = round(min(start, FOREVER) * sound.rate)
        last = round(min(FOREVER if end is None else end, FOREVER) * sound.rate)
        samples = sound.read(first, last)
        part = name if start == 0 and end is None else f"that part of {name}"
        _check_samples(samples, sound, part, start)
        if sound.rate == rate:
            return samples
        import soxr

        return cast(Samples, soxr.resample(samples, sound.rate, rate, quality="HQ"))


def duration(source: Source) -> float:
    """How long a recording is, in seconds; decoded only where its container does not tell.

    Raises:
        AudioError: there is no such file, it is not audio, or it is damaged.
    """
    name = _name(source)
    with _decoding(name), _opened(source, name) as sound:
        if sound.seconds is not None:
            return sound.seconds
        return len(sound.read(0, round(FOREVER * sound.rate))) / sound.rate


def windows(samples: int, longest: int) -> list[tuple[int, int]]:
    """Cut a length into the fewest windows none of which is longer than ``longest``.

    Args:
        samples: the length.
        longest: most samples in a window; at least 1.

    Returns:
        First sample and the one after the last, of each window; lengths differ by one at most.

    Example:
        >>> windows(10, longest=4)
        [(0, 3), (3, 6), (6, 10)]
    """
    if longest < 1:
        raise ValueError(f"a window of {longest} samples; expected at least 1")
    count = -(-samples // longest)
    edges = [samples * i // count for i in range(count + 1)] if count > 0 else []
    return list(pairwise(edges))


class _Sound(Protocol):
    """What a source has once it is open; ``seconds`` is None where only decoding would tell."""

    rate: float
    seconds: float | None

    def read(self, first: int, last: int) -> Samples:
        """Mono samples from ``first`` to before ``last``, or to the end if that comes sooner."""
        ...

    def close(self) -> None: ...


class _Array:
    """Samples that somebody else has read."""

    def __init__(self, samples: npt.NDArray[Any], rate: float) -> None:
        self.samples = np.asarray(samples)
        if self.samples.ndim not in (1, 2) or self.samples.shape[1:] > (32,):
            raise AudioError(
                f"the given array has the shape {self.samples.shape}; expected (n,) or "
                "(n, channels) with at most 32 channels. Transpose an array of (channels, n)."
            )
        self.rate = float(rate)
        _check_rate(self.rate, "the given array's rate")
        self.seconds: float | None = len(self.samples) / self.rate

    def read(self, first: int, last: int) -> Samples:
        """Copied, so that a change of the result never changes what was given."""
        return _mono(_scaled(self.samples[first:last]))

    def close(self) -> None: ...


class _Sndfile:
    """A file that libsndfile can read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        promised, there = _data_chunk(file)
        file.seek(0)  # from here on the file's position belongs to libsndfile
        quick = isinstance(file, io.FileIO) and os.name == "posix"
        handle = file.fileno() if quick else _Virtual(file)
        self.name, self.sound = name, soundfile.SoundFile(handle, closefd=False)
        self.rate: float = self.sound.samplerate
        self.frames: int = self.sound.frames
        self.seconds: float | None = self.frames / self.rate
        # A tool that writes to a pipe puts one of these for a length that it cannot know.
        unknown = 0x7FFFF000 <= promised <= 0x80000000 or promised >= 0xFFFFF000
        if not unknown and promised > there + HEADER:
            raise _broken(name, self.seconds, self.seconds * promised / max(1, there))
        # libsndfile reads a piped WAV of length 0 as empty, and a piped FLAC not to its end.
        self.readable = self.frames < 2**62 and not (promised == 0 < there)

    def read(self, first: int, last: int) -> Samples:
        """Raises AudioError where the file breaks off before ``last``."""
        last = min(last, self.frames)
        if last <= first:
            return np.zeros(0, np.float32)
        mp3 = self.sound.format == "MP3"
        skipped = first if mp3 else 0  # libsndfile's seek in an MP3 misses by hundreds of samples
        try:
            self.sound.seek(first - skipped)
            samples = self._blocks(last - first + skipped)
        except soundfile.LibsndfileError as error:
            raise self._broken() from error
        # An MP3 without a Xing header does not say how much of its last frame is filling.
        slack = (1152 if self.rate >= 32_000 else 576) if mp3 else 0
        if len(samples) + first - skipped < last - slack:
            raise self._broken()
        return samples[skipped:]

    def close(self) -> None:
        """The file itself stays open."""
        self.sound.close()

    def _blocks(self, frames: int) -> Samples:
        size = max(1, BLOCK // self.sound.channels)
        blocks = []
        while frames > 0:
            block = self.sound.read(min(size, frames), dtype="float32")
            blocks.append(_mono(block))
            frames = frames - size if len(block) == size else 0
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _broken(self) -> AudioError:
        good = 0
        with suppress(soundfile.LibsndfileError):
            self.sound.seek(0)
            while size := len(self.sound.read(1024)):
                good += size
        return _broken(self.name, good / self.rate, self.frames / self.rate)


class _Ffmpeg:
    """A file that FFmpeg can read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        import av

        self.name = name
        file.seek(0)
        head = file.read(16)
        file.seek(0)
        try:
            # A playlist must not make us open the files and addresses that it names.
            options = {"protocol_whitelist": "none"}
            self.container = av.open(file, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"{name} is not audio that can be read: it begins with {head!r}; expected WAV, "
                "FLAC, Ogg, MP3, AIFF, m4a, webm or the like. Check or convert it."
            ) from error
        if not self.container.streams.audio:
            found = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            self.container.close()
            raise AudioError(
                f"{name} holds no audio, only {found}; expected speech. Choose another file."
            )
        self.stream = self.container.streams.audio[0]
        self.rate: float = self.stream.rate
        self.seconds = self._seconds()

    def read(self, first: int, last: int) -> Samples:
        """Raises AudioError where the file breaks off before ``last``."""
        pieces, at = [np.zeros(0, np.float32)], self._seek(first)
        for samples, known in self._decoded():
            at = known if at is None else at
            if at > first and len(pieces) == 1:
                raise AudioError(f"{self.name} cannot be read from its middle. Convert it to FLAC.")
            pieces.append(samples[max(0, first - at) : max(0, last - at)])
            at += len(samples)
            if at >= last:
                break
        good = (at or 0) / self.rate
        if self.seconds is not None and good < min(last / self.rate, self.seconds - 0.1):
            raise _broken(self.name, good, self.seconds)
        return np.concatenate(pieces)

    def close(self) -> None:
        """The file itself stays open."""
        self.container.close()

    def _seconds(self) -> float | None:
        """As the container says; None where FFmpeg would guess it from the bit rate."""
        kind = self.container.format.name
        if "mp4" in kind and self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        if "matroska" in kind and self.container.duration and len(self.container.streams) == 1:
            return self.container.duration / 1e6
        return None

    def _seek(self, first: int) -> int | None:
        """Go to before a sample; where that is only the frames tell. 0 where time is inexact."""
        base, warm_up = self.stream.time_base, round(self.rate)
        exact = base is not None and base * self.stream.rate == 1
        if not exact or "mp4" not in self.container.format.name or first <= warm_up:
            return 0
        target = first - warm_up + (self.stream.start_time or 0)
        self.container.seek(target, stream=self.stream, backward=True)
        return None

    def _decoded(self) -> Iterator[tuple[Samples, int]]:
        """Each frame as mono, and at which sample it says that it begins."""
        import av

        good = 0
        try:
            for frame in self.container.decode(self.stream):
                if frame.sample_rate != self.rate:
                    raise AudioError(
                        f"{self.name} changes from {self.rate} to {frame.sample_rate} Hz; expected "
                        "one rate. Convert it to WAV or FLAC."
                    )
                data = frame.to_ndarray()
                planar = data.T if frame.format.is_planar else data.reshape(frame.samples, -1)
                good += len(planar)
                yield _mono(_scaled(planar)), (frame.pts or 0) - (self.stream.start_time or 0)
        except av.FFmpegError as error:
            raise _broken(self.name, good / self.rate, self.seconds) from error


@contextmanager
def _opened(source: Source, name: str) -> Iterator[_Sound]:
    if isinstance(source, tuple):
        yield _Array(*source)
        return
    with _file(source) as file:
        if not file.read(1):
            raise AudioError(f"{name} is empty (0 bytes); expected audio. Get it again.")
        with closing(_sound(file, name)) as sound:
            _check_rate(sound.rate, f"the rate of {name}")
            yield sound


def _sound(file: BinaryIO, name: str) -> _Sound:
    _check_ogg(file, name)
    try:
        sound = _Sndfile(file, name)
    except soundfile.LibsndfileError:
        return _Ffmpeg(file, name)
    if sound.readable:
        return sound
    sound.close()
    return _Ffmpeg(file, name)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever a decoder makes of damaged bytes, the user meets one error."""
    try:
        with np.errstate(all="ignore"):
            yield
    except AudioError:
        raise
    except Exception as error:
        raise AudioError(
            f"{name} could not be read ({type(error).__name__}: {' '.join(str(error).split())}); "
            "expected audio. Check the file or convert it to WAV."
        ) from error


def _file(source: Any) -> Any:
    """A context that gives a seekable binary file and closes it only if it is ours."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return _path(Path(source))
    if not hasattr(source, "read") or not isinstance(source.read(0), bytes):
        raise AudioError(
            f"a recording was given as {type(source).__name__}; expected a path, bytes, a file "
            "opened in binary mode, or (samples, rate)."
        )
    if not (hasattr(source, "seekable") and source.seekable()):
        return io.BytesIO(source.read())
    source.seek(0)
    return nullcontext(source)


def _path(path: Path) -> BinaryIO:
    name = _name(path)
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


class _Virtual:
    """A file without a name, as soundfile takes any ``x.raw`` for headerless samples."""

    def __init__(self, file: Any) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> None:
        with suppress(ValueError, OSError):  # C calls this, and no exception gets through C
            self.file.seek(offset, whence)


def _name(source: object) -> str:
    if isinstance(source, tuple):
        return "the given array"
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes"
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    text = str(path) if isinstance(path, str | os.PathLike) else "the given file"
    return text if text.isprintable() and text else repr(text)


def _data_chunk(file: BinaryIO) -> tuple[int, int]:
    """Bytes of audio that a WAV or AIFF promises, and the bytes there; (0, 0) for all others."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    order = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}.get(head[:4])
    while order and len(chunk := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", chunk)
        there = size - file.tell()
        if name in (b"data", b"SSND"):
            closed = struct.unpack(f"{order}I", head[4:8])[0] == size - 8
            return (0, 0) if length == 0 and closed else (length, there)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0, 0


def _check_ogg(file: BinaryIO, name: str) -> None:
    """Raises AudioError if the last page of an Ogg file is cut: decoders would not say so."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65_307))  # the longest page that there can be
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 255
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise AudioError(
            f"{name} breaks off inside its last Ogg page, {size} bytes from its start; expected a "
            "whole file. Get it again."
        )


def _mono(samples: Samples) -> Samples:
    """Mean over channels: (n,) or (n, channels) -> (n,)."""
    if samples.ndim == 1:
        return samples
    # Five times as fast as mean(axis=1), and the same in every part of a file.
    total = np.zeros(len(samples), np.float32)
    for channel in samples.T:
        total += channel
    return total / np.float32(max(1, samples.shape[1]))


def _scaled(samples: npt.NDArray[Any]) -> Samples:
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


def _check_rate(rate: float, what: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{what} is {rate} Hz; expected {RATES[0]} to {RATES[1]} Hz. Check the number."
        )


def _check_part(name: str, start: float, end: float | None) -> None:
    if not (0 <= start < math.inf and (end is None or end > start)):
        raise AudioError(
            f"a part of {name} from {start} to {end} s; expected 0 <= start < end. Check both."
        )


def _check_samples(samples: Samples, sound: _Sound, name: str, start: float) -> None:
    """Raises AudioError for too little audio, and for samples that are no numbers."""
    if len(samples) == 0 and start > 0 and sound.seconds != 0:
        length = "" if sound.seconds is None else f": it all lasts {sound.seconds:.3f} s"
        raise AudioError(f"no audio in {name} from {start} s{length}. Choose an earlier start.")
    if len(samples) < round(SHORTEST * sound.rate):
        ms = 1000 * len(samples) / sound.rate
        found = f"{ms:.0f} ms of audio" if len(samples) else "no samples"
        raise AudioError(
            f"{name} holds {found}; expected at least {1000 * SHORTEST:.0f} ms. Leave it out."
        )
    if np.isfinite(samples.sum()):
        return
    bad = ~(np.abs(samples) < ABSURD)
    if bad.any():
        first = start + int(bad.argmax()) / sound.rate
        raise AudioError(
            f"{name} holds {bad.sum()} samples that are NaN, infinite or absurd, the first at "
            f"{first:.3f} s; expected numbers around [-1, 1]. Repair or leave it out."
        )


def _broken(name: str, good: float, promised: float | None) -> AudioError:
    of = "" if promised is None else f" of {promised:.2f} s"
    return AudioError(
        f"{name} breaks off: {good:.2f} s{of} could be read; expected a whole file. Get it again."
    )
