"""How a corpus is split, as a value; and the check that no split leaks.

A protocol yields folds of utterance ids. The speaker is the unit that no split may cut, but where
its name says so. ``split`` makes one, ``leakage`` checks it, ``save`` and ``load`` keep it.
"""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from serein.errors import ConfigError, ProtocolError, UnknownName
from serein.protocols import predefined, splitters
from serein.protocols.duplicates import hash_audio, hash_audio_excerpts
from serein.protocols.leakage import add_cautions, find_leaks, raise_on_leaks
from serein.protocols.predefined import SUFFIXES, load, save
from serein.protocols.settings import SplitConfig, parse_values
from serein.protocols.splitters import get_subsets, remove_ids
from serein.protocols.subsets import (
    add_auxiliary,
    drop_long,
    filter_values,
    join_cautions,
    limit_train,
    make_disjoint,
    select_training_utterances,
    split_main,
    subsample,
)
from serein.records import Fold, Protocol, Utterance

__all__ = [
    "PROTOCOLS",
    "ProtocolKind",
    "SplitConfig",
    "add_cautions",
    "check_protocol",
    "describe_protocols",
    "drop_long",
    "find_leaks",
    "hash_audio",
    "hash_audio_excerpts",
    "load",
    "parse_values",
    "raise_on_leaks",
    "save",
    "select_training_utterances",
    "split",
    "subsample",
]


@dataclass(frozen=True)
class ProtocolKind:
    """A way to split.

    Attributes:
        words: what it does, in a line.
        split: what does it.
        takes: settings that it has beyond those of all.
    """

    description: str
    split: Callable[[Sequence[Utterance], SplitConfig], Protocol]
    settings: tuple[str, ...] = ()


COMMON_SETTINGS = (
    *("name", "validation", "only", "max_duration", "disjoint", "disjoint_groups"),
    *("train_size", "allow"),
)
AUXILIARY_SETTINGS = ("main", "auxiliary_share", "auxiliary_ratio")
FOLD_SETTINGS = ("folds", "seed", "stratify")
WITHOUT_AUXILIARY = ("leave-one-corpus-out",)
"""Protocols that say themselves which corpora train."""
PROTOCOLS = {
    "leave-one-speaker-out": ProtocolKind("one fold a speaker", splitters.leave_one_speaker_out),
    "leave-one-session-out": ProtocolKind("one fold a session", splitters.leave_one_session_out),
    "leave-one-corpus-out": ProtocolKind("one fold a corpus", splitters.leave_one_corpus_out),
    "speaker-k-fold": ProtocolKind(
        "groups of speakers, balanced in gender and classes",
        splitters.speaker_k_fold,
        FOLD_SETTINGS,
    ),
    "zhang-text": ProtocolKind(
        "IEMOCAP sessions 1-3 / 4 / 5, as Zhang 2019 says", predefined.split_sessions
    ),
    "zhang-sizes": ProtocolKind(
        "IEMOCAP sessions 3-5 / 2 / 1, by Zhang 2019's sizes", predefined.split_sessions
    ),
    "parts": ProtocolKind(
        "the corpus's own train, dev and test parts", predefined.split_parts, ("train", "test")
    ),
    "by-label": ProtocolKind(
        "sides by the values of an attribute or label",
        predefined.split_by_label,
        ("by", "train", "test"),
    ),
    "random": ProtocolKind(
        "random folds; speaker-dependent", splitters.random_folds, FOLD_SETTINGS
    ),
    "speaker-dependent": ProtocolKind(
        "random folds, as in Table 5 of Feng 2020", splitters.random_folds, FOLD_SETTINGS
    ),
}


def describe_protocols() -> dict[str, str]:
    """Every protocol and what it does, in a line."""
    return {name: kind.description for name, kind in PROTOCOLS.items()}


def split(
    utterances: Sequence[Utterance], settings: SplitConfig, excluded_ids: Container[str] = ()
) -> Protocol:
    """Split a corpus.

    Args:
        utterances: all that is to be split.
        settings: how.
        excluded_ids: ids of this corpus that its user left out, such as those without a class; a
            saved protocol may name them.

    Raises:
        UnknownName: no protocol has that name.
        ConfigError: a setting is not one of this protocol.
        ProtocolError: these utterances cannot be split that way.
    """
    kept, words = filter_values(utterances, settings.only)
    kept, long = drop_long(kept, settings.max_duration)
    if settings.name.lower().endswith(SUFFIXES):
        kind = ProtocolKind("a saved protocol", partial(_load_saved, excluded_ids=excluded_ids))
    elif settings.name in PROTOCOLS:
        kind = PROTOCOLS[settings.name]
    else:
        hint = f"The file of a saved one ends in {' or '.join(SUFFIXES)}."
        raise UnknownName("protocol", settings.name, PROTOCOLS, hint)
    _check_settings(settings, kind)
    main, others = split_main(kept, settings)
    apart = partial(make_disjoint, utterances=kept, names=parse_values(settings.disjoint))
    protocol = kind.split(main, settings)
    if settings.train_size is None:
        protocol = apart(add_auxiliary(protocol, others, settings), groups=settings.disjoint_groups)
    else:
        protocol = limit_train(apart(protocol, groups=settings.disjoint_groups), main, settings)
        protocol = add_auxiliary(protocol, others, settings)
        protocol = apart(protocol) if others else protocol
    protocol = replace(protocol, caution=join_cautions(protocol.caution, words, long))
    check_protocol(protocol)
    return protocol


def _check_settings(settings: SplitConfig, kind: ProtocolKind) -> None:
    """A setting that would change nothing is a mistake of whoever set it."""
    if settings.disjoint_groups > 1 and not settings.disjoint:
        raise ConfigError(
            f"protocol.disjoint_groups = {settings.disjoint_groups} is of the values of protocol.disjoint, which "
            "names none; name an attribute or label there, such as sentence"
        )
    _check_auxiliary(settings)
    empty = SplitConfig()
    alone = settings.name in WITHOUT_AUXILIARY or settings.name.lower().endswith(SUFFIXES)
    drawn = settings.main or settings.train_size is not None
    known = (
        *COMMON_SETTINGS,
        *kind.settings,
        *(() if alone else AUXILIARY_SETTINGS),
        *(FOLD_SETTINGS[1:] if drawn else ()),
    )
    for name in (field.name for field in fields(SplitConfig)):
        if name not in known and getattr(settings, name) != getattr(empty, name):
            raise ConfigError(
                f"protocol.{name} = {getattr(settings, name)!r}; {settings.name} has no such "
                f"setting. It has {', '.join(sorted({*known}))}"
            )


def _check_auxiliary(settings: SplitConfig) -> None:
    """Amounts are of the corpora beside a main one, and given in one way."""
    empty = SplitConfig()
    given = [
        name for name in AUXILIARY_SETTINGS[1:] if getattr(settings, name) != getattr(empty, name)
    ]
    if given and not settings.main:
        raise ConfigError(
            f"protocol.{given[0]} is of the corpora beside protocol.main, which names none; name "
            "the corpus that is split"
        )
    if len(given) == 2:
        raise ConfigError(
            "protocol.auxiliary_share and protocol.auxiliary_ratio both say how much of the other corpora trains; set "
            "one"
        )


def _load_saved(
    utterances: Sequence[Utterance], settings: SplitConfig, excluded_ids: Container[str]
) -> Protocol:
    """A protocol from a file, for the corpus that it was made of."""
    if settings.validation != 1:
        raise ConfigError(
            f"protocol.validation = {settings.validation!r}; {settings.name} says itself what "
            "validates: leave protocol.validation out"
        )
    protocol = load(Path(settings.name).expanduser())
    there = {one.id for one in utterances}
    named = {id_ for fold in protocol.folds for side in get_subsets(fold).values() for id_ in side}
    gone = {id_ for id_ in named - there if id_ in excluded_ids}
    strange, left = sorted(named - there - gone), there - named
    if strange:
        raise ProtocolError(
            f"{settings.name} names {len(named)} utterances, and {len(strange)} of them are not "
            f"among the {len(there)} of this corpus, such as {', '.join(strange[:3])}. Give the "
            "corpus that it was made of, with the same protocol.only"
        )
    clauses = [f"{len(left)} of {len(there)} utterances are on no side"] * bool(left)
    if gone:
        clauses.append(f"{len(gone)} of the {len(named)} that {settings.name} names are left out")
    folds = tuple(remove_ids(fold, gone) for fold in protocol.folds)
    return replace(protocol, folds=folds, caution=join_cautions(protocol.caution, *clauses))


def check_protocol(protocol: Protocol) -> None:
    """Check that folds are folds: named apart, no side empty, no utterance on two sides.

    Nor is any tested in two folds; and all have a validation side, or none has.

    Raises:
        ProtocolError: one is not.
    """
    if not protocol.folds:
        raise ProtocolError(f"{protocol.name} has no folds; expected one or more")
    names = Counter(fold.name for fold in protocol.folds)
    if len(names) < len(protocol.folds):
        raise ProtocolError(f"{protocol.name} has two folds {max(names, key=names.__getitem__)}")
    for fold in protocol.folds:
        _check_subsets(fold)
    _check_folds(protocol)


def _check_subsets(fold: Fold) -> None:
    if not fold.train or not fold.test:
        raise ProtocolError(f"fold {fold.name} has an empty training or test side")
    seen: dict[str, str] = {}
    for side, ids in get_subsets(fold).items():
        if len(set(ids)) < len(ids):
            twice = max(ids, key=Counter(ids).__getitem__)
            raise ProtocolError(f"fold {fold.name} names {twice} twice on its {side} side")
        for id_ in ids:
            other = seen.setdefault(id_, side)
            if other != side:
                raise ProtocolError(
                    f"fold {fold.name}: utterance {id_} is on two sides, {other} and {side}; "
                    "each may be on one only"
                )


def _check_folds(protocol: Protocol) -> None:
    """What no fold shows alone."""
    first = {bool(fold.validation): fold.name for fold in reversed(protocol.folds)}
    if len(first) == 2:
        raise ProtocolError(
            f"fold {first[True]} has a validation side and fold {first[False]} has none; give each "
            "one, or none"
        )
    tested: dict[str, str] = {}
    for fold in protocol.folds:
        for id_ in fold.test:
            other = tested.setdefault(id_, fold.name)
            if other != fold.name:
                raise ProtocolError(
                    f"utterance {id_} is tested in two folds, {other} and {fold.name}, and would "
                    "count twice in the scores; test each once, or save each repetition as a "
                    "protocol of its own"
                )
