"""Duplicate audio in a split: copies of a recording, and overlapping stretches of one recording."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import soundfile

from serein.protocols.fingerprints import CopyPair
from serein.protocols.splitters import count_noun, get_scoped_value, get_subsets
from serein.records import Finding, Fold, Protocol, Utterance

OVERLAP_TOLERANCE = 1e-3
"""Overlaps below this many seconds are not counted."""
EXCERPT_SAMPLES = 2048
"""Samples in the middle that are compared first; the beginnings of many recordings are silent."""
BLOCK_SAMPLES = 2**20
SILENCE = "silence"
"""In place of a hash: every sample is zero. Two such recordings are no copies of each other."""
NUM_THREADS = 4

FileSpan = tuple[float, float, str]
"""Start and end in seconds, and the id of the utterance."""
LeakedPairs = dict[tuple[str, str], str]
"""Descriptions of both utterances and their subsets, by fold and id of the second one."""


def find_duplicates(
    protocol: Protocol,
    utterances: Sequence[Utterance],
    hashes: Mapping[str, str],
    altered: Iterable[CopyPair] = (),
) -> Finding:
    """Find audio that is in two subsets of a fold.

    Copies of the same known speaker give a warning, not an error: every split by speaker keeps
    them in one subset, and a random split leaks more than them. Overlapping stretches of one
    recording are always an error.

    Args:
        protocol: to be checked.
        utterances: of the protocol.
        hashes: hash of each id; copies have the same hash.
        altered: pairs with equal fingerprints, from ``protocols.find_copies``.
    """
    copies, files = _group_copies(utterances, hashes), _group_spans_by_file(utterances)
    altered = _drop_known_pairs(altered, utterances, hashes, files)
    speaker_of = {utterance.id: get_scoped_value(utterance, "speaker") for utterance in utterances}
    candidates = {id_ for group in copies for id_ in group}
    candidates |= {id_ for spans in files for *_, id_ in spans}
    candidates |= {id_ for pair in altered for id_ in (pair.first, pair.second)}
    errors: LeakedPairs = {}
    warnings: LeakedPairs = {}
    for fold in protocol.folds:
        subset_of = {
            id_: subset
            for subset, ids in get_subsets(fold).items()
            for id_ in ids
            if id_ in candidates
        }
        for group in copies:
            speakers = {speaker_of[id_] for id_ in group}
            same_speaker = len(speakers) == 1 and None not in speakers
            _record_copies(fold, group, subset_of, warnings if same_speaker else errors)
        for spans in files:
            _record_overlaps(fold, spans, subset_of, errors)
        for pair in altered:
            same_speaker = speaker_of[pair.first] == speaker_of[pair.second] is not None
            is_warning = same_speaker and pair.is_whole
            _record_altered(fold, pair, subset_of, warnings if is_warning else errors)
    for leaked in warnings.keys() & errors.keys():
        del warnings[leaked]
    repeated = sum(len(group) - 1 for group in copies) + sum(map(_count_overlaps, files))
    repeated += len({pair.second for pair in altered})
    return _build_finding(errors, warnings, repeated)


def _group_copies(utterances: Sequence[Utterance], hashes: Mapping[str, str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for utterance in sorted(utterances, key=lambda utterance: utterance.id):
        if utterance.id in hashes:
            groups.setdefault(hashes[utterance.id], []).append(utterance.id)
    return [group for group in groups.values() if len(group) > 1]


def _drop_known_pairs(
    altered: Iterable[CopyPair],
    utterances: Sequence[Utterance],
    hashes: Mapping[str, str],
    files: Sequence[Sequence[FileSpan]],
) -> list[CopyPair]:
    """Drop pairs of other utterances, of equal hashes, or of overlapping spans of one file."""
    ids = {utterance.id for utterance in utterances}
    span_of = {id_: (n, start, end) for n, spans in enumerate(files) for start, end, id_ in spans}
    return [
        pair
        for pair in altered
        if pair.first in ids
        and pair.second in ids
        and (pair.first not in hashes or hashes[pair.first] != hashes.get(pair.second))
        and not _overlap(span_of.get(pair.first), span_of.get(pair.second))
    ]


def _overlap(one: tuple[int, float, float] | None, two: tuple[int, float, float] | None) -> bool:
    """Return whether two spans (number of the file, start, end) overlap."""
    if one is None or two is None or one[0] != two[0]:
        return False
    return min(one[2], two[2]) - max(one[1], two[1]) > OVERLAP_TOLERANCE


def _group_spans_by_file(utterances: Sequence[Utterance]) -> list[list[FileSpan]]:
    """Return the spans of each file that has several, in order of time; links are followed."""
    paths = {utterance.path for utterance in utterances}
    real_folder = {folder: os.path.realpath(folder) for folder in {path.parent for path in paths}}
    real_path = {
        path: os.path.realpath(path)
        if os.path.islink(path)
        else os.path.join(real_folder[path.parent], path.name)
        for path in paths
    }
    files: dict[str, list[FileSpan]] = {}
    for utterance in utterances:
        end = math.inf if utterance.end is None else utterance.end
        spans = files.setdefault(real_path[utterance.path], [])
        spans.append((utterance.start, end, utterance.id))
    return [sorted(spans) for spans in files.values() if len(spans) > 1]


def _record_copies(
    fold: Fold, group: list[str], subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    """Record the copies that are in another subset than the first one of their group."""
    members = [id_ for id_ in group if id_ in subset_of]
    for id_ in members[1:]:
        _record_pair(fold, members[0], id_, subset_of, pairs)


def _record_overlaps(
    fold: Fold, spans: list[FileSpan], subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    """Record the spans that start before a span of another subset has ended."""
    latest: dict[str, tuple[float, str]] = {}
    for start, end, id_ in spans:
        if id_ not in subset_of:
            continue
        for other_end, other in latest.values():
            if other_end - start > OVERLAP_TOLERANCE:
                _record_pair(fold, other, id_, subset_of, pairs)
        subset = subset_of[id_]
        latest[subset] = max(latest.get(subset, (end, id_)), (end, id_))


def _record_pair(
    fold: Fold, first: str, second: str, subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    if subset_of[first] != subset_of[second]:
        description = (
            f"{first} ({subset_of[first]}) and {second} ({subset_of[second]}) in fold {fold.name}"
        )
        pairs.setdefault((fold.name, second), description)


def _record_altered(
    fold: Fold, pair: CopyPair, subset_of: Mapping[str, str], pairs: LeakedPairs
) -> None:
    first, second = sorted((pair.first, pair.second))
    subsets = subset_of.get(first), subset_of.get(second)
    if None not in subsets and subsets[0] != subsets[1]:
        description = (
            f"{second} ({subsets[1]}) is a copy or an overlapping stretch of {first} "
            f"({subsets[0]}) in fold {fold.name}"
        )
        pairs.setdefault((fold.name, second), description)


def _count_overlaps(spans: list[FileSpan]) -> int:
    """Count the spans that start before an earlier one has ended."""
    count, latest = 0, 0.0
    for start, end, _ in spans:
        count += latest - start > OVERLAP_TOLERANCE
        latest = max(latest, end)
    return count


def _build_finding(errors: LeakedPairs, warnings: LeakedPairs, repeated: int) -> Finding:
    clauses = []
    if errors:
        clauses.append(
            "audio is in two subsets of a fold, as copies or as overlapping spans of a file: "
            + count_noun(len(errors), "utterance")
        )
    if warnings:
        clauses.append(
            "copies of a recording of the same speaker are in two subsets of a fold: "
            + count_noun(len(warnings), "utterance")
        )
    if repeated and not clauses:
        clauses.append(
            f"some audio is repeated, but within one subset: {count_noun(repeated, 'utterance')}"
        )
    return Finding(
        kind="duplicate",
        verdict="error" if errors else "warning" if clauses else "clean",
        count=len(errors) + len(warnings) or repeated,
        description="; ".join(clauses) or "no two recordings are copies, and no two overlap",
        examples=tuple([*errors.values(), *warnings.values()][:5]),
    )


def hash_audio(utterances: Iterable[Utterance]) -> dict[str, str]:
    """Return hashes that are equal for utterances of equal samples, and for no others.

    Samples are hashed as the file stores them, without resampling: a WAV file and its FLAC copy
    are equal, a copy at another rate is not. Digital silence is equal to nothing. An utterance is
    read whole only if another one has the same rate, channels, length and middle. Files that
    libsndfile cannot read are left out.

    Returns:
        Hash of each id, comparable only within this result.
    """
    members = list(utterances)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        excerpt_hashes = list(pool.map(_hash_excerpt, members))
        counts = Counter(excerpt_hashes)
        candidates = [
            utterance
            for utterance, hash_ in zip(members, excerpt_hashes, strict=True)
            if hash_ and counts[hash_] > 1
        ]
        whole_hashes = list(pool.map(_hash_whole, candidates))
    hashes = _index_hashes(members, excerpt_hashes) | _index_hashes(candidates, whole_hashes)
    return {id_: f"{SILENCE} {id_}" if hash_ == SILENCE else hash_ for id_, hash_ in hashes.items()}


def hash_audio_excerpts(utterances: Iterable[Utterance]) -> dict[str, str]:
    """Return hashes of rate, channels, length and middle, the same in any lossless format.

    Utterances of equal hashes are the same recording. Where the middle is digital silence, all
    samples are hashed, and digital silence has `SILENCE` in place of a hash. Files that libsndfile
    cannot read are left out.
    """
    members = list(utterances)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return _index_hashes(members, list(pool.map(_hash_excerpt, members)))


def _index_hashes(utterances: Sequence[Utterance], hashes: Sequence[str]) -> dict[str, str]:
    pairs = zip(utterances, hashes, strict=True)
    return {utterance.id: hash_ for utterance, hash_ in pairs if hash_}


def _hash_excerpt(utterance: Utterance) -> str:
    hash_ = _hash_samples(utterance, excerpt=True)
    return _hash_whole(utterance) if hash_ == SILENCE else hash_


def _hash_whole(utterance: Utterance) -> str:
    return _hash_samples(utterance, excerpt=False)


def _hash_samples(utterance: Utterance, *, excerpt: bool) -> str:
    """Return a hash of the samples or of an excerpt; empty for a file that cannot be read.

    It is `SILENCE` if every sample is zero.
    """
    try:
        with soundfile.SoundFile(utterance.path) as sound:
            rate = sound.samplerate
            start = min(round(utterance.start * rate), sound.frames)
            end = sound.frames if utterance.end is None else round(utterance.end * rate)
            length = max(0, min(end, sound.frames) - start)
            digest = hashlib.blake2b(digest_size=16)
            digest.update(f"{rate} {sound.channels} {length}".encode())
            if excerpt:
                start += max(0, length - EXCERPT_SAMPLES) // 2
                length = min(length, EXCERPT_SAMPLES)
            sound.seek(start)
            is_silent = True
            while length > 0 and len(
                block := sound.read(min(length, BLOCK_SAMPLES), dtype="float32")
            ):
                digest.update(block)
                is_silent = is_silent and not block.any()
                length -= len(block)
            return SILENCE if is_silent else digest.hexdigest()
    except (OSError, RuntimeError, TypeError, ValueError):
        return ""  # an unreadable file is reported where its audio is used
