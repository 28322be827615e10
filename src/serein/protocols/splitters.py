"""Speakers, sessions and corpora as the units that no split may cut.

What every protocol is made of: utterances in groups, and groups on sides.

Random folds. The same speakers train and are tested: such scores flatter every system.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from serein.errors import ProtocolError
from serein.protocols.settings import SplitConfig, format_value
from serein.records import Fold, Protocol, Utterance

Groups = dict[str, list[Utterance]]
Ids = tuple[str, ...]
T = TypeVar("T")

CORPUS_SCOPED = ("speaker", "session", "dialogue")
"""What bears the same name in two corpora is not the same."""


def get_value(utterance: Utterance, name: str) -> str | None:
    """An attribute or a label, as a word; None where the corpus does not say."""
    value = (getattr(utterance, name) if name in CORPUS_SCOPED else None) or utterance.label(name)
    if value is None:
        return None
    return (
        format_value(value).removeprefix(f"{utterance.corpus}/")
        if name in CORPUS_SCOPED
        else format_value(value)
    )


def get_scoped_value(utterance: Utterance, name: str) -> str | None:
    """The same, but speakers, sessions and dialogues are told apart by their corpora."""
    value = get_value(utterance, name)
    apart = value is not None and utterance.corpus and name in CORPUS_SCOPED
    return f"{utterance.corpus}/{value}" if apart else value


def has_value(utterance: Utterance, name: str, wanted: Sequence[str]) -> bool:
    """Whether its value is one of those wanted, which may name its corpus: ``mine/s01``."""
    whole = [one for one in wanted if "/" in one]
    return is_match(get_value(utterance, name), wanted) or is_match(
        get_scoped_value(utterance, name), whole
    )


def group_by(utterances: Sequence[Utterance], name: str) -> Groups:
    """Utterances by speaker, session, corpus or whatever else; groups and ids in order.

    Raises:
        ProtocolError: some have none.
    """
    nameless = [
        utterance.id for utterance in utterances if get_scoped_value(utterance, name) is None
    ]
    if nameless:
        raise ProtocolError(
            f"{len(nameless)} of {len(utterances)} utterances have no {name}, the first is "
            f"{nameless[0]}; a split by {name} needs one for each. Add a {name} column."
        )
    groups: Groups = {}
    for utterance in sorted(utterances, key=lambda u: (str(get_scoped_value(u, name)), u.id)):
        groups.setdefault(str(get_scoped_value(utterance, name)), []).append(utterance)
    return groups


def alternate_genders(groups: Groups, names: Iterable[str], first_gender: int = 0) -> list[str]:
    """Speakers in the given order, but with genders taking turns as long as both last.

    Args:
        groups: the utterances of each.
        names: which speakers.
        first_gender: which gender begins, counted around.
    """
    gender = {name: groups[name][0].gender or "" for name in names}
    kinds = sorted(set(gender.values()))
    begin = first_gender % max(1, len(kinds))
    queues = [[n for n in gender if gender[n] == k] for k in kinds[begin:] + kinds[:begin]]
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def collect_ids(groups: Groups, names: Iterable[str]) -> Ids:
    """The ids of these groups, group by group."""
    return tuple(one.id for name in names for one in groups[name])


def build_rotating_folds(
    groups: Groups, order: Sequence[str], settings: SplitConfig, unit: str
) -> Protocol:
    """One fold a group; the ones that follow it on a ring validate, the others train.

    Args:
        groups: what is tested one after the other.
        order: the ring.
        settings: of the protocol.
        unit: a group, in a word.

    Raises:
        ProtocolError: too few groups.
    """
    count = settings.num_validation
    if len(groups) < count + 2:
        raise ProtocolError(
            f"{settings.name} with {count_noun(count, f'validation {unit}')} needs {count + 2} {unit}s; "
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
                train=collect_ids(groups, rest),
                validation=collect_ids(groups, sorted(chosen)),
                test=collect_ids(groups, [name]),
            )
        )
    words = f"{count_noun(count, unit)} after the tested one" if count else "none"
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def hold_out_validation(utterances: Sequence[Utterance], count: int) -> tuple[Ids, Ids]:
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
    groups = group_by(utterances, "speaker")
    corpora: dict[str | None, list[str]] = {}
    for name, members in groups.items():
        corpora.setdefault(get_scoped_value(members[0], "corpus"), []).append(name)
    chosen: set[str] = set()
    for corpus, names in corpora.items():
        if len(names) <= count:
            raise ProtocolError(
                f"{count} validation speakers cannot be taken from the training side of "
                f"{corpus or 'this corpus'}, which has {len(names)}: {', '.join(names)}. Set "
                'protocol.validation lower, or to "none".'
            )
        chosen.update(alternate_genders(groups, names)[:count])
    rest = [name for name in groups if name not in chosen]
    return collect_ids(groups, rest), collect_ids(groups, sorted(chosen))


def hash_shuffle(items: Iterable[T], seed: int, key: Callable[[T], str]) -> list[T]:
    """Items in an order that only their names and the seed decide, on any machine."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {key(item)}".encode()).digest())


def systematic_sample(members: Sequence[Utterance], settings: SplitConfig) -> list[str]:
    """Ids, shuffled, but so that whatever comes first holds its share of every class."""
    classes: dict[str, list[str]] = {}
    for one in hash_shuffle(members, settings.seed, lambda one: one.id):
        classes.setdefault(get_scoped_value(one, settings.stratify) or "", []).append(one.id)
    # Fractions, so that every machine breaks ties alike.
    placed = [
        (Fraction(2 * place + 1, 2 * len(ids)), kind, id_)
        for kind, ids in classes.items()
        for place, id_ in enumerate(ids)
    ]
    return [id_ for *_, id_ in sorted(placed)]


def is_match(value: str | None, wanted: Sequence[str]) -> bool:
    """Whether a value is one of those wanted; ``*`` stands for any letters."""
    if value is None:
        return False
    return value in wanted or any("*" in one and fnmatchcase(value, one) for one in wanted)


def number_folds(count: int) -> list[str]:
    """Names of folds that sort as they count."""
    return [f"{number:0{len(str(count))}}" for number in range(1, count + 1)]


def count_noun(count: int, noun: str) -> str:
    """So many of them.

    >>> count_noun(1, "fold"), count_noun(2, "fold")
    ('1 fold', '2 folds')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def get_subsets(fold: Fold) -> Mapping[str, Ids]:
    """The sides of a fold by name."""
    return {"train": fold.train, "validation": fold.validation, "test": fold.test}


def remove_ids(fold: Fold, removed_ids: Container[str]) -> Fold:
    """A fold, none of whose sides has these ids."""
    train, validation, test = (
        tuple(id_ for id_ in ids if id_ not in removed_ids) for ids in get_subsets(fold).values()
    )
    return replace(fold, train=train, validation=validation, test=test)


Integers = npt.NDArray[np.int64]

MAX_PASSES = 20
SHARE_SCALE = 2**20
"""All utterances, or all of a class; in whole numbers, so that every machine deals alike."""


def leave_one_speaker_out(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """One fold a speaker; validation speakers are the next ones, gender alternating.

    Validation holds as many women as men where their number allows, so that the epoch is not
    chosen for one kind of voice. Every speaker validates in equally many folds.
    """
    groups = group_by(utterances, "speaker")
    return build_rotating_folds(groups, alternate_genders(groups, groups), settings, "speaker")


def leave_one_session_out(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """One fold a session; the sessions that follow validate."""
    groups = group_by(utterances, "session")
    return build_rotating_folds(groups, list(groups), settings, "session")


def leave_one_corpus_out(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """One fold a corpus; speakers of every other corpus validate, gender alternating."""
    groups, count = group_by(utterances, "corpus"), settings.num_validation
    if len(groups) < 2:
        raise ProtocolError(
            f"{settings.name} needs two corpora or more; found {', '.join(groups) or 'none'}. "
            "Read several corpora together."
        )
    folds = []
    for name in groups:
        others = [one for other in groups if other != name for one in groups[other]]
        train, validation = hold_out_validation(others, count)
        folds.append(
            Fold(
                name=name,
                train=train,
                validation=validation,
                test=collect_ids(groups, [name]),
            )
        )
    words = f"{count_noun(count, 'speaker')} of each other corpus" if count else "none"
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def speaker_k_fold(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Groups of speakers, each tested once; speakers of the groups that follow validate.

    Between groups, speakers and speakers of each gender differ by one at most.
    """
    groups, count = group_by(utterances, "speaker"), settings.num_validation
    if len(groups) < settings.folds:
        raise ProtocolError(
            f"{settings.folds} folds need as many speakers; found {len(groups)}: "
            f"{', '.join(groups)}. Set protocol.folds lower."
        )
    dealt = _assign_folds(groups, settings)
    folds = []
    for place, (name, tested) in enumerate(zip(number_folds(len(dealt)), dealt, strict=True)):
        following = [one for group in dealt[place + 1 :] + dealt[:place] for one in sorted(group)]
        if len(following) <= count:
            raise ProtocolError(
                f"fold {name} leaves {len(following)} speakers to train and validate; {count} "
                f"validation speakers leave none to train. Set protocol.validation lower."
            )
        chosen = alternate_genders(groups, following, first_gender=place)[:count]
        folds.append(
            Fold(
                name=name,
                train=collect_ids(groups, sorted(set(following) - set(chosen))),
                validation=collect_ids(groups, sorted(chosen)),
                test=collect_ids(groups, sorted(tested)),
            )
        )
    words = (
        f"{count_noun(count, 'speaker')} of the groups after the tested one" if count else "none"
    )
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def _assign_folds(groups: Groups, settings: SplitConfig) -> list[list[str]]:
    """Deal speakers out in turn, women and men apart; then swap until classes are spread evenly."""
    speakers, kinds = list(groups), [members[0].gender or "" for members in groups.values()]
    place = np.zeros(len(speakers), dtype=np.int64)
    dealt = 0
    for kind in sorted(set(kinds)):
        alike = [number for number, own in enumerate(kinds) if own == kind]
        for number in hash_shuffle(alike, settings.seed, lambda number: speakers[number]):
            place[number] = dealt % settings.folds
            dealt += 1
    _balance_folds(
        place, np.array(kinds), _compute_speaker_shares(groups, settings.stratify), settings.folds
    )
    return [
        [speakers[number] for number in np.flatnonzero(place == fold)]
        for fold in range(settings.folds)
    ]


def _balance_folds(
    fold_of: Integers, kinds: npt.NDArray[np.str_], weight: Integers, folds: int
) -> None:
    """Swap speakers of one gender as long as that makes the loads of the folds more alike.

    Args:
        fold_of: fold of each speaker, changed here, (S,).
        kinds: gender of each, (S,).
        weight: what each brings along, (S, K).
        folds: how many.
    """
    load = np.stack([weight[fold_of == fold].sum(axis=0) for fold in range(folds)])
    for _ in range(MAX_PASSES):
        gained = False
        for one in range(len(fold_of)):
            gain = weight - weight[one]
            # What the sum of squared loads changes by, halved.
            change = ((load[fold_of[one]] - load[fold_of]) * gain).sum(axis=1) + (gain**2).sum(
                axis=1
            )
            change[(kinds != kinds[one]) | (fold_of == fold_of[one])] = 0
            other = int(change.argmin())
            if change[other] < 0:
                load[fold_of[one]] += gain[other]
                load[fold_of[other]] -= gain[other]
                fold_of[[one, other]] = fold_of[[other, one]]
                gained = True
        if not gained:
            return


def _compute_speaker_shares(groups: Groups, label: str) -> Integers:
    """For each speaker the share of all utterances, and of each class of a label, (S, K)."""
    counts = [
        Counter(get_scoped_value(one, label) or "" for one in members)
        for members in groups.values()
    ]
    total = sum(counts, Counter[str]())
    if set(total) == {""} and label != SplitConfig.stratify:
        raise ProtocolError(
            f"no utterance has the label {label} that protocol.stratify names; name one that "
            "the corpus has"
        )
    rows = [[sum(found.values()), *(found[kind] for kind in sorted(total))] for found in counts]
    return np.array(rows, dtype=np.int64) * SHARE_SCALE // np.array(rows).sum(axis=0)


SPEAKER_DEPENDENT_CAUTION = (
    "speaker-dependent: the same speakers are on both sides; such scores say nothing about new "
    "speakers"
)


def random_folds(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Random folds with the corpus's share of every class; the folds that follow validate.

    So are the folds of Feng et al. 2020, section 5.4 and Table 5: "chosen randomly from the whole
    of the database in accordance with the mean proportion of each emotion category".
    """
    if len(utterances) < settings.folds:
        raise ProtocolError(
            f"{settings.folds} folds need as many utterances; found {len(utterances)}. "
            "Set protocol.folds lower."
        )
    mixed = hash_shuffle(utterances, settings.seed, lambda one: one.id)
    dealt = sorted(mixed, key=lambda one: get_scoped_value(one, settings.stratify) or "")
    names = number_folds(settings.folds)
    groups: Groups = {name: [] for name in names}
    for place, one in enumerate(dealt):
        groups[names[place % len(names)]].append(one)
    ordered = {name: sorted(group, key=lambda one: one.id) for name, group in groups.items()}
    return replace(
        build_rotating_folds(ordered, names, settings, "fold"), caution=SPEAKER_DEPENDENT_CAUTION
    )
