"""A recording, wherever it comes from, as mono float32 at the rate that is wanted.

libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; FFmpeg reads m4a, webm, video and what else it knows.
What a file holds decides, never how it is named. Nothing is cut short in silence: a file that
holds less than its header promises is an error (RF64, W64, AU and CAF alone are taken at their
size). Times are in seconds, rates in Hz.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
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
    check_part,
    check_rate,
    check_samples,
)
from serein.audio._sndfile import Sndfile
from serein.audio._sources import Source, file_of, name_of
from serein.errors import AudioError

__all__ = ["RATES", "SHORTEST", "Samples", "Source", "duration", "load", "windows"]

FOREVER = 1e9


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
        first = round(min(start, FOREVER) * sound.rate)
        last = round(min(FOREVER if end is None else end, FOREVER) * sound.rate)
        samples = sound.read(first, last)
        part = name if start == 0 and end is None else f"that part of {name}"
        check_samples(samples, sound, part, start)
        if sound.rate == rate:
            return samples
        import soxr

        return cast(Samples, soxr.resample(samples, sound.rate, rate, quality="HQ"))


def duration(source: Source) -> float:
    """How long a recording is, in seconds; decoded only where its container does not tell.

    Raises:
        AudioError: there is no such file, it is not audio, or it is damaged.
    """
    name = name_of(source)
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
