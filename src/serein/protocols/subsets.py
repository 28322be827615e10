"""What is left out: before a split by ``only`` and ``longest``, after it by ``disjoint``.

Corpora beside the main one: they train in every fold, and never validate or test.

Fewer utterances to train on than there are: what would a smaller corpus have given?
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serein.audio import utterance_duration
from serein.errors import ConfigError, ProtocolError
from serein.protocols.settings import Amount, SplitConfig, Values, parse_values
from serein.protocols.splitters import (
    get_scoped_value,
    get_value,
    has_value,
    number_folds,
    systematic_sample,
)
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
            f"protocol.max_duration = {max_duration:g} s leaves none of {len(utterances)} utterances; the "
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
                f"protocol.disjoint_groups to test a share of them at a time, or leave {name} out of "
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


Pools = dict[str, list[str]]
"""Ids by the corpus or language that a setting speaks of, in the order in which they are taken."""


def split_main(
    utterances: Sequence[Utterance], settings: SplitConfig
) -> tuple[list[Utterance], list[Utterance]]:
    """The main corpus, which is split, and the others.

    Raises:
        ProtocolError: the main corpus is not there, or stands alone.
    """
    if not settings.main:
        return list(utterances), []
    main = [one for one in utterances if one.corpus == settings.main]
    others = [one for one in utterances if one.corpus != settings.main]
    if not main or not others:
        names = sorted({one.corpus for one in utterances if one.corpus})
        raise ProtocolError(
            f"protocol.main = {settings.main!r} is to be one of several corpora that are read "
            f"together; found {', '.join(names) or 'one corpus alone'}. Give each its own --corpus"
        )
    return main, others


def add_auxiliary(
    protocol: Protocol, others: Sequence[Utterance], settings: SplitConfig
) -> Protocol:
    """Add to every training side what it takes of the other corpora.

    What is taken grows with the share: a half holds all of a quarter, with the same classes.

    Raises:
        ConfigError: a setting names a corpus or language that is not there, or asks for more
            than there is.
    """
    if not others:
        return protocol
    pools = _build_pools(others, settings)
    folds, counts = [], set[tuple[int, ...]]()
    for fold in protocol.folds:
        taken = {name: _take_from_pool(name, pools, settings, len(fold.train)) for name in pools}
        counts.add(tuple(map(len, taken.values())))
        ids = tuple(sorted(id_ for some in taken.values() for id_ in some))
        folds.append(replace(fold, train=fold.train + ids))
    words = _describe_pools(pools, list(zip(*sorted(counts), strict=True)), settings)
    return replace(protocol, folds=tuple(folds), caution=join_cautions(protocol.caution, words))


def select_training_utterances(
    utterances: Sequence[Utterance], settings: SplitConfig
) -> list[Utterance]:
    """What a model of whole corpora trains on: the main one, and its share of the others.

    Raises:
        ProtocolError: as ``parted``.
        ConfigError: as ``beside``.
    """
    main, others = split_main(utterances, settings)
    main = subsample(main, settings, settings.main)
    pools = _build_pools(others, settings)
    taken = {id_ for name in pools for id_ in _take_from_pool(name, pools, settings, len(main))}
    chosen = taken | {one.id for one in main}
    return [one for one in utterances if one.id in chosen]


def _build_pools(others: Sequence[Utterance], settings: SplitConfig) -> Pools:
    """Utterances by corpus; by language where a setting names that and not their corpus."""
    table = _get_amounts_by_name(settings)
    members: dict[str, list[Utterance]] = {}
    for one in others:
        corpus, language = str(one.corpus), one.language or ""
        by_language = corpus not in table and language in table
        members.setdefault(language if by_language else corpus, []).append(one)
    strange = sorted(set(table) - set(members))
    if strange:
        known = sorted({str(one.corpus) for one in others} | {one.language or "" for one in others})
        raise ConfigError(
            f"protocol.{_get_amount_name(settings)}.{strange[0]}: beside {settings.main} there is no such "
            f"corpus or language; found {', '.join(filter(None, known))}"
        )
    return {name: systematic_sample(members[name], settings) for name in sorted(members)}


def _take_from_pool(name: str, pools: Pools, settings: SplitConfig, num_train: int) -> list[str]:
    """What a fold takes of a pool, where it trains on so many utterances of the main corpus."""
    ids, amount = pools[name], _get_pool_amount(name, settings)
    if amount is None:
        return ids
    by_ratio = settings.auxiliary_ratio is not None
    wanted = amount * (num_train if by_ratio else len(ids))
    if wanted > len(ids):
        most = f"{len(ids) / num_train:.3g}" if by_ratio else "1"
        raise ConfigError(
            f"protocol.{_get_amount_name(settings)} = {amount:g} asks for {wanted:.0f} utterances of {name}, "
            f"which has {len(ids)}; expected {most} or less"
        )
    return ids[: round(wanted)]


def _get_amount_name(settings: SplitConfig) -> str:
    return "auxiliary_share" if settings.auxiliary_ratio is None else "auxiliary_ratio"


def _get_amounts(settings: SplitConfig) -> Amount:
    return (
        settings.auxiliary_share if settings.auxiliary_ratio is None else settings.auxiliary_ratio
    )


def _get_amounts_by_name(settings: SplitConfig) -> Mapping[str, float]:
    found = _get_amounts(settings)
    return found if isinstance(found, dict) else {}


def _get_pool_amount(name: str, settings: SplitConfig) -> float | None:
    """The number of a pool; None takes all of it."""
    found = _get_amounts(settings)
    return found.get(name) if isinstance(found, dict) else found


def _describe_pools(pools: Pools, counts: Sequence[Sequence[int]], settings: SplitConfig) -> str:
    parts = []
    for (name, ids), found in zip(pools.items(), counts, strict=True):
        low, high = min(found), max(found)
        number = f"{low}" if low == high else f"{low} to {high}"
        parts.append(f"{name} ({number} of {len(ids)} utterances)")
    return f"beside {settings.main}, which alone is split, train {', '.join(parts)}"


def subsample(
    utterances: Sequence[Utterance], settings: SplitConfig, source: str
) -> list[Utterance]:
    """As many as ``settings.train_size`` says, in their order, every class in proportion.

    A smaller number takes some of those that a larger one takes.

    Args:
        utterances: to choose from.
        settings: how many; by which label, and which draw.
        source: whose they are, in words.

    Raises:
        ConfigError: there are fewer.
    """
    if settings.train_size is None:
        return list(utterances)
    if settings.train_size > len(utterances):
        raise ConfigError(
            f"protocol.train_size = {settings.train_size} asks for more than the {len(utterances)} utterances "
            f"that {source} has; set it lower, or leave it out to train on all"
        )
    chosen = set(systematic_sample(utterances, settings)[: settings.train_size])
    return [one for one in utterances if one.id in chosen]


def limit_train(
    protocol: Protocol, utterances: Sequence[Utterance], settings: SplitConfig
) -> Protocol:
    """Leave out of every training side what is more than ``settings.train_size``.

    Raises:
        ConfigError: a fold has fewer to train on.
    """
    if settings.train_size is None:
        return protocol
    by_id = {one.id: one for one in utterances}
    folds = []
    for fold in protocol.folds:
        members = [by_id[id_] for id_ in fold.train]
        kept = subsample(members, settings, f"the training side of fold {fold.name}")
        folds.append(replace(fold, train=tuple(one.id for one in kept)))
    counts = sorted(len(fold.train) for fold in protocol.folds)
    there = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    words = f"each fold trains on {settings.train_size} of {there} utterances"
    return replace(protocol, folds=tuple(folds), caution=join_cautions(protocol.caution, words))
