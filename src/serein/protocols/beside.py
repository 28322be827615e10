"""Corpora beside the main one: they train in every fold, and never validate or test."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serein.errors import ConfigError, ProtocolError
from serein.protocols.fewer import subsample
from serein.protocols.settings import Amount, SplitConfig
from serein.protocols.sides import systematic_sample
from serein.protocols.subsets import join_cautions
from serein.records import Protocol, Utterance

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
    by_ratio = settings.ratio is not None
    wanted = amount * (num_train if by_ratio else len(ids))
    if wanted > len(ids):
        most = f"{len(ids) / num_train:.3g}" if by_ratio else "1"
        raise ConfigError(
            f"protocol.{_get_amount_name(settings)} = {amount:g} asks for {wanted:.0f} utterances of {name}, "
            f"which has {len(ids)}; expected {most} or less"
        )
    return ids[: round(wanted)]


def _get_amount_name(settings: SplitConfig) -> str:
    return "share" if settings.ratio is None else "ratio"


def _get_amounts(settings: SplitConfig) -> Amount:
    return settings.share if settings.ratio is None else settings.ratio


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
