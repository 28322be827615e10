"""The same audio on two sides: copies of a recording, and overlapping stretches of one file.

Which utterances hold the same samples, whatever their files are called and coded as.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile

from serein.protocols.splitters import count_noun, get_scoped_value, get_subsets
from serein.records import Finding, Fold, Protocol, Utterance

OVERLAP_TOLERANCE = 1e-3
"""Stretches that share less than this, in seconds, merely touch."""

FileSpan = tuple[float, float, str]
LeakedPairs = dict[tuple[str, str], str]
"""For a fold and the utterance that should not be where it is: both utterances and sides."""


def find_duplicates(
    protocol: Protocol, utterances: Sequence[Utterance], hashes: Mapping[str, str]
) -> Finding:
    """Look for audio that a fold has on two sides.

    Copies of the same known speaker are only warned of: no split by speaker parts them, and a
    random one leaks more than them. Overlapping stretches of one file are never harmless.

    Args:
        protocol: what to check.
        utterances: what it splits.
        hashes: for each id, what only copies have in common.
    """
    copies, files = _group_copies(utterances, hashes), _group_spans_by_file(utterances)
    speaker = {one.id: get_scoped_value(one, "speaker") for one in utterances}
    interest = {id_ for group in copies for id_ in group}
    interest |= {id_ for stretches in files for *_, id_ in stretches}
    strange: LeakedPairs = {}
    own: LeakedPairs = {}
    for fold in protocol.folds:
        side = {
            id_: name for name, ids in get_subsets(fold).items() for id_ in ids if id_ in interest
        }
        for group in copies:
            people = {speaker[id_] for id_ in group}
            harmless = len(people) == 1 and None not in people
            _record_copies(fold, group, side, own if harmless else strange)
        for stretches in files:
            _record_overlaps(fold, stretches, side, strange)
    for pair in own.keys() & strange.keys():
        del own[pair]
    repeated = sum(len(group) - 1 for group in copies) + sum(map(_count_overlaps, files))
    return _build_finding(strange, own, repeated)


def _group_copies(utterances: Sequence[Utterance], hashes: Mapping[str, str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for one in sorted(utterances, key=lambda u: u.id):
        if one.id in hashes:
            groups.setdefault(hashes[one.id], []).append(one.id)
    return [group for group in groups.values() if len(group) > 1]


def _group_spans_by_file(utterances: Sequence[Utterance]) -> list[list[FileSpan]]:
    """The stretches of every file that has several, in order of time."""
    files: dict[Path, list[FileSpan]] = {}
    for one in utterances:
        end = math.inf if one.end is None else one.end
        files.setdefault(one.path, []).append((one.start, end, one.id))
    return [sorted(stretches) for stretches in files.values() if len(stretches) > 1]


def _record_copies(
    fold: Fold, group: list[str], subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    """Note the members of a group that are on another side than its first."""
    there = [id_ for id_ in group if id_ in subset_of]
    for id_ in there[1:]:
        _record_pair(fold, there[0], id_, subset_of, pairs)


def _record_overlaps(
    fold: Fold, spans: list[FileSpan], subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    """Note stretches that begin before one of another side has ended."""
    latest: dict[str, tuple[float, str]] = {}
    for start, end, id_ in spans:
        if id_ not in subset_of:
            continue
        for until, other in latest.values():
            if until - start > OVERLAP_TOLERANCE:
                _record_pair(fold, other, id_, subset_of, pairs)
        latest[subset_of[id_]] = max(latest.get(subset_of[id_], (end, id_)), (end, id_))


def _record_pair(
    fold: Fold, one: str, other: str, subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    if subset_of[one] != subset_of[other]:
        words = f"{one} ({subset_of[one]}) and {other} ({subset_of[other]}) in fold {fold.name}"
        pairs.setdefault((fold.name, other), words)


def _count_overlaps(spans: list[FileSpan]) -> int:
    """How many begin before an earlier one has ended."""
    count, latest = 0, 0.0
    for start, end, _ in spans:
        count += latest - start > OVERLAP_TOLERANCE
        latest = max(latest, end)
    return count


def _build_finding(strange: LeakedPairs, own: LeakedPairs, repeated: int) -> Finding:
    clauses = []
    if strange:
        clauses.append(
            "audio is on two sides of a fold, as copies or as overlapping stretches of a file: "
            + count_noun(len(strange), "utterance")
        )
    if own:
        clauses.append(
            "copies of a recording of the same speaker are on two sides of a fold: "
            + count_noun(len(own), "utterance")
        )
    if repeated and not clauses:
        clauses.append(
            f"audio is there twice, but on one side: {count_noun(repeated, 'utterance')}"
        )
    return Finding(
        kind="duplicate",
        verdict="error" if strange else "warning" if clauses else "clean",
        count=len(strange) + len(own) or repeated,
        description="; ".join(clauses)
        or "no recording is there under two names, and no two overlap",
        examples=tuple([*strange.values(), *own.values()][:5]),
    )


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
