"""Which utterances a split uses: filters, disjoint values, auxiliary corpora, training size."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serein.audio import utterance_durations
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

Pools = dict[str, list[str]]
"""Sampling order of the ids of each auxiliary corpus or language."""


def filter_values(
    utterances: Sequence[Utterance], values: Mapping[str, Values]
) -> tuple[list[Utterance], str]:
    """Keep the utterances that have the given values.

    Args:
        utterances: of one or more corpora.
        values: allowed values of each attribute or label.

    Returns:
        The utterances that are kept, and a clause with their number; empty without a filter.

    Raises:
        ProtocolError: no utterance has the values.
    """
    kept = list(utterances)
    for name, allowed in values.items():
        present = {value for utterance in kept if (value := get_value(utterance, name))}
        kept = [
            utterance for utterance in kept if has_value(utterance, name, parse_values(allowed))
        ]
        if not kept:
            raise ProtocolError(
                f"protocol.only.{name} = {', '.join(parse_values(allowed))} leaves no utterance; "
                f"found {', '.join(sorted(present)[:20]) or f'no {name} at all'}"
            )
    terms = ", ".join(f"{name} {' or '.join(parse_values(values[name]))}" for name in values)
    return kept, f"only {terms}: {len(kept)} of {len(utterances)} utterances" if values else ""


def drop_long(
    utterances: Sequence[Utterance], max_duration: float | None
) -> tuple[list[Utterance], str]:
    """Leave out utterances above a duration.

    Args:
        utterances: of one or more corpora.
        max_duration: in seconds; None keeps all.

    Returns:
        The utterances that are kept, and a clause with the number left out; empty where none is.

    Raises:
        ProtocolError: all utterances are longer.
        AudioError: the header of a file does not give its duration.
    """
    if max_duration is None:
        return list(utterances), ""
    durations = utterance_durations(utterances)
    kept = [
        utterance
        for utterance, duration in zip(utterances, durations, strict=True)
        if duration <= max_duration
    ]
    if not kept:
        raise ProtocolError(
            f"protocol.max_duration = {max_duration:g} s leaves none of {len(utterances)} "
            f"utterances; the shortest lasts {min(durations, default=0):.1f} s"
        )
    dropped = len(utterances) - len(kept)
    clause = (
        f"{dropped} of {len(utterances)} utterances last longer than {max_duration:g} s: left out"
    )
    return kept, clause if dropped else ""


def make_disjoint(
    protocol: Protocol, utterances: Iterable[Utterance], names: Sequence[str], groups: int = 1
) -> Protocol:
    """Remove training and validation utterances that share a value with their fold's test subset.

    Args:
        protocol: a split.
        utterances: of the protocol.
        names: attributes or labels; "sentence" falls back on the transcript.
        groups: number of groups of values; each fold becomes this many folds, each of which tests
            the values of one group.

    Raises:
        ProtocolError: no utterance has such a value, or a subset becomes empty.
    """
    members = list(utterances)
    for name in names:
        values = {
            utterance.id: value
            for utterance in members
            if (value := _get_disjoint_value(utterance, name))
        }
        if not values:
            raise ProtocolError(
                f"protocol.disjoint = {name}: no utterance has this value; expected an attribute "
                "or a label of this corpus"
            )
        group_of = _group_values(values, members, groups)
        before = [
            part for fold in protocol.folds for part in _split_test(fold, group_of, groups, name)
        ]
        after = tuple(_drop_test_values(fold, values, name) for fold in before)
        (train_before, validation_before), (train, validation) = map(_total_sizes, (before, after))
        clause = (
            f"{name}-disjoint: {train_before - train} of {train_before} training and "
            f"{validation_before - validation} of {validation_before} validation utterances left "
            f"out, summed over folds, as their {name} is tested"
        )
        protocol = replace(protocol, folds=after, caution=join_cautions(protocol.caution, clause))
    return protocol


def _group_values(
    values: Mapping[str, str], utterances: Iterable[Utterance], groups: int
) -> dict[str, int]:
    """Return the group of each id: one for all utterances of a value; groups of similar size."""
    ids_by_value: dict[tuple[str, str], list[str]] = {}
    for utterance in sorted(utterances, key=lambda utterance: utterance.id):
        value = values.get(utterance.id)
        key = ("", utterance.id) if value is None else ("value", value)
        ids_by_value.setdefault(key, []).append(utterance.id)
    sizes, group_of = [0] * groups, {}
    for _, ids in sorted(ids_by_value.items(), key=lambda item: (-len(item[1]), item[0])):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(ids)
        group_of.update(dict.fromkeys(ids, smallest))
    return group_of


def _split_test(fold: Fold, group_of: Mapping[str, int], groups: int, name: str) -> list[Fold]:
    if groups == 1:
        return [fold]
    tests = [tuple(id_ for id_ in fold.test if group_of[id_] == group) for group in range(groups)]
    return [
        replace(fold, name=f"{fold.name}, {name} {number}", test=test)
        for number, test in zip(number_folds(groups), tests, strict=True)
        if test
    ]


def _drop_test_values(fold: Fold, values: Mapping[str, str], name: str) -> Fold:
    tested = {values[id_] for id_ in fold.test if id_ in values}
    kept = {}
    for subset, ids in (("training", fold.train), ("validation", fold.validation)):
        kept[subset] = tuple(id_ for id_ in ids if values.get(id_) not in tested)
        if ids and not kept[subset]:
            raise ProtocolError(
                f"fold {fold.name} tests every {name} of its {subset} subset: a {name}-disjoint "
                f"split leaves none of its {len(ids)} utterances. Set protocol.disjoint_groups to "
                f"test one group of them at a time, or remove {name} from protocol.disjoint"
            )
    return replace(fold, train=kept["training"], validation=kept["validation"])


def _total_sizes(folds: Iterable[Fold]) -> tuple[int, int]:
    """Return the numbers of training and validation utterances, summed over folds."""
    sizes = [(len(fold.train), len(fold.validation)) for fold in folds]
    return sum(train for train, _ in sizes), sum(validation for _, validation in sizes)


def _get_disjoint_value(utterance: Utterance, name: str) -> str | None:
    return get_sentence(utterance) if name == "sentence" else get_scoped_value(utterance, name)


def get_sentence(utterance: Utterance) -> str | None:
    """Return what identifies the sentence: of joined corpora the words, else the sentence label.

    The other one is taken if that is missing; None without both.
    """
    keys = get_sentence_keys(utterance)
    return keys[0] if keys else None


def get_sentence_keys(utterance: Utterance) -> tuple[str, ...]:
    """Return everything that identifies the sentence, the best first.

    In a single corpus, that is the sentence label, or else the words. Several corpora have the
    words in common; a label is compared within its corpus, too.
    """
    label, words = get_value(utterance, "sentence"), get_words(utterance)
    if utterance.corpus is None:
        return tuple(key for key in (label, words) if key)[:1]
    scoped = label and f"{utterance.corpus}/{label}"
    return tuple(key for key in (words, scoped) if key)


def get_words(utterance: Utterance) -> str:
    """Return the transcript without case and punctuation; empty without one."""
    return re.sub(r"[\W_]+", " ", (utterance.text or "").casefold()).strip()


def join_cautions(*clauses: str) -> str:
    """Join the clauses that are not empty."""
    return "; ".join(clause for clause in clauses if clause)


def split_main(
    utterances: Sequence[Utterance], settings: SplitConfig
) -> tuple[list[Utterance], list[Utterance]]:
    """Separate the main corpus, which is split, from the auxiliary corpora.

    Raises:
        ProtocolError: the main corpus is missing, or is the only corpus.
    """
    if not settings.main:
        return list(utterances), []
    main = [utterance for utterance in utterances if utterance.corpus == settings.main]
    others = [utterance for utterance in utterances if utterance.corpus != settings.main]
    if not main or not others:
        names = sorted({utterance.corpus for utterance in utterances if utterance.corpus})
        raise ProtocolError(
            f"protocol.main = {settings.main!r}: expected one of several corpora; found "
            f"{', '.join(names) or 'a single corpus'}. Give each corpus its own --corpus"
        )
    return main, others


def add_auxiliary(
    protocol: Protocol, others: Sequence[Utterance], settings: SplitConfig
) -> Protocol:
    """Add auxiliary corpora to the training subset of every fold.

    Samples are stratified and nested: half a corpus contains a quarter of it.

    Raises:
        ConfigError: a setting names a corpus or language that is missing, or takes more
            utterances than it has.
    """
    if not others:
        return protocol
    pools = _build_pools(others, settings)
    folds, counts = [], set[tuple[int, ...]]()
    for fold in protocol.folds:
        samples = {name: _sample_pool(name, pools, settings, len(fold.train)) for name in pools}
        counts.add(tuple(map(len, samples.values())))
        ids = tuple(sorted(id_ for sample in samples.values() for id_ in sample))
        folds.append(replace(fold, train=fold.train + ids))
    clause = _describe_pools(pools, list(zip(*sorted(counts), strict=True)), settings)
    return replace(protocol, folds=tuple(folds), caution=join_cautions(protocol.caution, clause))


def select_training_utterances(
    utterances: Sequence[Utterance], settings: SplitConfig
) -> list[Utterance]:
    """Select the training utterances of a model that is trained without folds.

    Raises:
        ProtocolError: as `split_main`.
        ConfigError: as `add_auxiliary`.
    """
    main, others = split_main(utterances, settings)
    main = subsample(main, settings, settings.main)
    pools = _build_pools(others, settings)
    selected = {id_ for name in pools for id_ in _sample_pool(name, pools, settings, len(main))}
    selected |= {utterance.id for utterance in main}
    return [utterance for utterance in utterances if utterance.id in selected]


def _build_pools(others: Sequence[Utterance], settings: SplitConfig) -> Pools:
    """Group auxiliary utterances by corpus, or by a language that the setting names."""
    amount = _get_amount(settings)
    amounts = amount if isinstance(amount, dict) else {}
    members: dict[str, list[Utterance]] = {}
    for utterance in others:
        corpus, language = str(utterance.corpus), utterance.language or ""
        by_language = corpus not in amounts and language in amounts
        members.setdefault(language if by_language else corpus, []).append(utterance)
    unknown = sorted(set(amounts) - set(members))
    if unknown:
        known = {str(utterance.corpus) for utterance in others}
        known |= {utterance.language for utterance in others if utterance.language}
        raise ConfigError(
            f"protocol.{_get_amount_name(settings)}.{unknown[0]}: no auxiliary corpus and no "
            f"language of one has this name; expected {', '.join(sorted(known))}"
        )
    return {name: systematic_sample(members[name], settings) for name in sorted(members)}


def _sample_pool(name: str, pools: Pools, settings: SplitConfig, num_train: int) -> list[str]:
    """Return the ids of a pool that train beside ``num_train`` utterances of the main corpus."""
    ids, amounts = pools[name], _get_amount(settings)
    amount = amounts.get(name) if isinstance(amounts, dict) else amounts
    if amount is None:
        return ids
    by_ratio = settings.auxiliary_ratio is not None
    size = amount * (num_train if by_ratio else len(ids))
    if size > len(ids):
        limit = f"{len(ids) / num_train:.3g}" if by_ratio else "1"
        raise ConfigError(
            f"protocol.{_get_amount_name(settings)} = {amount:g} takes {size:.0f} utterances of "
            f"{name}, which has {len(ids)}; expected {limit} or less"
        )
    return ids[: round(size)]


def _get_amount_name(settings: SplitConfig) -> str:
    return "auxiliary_share" if settings.auxiliary_ratio is None else "auxiliary_ratio"


def _get_amount(settings: SplitConfig) -> Amount:
    share, ratio = settings.auxiliary_share, settings.auxiliary_ratio
    return share if ratio is None else ratio


def _describe_pools(pools: Pools, counts: Sequence[Sequence[int]], settings: SplitConfig) -> str:
    parts = []
    for (name, ids), sizes in zip(pools.items(), counts, strict=True):
        parts.append(f"{name} ({_format_range(sizes)} of {len(ids)} utterances)")
    return f"only {settings.main} is split; {', '.join(parts)} train in every fold"


def subsample(
    utterances: Sequence[Utterance], settings: SplitConfig, source: str
) -> list[Utterance]:
    """Take a stratified sample of ``settings.train_size`` utterances, in their order.

    A smaller sample is part of a larger one.

    Args:
        utterances: to sample from.
        settings: size, label and seed of the sample.
        source: name of the utterances in an error.

    Raises:
        ConfigError: there are fewer utterances.
    """
    if settings.train_size is None:
        return list(utterances)
    if settings.train_size > len(utterances):
        raise ConfigError(
            f"protocol.train_size = {settings.train_size} is larger than the {len(utterances)} "
            f"utterances of {source}; set it lower, or leave it out to train on all"
        )
    selected = set(systematic_sample(utterances, settings)[: settings.train_size])
    return [utterance for utterance in utterances if utterance.id in selected]


def limit_train(
    protocol: Protocol, utterances: Sequence[Utterance], settings: SplitConfig
) -> Protocol:
    """Reduce the training subset of every fold to ``settings.train_size`` utterances.

    Raises:
        ConfigError: a fold has fewer training utterances.
    """
    if settings.train_size is None:
        return protocol
    by_id = {utterance.id: utterance for utterance in utterances}
    folds = []
    for fold in protocol.folds:
        members = [by_id[id_] for id_ in fold.train]
        sample = subsample(members, settings, f"the training subset of fold {fold.name}")
        folds.append(replace(fold, train=tuple(utterance.id for utterance in sample)))
    sizes = [len(fold.train) for fold in protocol.folds]
    clause = f"each fold trains on {settings.train_size} of {_format_range(sizes)} utterances"
    return replace(protocol, folds=tuple(folds), caution=join_cautions(protocol.caution, clause))


def limit_folds(protocol: Protocol, settings: SplitConfig) -> Protocol:
    """Keep the first ``settings.max_folds`` folds.

    Raises:
        ConfigError: there are fewer folds.
    """
    limit, total = settings.max_folds, len(protocol.folds)
    if limit is None or limit == total:
        return protocol
    if limit > total:
        raise ConfigError(
            f"protocol.max_folds = {limit} is more than the {total} folds of {protocol.name}; set "
            "it lower, or leave it out to run all"
        )
    clause = f"only {limit} of {total} folds trained and tested"
    caution = join_cautions(protocol.caution, clause)
    return replace(protocol, folds=protocol.folds[:limit], caution=caution)


def _format_range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
