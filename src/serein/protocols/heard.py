"""Which utterances hold the same samples, whatever their files are called and coded as."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import soundfile

from serein.records import Utterance

EXCERPT_SAMPLES = 2048
"""Samples that are compared first, in the middle: where recordings begin, many are silent."""

BLOCK_SAMPLES = 2**20
NUM_THREADS = 4


def hash_audio(utterances: Iterable[Utterance]) -> dict[str, str]:
    """For each id a hash that equals another's where all their samples are equal, and only there.

    Samples are taken as the file has them, without resampling: a WAV and its FLAC are equal, and a
    copy at another rate is not. What agrees with another in rate, channels, length and middle is
    read whole; all else is known to differ. What libsndfile cannot read is left out.

    Returns:
        Hashes, to be compared with each other alone.
    """
    members = list(utterances)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        probes = list(pool.map(_hash_excerpt, members))
        counts = Counter(probes)
        alike = [
            one for one, probe in zip(members, probes, strict=True) if probe and counts[probe] > 1
        ]
        whole = list(pool.map(_hash_whole, alike))
    marks = {one.id: probe for one, probe in zip(members, probes, strict=True) if probe}
    return marks | {one.id: mark for one, mark in zip(alike, whole, strict=True) if mark}


def hash_audio_excerpts(utterances: Iterable[Utterance]) -> dict[str, str]:
    """For each id a hash of its rate, channels, length and middle, the same in any lossless file.

    What agrees in these is, but for digital silence, the same recording. What libsndfile cannot
    read is left out.
    """
    members = list(utterances)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        found = list(pool.map(_hash_excerpt, members))
    return {one.id: mark for one, mark in zip(members, found, strict=True) if mark}


def _hash_excerpt(utterance: Utterance) -> str:
    """A hash of what is quickly read; empty where nothing can be."""
    return _hash_samples(utterance, excerpt=True)


def _hash_whole(utterance: Utterance) -> str:
    return _hash_samples(utterance, excerpt=False)


def _hash_samples(utterance: Utterance, *, excerpt: bool) -> str:
    try:
        with soundfile.SoundFile(utterance.path) as sound:
            first = min(round(utterance.start * sound.samplerate), sound.frames)
            end = sound.frames if utterance.end is None else round(utterance.end * sound.samplerate)
            left = max(0, min(end, sound.frames) - first)
            mark = hashlib.blake2b(digest_size=16)
            mark.update(f"{sound.samplerate} {sound.channels} {left}".encode())
            if excerpt:
                first, left = (
                    first + max(0, left - EXCERPT_SAMPLES) // 2,
                    min(left, EXCERPT_SAMPLES),
                )
            sound.seek(first)
            while left > 0 and len(block := sound.read(min(left, BLOCK_SAMPLES), dtype="float32")):
                mark.update(block)
                left -= len(block)
            return mark.hexdigest()
    except (OSError, RuntimeError, TypeError, ValueError):
        return ""  # whoever needs the audio will say what ails it
