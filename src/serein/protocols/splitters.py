"""Speakers, sessions and corpora as the units that no split may cut."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serein.errors import ProtocolError
from serein.protocols.settings import SplitConfig
from serein.protocols.sides import (
    Groups,
    alternate_genders,
    build_rotating_folds,
    collect_ids,
    count_noun,
    get_scoped_value,
    group_by,
    hash_shuffle,
    hold_out_validation,
    number_folds,
)
from serein.records import Fold, Protocol, Utterance

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
