"""How a corpus is split, as a value; and the check that no split leaks.

A protocol yields folds of utterance ids. The speaker is the unit that no split may cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from serein.errors import ProtocolError, UnknownName
from serein.records import Fold, Protocol, Utterance


@dataclass(frozen=True)
class Settings:
    """How to split.

    Attributes:
        name: which protocol.
        validation: speakers a fold sets aside to choose the epoch; "none" trains on them too.
    """

    name: str = "leave-one-speaker-out"
    validation: Annotated[int, Ge(1)] | Literal["none"] = 1


def split(utterances: Sequence[Utterance], settings: Settings) -> Protocol:
    """Split a corpus.

    Raises:
        UnknownName: no protocol has that name.
        ProtocolError: these utterances cannot be split that way.
    """
    if settings.name not in PROTOCOLS:
        raise UnknownName("protocol", settings.name, PROTOCOLS)
    protocol = PROTOCOLS[settings.name](utterances, settings)
    check(protocol, utterances)
    return protocol


def leave_one_speaker_out(utterances: Sequence[Utterance], settings: Settings) -> Protocol:
    """One fold a speaker; validation speakers are the next ones, gender alternating.

    Validation holds as many women as men where their number allows, so that the epoch is not
    chosen for one kind of voice. Every speaker validates in equally many folds.
    """
    sides = _by_speaker(utterances)
    count = 0 if settings.validation == "none" else settings.validation
    if len(sides) < count + 2:
        raise ProtocolError(
            f"leave-one-speaker-out with {count} validation speakers needs {count + 2} speakers; "
            f"found {len(sides)}: {', '.join(sides)}. Set protocol.validation lower."
        )
    ring = _alternating(utterances, list(sides))
    folds = [_fold(sides, ring, speaker, count) for speaker in sides]
    words = f"{count} speakers after the tested one" if count else "none"
    return Protocol(name=settings.name, validation=words, folds=tuple(folds))


def _fold(sides: dict[str, list[str]], ring: list[str], speaker: str, count: int) -> Fold:
    place = ring.index(speaker)
    chosen = {ring[(place + step) % len(ring)] for step in range(1, count + 1)}
    rest = [other for other in sides if other != speaker and other not in chosen]
    return Fold(
        name=speaker,
        train=tuple(id_ for other in rest for id_ in sides[other]),
        validation=tuple(id_ for other in sorted(chosen) for id_ in sides[other]),
        test=tuple(sides[speaker]),
    )


def _by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    nameless = [utterance.id for utterance in utterances if utterance.speaker is None]
    if nameless:
        raise ProtocolError(
            f"{len(nameless)} of {len(utterances)} utterances have no speaker, the first is "
            f"{nameless[0]}; a split by speaker needs one for each. Add a speaker column."
        )
    sides: dict[str, list[str]] = {}
    for utterance in sorted(utterances, key=lambda u: (str(u.speaker), u.id)):
        sides.setdefault(str(utterance.speaker), []).append(utterance.id)
    return sides


def _alternating(utterances: Sequence[Utterance], speakers: list[str]) -> list[str]:
    """Speakers in order, but with genders taking turns as long as both last."""
    gender = {utterance.speaker: utterance.gender or "" for utterance in utterances}
    groups = [[s for s in speakers if gender[s] == g] for g in sorted(set(gender.values()))]
    turns = max(map(len, groups))
    return [group[turn] for turn in range(turns) for group in groups if turn < len(group)]


def check(protocol: Protocol, utterances: Sequence[Utterance]) -> None:
    """Check that no fold has an utterance or a speaker on two sides.

    Raises:
        ProtocolError: a fold leaks, or has an empty side that must not be empty.
    """
    speaker = {utterance.id: utterance.speaker for utterance in utterances}
    for fold in protocol.folds:
        if not fold.train or not fold.test:
            raise ProtocolError(f"fold {fold.name} has an empty training or test side")
        sides = {"train": fold.train, "validation": fold.validation, "test": fold.test}
        _disjoint(fold.name, "utterance", sides)
        named = {side: tuple({str(speaker[id_]) for id_ in ids}) for side, ids in sides.items()}
        _disjoint(fold.name, "speaker", named)


def check_contents(protocol: Protocol, contents: dict[str, str]) -> None:
    """Check that no fold has the same recording on two sides under two names.

    Args:
        protocol: what to check.
        contents: for each utterance id, a hash of its audio.

    Raises:
        ProtocolError: a fold leaks.
    """
    for fold in protocol.folds:
        seen: dict[str, tuple[str, str]] = {}
        sides = {"train": fold.train, "validation": fold.validation, "test": fold.test}
        for side, ids in sides.items():
            for id_ in ids:
                other, where = seen.setdefault(contents[id_], (id_, side))
                if where != side:
                    raise ProtocolError(
                        f"fold {fold.name}: {other} ({where}) and {id_} ({side}) are the same "
                        "recording under two names; leave one out, or give both one speaker"
                    )


def _disjoint(fold: str, what: str, sides: dict[str, tuple[str, ...]]) -> None:
    seen: dict[str, str] = {}
    for side, members in sides.items():
        for member in set(members):
            if member in seen:
                raise ProtocolError(
                    f"fold {fold}: {what} {member} is on two sides, {seen[member]} and {side}; "
                    "each may be on one only"
                )
            seen[member] = side


PROTOCOLS: dict[str, Callable[[Sequence[Utterance], Settings], Protocol]] = {
    "leave-one-speaker-out": leave_one_speaker_out,
}
