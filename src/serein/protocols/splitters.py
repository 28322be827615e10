"""Splits by speaker, session, corpus or at random, and the helpers that every split uses.

G = groups such as speakers, K = classes and the total.
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
Integers = npt.NDArray[np.int64]
T = TypeVar("T")

CORPUS_SCOPED = ("speaker", "session", "dialogue")
"""Attributes whose values are unique within a corpus, not between corpora."""
MAX_PASSES = 20
SHARE_SCALE = 2**20
"""Integer that stands for a share of 1: integer arithmetic gives the same folds on any machine."""
SPEAKER_DEPENDENT_CAUTION = (
    "speaker-dependent: the same speakers train and are tested; such scores say nothing about new "
    "speakers"
)


def leave_one_speaker_out(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split into one fold per speaker; the next speakers validate, genders alternating.

    Validation subsets are balanced in gender as far as the number of speakers allows, so that the
    epoch is not selected for one kind of voice. Every speaker validates in equally many folds.
    """
    groups = group_by(utterances, "speaker")
    return build_rotating_folds(groups, alternate_genders(groups, groups), settings, "speaker")


def leave_one_session_out(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split into one fold per session; the next sessions validate."""
    groups = group_by(utterances, "session")
    return build_rotating_folds(groups, list(groups), settings, "session")


def leave_one_corpus_out(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split into one fold per corpus; some speakers of every other corpus validate."""
    groups, count = group_by(utterances, "corpus"), settings.num_validation
    if len(groups) < 2:
        raise ProtocolError(
            f"{settings.name} needs two corpora or more; found {', '.join(groups) or 'none'}. "
            "Read several corpora together."
        )
    folds = []
    for name in groups:
        others = [utterance for other in groups if other != name for utterance in groups[other]]
        train, validation = hold_out_validation(others, count)
        test = collect_ids(groups, [name])
        folds.append(Fold(name=name, train=train, validation=validation, test=test))
    description = f"{count_noun(count, 'speaker')} of each other corpus" if count else "none"
    return Protocol(name=settings.name, validation=description, folds=tuple(folds))


def speaker_k_fold(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split into groups of speakers, each tested once; speakers of the next groups validate.

    The numbers of speakers, and of speakers of each gender, differ by at most one between groups.
    """
    groups, count = group_by(utterances, "speaker"), settings.num_validation
    if len(groups) < settings.folds:
        raise ProtocolError(
            f"{settings.folds} folds need as many speakers; found {len(groups)}: "
            f"{', '.join(groups)}. Set protocol.folds lower."
        )
    tests = _assign_folds(groups, settings)
    folds = []
    for index, (name, tested) in enumerate(zip(number_folds(len(tests)), tests, strict=True)):
        others = [
            speaker for test in tests[index + 1 :] + tests[:index] for speaker in sorted(test)
        ]
        if len(others) <= count:
            raise ProtocolError(
                f"fold {name} leaves {len(others)} speakers to train and validate; {count} "
                f"validation speakers leave none to train. Set protocol.validation lower."
            )
        validation = alternate_genders(groups, others, first_gender=index)[:count]
        folds.append(
            Fold(
                name=name,
                train=collect_ids(groups, sorted(set(others) - set(validation))),
                validation=collect_ids(groups, sorted(validation)),
                test=collect_ids(groups, sorted(tested)),
            )
        )
    description = (
        f"{count_noun(count, 'speaker')} of the groups after the tested one" if count else "none"
    )
    return Protocol(name=settings.name, validation=description, folds=tuple(folds))


def random_folds(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split into random stratified folds, in which the same speakers train and are tested.

    The next folds validate. The folds of Feng et al. 2020, section 5.4 and Table 5, are such
    folds: "chosen randomly from the whole of the database in accordance with the mean proportion
    of each emotion category".
    """
    if len(utterances) < settings.folds:
        raise ProtocolError(
            f"{settings.folds} folds need as many utterances; found {len(utterances)}. "
            "Set protocol.folds lower."
        )
    shuffled = hash_shuffle(utterances, settings.seed, lambda utterance: utterance.id)
    by_class = sorted(shuffled, key=lambda u: get_scoped_value(u, settings.stratify) or "")
    names = number_folds(settings.folds)
    groups: Groups = {name: [] for name in names}
    for index, utterance in enumerate(by_class):
        groups[names[index % len(names)]].append(utterance)
    groups = {name: sorted(group, key=lambda u: u.id) for name, group in groups.items()}
    protocol = build_rotating_folds(groups, names, settings, "fold")
    return replace(protocol, caution=SPEAKER_DEPENDENT_CAUTION)


def build_rotating_folds(
    groups: Groups, order: Sequence[str], settings: SplitConfig, unit: str
) -> Protocol:
    """Build one fold per group; the next groups in a circular order validate, the rest trains.

    Args:
        groups: utterances of each group.
        order: names of the groups in circular order.
        settings: of the protocol.
        unit: noun for a group, such as "speaker".

    Raises:
        ProtocolError: there are too few groups.
    """
    count = settings.num_validation
    if len(groups) < count + 2:
        advice = f"Add utterances of other {unit}s."
        if count and len(groups) > 1:
            advice = 'Set protocol.validation lower, or to "none".'
        raise ProtocolError(
            f"{settings.name} with {count_noun(count, f'validation {unit}')} needs {count + 2} "
            f"{unit}s; found {len(groups)}: {', '.join(groups)}. {advice}"
        )
    folds = []
    for name in groups:
        position = order.index(name)
        validation = {order[(position + step) % len(order)] for step in range(1, count + 1)}
        train = [other for other in groups if other != name and other not in validation]
        folds.append(
            Fold(
                name=name,
                train=collect_ids(groups, train),
                validation=collect_ids(groups, sorted(validation)),
                test=collect_ids(groups, [name]),
            )
        )
    description = f"{count_noun(count, unit)} after the tested one" if count else "none"
    return Protocol(name=settings.name, validation=description, folds=tuple(folds))


def hold_out_validation(utterances: Sequence[Utterance], count: int) -> tuple[Ids, Ids]:
    """Move the first speakers of a training subset, genders alternating, to validation.

    Args:
        utterances: of the training subset.
        count: number of validation speakers of each corpus.

    Returns:
        Ids of the training and of the validation subset.

    Raises:
        ProtocolError: a corpus has too few speakers.
    """
    if not count:
        return tuple(sorted(utterance.id for utterance in utterances)), ()
    groups = group_by(utterances, "speaker")
    corpora: dict[str | None, list[str]] = {}
    for speaker, members in groups.items():
        corpora.setdefault(get_scoped_value(members[0], "corpus"), []).append(speaker)
    validation: set[str] = set()
    for corpus, speakers in corpora.items():
        if len(speakers) <= count:
            raise ProtocolError(
                f"{count} validation speakers cannot be taken from the training subset of "
                f"{corpus or 'this corpus'}, which has {len(speakers)}: {', '.join(speakers)}. Set "
                'protocol.validation lower, or to "none".'
            )
        validation.update(alternate_genders(groups, speakers)[:count])
    train = [speaker for speaker in groups if speaker not in validation]
    return collect_ids(groups, train), collect_ids(groups, sorted(validation))


def _assign_folds(groups: Groups, settings: SplitConfig) -> list[list[str]]:
    """Return the speakers that each fold tests.

    Speakers of each gender are assigned in turn, then swapped until classes are spread evenly.
    """
    speakers = list(groups)
    genders = [members[0].gender or "" for members in groups.values()]
    fold_of = np.zeros(len(speakers), dtype=np.int64)
    assigned = 0
    for gender in sorted(set(genders)):
        members = [number for number, other in enumerate(genders) if other == gender]
        for number in hash_shuffle(members, settings.seed, lambda number: speakers[number]):
            fold_of[number] = assigned % settings.folds
            assigned += 1
    share_gk = _compute_speaker_shares(groups, settings.stratify)
    _balance_folds(fold_of, np.array(genders), share_gk, settings.folds)
    return [
        [speakers[number] for number in np.flatnonzero(fold_of == fold)]
        for fold in range(settings.folds)
    ]


def _balance_folds(
    fold_of: Integers, genders: npt.NDArray[np.str_], share_gk: Integers, folds: int
) -> None:
    """Swap speakers of one gender while that makes the folds more alike.

    Args:
        fold_of: fold of each speaker, changed in place, (G,).
        genders: gender of each speaker, (G,).
        share_gk: share of each class that a speaker has, (G, K).
        folds: number of folds.
    """
    load = np.stack([share_gk[fold_of == fold].sum(axis=0) for fold in range(folds)])
    for _ in range(MAX_PASSES):
        improved = False
        for speaker in range(len(fold_of)):
            own = fold_of[speaker]
            gain = share_gk - share_gk[speaker]
            # Half the change of the sum of squared loads, for a swap with each other speaker.
            change = ((load[own] - load[fold_of]) * gain).sum(axis=1) + (gain**2).sum(axis=1)
            change[(genders != genders[speaker]) | (fold_of == own)] = 0
            other = int(change.argmin())
            if change[other] < 0:
                load[own] += gain[other]
                load[fold_of[other]] -= gain[other]
                fold_of[[speaker, other]] = fold_of[[other, speaker]]
                improved = True
        if not improved:
            return


def _compute_speaker_shares(groups: Groups, label: str) -> Integers:
    """Return each speaker's share of all utterances and of each class of a label, (G, K)."""
    counts = [
        Counter(get_scoped_value(utterance, label) or "" for utterance in members)
        for members in groups.values()
    ]
    total = sum(counts, Counter[str]())
    if set(total) == {""} and label != SplitConfig.stratify:
        raise ProtocolError(
            f"protocol.stratify = {label}: no utterance has this label; name a label of the corpus"
        )
    rows = [[sum(count.values()), *(count[kind] for kind in sorted(total))] for count in counts]
    return np.array(rows, dtype=np.int64) * SHARE_SCALE // np.array(rows).sum(axis=0)


def get_value(utterance: Utterance, name: str) -> str | None:
    """Return an attribute or a label as text; None where the corpus does not have it."""
    scoped = name in CORPUS_SCOPED
    value = (getattr(utterance, name) if scoped else None) or utterance.label(name)
    if value is None:
        return None
    text = format_value(value)
    return text.removeprefix(f"{utterance.corpus}/") if scoped else text


def get_scoped_value(utterance: Utterance, name: str) -> str | None:
    """Return `get_value`, with the corpus before the name of a speaker, session or dialogue."""
    value = get_value(utterance, name)
    scoped = value is not None and utterance.corpus and name in CORPUS_SCOPED
    return f"{utterance.corpus}/{value}" if scoped else value


def has_value(utterance: Utterance, name: str, wanted: Sequence[str]) -> bool:
    """Return whether an utterance has one of these values, such as ``s01`` or ``mine/s01``."""
    scoped = [value for value in wanted if "/" in value]
    return is_match(get_value(utterance, name), wanted) or is_match(
        get_scoped_value(utterance, name), scoped
    )


def is_match(value: str | None, wanted: Sequence[str]) -> bool:
    """Return whether a value is one of these values or matches one of these ``*`` patterns."""
    if value is None:
        return False
    return value in wanted or any("*" in item and fnmatchcase(value, item) for item in wanted)


def group_by(utterances: Sequence[Utterance], name: str) -> Groups:
    """Group utterances by speaker, session, corpus or another value; groups and ids are sorted.

    Raises:
        ProtocolError: an utterance does not have the value.
    """
    values = {utterance.id: get_scoped_value(utterance, name) for utterance in utterances}
    missing = [id_ for id_, value in values.items() if value is None]
    if missing:
        folders = ", or in folders of classes a subfolder for each speaker: anger/ann/001.wav"
        columns = sorted({label for utterance in utterances for label in utterance.labels})
        raise ProtocolError(
            f"{len(missing)} of {len(utterances)} utterances have no {name}, the first is "
            f"{missing[0]}; a split by {name} needs one for each. Add a {name} column"
            f"{folders if name == 'speaker' else ''}; or name the one of your table that has them, "
            f"--corpus NAME=TABLE,{name}=COLUMN. Its labels are {', '.join(columns) or 'none'}."
        )
    groups: Groups = {}
    for utterance in sorted(utterances, key=lambda u: (str(values[u.id]), u.id)):
        groups.setdefault(str(values[utterance.id]), []).append(utterance)
    return groups


def alternate_genders(groups: Groups, names: Iterable[str], first_gender: int = 0) -> list[str]:
    """Reorder speakers so that genders alternate as long as each has speakers left.

    Args:
        groups: utterances of each speaker.
        names: speakers, in an order that is kept within a gender.
        first_gender: index of the first gender; larger indices wrap around.
    """
    gender_of = {name: groups[name][0].gender or "" for name in names}
    genders = sorted(set(gender_of.values()))
    first = first_gender % max(1, len(genders))
    queues = [
        [name for name in gender_of if gender_of[name] == gender]
        for gender in genders[first:] + genders[:first]
    ]
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def collect_ids(groups: Groups, names: Iterable[str]) -> Ids:
    """Return the ids of these groups, group by group."""
    return tuple(utterance.id for name in names for utterance in groups[name])


def hash_shuffle(items: Iterable[T], seed: int, key: Callable[[T], str]) -> list[T]:
    """Shuffle items by a hash of seed and key: the same order on any machine."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {key(item)}".encode()).digest())


def systematic_sample(members: Sequence[Utterance], settings: SplitConfig) -> list[str]:
    """Shuffle ids so that any number of the first ones is a stratified sample."""
    classes: dict[str, list[str]] = {}
    for utterance in hash_shuffle(members, settings.seed, lambda utterance: utterance.id):
        kind = get_scoped_value(utterance, settings.stratify) or ""
        classes.setdefault(kind, []).append(utterance.id)
    # Fractions break ties alike on every machine.
    positions = [
        (Fraction(2 * index + 1, 2 * len(ids)), kind, id_)
        for kind, ids in classes.items()
        for index, id_ in enumerate(ids)
    ]
    return [id_ for *_, id_ in sorted(positions)]


def number_folds(count: int) -> list[str]:
    """Return fold names from 1 to ``count``, with leading zeros so that they sort by number."""
    return [f"{number:0{len(str(count))}}" for number in range(1, count + 1)]


def count_noun(count: int, noun: str) -> str:
    """Format a number and a noun.

    >>> count_noun(1, "fold"), count_noun(2, "fold")
    ('1 fold', '2 folds')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def get_subsets(fold: Fold) -> Mapping[str, Ids]:
    """Return the subsets of a fold by name."""
    return {"train": fold.train, "validation": fold.validation, "test": fold.test}


def remove_ids(fold: Fold, removed_ids: Container[str]) -> Fold:
    """Remove ids from all subsets of a fold."""
    train, validation, test = (
        tuple(id_ for id_ in ids if id_ not in removed_ids) for ids in get_subsets(fold).values()
    )
    return replace(fold, train=train, validation=validation, test=test)
