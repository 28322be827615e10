"""RAVDESS, the speech: 1,440 utterances, 24 actors, 8 emotions, North American English.

    root/
        Actor_01/03-01-06-01-02-01-12.wav

    03 audio alone | 01 speech | 06 emotion | 01 intensity | 02 statement | 01 repetition | 12 actor

Odd actors are men. The root may also be the folder above the one with the actors. WAV as it is
downloaded and FLAC under the same names are read. Each actor's own folder is read, and nothing
below or beside it: a download known to hold everything twice, the second time in
``audio_speech_actors_01-24/Actor_01``, does not count twice. Songs and videos that were unpacked
into the same folders are passed over.

Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE
13(5), 2018.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from serein.corpora._reading import describe_skipped, find_unread, restore_advice
from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), speech",
    language="English",
    licence="CC BY-NC-SA 4.0: no commercial use",
    home="https://zenodo.org/records/1188976",
)
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
TEXTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
REPETITIONS = ("01", "02")
ACTORS = tuple(f"{number:02}" for number in range(1, 25))
COUNTS = {name: 96 if name == "neutral" else 192 for name in EMOTIONS.values()}
RECORDINGS_PER_ACTOR = 60
"""Recordings of each actor."""
ACTOR_FOLDER_PATTERN = re.compile(r"actor_\d\d", re.IGNORECASE)
NAME_PATTERN = re.compile(r"\d\d(-\d\d){6}")


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every spoken utterance, in order of file name.

    Args:
        root: the folder that holds ``Actor_01/`` and so on, or the one above it.
        partial: take what is there, however much is missing.

    Raises:
        CorpusError: the folder, a file name or a count is not RAVDESS's.
    """
    place, folders = _find_actor_folders(root)
    files = [file for folder in folders for file in folder.iterdir() if _is_recording(file)]
    for file in files:
        if not NAME_PATTERN.fullmatch(file.stem):
            raise CorpusError(
                f"{file} is not a RAVDESS name such as 03-01-06-01-02-01-12.wav; move it elsewhere"
            )
    spoken = [file for file in files if file.name.startswith("03-01-")]
    utterances = sorted(map(_parse_utterance, spoken), key=lambda utterance: utterance.id)
    if not partial:
        _check_utterance_counts(place, utterances, len(files) - len(spoken))
    return utterances


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Songs and videos, and recordings that lie elsewhere, such as a second copy of all."""
    rest = find_unread(root, utterances)
    sung = [file for file in rest if not file.name.startswith("03-01-")]
    return [
        *describe_skipped(root, sung, "songs or videos (not 03-01-...)"),
        *describe_skipped(root, sorted({*rest} - {*sung}), "more recordings of speech"),
    ]


def _find_actor_folders(root: Path) -> tuple[Path, list[Path]]:
    """The folder of the actors, which is ``root`` or the only such one in it; and theirs."""
    if folders := _list_actor_folders(root):
        return root, folders
    below = sorted(root.iterdir()) if root.is_dir() else []
    found = [(place, folders) for place in below if (folders := _list_actor_folders(place))]
    found = [one for one in found if "song" not in one[0].name.lower()] or found
    if len(found) == 1:
        return found[0]
    if found:
        listing = ", ".join(place.name for place, _ in found)
        raise CorpusError(f"{root} holds RAVDESS more than once, in {listing}; give one of them")
    advice = f"Give the folder that holds Actor_01/, or get the corpus from {ABOUT.home}"
    if ACTOR_FOLDER_PATTERN.fullmatch(root.name):
        advice = f"This is one actor: give the folder above, {root.parent}"
    raise CorpusError(f"{root} has no folders Actor_01/ to Actor_24/. {advice}")


def _list_actor_folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(
        one for one in place.iterdir() if ACTOR_FOLDER_PATTERN.fullmatch(one.name) and one.is_dir()
    )


def _is_recording(file: Path) -> bool:
    return file.suffix.lower() in (".wav", ".flac") and not file.name.startswith(".")


def _parse_utterance(file: Path) -> Utterance:
    """Read emotion, sentence and actor from a file name."""
    emotion, intensity, statement, repetition, actor = file.stem.split("-")[2:]
    for part, value, known in (
        ("emotion", emotion, EMOTIONS),
        ("intensity", intensity, INTENSITIES),
        ("statement", statement, TEXTS),
        ("repetition", repetition, REPETITIONS),
        ("actor", actor, ACTORS),
    ):
        if value not in known:
            listing = ", ".join(known)
            raise CorpusError(f"{file}: unknown {part} {value!r}; RAVDESS has {listing}")
    return Utterance(
        id=file.stem,
        path=file,
        speaker=actor,
        gender="male" if int(actor) % 2 else "female",
        language="en",
        text=TEXTS[statement],
        labels={
            "emotion": EMOTIONS[emotion],
            "intensity": INTENSITIES[intensity],
            "sentence": statement[1],
            "repetition": repetition[1],
        },
    )


def _check_utterance_counts(place: Path, utterances: list[Utterance], passed: int) -> None:
    """Compare the counts with RAVDESS's own.

    Args:
        place: the folder of the actors.
        utterances: what was read.
        passed: how many songs and videos were not.
    """
    emotions = Counter(str(utterance.labels["emotion"]) for utterance in utterances)
    actors = Counter(utterance.speaker for utterance in utterances)
    parts = [f"{name} {emotions[name]} of {n}" for name, n in COUNTS.items() if emotions[name] != n]
    parts += [
        f"actor {name} {actors[name]} of {RECORDINGS_PER_ACTOR}"
        for name in ACTORS
        if actors[name] != RECORDINGS_PER_ACTOR
    ]
    if parts:
        songs = f" {passed} songs or videos (not 03-01-...) were passed over." if passed else ""
        raise CorpusError(
            f"{place} holds {len(utterances)} recordings of speech; RAVDESS has "
            f"{sum(COUNTS.values())} ({', '.join(parts)}).{songs} {restore_advice(ABOUT.home)}"
        )
