"""A recording, wherever it comes from, as mono float32 at the rate that is wanted.

libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; FFmpeg reads m4a, webm, video and what else it knows.
What a file holds decides, never how it is named. Nothing is cut short in silence: a file that
holds less than its header promises is an error (RF64, W64, AU and CAF alone are taken at their
size). Times are in seconds, rates in Hz.
"""

from itertools import pairwise
from typing import cast

import numpy as np

from serein.audio._blocks import Block, Resampler, blocks, prepared
from serein.audio._opened import FOREVER, WHOLE, decoding, opened, part_of, span
from serein.audio._samples import (
    RATES,
    SHORTEST,
    Samples,
    Sound,
    check_length,
    check_numbers,
    check_part,
    check_rate,
    mono,
)
from serein.audio._sources import Source, name_of
from serein.records import Utterance

__all__ = [
    "RATES",
    "SHORTEST",
    "Block",
    "Resampler",
    "Samples",
    "Source",
    "blocks",
    "channels",
    "duration",
    "load",
    "prepared",
    "seconds_of",
    "windows",
]


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
    with decoding(name), opened(source, name) as sound:
        samples = _joined(sound, *span(sound, start, end))
        part = part_of(name, start, end)
        check_length(len(samples), sound, part, start)
        check_numbers(samples, sound.rate, part, start)
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
    with decoding(name), opened(source, name) as sound:
        if sound.seconds is not None:
            return sound.seconds
        whole = sound.blocks(0, round(FOREVER * sound.rate), WHOLE)
        return sum(len(block) for block in whole) / sound.rate


def seconds_of(utterance: Utterance) -> float:
    """How long an utterance is, by what its corpus says or else by its file.

    Raises:
        AudioError: the file must be asked, and cannot be read.
    """
    end = duration(utterance.path) if utterance.end is None else utterance.end
    return end - utterance.start


def channels(source: Source) -> int:
    """How many channels a recording has.

    Raises:
        AudioError: there is no such file, or it is not audio.
    """
    name = name_of(source)
    with decoding(name), opened(source, name) as sound:
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


def _joined(sound: Sound, first: int, last: int) -> Samples:
    pieces = [mono(block) for block in sound.blocks(first, last, WHOLE)]
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.float32), *pieces])
