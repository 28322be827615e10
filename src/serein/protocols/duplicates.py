"""The same audio on two sides: copies of a recording, and overlapping stretches of one file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from serein.protocols.sides import count_noun, get_scoped_value, get_subsets
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
        words="; ".join(clauses) or "no recording is there under two names, and no two overlap",
        examples=tuple([*strange.values(), *own.values()][:5]),
    )
