"""Load audio from files, bytes or arrays as mono float32 at a given sampling rate.

libsndfile reads WAV, FLAC, Ogg, MP3 and AIFF; FFmpeg reads m4a, webm, video and its other formats.
The format is detected from the content of a file, never from its name. A file that is shorter than
its header promises is an error and is never truncated silently (except RF64, W64, AU and CAF, which
are read up to their end). Times are in seconds, rates in Hz.
"""

import os
from collections.abc import Sequence
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
    CancellationCheck,
    Samples,
    Source,
    check_finite,
    check_length,
    check_rate,
    parse_part,
    source_name,
    to_mono,
)
from serein.audio.streaming import Block, Resampler, convert_block, iter_blocks
from serein.errors import CorpusError
from serein.records import Utterance
from serein.utils.file_hashes import cache_file_values

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
    "parse_part",
    "split_evenly",
    "utterance_duration",
    "utterance_durations",
]

DURATION_ROW_DTYPE = np.dtype([("stamp", "<i8", 4), ("seconds", "<f8")])


def load(
    source: Source, rate: int = 16_000, *, start: float = 0.0, end: float | None = None
) -> Samples:
    """Read a recording, or a part of it.

    Args:
        source: a path, bytes, a binary file object, or (samples, rate) with samples of shape
            (n,) or (n, channels); see ``Source``.
        rate: sampling rate of the result, in Hz.
        start: start of the part in seconds, rounded to the nearest sample of the file. Durations
            of pandas, NumPy and datetime, and texts such as "00:01.5" are accepted, too.
        end: end of the part; None, or a time after the end, is the end of the file.

    Returns:
        Samples of shape (n,), the mean of all channels. Full scale is 1; samples are not clipped.

    Raises:
        AudioError: the file does not exist, is not audio, or is damaged or too short.
    """
    name = source_name(source)
    check_rate(rate, "the target rate")
    start, end = parse_part(name, start, end)
    with translate_decoding_errors(name), open_audio(source, name) as reader:
        samples = _read_mono(reader, *sample_range(reader, start, end), name)
        part = describe_part(name, start, end)
        check_length(len(samples), reader, part, start)
        check_finite(samples, reader.rate, part, start)
        if reader.rate == rate:
            return samples
        import soxr

        return cast(Samples, soxr.resample(samples, reader.rate, rate, quality="HQ"))


def duration(source: Source) -> float:
    """Return the duration of a recording in seconds.

    It is the number of samples that ``load`` reads. A file is decoded unless its header has this
    number: containers and bit rates give estimates.

    Raises:
        AudioError: the file does not exist, is not audio, or is damaged.
    """
    name = source_name(source)
    with translate_decoding_errors(name), open_audio(source, name) as reader:
        if reader.duration is not None:
            return reader.duration
        blocks = reader.read_blocks(0, round(MAX_SECONDS * reader.rate), MAX_FRAMES_PER_READ)
        return sum(len(block) for block in blocks) / reader.rate


def utterance_duration(utterance: Utterance) -> float:
    """Return the duration of an utterance in seconds, from its corpus or else from its file.

    Raises:
        AudioError: the corpus gives no end, and the file cannot be read.
    """
    end = duration(utterance.path) if utterance.end is None else utterance.end
    return end - utterance.start


def utterance_durations(utterances: Sequence[Utterance]) -> list[float]:
    """Return `utterance_duration` of each; files that have not changed are not read again.

    Raises:
        AudioError: the corpus gives no end of an utterance, and its file cannot be read.
    """
    files = [os.fspath(utterance.path) for utterance in utterances if utterance.end is None]
    distinct = list(dict.fromkeys(files))
    try:
        second_n = cache_file_values(distinct, "durations", DURATION_ROW_DTYPE, duration)
    except CorpusError:  # a missing file, of which the error for audio says more
        return [utterance_duration(utterance) for utterance in utterances]
    seconds_of = dict(zip(distinct, second_n.tolist(), strict=True))
    return [
        (seconds_of[os.fspath(u.path)] if u.end is None else u.end) - u.start for u in utterances
    ]


def channel_count(source: Source) -> int:
    """Return the number of channels of a recording.

    Raises:
        AudioError: the file does not exist, or is not audio.
    """
    name = source_name(source)
    with translate_decoding_errors(name), open_audio(source, name) as reader:
        return reader.channels


def split_evenly(length: int, max_length: int) -> list[tuple[int, int]]:
    """Split a length into as few windows of at most ``max_length`` samples as possible.

    Args:
        length: in samples.
        max_length: maximum number of samples in a window; at least 1.

    Returns:
        Start (inclusive) and end (exclusive) of each window. Window lengths differ by at most one.

    Example:
        >>> split_evenly(10, max_length=4)
        [(0, 3), (3, 6), (6, 10)]
    """
    if max_length < 1:
        raise ValueError(f"a window of {max_length} samples; expected at least 1")
    count = -(-length // max_length)
    edges = [length * i // count for i in range(count + 1)] if count > 0 else []
    return list(pairwise(edges))


def _read_mono(reader: AudioReader, first: int, last: int, name: str) -> Samples:
    blocks, check = [], CancellationCheck()
    for block in reader.read_blocks(first, last, MAX_FRAMES_PER_READ):
        blocks.append(to_mono(block))
        check.add(block, blocks[-1])
    check.finish(name)
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.float32), *blocks])
