"""What every protocol is made of: utterances in groups, and groups on sides."""

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TypeVar

from serein.errors import ProtocolError
from serein.protocols.settings import Settings, word
from serein.records import Fold, Protocol, Utterance

Groups = dict[str, list[Utterance]]
Ids = tuple[str, ...]
T = TypeVar("T")

PEOPLE = ("speaker", "session", "dialogue")
"""What bears the same name in two corpora is not the same."""


def said(utterance: Utterance, name: str) -> str | None:
    """An attribute or a label, as a word; None where the corpus does not say."""
    value = (getattr(utterance, name) if name in PEOPLE else None) or utterance.label(name)
    if value is None:
        return None
    return word(value).removeprefix(f"{utterance.corpus}/") if name in PEOPLE else word(value)


def of(utterance: Utterance, name: str) -> str | None:
    """The same, but speakers, sessions and dialogues are told apart by their corpora."""
    value = said(utterance, name)
    apart = value is not None and utterance.corpus and name in PEOPLE
    return f"{utterance.corpus}/{value}" if apart else value


def has(utterance: Utterance, name: str, wanted: Sequence[str]) -> bool:
    """Whether its value is one of those wanted, which may name its corpus: ``mine/s01``."""
    whole = [one for one in wanted if "/" in one]
    return matches(said(utterance, name), wanted) or matches(of(utterance, name), whole)


def gathered(utterances: Sequence[Utterance], name: str) -> Groups:
    """Utterances by speaker, session, corpus or whatever else; groups and ids in order.

    Raises:
        ProtocolError: some have none.
    """
    nameless = [utterance.id for utterance in utterances if of(utterance, name) is None]
    if nameless:
        raise ProtocolError(
            f"{len(nameless)} of {len(utterances)} utterances have no {name}, the first is "
            f"{nameless[0]}; a split by {name} needs one for each. Add a {name} column."
        )
    groups: Groups = {}
    for utterance in sorted(utterances, key=lambda u: (str(of(u, name)), u.id)):
        groups.setdefault(str(of(utterance, name)), []).append(utterance)
    return groups


def alternating(groups: Groups, names: Iterable[str], first: int = 0) -> list[str]:
    """Speakers in the given order, but with genders taking turns as long as both last.

    Args:
        groups: the utterances of each.
        names: which speakers.
        first: which gender begins, counted around.
    """
    gender = {name: groups[name][0].gender or "" for name in names}
    kinds = sorted(set(gender.values()))
    begin = first % max(1, len(kinds))
    queues = [[n for n in gender if gender[n] == k] for k in kinds[begin:] + kinds[:begin]]
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def ids(groups: Groups, names: Iterable[str]) -> Ids:
    """The ids of these groups, group by group."""
    return tuple(one.id for name in names for one in groups[name])


def ring(groups: Groups, order: Sequence[str], settings: Settings, what: str) -> Protocol:
    """One fold a group; the ones that follow it on a ring validate, the others train.

    Args:
        groups: what is tested one after the other.
        order: the ring.
        settings: of the protocol.
        what: a group, in a word.

    Raises:
        ProtocolError: too few groups.
    """
    count = settings.count
    if len(groups) < count + 2:
        raise ProtocolError(
            f"{settings.name} with {many(count, f'validation {what}')} needs {count + 2} {what}s; "
            f"found {len(groups)}: {', '.join(groups)}. Set protocol.validation lower."
        )
    folds = []
    for name in groups:
        place = order.index(name)
        chosen = {order[(place + step) % len(order)] for step in range(1, count + 1)}
        rest = [other for other in groups if other != name and other not in chosen]
        folds.append(
            Fold(
                name=name,
                train=ids(groups, rest),
                validation=ids(groups, sorted(chosen)),
                test=ids(groups, [name]),
            )
        )
    words = f"{many(count, what)} after the tested one" if count else "none"
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def set_aside(utterances: Sequence[Utterance], count: int) -> tuple[Ids, Ids]:
    """Take validation speakers from a training side: the first ones, genders alternating.

    Args:
        utterances: the training side.
        count: speakers to take of each corpus in it.

    Returns:
        Ids that train, and ids that validate.

    Raises:
        ProtocolError: a corpus has too few speakers.
    """
    if not count:
        return tuple(sorted(one.id for one in utterances)), ()
    groups = gathered(utterances, "speaker")
    corpora: dict[str | None, list[str]] = {}
    for name, members in groups.items():
        corpora.setdefault(of(members[0], "corpus"), []).append(name)
    chosen: set[str] = set()
    for corpus, names in corpora.items():
        if len(names) <= count:
            raise ProtocolError(
                f"{count} validation speakers cannot be taken from the training side of "
                f"{corpus or 'this corpus'}, which has {len(names)}: {', '.join(names)}. Set "
                'protocol.validation lower, or to "none".'
            )
        chosen.update(alternating(groups, names)[:count])
    rest = [name for name in groups if name not in chosen]
    return ids(groups, rest), ids(groups, sorted(chosen))


def shuffled(items: Iterable[T], seed: int, key: Callable[[T], str]) -> list[T]:
    """Items in an order that only their names and the seed decide, on any machine."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {key(item)}".encode()).digest())


def evenly(members: Sequence[Utterance], settings: Settings) -> list[str]:
    """Ids, shuffled, but so that whatever comes first holds its share of every class."""
    classes: dict[str, list[str]] = {}
    for one in shuffled(members, settings.seed, lambda one: one.id):
        classes.setdefault(of(one, settings.stratify) or "", []).append(one.id)
    # Fractions, so that every machine breaks ties alike.
    placed = [
        (Fraction(2 * place + 1, 2 * len(ids)), kind, id_)
        for kind, ids in classes.items()
        for place, id_ in enumerate(ids)
    ]
    return [id_ for *_, id_ in sorted(placed)]


def matches(value: str | None, wanted: Sequence[str]) -> bool:
    """Whether a value is one of those wanted; ``*`` stands for any letters."""
    if value is None:
        return False
    return value in wanted or any("*" in one and fnmatchcase(value, one) for one in wanted)


def numbered(count: int) -> list[str]:
    """Names of folds that sort as they count."""
    return [f"{number:0{len(str(count))}}" for number in range(1, count + 1)]


def many(count: int, noun: str) -> str:
    """So many of them.

    >>> many(1, "fold"), many(2, "fold")
    ('1 fold', '2 folds')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def placed(fold: Fold) -> Mapping[str, Ids]:
    """The sides of a fold by name."""
    return {"train": fold.train, "validation": fold.validation, "test": fold.test}


def without(fold: Fold, gone: Container[str]) -> Fold:
    """A fold, none of whose sides has these ids."""
    train, validation, test = (
        tuple(id_ for id_ in ids if id_ not in gone) for ids in placed(fold).values()
    )
    return replace(fold, train=train, validation=validation, test=test)
