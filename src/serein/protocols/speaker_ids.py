"""Speaker ids that may belong to one person: ``03``, ``3``, ``spk3`` and ``SPK_03``."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from serein import registry
from serein.protocols.splitters import get_scoped_value
from serein.records import Utterance

NUMBERED_PATTERN = re.compile(
    r"(?:speakers?|spkr?|subj(?:ect)?|actor|participant|person|talker|voice|id|sp|s|p)?[\W_]*(\d+)"
)
"""A number after a word that says no more than speaker; ``f03`` and ``m03`` are two people."""
UNPUBLISHED = frozenset(("audformat", "synthetic", "table"))
"""Readers of corpora whose speakers can be anyone."""


def normalize_speaker_id(name: str) -> str:
    """Return a form of a speaker id that is equal for ids that look alike.

    >>> [normalize_speaker_id(name) for name in ("03", "3", "spk3", "SPK_03", "Anna", "anna")]
    ['3', '3', '3', '3', 'anna', 'anna']
    >>> normalize_speaker_id("f03") == normalize_speaker_id("m03")
    False
    """
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    numbered = NUMBERED_PATTERN.fullmatch(text)
    if numbered:
        return str(int(numbered[1]))
    return re.sub(r"[\W_]+", "", text) or name


def find_lookalikes(utterances: Sequence[Utterance]) -> dict[str, tuple[str, ...]]:
    """Return groups of speakers whose ids look alike, also in different corpora.

    Returns:
        The names of the speakers of each group, with their corpora, by normalised id.
    """
    names = {name for u in utterances if (name := get_scoped_value(u, "speaker"))}
    groups = {
        key: tuple(name for name in own if _may_be_others(name, own))
        for key, own in _group_by_id(names).items()
    }
    return {key: own for key, own in groups.items() if own}


def find_several_genders(utterances: Sequence[Utterance]) -> list[str]:
    """Return the speakers with utterances of two genders, sorted."""
    genders: dict[str, set[str]] = {}
    for utterance in utterances:
        speaker = get_scoped_value(utterance, "speaker")
        if speaker and utterance.gender:
            genders.setdefault(speaker, set()).add(utterance.gender)
    return sorted(speaker for speaker, own in genders.items() if len(own) > 1)


def match_lookalikes(names: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each name, the known names that look like it; those without any are left out.

    Args:
        names: ``CORPUS/NAME``, or a name.
        known: likewise.
    """
    by_id = _group_by_id(known)
    matches = {
        name: [other for other in by_id.get(_normalize_scoped(name), []) if _may_be(name, other)]
        for name in names
    }
    return {name: found for name, found in matches.items() if found}


def _group_by_id(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_normalize_scoped(name), []).append(name)
    return groups


def _normalize_scoped(name: str) -> str:
    return normalize_speaker_id(name.rpartition("/")[2] or name)


def _may_be_others(name: str, names: Iterable[str]) -> bool:
    return any(_may_be(name, other) for other in names)


def _may_be(name: str, other: str) -> bool:
    """Return whether two different names may be one person; two published corpora have none."""
    corpora = {name.rpartition("/")[0], other.rpartition("/")[0]}
    return name != other and not (len(corpora) == 2 and corpora <= _list_published_corpora())


@cache
def _list_published_corpora() -> frozenset[str]:
    """Return the corpora that were published with speakers of their own."""
    return frozenset(registry.list_names("corpora")) - UNPUBLISHED
