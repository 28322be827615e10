"""RAVDESS (the speech part): 1,440 utterances, 24 actors, 8 emotions, North American English.

    root/
        Actor_01/03-01-06-01-02-01-12.wav

    03 audio alone | 01 speech | 06 emotion | 01 intensity | 02 statement | 01 repetition | 12 actor

Actors with odd numbers are men. The root may also be the folder above the folder of the actors.
The published WAV files and FLAC files of the same names are read. Only the actors' folders
themselves are read, not their subfolders or others: a well-known download has a second copy of
everything in ``audio_speech_actors_01-24/Actor_01``, which must not count twice. Songs and videos
that were unpacked into the same folders are skipped.

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
"""Number of recordings of each actor."""
ACTOR_FOLDER_PATTERN = re.compile(r"actor_\d\d", re.IGNORECASE)
NAME_PATTERN = re.compile(r"\d\d(-\d\d){6}")


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance of speech, in order of file name.

    Args:
        root: the folder that holds ``Actor_01/`` and so on, or the one above it.
        partial: accept an incomplete copy.

    Raises:
        CorpusError: the folder, a file name or a count differs from RAVDESS's.
    """
    parent, folders = _find_actor_folders(root)
    files = [file for folder in folders for file in folder.iterdir() if _is_recording(file)]
    for file in files:
        if not NAME_PATTERN.fullmatch(file.stem):
            raise CorpusError(
                f"{file} is not a RAVDESS name such as 03-01-06-01-02-01-12.wav; move it elsewhere"
            )
    speech = [file for file in files if file.name.startswith("03-01-")]
    utterances = sorted(map(_parse_utterance, speech), key=lambda utterance: utterance.id)
    if not partial:
        _check_utterance_counts(parent, utterances, len(files) - len(speech))
    return utterances


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes of songs and videos, and of recordings elsewhere, such as a second copy."""
    unread = find_unread(root, utterances)
    songs = [file for file in unread if not file.name.startswith("03-01-")]
    return [
        *describe_skipped(root, songs, "songs or videos (not 03-01-...)"),
        *describe_skipped(root, sorted({*unread} - {*songs}), "more recordings of speech"),
    ]


def _find_actor_folders(root: Path) -> tuple[Path, list[Path]]:
    """Return the parent of the actors' folders (``root`` or a folder in it), and these folders."""
    if folders := _list_actor_folders(root):
        return root, folders
    entries = sorted(root.iterdir()) if root.is_dir() else []
    parents = {entry: folders for entry in entries if (folders := _list_actor_folders(entry))}
    without_songs = {
        parent: folders for parent, folders in parents.items() if "song" not in parent.name.lower()
    }
    parents = without_songs or parents
    if len(parents) == 1:
        return next(iter(parents.items()))
    if parents:
        names = ", ".join(parent.name for parent in parents)
        raise CorpusError(f"{root} has RAVDESS more than once, in {names}; give one of them")
    advice = f"Give the folder that holds Actor_01/, or get the corpus from {ABOUT.home}"
    if ACTOR_FOLDER_PATTERN.fullmatch(root.name):
        advice = f"This is one actor: give the folder above, {root.absolute().parent}"
    raise CorpusError(f"{root} has no folders Actor_01/ to Actor_24/. {advice}")


def _list_actor_folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(
        entry
        for entry in parent.iterdir()
        if ACTOR_FOLDER_PATTERN.fullmatch(entry.name) and entry.is_dir()
    )


def _is_recording(file: Path) -> bool:
    return file.suffix.lower() in (".wav", ".flac") and not file.name.startswith(".")


def _parse_utterance(file: Path) -> Utterance:
    """Parse emotion, sentence and actor from a file name."""
    emotion, intensity, statement, repetition, actor = file.stem.split("-")[2:]
    for field, code, known in (
        ("emotion", emotion, EMOTIONS),
        ("intensity", intensity, INTENSITIES),
        ("statement", statement, TEXTS),
        ("repetition", repetition, REPETITIONS),
        ("actor", actor, ACTORS),
    ):
        if code not in known:
            listing = ", ".join(known)
            raise CorpusError(f"{file}: unknown {field} {code!r}; RAVDESS has {listing}")
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


def _check_utterance_counts(parent: Path, utterances: list[Utterance], skipped: int) -> None:
    """Compare the counts with those that RAVDESS publishes.

    Args:
        parent: of the actors' folders.
        utterances: all that were read.
        skipped: number of songs and videos that were not read.
    """
    emotions = Counter(str(utterance.labels["emotion"]) for utterance in utterances)
    actors = Counter(utterance.speaker for utterance in utterances)
    differences = [
        f"{name} {emotions[name]} of {count}"
        for name, count in COUNTS.items()
        if emotions[name] != count
    ]
    differences += [
        f"actor {name} {actors[name]} of {RECORDINGS_PER_ACTOR}"
        for name in ACTORS
        if actors[name] != RECORDINGS_PER_ACTOR
    ]
    if differences:
        total = sum(COUNTS.values())
        songs = f" {skipped} songs or videos (not 03-01-...) were skipped." if skipped else ""
        raise CorpusError(
            f"{parent} has {len(utterances)} recordings of speech; RAVDESS has {total} "
            f"({', '.join(differences)}).{songs} {restore_advice(ABOUT.home)}"
        )
