"""A recording, wherever it comes from, as mono float32 at the rate that is wanted.

libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; FFmpeg reads m4a, webm, video and what else it knows.
What a file holds decides, never how it is named. Nothing is cut short in silence: a file that
holds less than its header promises is an error (RF64, W64, AU and CAF alone are taken at their
size). Times are in seconds, rates in Hz.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from typing import BinaryIO, cast

import numpy as np
import soundfile

from serein.audio._containers import check_ogg
from serein.audio._ffmpeg import Ffmpeg
from serein.audio._samples import (
    RATES,
    SHORTEST,
    Given,
    Samples,
    Sound,
    check_channel,
    check_length,
    check_numbers,
    check_part,
    check_rate,
    mono,
)
from serein.audio._sndfile import Sndfile
from serein.audio._sources import Source, file_of, name_of
from serein.errors import AudioError

__all__ = [
    "RATES",
    "SHORTEST",
    "Resampler",
    "Samples",
    "Source",
    "blocks",
    "channels",
    "duration",
    "load",
    "windows",
]

FOREVER = 1e9
WHOLE = 2**24
"""Samples at a time where a file is read whole: what a header that lies can make us allocate."""


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
    name = name_of(source)
    check_rate(rate, "the wanted rate")
    check_part(name, start, end)
    with _decoding(name), _opened(source, name) as sound:
        samples = _joined(sound, *_span(sound, start, end))
        part = _part(name, start, end)
        check_length(len(samples), sound, part, start)
        check_numbers(samples, sound.rate, part, start)
        if sound.rate == rate:
            return samples
        import soxr

        return cast(Samples, soxr.resample(samples, sound.rate, rate, quality="HQ"))


def blocks(
    source: Source,
    *,
    seconds: float = 60.0,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> Iterator[tuple[Samples, float]]:
    """Read a recording, or a part of it, piece by piece; memory does not grow with its length.

    Args:
        source: as for ``load``.
        seconds: of a block; FFmpeg's formats come in shorter ones.
        start: where the part begins, in seconds; to the nearest sample of the file.
        end: where it ends, in seconds; None, or beyond the end, is the end of the file.
        channel: one of them, counted from 1; None is the mean of all.

    Yields:
        Samples of shape (n,), and the file's own rate in Hz, at which ``Resampler`` takes them.

    Raises:
        AudioError: as for ``load``, where the reading meets it; there is no such channel.
    """
    name = name_of(source)
    check_part(name, start, end)
    part, count = _part(name, start, end), 0
    with ExitStack() as stack:
        with _decoding(name):
            sound = stack.enter_context(_opened(source, name))
            check_channel(sound, name, channel)
        size = max(1, round(seconds * sound.rate))
        pieces = sound.blocks(*_span(sound, start, end), size)
        while True:
            with _decoding(name):  # not around the yield: numpy's settings would reach the caller
                block = next(pieces, None)
                if block is None:
                    break
                samples = mono(block, channel)
                check_numbers(samples, sound.rate, part, start + count / sound.rate)
            count += len(samples)
            yield samples, sound.rate
        check_length(count, sound, part, start)


class Resampler:
    """Samples from one rate to another, block by block, as if they had come at once."""

    def __init__(self, rate: float, wanted: float) -> None:
        """Take both rates in Hz.

        Raises:
            AudioError: a rate that no recording has.
        """
        check_rate(rate, "the rate")
        check_rate(wanted, "the wanted rate")
        self._stream = None
        if rate != wanted:
            import soxr

            self._stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")

    def __call__(self, samples: Samples, *, last: bool = False) -> Samples:
        """What is ready of (n,) samples and those before them; all of it with the last ones."""
        if self._stream is None:
            return samples
        return cast(Samples, self._stream.resample_chunk(samples, last=last))


def duration(source: Source) -> float:
    """How long a recording is, in seconds; decoded only where its container does not tell.

    Raises:
        AudioError: there is no such file, it is not audio, or it is damaged.
    """
    name = name_of(source)
    with _decoding(name), _opened(source, name) as sound:
        if sound.seconds is not None:
            return sound.seconds
        whole = sound.blocks(0, round(FOREVER * sound.rate), WHOLE)
        return sum(len(block) for block in whole) / sound.rate


def channels(source: Source) -> int:
    """How many channels a recording has.

    Raises:
        AudioError: there is no such file, or it is not audio.
    """
    name = name_of(source)
    with _decoding(name), _opened(source, name) as sound:
        return sound.channels


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


def _span(sound: Sound, start: float, end: float | None) -> tuple[int, int]:
    """First sample and the one after the last."""
    last = FOREVER if end is None else end
    return round(min(start, FOREVER) * sound.rate), round(min(last, FOREVER) * sound.rate)


def _part(name: str, start: float, end: float | None) -> str:
    return name if start == 0 and end is None else f"that part of {name}"


def _joined(sound: Sound, first: int, last: int) -> Samples:
    pieces = [mono(block) for block in sound.blocks(first, last, WHOLE)]
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.float32), *pieces])


@contextmanager
def _opened(source: Source, name: str) -> Iterator[Sound]:
    if isinstance(source, tuple):
        yield Given(*source)
        return
    with file_of(source) as file:
        if not file.read(1):
            raise AudioError(f"{name} is empty (0 bytes); expected audio. Get it again.")
        with closing(_sound(file, name)) as sound:
            check_rate(sound.rate, f"the rate of {name}")
            yield sound


def _sound(file: BinaryIO, name: str) -> Sound:
    check_ogg(file, name)
    try:
        sound = Sndfile(file, name)
    except soundfile.LibsndfileError:
        return Ffmpeg(file, name)
    if sound.readable:
        return sound
    sound.close()
    return Ffmpeg(file, name)


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
