"""A recording, wherever it comes from, as mono float32 at the rate that is wanted.

libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; FFmpeg reads m4a, webm, video and what else it knows.
What a file holds decides, never how it is named. Nothing is cut short in silence: a file that
holds less than its header promises is an error (RF64, W64, AU and CAF alone are taken at their
size). Times are in seconds, rates in Hz.
"""

from itertools import pairwise
from typing import cast

import numpy as np

from serein.audio.decoding import (
    MAX_FRAMES_PER_READ,
    MAX_SECONDS,
    describe_part,
    open_audio,
    sample_range,
    translate_decoding_errors,
)
from serein.audio.samples import (
    MIN_SECONDS,
    RATE_RANGE,
    AudioReader,
    Samples,
    Source,
    check_finite,
    check_length,
    check_part,
    check_rate,
    source_name,
    to_mono,
)
from serein.audio.streaming import Block, Resampler, convert_block, iter_blocks
from serein.records import Utterance

__all__ = [
    "MIN_SECONDS",
    "RATE_RANGE",
    "Block",
    "Resampler",
    "Samples",
    "Source",
    "channel_count",
    "convert_block",
    "duration",
    "iter_blocks",
    "load",
    "split_evenly",
    "utterance_duration",
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
    name = source_name(source)
    check_rate(rate, "the wanted rate")
    check_part(name, start, end)
    with translate_decoding_errors(name), open_audio(source, name) as sound:
        samples = _read_mono(sound, *sample_range(sound, start, end))
        part = describe_part(name, start, end)
        check_length(len(samples), sound, part, start)
        check_finite(samples, sound.rate, part, start)
        if sound.rate == rate:
            return samples
        import soxr

        return cast(Samples, soxr.resample(samples, sound.rate, rate, quality="HQ"))


def duration(source: Source) -> float:
    """How long a recording is, in seconds; decoded only where its container does not tell.

    Raises:
        AudioError: there is no such file, it is not audio, or it is damaged.
    """
    name = source_name(source)
    with translate_decoding_errors(name), open_audio(source, name) as sound:
        if sound.seconds is not None:
            return sound.seconds
        whole = sound.read_blocks(0, round(MAX_SECONDS * sound.rate), MAX_FRAMES_PER_READ)
        return sum(len(block) for block in whole) / sound.rate


def utterance_duration(utterance: Utterance) -> float:
    """How long an utterance is, by what its corpus says or else by its file.

    Raises:
        AudioError: the file must be asked, and cannot be read.
    """
    end = duration(utterance.path) if utterance.end is None else utterance.end
    return end - utterance.start


def channel_count(source: Source) -> int:
    """How many channels a recording has.

    Raises:
        AudioError: there is no such file, or it is not audio.
    """
    name = source_name(source)
    with translate_decoding_errors(name), open_audio(source, name) as sound:
        return sound.channels


def split_evenly(length: int, max_length: int) -> list[tuple[int, int]]:
    """Cut a length into the fewest windows none of which is longer than ``max_length``.

    Args:
        length: the length.
        max_length: most samples in a window; at least 1.

    Returns:
        First sample and the one after the last, of each window; lengths differ by one at most.

    Example:
        >>> split_evenly(10, max_length=4)
        [(0, 3), (3, 6), (6, 10)]
    """
    if max_length < 1:
        raise ValueError(f"a window of {max_length} samples; expected at least 1")
    count = -(-length // max_length)
    edges = [length * i // count for i in range(count + 1)] if count > 0 else []
    return list(pairwise(edges))


def _read_mono(sound: AudioReader, first: int, last: int) -> Samples:
    pieces = [to_mono(block) for block in sound.read_blocks(first, last, MAX_FRAMES_PER_READ)]
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.float32), *pieces])
