"""The same audio on two sides: copies of a recording, and overlapping stretches of one file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from serein.protocols.sides import many, of, placed
from serein.records import Finding, Fold, Protocol, Utterance

ROUNDING = 1e-3
"""Stretches that share less than this, in seconds, merely touch."""

Stretch = tuple[float, float, str]
Pairs = dict[tuple[str, str], str]
"""For a fold and the utterance that should not be where it is: both utterances and sides."""


def find(protocol: Protocol, utterances: Sequence[Utterance], marks: Mapping[str, str]) -> Finding:
    """Look for audio that a fold has on two sides.

    Copies of the same known speaker are only warned of: no split by speaker parts them, and a
    random one leaks more than them. Overlapping stretches of one file are never harmless.

    Args:
        protocol: what to check.
        utterances: what it splits.
        marks: for each id, what only copies have in common.
    """
    copies, files = _copies(utterances, marks), _files(utterances)
    speaker = {one.id: of(one, "speaker") for one in utterances}
    interest = {id_ for group in copies for id_ in group}
    interest |= {id_ for stretches in files for *_, id_ in stretches}
    strange: Pairs = {}
    own: Pairs = {}
    for fold in protocol.folds:
        side = {id_: name for name, ids in placed(fold).items() for id_ in ids if id_ in interest}
        for group in copies:
            people = {speaker[id_] for id_ in group}
            harmless = len(people) == 1 and None not in people
            _apart(fold, group, side, own if harmless else strange)
        for stretches in files:
            _overlapping(fold, stretches, side, strange)
    for pair in own.keys() & strange.keys():
        del own[pair]
    repeated = sum(len(group) - 1 for group in copies) + sum(map(_overlaps, files))
    return _finding(strange, own, repeated)


def _copies(utterances: Sequence[Utterance], marks: Mapping[str, str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for one in sorted(utterances, key=lambda u: u.id):
        if one.id in marks:
            groups.setdefault(marks[one.id], []).append(one.id)
    return [group for group in groups.values() if len(group) > 1]


def _files(utterances: Sequence[Utterance]) -> list[list[Stretch]]:
    """The stretches of every file that has several, in order of time."""
    files: dict[Path, list[Stretch]] = {}
    for one in utterances:
        end = math.inf if one.end is None else one.end
        files.setdefault(one.path, []).append((one.start, end, one.id))
    return [sorted(stretches) for stretches in files.values() if len(stretches) > 1]


def _apart(fold: Fold, group: list[str], side: Mapping[str, str], found: Pairs) -> None:
    """Note the members of a group that are on another side than its first."""
    there = [id_ for id_ in group if id_ in side]
    for id_ in there[1:]:
        _note(fold, there[0], id_, side, found)


def _overlapping(
    fold: Fold, stretches: list[Stretch], side: Mapping[str, str], found: Pairs
) -> None:
    """Note stretches that begin before one of another side has ended."""
    latest: dict[str, tuple[float, str]] = {}
    for start, end, id_ in stretches:
        if id_ not in side:
            continue
        for until, other in latest.values():
            if until - start > ROUNDING:
                _note(fold, other, id_, side, found)
        latest[side[id_]] = max(latest.get(side[id_], (end, id_)), (end, id_))


def _note(fold: Fold, one: str, other: str, side: Mapping[str, str], found: Pairs) -> None:
    if side[one] != side[other]:
        words = f"{one} ({side[one]}) and {other} ({side[other]}) in fold {fold.name}"
        found.setdefault((fold.name, other), words)


def _overlaps(stretches: list[Stretch]) -> int:
    """How many begin before an earlier one has ended."""
    count, latest = 0, 0.0
    for start, end, _ in stretches:
        count += latest - start > ROUNDING
        latest = max(latest, end)
    return count


def _finding(strange: Pairs, own: Pairs, repeated: int) -> Finding:
    clauses = []
    if strange:
        clauses.append(
            "audio is on two sides of a fold, as copies or as overlapping stretches of a file: "
            + many(len(strange), "utterance")
        )
    if own:
        clauses.append(
            "copies of a recording of the same speaker are on two sides of a fold: "
            + many(len(own), "utterance")
        )
    if repeated and not clauses:
        clauses.append(f"audio is there twice, but on one side: {many(repeated, 'utterance')}")
    return Finding(
        kind="duplicate",
        verdict="error" if strange else "warning" if clauses else "clean",
        count=len(strange) + len(own) or repeated,
        words="; ".join(clauses) or "no recording is there under two names, and no two overlap",
        examples=tuple([*strange.values(), *own.values()][:5]),
    )
