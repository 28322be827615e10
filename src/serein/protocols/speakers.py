"""Speakers, sessions and corpora as the units that no split may cut."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serein.errors import ProtocolError
from serein.protocols.settings import Settings
from serein.protocols.sides import (
    Groups,
    alternating,
    gathered,
    ids,
    numbered,
    of,
    ring,
    set_aside,
    shuffled,
)
from serein.records import Fold, Protocol, Utterance


def leave_one_speaker_out(utterances: Sequence[Utterance], settings: Settings) -> Protocol:
    """One fold a speaker; validation speakers are the next ones, gender alternating.

    Validation holds as many women as men where their number allows, so that the epoch is not
    chosen for one kind of voice. Every speaker validates in equally many folds.
    """
    groups = gathered(utterances, "speaker")
    return ring(groups, alternating(groups, groups), settings, "speaker")


def leave_one_session_out(utterances: Sequence[Utterance], settings: Settings) -> Protocol:
    """One fold a session; the sessions that follow validate."""
    groups = gathered(utterances, "session")
    return ring(groups, list(groups), settings, "session")


def leave_one_corpus_out(utterances: Sequence[Utterance], settings: Settings) -> Protocol:
    """One fold a corpus; speakers of every other corpus validate, gender alternating."""
    groups, count = gathered(utterances, "corpus"), settings.count
    if len(groups) < 2:
        raise ProtocolError(
            f"{settings.name} needs two corpora or more; found {', '.join(groups) or 'none'}. "
            "Read several corpora together."
        )
    folds = []
    for name in groups:
        others = [one for other in groups if other != name for one in groups[other]]
        train, validation = set_aside(others, count)
        folds.append(
            Fold(
                name=name,
                train=train,
                validation=validation,
                test=ids(groups, [name]),
            )
        )
    words = f"{count} speakers of each other corpus" if count else "none"
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def speaker_k_fold(utterances: Sequence[Utterance], settings: Settings) -> Protocol:
    """Groups of speakers, each tested once; speakers of the groups that follow validate.

    Between groups, speakers and speakers of each gender differ by one at most.
    """
    groups, count = gathered(utterances, "speaker"), settings.count
    if len(groups) < settings.folds:
        raise ProtocolError(
            f"{settings.folds} folds need as many speakers; found {len(groups)}: "
            f"{', '.join(groups)}. Set protocol.folds lower."
        )
    dealt = _dealt(groups, settings)
    folds = []
    for place, (name, tested) in enumerate(zip(numbered(len(dealt)), dealt, strict=True)):
        following = [one for group in dealt[place + 1 :] + dealt[:place] for one in sorted(group)]
        if len(following) <= count:
            raise ProtocolError(
                f"fold {name} leaves {len(following)} speakers to train and validate; {count} "
                f"validation speakers leave none to train. Set protocol.validation lower."
            )
        chosen = alternating(groups, following, first=place)[:count]
        folds.append(
            Fold(
                name=name,
                train=ids(groups, sorted(set(following) - set(chosen))),
                validation=ids(groups, sorted(chosen)),
                test=ids(groups, sorted(tested)),
            )
        )
    words = f"{count} speakers of the groups after the tested one" if count else "none"
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def _dealt(groups: Groups, settings: Settings) -> list[list[str]]:
    """Deal speakers out, women and men apart, each to the group that lacks its classes most."""
    weights = _weights(groups, settings.stratify)
    dealt: list[list[str]] = [[] for _ in range(settings.folds)]
    load = np.zeros((settings.folds, len(next(iter(weights.values())))))
    gender = {name: members[0].gender or "" for name, members in groups.items()}
    for kind in sorted(set(gender.values())):
        taken = dict.fromkeys(range(settings.folds), 0)
        speakers = [name for name in groups if gender[name] == kind]
        for name in shuffled(speakers, settings.seed, str):
            crowded = load @ weights[name]
            rank = [(taken[p], len(dealt[p]), float(crowded[p]), p) for p in taken]
            *_, place = min(rank)
            dealt[place].append(name)
            load[place] += weights[name]
            taken[place] += 1
    return dealt


def _weights(groups: Groups, label: str) -> dict[str, npt.NDArray[np.float64]]:
    """For each speaker the share of all utterances, and of each class of a label."""
    counts = {name: Counter(of(one, label) or "" for one in groups[name]) for name in groups}
    total = sum(counts.values(), Counter[str]())
    if set(total) == {""} and label != Settings.stratify:
        raise ProtocolError(
            f"no utterance has the label {label} that protocol.stratify names; name one that "
            "the corpus has"
        )
    every = sum(total.values())
    return {
        name: np.array([len(groups[name]) / every, *(found[k] / total[k] for k in sorted(total))])
        for name, found in counts.items()
    }
