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
from serein.protocols import fixed, mixed, speakers
from serein.protocols.beside import beside, parted, together
from serein.protocols.fewer import fewer, first
from serein.protocols.filters import disjoint, joined, only, short
from serein.protocols.heard import heard, probes
from serein.protocols.leakage import cautioned, findings, refuse
from serein.protocols.saved import SUFFIXES, load, save
from serein.protocols.settings import Settings, listed
from serein.protocols.sides import placed, without
from serein.records import Fold, Protocol, Utterance

__all__ = [
    "PROTOCOLS",
    "Kind",
    "Settings",
    "cautioned",
    "check",
    "describe",
    "findings",
    "first",
    "heard",
    "listed",
    "load",
    "probes",
    "refuse",
    "save",
    "short",
    "split",
    "together",
]


@dataclass(frozen=True)
class Kind:
    """A way to split.

    Attributes:
        words: what it does, in a line.
        split: what does it.
        takes: settings that it has beyond those of all.
    """

    words: str
    split: Callable[[Sequence[Utterance], Settings], Protocol]
    takes: tuple[str, ...] = ()


ALL = ("name", "validation", "only", "longest", "disjoint", "groups", "most", "allow")
BESIDE = ("main", "share", "ratio")
DEALT = ("folds", "seed", "stratify")
ALONE = ("leave-one-corpus-out",)
"""Protocols that say themselves which corpora train."""
PROTOCOLS = {
    "leave-one-speaker-out": Kind("one fold a speaker", speakers.leave_one_speaker_out),
    "leave-one-session-out": Kind("one fold a session", speakers.leave_one_session_out),
    "leave-one-corpus-out": Kind("one fold a corpus", speakers.leave_one_corpus_out),
    "speaker-k-fold": Kind(
        "groups of speakers, balanced in gender and classes", speakers.speaker_k_fold, DEALT
    ),
    "zhang-text": Kind("IEMOCAP sessions 1-3 / 4 / 5, as Zhang 2019 says", fixed.sessions),
    "zhang-sizes": Kind("IEMOCAP sessions 3-5 / 2 / 1, by Zhang 2019's sizes", fixed.sessions),
    "parts": Kind("the corpus's own train, dev and test parts", fixed.parts, ("train", "test")),
    "by-label": Kind(
        "sides by the values of an attribute or label", fixed.by_label, ("by", "train", "test")
    ),
    "random": Kind("random folds; speaker-dependent", mixed.random_folds, DEALT),
    "speaker-dependent": Kind(
        "random folds, as in Table 5 of Feng 2020", mixed.random_folds, DEALT
    ),
}


def describe() -> dict[str, str]:
    """Every protocol and what it does, in a line."""
    return {name: kind.words for name, kind in PROTOCOLS.items()}


def split(
    utterances: Sequence[Utterance], settings: Settings, left_out: Container[str] = ()
) -> Protocol:
    """Split a corpus.

    Args:
        utterances: all that is to be split.
        settings: how.
        left_out: ids of this corpus that its user left out, such as those without a class; a
            saved protocol may name them.

    Raises:
        UnknownName: no protocol has that name.
        ConfigError: a setting is not one of this protocol.
        ProtocolError: these utterances cannot be split that way.
    """
    kept, words = only(utterances, settings.only)
    kept, long = short(kept, settings.longest)
    if settings.name.lower().endswith(SUFFIXES):
        kind = Kind("a saved protocol", partial(_saved, left_out=left_out))
    elif settings.name in PROTOCOLS:
        kind = PROTOCOLS[settings.name]
    else:
        hint = f"The file of a saved one ends in {' or '.join(SUFFIXES)}."
        raise UnknownName("protocol", settings.name, PROTOCOLS, hint)
    _check_settings(settings, kind)
    main, others = parted(kept, settings)
    apart = partial(disjoint, utterances=kept, names=listed(settings.disjoint))
    protocol = kind.split(main, settings)
    if settings.most is None:
        protocol = apart(beside(protocol, others, settings), groups=settings.groups)
    else:
        protocol = fewer(apart(protocol, groups=settings.groups), main, settings)
        protocol = beside(protocol, others, settings)
        protocol = apart(protocol) if others else protocol
    protocol = replace(protocol, caution=joined(protocol.caution, words, long))
    check(protocol)
    return protocol


def _check_settings(settings: Settings, kind: Kind) -> None:
    """A setting that would change nothing is a mistake of whoever set it."""
    if settings.groups > 1 and not settings.disjoint:
        raise ConfigError(
            f"protocol.groups = {settings.groups} is of the values of protocol.disjoint, which "
            "names none; name an attribute or label there, such as sentence"
        )
    _check_beside(settings)
    empty = Settings()
    alone = settings.name in ALONE or settings.name.lower().endswith(SUFFIXES)
    drawn = settings.main or settings.most is not None
    known = *ALL, *kind.takes, *(() if alone else BESIDE), *(DEALT[1:] if drawn else ())
    for name in (field.name for field in fields(Settings)):
        if name not in known and getattr(settings, name) != getattr(empty, name):
            raise ConfigError(
                f"protocol.{name} = {getattr(settings, name)!r}; {settings.name} has no such "
                f"setting. It has {', '.join(sorted({*known}))}"
            )


def _check_beside(settings: Settings) -> None:
    """Amounts are of the corpora beside a main one, and given in one way."""
    empty = Settings()
    given = [name for name in BESIDE[1:] if getattr(settings, name) != getattr(empty, name)]
    if given and not settings.main:
        raise ConfigError(
            f"protocol.{given[0]} is of the corpora beside protocol.main, which names none; name "
            "the corpus that is split"
        )
    if len(given) == 2:
        raise ConfigError(
            "protocol.share and protocol.ratio both say how much of the other corpora trains; set "
            "one"
        )


def _saved(
    utterances: Sequence[Utterance], settings: Settings, left_out: Container[str]
) -> Protocol:
    """A protocol from a file, for the corpus that it was made of."""
    if settings.validation != 1:
        raise ConfigError(
            f"protocol.validation = {settings.validation!r}; {settings.name} says itself what "
            "validates: leave protocol.validation out"
        )
    protocol = load(Path(settings.name).expanduser())
    there = {one.id for one in utterances}
    named = {id_ for fold in protocol.folds for side in placed(fold).values() for id_ in side}
    gone = {id_ for id_ in named - there if id_ in left_out}
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
    folds = tuple(without(fold, gone) for fold in protocol.folds)
    return replace(protocol, folds=folds, caution=joined(protocol.caution, *clauses))


def check(protocol: Protocol) -> None:
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
        _check_sides(fold)
    _check_across(protocol)


def _check_sides(fold: Fold) -> None:
    if not fold.train or not fold.test:
        raise ProtocolError(f"fold {fold.name} has an empty training or test side")
    seen: dict[str, str] = {}
    for side, ids in placed(fold).items():
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


def _check_across(protocol: Protocol) -> None:
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
