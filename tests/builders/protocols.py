"""Utterances without audio, for tests of protocols."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from serein import config
from serein.protocols import SplitConfig, find_leaks, split
from serein.records import Finding, Fold, Protocol, Utterance

GENDERS = "female", "male", None
SHARED = Path(__file__).parents[3] / "shared" / "data"
SESSIONS = {"1": 1819, "2": 1811, "3": 2136, "4": 2103, "5": 2170}
"""IEMOCAP's utterances by session."""

EMOTIONS = ("anger", "happiness", "neutral", "neutral", "sadness")


def make_utterance(speaker: str | None, number: int, gender: str | None = None) -> Utterance:
    name = f"{speaker}-{number}"
    path = Path(f"{quote(name, safe='')}.wav")
    return Utterance(id=name, path=path, speaker=speaker, gender=gender, text=f"take {name}")


@st.composite
def utterance_lists(draw: st.DrawFn, min_speakers: int = 2) -> list[Utterance]:
    """Draw utterances of speakers with any names and genders, in any order."""
    names = st.text("abc/ ä0", min_size=1, max_size=3)
    speakers = draw(st.lists(names, min_size=min_speakers, max_size=9, unique=True))
    utterances = []
    for speaker in speakers:
        gender = draw(st.sampled_from(GENDERS))
        count = draw(st.integers(1, 4))
        utterances += [make_utterance(speaker, number, gender) for number in range(count)]
    return list(draw(st.permutations(utterances)))


def make_iemocap(sizes: dict[str, int] = SESSIONS) -> list[Utterance]:
    """Make five sessions of two speakers; half of the dialogues are scripts that recur."""
    made = []
    for session, size in sizes.items():
        for number in range(size):
            dialogue, letter = number % 30, "FM"[number // 30 % 2]
            style = "scripted" if dialogue % 2 else "improvised"
            words = f"line {number % 500}" if dialogue % 2 else f"{session} says {number}"
            name = f"Ses0{session}_{style}{dialogue:02}_{letter}{number:04}"
            labels: dict[str, str | float] = {"emotion": EMOTIONS[number % 5], "style": style}
            made.append(
                Utterance(
                    id=name,
                    path=Path(f"{name}.wav"),
                    speaker=f"{session}{letter}",
                    gender={"F": "female", "M": "male"}[letter],
                    session=session,
                    dialogue=f"{session}-{dialogue}",
                    text=words,
                    labels=labels | ({"script": f"{dialogue}"} if dialogue % 2 else {}),
                )
            )
    return made


def make_corpora(**speakers: int) -> list[Utterance]:
    """Make corpora with these numbers of speakers of three utterances, with alternating genders."""
    return [
        Utterance(
            id=f"{corpus}-{number:02}-{take}",
            path=Path(f"{corpus}/{number}/{take}.wav"),
            speaker=f"{number:02}",
            gender=GENDERS[number % 2],
            corpus=corpus,
            text=f"take {take} of {number} in {corpus}",
            labels={"emotion": EMOTIONS[take], "part": f"{'dev' if number % 3 else 'train'}-x"},
        )
        for corpus, count in speakers.items()
        for number in range(count)
        for take in range(3)
    ]


def split_by_settings(utterances: Sequence[Utterance], name: str, **settings: Any) -> Protocol:
    """Split utterances by settings of a recipe."""
    return split(
        utterances, config.build_config(SplitConfig, {"name": name, **settings}, "protocol")
    )


def speakers_of(ids: tuple[str, ...]) -> set[str]:
    return {id_.rpartition("-")[0] for id_ in ids}


SMALL = make_iemocap(dict.fromkeys(SESSIONS, 90))
"""An IEMOCAP of 450 utterances."""

UTTERANCES = [make_utterance(name, number) for name in "abc" for number in range(2)]


def make_protocol(train: str, validation: str, test: str, *, name: str = "by hand") -> Protocol:
    """Make a protocol of one fold with utterances such as "a0 a1"."""
    subsets = [
        tuple(f"{name[0]}-{name[1]}" for name in names.split())
        for names in (train, validation, test)
    ]
    fold = Fold(name="one", train=subsets[0], validation=subsets[1], test=subsets[2])
    return Protocol(name=name, validation="by hand", folds=(fold,))


def check_leakage(
    protocol: Protocol, utterances: Sequence[Utterance], **options: Any
) -> dict[str, Finding]:
    """Return the findings of the leakage check by kind; by default no two recordings are equal."""
    hashes = {utterance.id: utterance.id for utterance in utterances}
    hashes |= options.pop("file_hashes", {})
    findings = find_leaks(protocol, utterances, hashes, **options)
    return {finding.kind: finding for finding in findings}


def list_verdicts(found: dict[str, Finding]) -> dict[str, str]:
    return {kind: one.verdict for kind, one in found.items() if one.verdict != "clean"}
