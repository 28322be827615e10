"""What is left out: before a split by ``only`` and ``longest``, after it by ``disjoint``."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serein.audio import utterance_duration
from serein.errors import ProtocolError
from serein.protocols.settings import Values, parse_values
from serein.protocols.sides import get_scoped_value, get_value, has_value, number_folds
from serein.records import Fold, Protocol, Utterance


def filter_values(
    utterances: Sequence[Utterance], table: Mapping[str, Values]
) -> tuple[list[Utterance], str]:
    """Keep the utterances that have the wanted values.

    Returns:
        Those that stay, and how many they are, in words; no words where nothing is wanted.

    Raises:
        ProtocolError: none stays.
    """
    kept = list(utterances)
    for name, wanted in table.items():
        found = {value for one in kept if (value := get_value(one, name))}
        kept = [one for one in kept if has_value(one, name, parse_values(wanted))]
        if not kept:
            raise ProtocolError(
                f"protocol.only.{name} = {', '.join(parse_values(wanted))} leaves no utterance; "
                f"found {', '.join(sorted(found)[:20]) or f'no {name} at all'}"
            )
    terms = ", ".join(f"{name} {' or '.join(parse_values(table[name]))}" for name in table)
    return kept, f"only {terms}: {len(kept)} of {len(utterances)} utterances" if table else ""


def drop_long(
    utterances: Sequence[Utterance], max_duration: float | None
) -> tuple[list[Utterance], str]:
    """Keep the utterances that last no longer than wanted.

    Args:
        utterances: of a corpus.
        max_duration: in seconds; None keeps all.

    Returns:
        Those that stay, and how many do not, in words; no words where all stay.

    Raises:
        ProtocolError: none stays.
        AudioError: a file does not say how long it is.
    """
    if max_duration is None:
        return list(utterances), ""
    lasting = [utterance_duration(one) for one in utterances]
    kept = [
        one for one, seconds in zip(utterances, lasting, strict=True) if seconds <= max_duration
    ]
    if not kept:
        raise ProtocolError(
            f"protocol.longest = {max_duration:g} s leaves none of {len(utterances)} utterances; the "
            f"shortest lasts {min(lasting, default=0):.1f} s"
        )
    gone = len(utterances) - len(kept)
    words = f"{gone} of {len(utterances)} utterances last longer than {max_duration:g} s: left out"
    return kept, words if gone else ""


def make_disjoint(
    protocol: Protocol, utterances: Iterable[Utterance], names: Sequence[str], groups: int = 1
) -> Protocol:
    """Take from the other sides what shares a value with the test side of its fold.

    Args:
        protocol: a split.
        utterances: what it splits.
        names: attributes or labels; "sentence" falls back on the words that are said.
        groups: every fold becomes as many, each of which tests a group of the values.

    Raises:
        ProtocolError: no utterance has such a value, or nothing is left of a side.
    """
    members = list(utterances)
    for name in names:
        values = {one.id: value for one in members if (value := _get_disjoint_value(one, name))}
        if not values:
            raise ProtocolError(
                f"protocol.disjoint names {name}, and no utterance has one; name an attribute or "
                "a label of this corpus"
            )
        group = _group_values(values, members, groups)
        parted = [
            part for fold in protocol.folds for part in _split_test(fold, group, groups, name)
        ]
        folds = tuple(_drop_tested_values(fold, values, name) for fold in parted)
        before, after = _count_utterances(parted), _count_utterances(folds)
        words = (
            f"{name}-disjoint: {before[0] - after[0]} of {before[0]} training and "
            f"{before[1] - after[1]} of {before[1]} validation utterances left out, summed over "
            f"folds, as their {name} is tested"
        )
        protocol = replace(protocol, folds=folds, caution=join_cautions(protocol.caution, words))
    return protocol


def _group_values(
    values: Mapping[str, str], utterances: Iterable[Utterance], groups: int
) -> dict[str, int]:
    """A group for each id, the same for all of a value; groups alike in size."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in sorted(utterances, key=lambda u: u.id):
        own = values.get(one.id)
        alike.setdefault(("", one.id) if own is None else ("value", own), []).append(one.id)
    load, group = [0] * groups, {}
    for _, ids in sorted(alike.items(), key=lambda item: (-len(item[1]), item[0])):
        place = load.index(min(load))
        load[place] += len(ids)
        group.update(dict.fromkeys(ids, place))
    return group


def _split_test(fold: Fold, group: Mapping[str, int], groups: int, name: str) -> list[Fold]:
    if groups == 1:
        return [fold]
    tests = [tuple(id_ for id_ in fold.test if group[id_] == place) for place in range(groups)]
    return [
        replace(fold, name=f"{fold.name}, {name} {number}", test=test)
        for number, test in zip(number_folds(groups), tests, strict=True)
        if test
    ]


def _drop_tested_values(fold: Fold, values: Mapping[str, str], name: str) -> Fold:
    tested = {values[id_] for id_ in fold.test if id_ in values}
    kept = {}
    for side, ids in (("training", fold.train), ("validation", fold.validation)):
        kept[side] = tuple(id_ for id_ in ids if values.get(id_) not in tested)
        if ids and not kept[side]:
            raise ProtocolError(
                f"fold {fold.name} tests every {name} that its {side} side has, so that a "
                f"{name}-disjoint split leaves nothing of its {len(ids)} utterances. Set "
                f"protocol.groups to test a share of them at a time, or leave {name} out of "
                "protocol.disjoint"
            )
    return replace(fold, train=kept["training"], validation=kept["validation"])


def _count_utterances(folds: Iterable[Fold]) -> tuple[int, int]:
    return sum(len(f.train) for f in folds), sum(len(f.validation) for f in folds)


def _get_disjoint_value(utterance: Utterance, name: str) -> str | None:
    return get_sentence(utterance) if name == "sentence" else get_scoped_value(utterance, name)


def get_sentence(utterance: Utterance) -> str | None:
    """Which sentence is spoken: its label, or else its words without case and punctuation."""
    label = get_scoped_value(utterance, "sentence")
    if label is not None:
        return f"{utterance.corpus}/{label}" if utterance.corpus else label
    return re.sub(r"[\W_]+", " ", (utterance.text or "").casefold()).strip() or None


def join_cautions(*clauses: str) -> str:
    """Several cautions as one."""
    return "; ".join(clause for clause in clauses if clause)
