"""Surrey Audio-Visual Expressed Emotion (SAVEE): 480 utterances, 4 men, 7 emotions, English.

    root/
        AudioData/DC/a01.wav    DC speaker | a emotion | 01 number of the sentence

or the folder AudioData itself, or all files in one folder:

    root/
        DC_a01.wav

Files may also be FLAC; folders and files may be in upper or lower case. The letters are a, d, f, h,
n, sa, su; each emotion has the numbers 01 to 15, neutral 01 to 30. The emotion and the number are
the label ``sentence``: "d03" is the third sentence of disgust for every speaker. Some sentences
have several such names: three are common to all emotions, and neutral repeats these and the two
specific sentences of each emotion. The corpus's ``Info.txt`` does not say which numbers these are,
so the reader does not merge them. File names do not give the words either, so there is no ``text``.

Haq and Jackson, "Multimodal Emotion Recognition", in: Machine Audition, IGI Global, 2010.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from serein.corpora._reading import (
    AUDIO_SUFFIXES,
    check_counts,
    describe_skipped,
    find_unread,
    list_recordings,
    restore_advice,
)
from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="Surrey Audio-Visual Expressed Emotion (SAVEE)",
    language="English",
    licence="for research, after registration",
    home="http://kahlan.eps.surrey.ac.uk/savee/",
)
COUNTS = {
    "anger": 60,
    "disgust": 60,
    "fear": 60,
    "happiness": 60,
    "neutral": 120,
    "sadness": 60,
    "surprise": 60,
}
EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SPEAKERS = ("DC", "JE", "JK", "KL")
NAME_PATTERN = re.compile(r"(DC|JE|JK|KL)_(a|d|f|h|n|sa|su)(\d\d)", re.IGNORECASE)


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance under ``root``, in order of ids, such as "DC_a01".

    Args:
        root: the folder that holds ``AudioData/``, that folder itself, or the folder of all files.
        partial: accept an incomplete copy.

    Raises:
        CorpusError: the folder, a file name or the count differs from SAVEE's.
    """
    utterances = [_parse_utterance(name, file) for name, file in _find_recordings(root)]
    if not partial:
        emotions = [str(utterance.labels["emotion"]) for utterance in utterances]
        check_counts(root, "SAVEE", emotions, COUNTS, restore_advice(ABOUT.home))
    return sorted(utterances, key=lambda utterance: utterance.id)


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return a note of recordings elsewhere under ``root``, such as a second copy."""
    return describe_skipped(root, find_unread(root, utterances), "recordings")


def _find_recordings(root: Path) -> list[tuple[str, Path]]:
    """Return every recording, with its name in the layout of one folder."""
    folders = _list_folders(root)
    if "DC" not in folders and "AUDIODATA" in folders:
        return _find_recordings(folders["AUDIODATA"])
    if root.name.upper() in SPEAKERS:
        raise CorpusError(f"{root} is one of SAVEE's four speakers: give the folder above")
    recordings = _list_recordings(root)
    if not recordings:
        near = [folder for folder in folders.values() if _list_recordings(folder)]
        advice = f"Give the folder AudioData, or get the corpus from {ABOUT.home}"
        if len(near) == 1:
            advice = f"Did you mean {near[0]}?"
        raise CorpusError(
            f"{root} has neither DC/a01.wav nor DC_a01.wav; expected SAVEE there. {advice}"
        )
    return recordings


def _list_recordings(folder: Path) -> list[tuple[str, Path]]:
    """Return the recordings of one folder, or of its speakers' folders if it has any."""
    folders = _list_folders(folder)
    by_speaker = [(name, folders[name]) for name in SPEAKERS if name in folders]
    if by_speaker:
        return [
            (f"{name}_{file.stem}", file)
            for name, speaker_folder in by_speaker
            for file in list_recordings(speaker_folder, AUDIO_SUFFIXES)
        ]
    return [(file.stem, file) for file in list_recordings(folder, AUDIO_SUFFIXES)]


def _list_folders(root: Path) -> dict[str, Path]:
    """Return the subfolders of a folder by their names in upper case."""
    if not root.is_dir():
        return {}
    return {entry.name.upper(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}


def _parse_utterance(name: str, file: Path) -> Utterance:
    """Parse speaker, emotion and number from a name such as "DC_a01"."""
    match = NAME_PATTERN.fullmatch(name)
    if match is None:
        raise CorpusError(
            f"{file} is not a SAVEE name such as DC/a01.wav or DC_a01.wav, of the speakers "
            f"{', '.join(SPEAKERS)} and the letters {', '.join(EMOTIONS)}; move it elsewhere"
        )
    speaker, letters, number = match[1].upper(), match[2].lower(), match[3]
    last = 30 if letters == "n" else 15
    if not 1 <= int(number) <= last:
        raise CorpusError(
            f"{file}: {EMOTIONS[letters]} has the sentences 01 to {last} in SAVEE, not {number}; "
            "move it elsewhere"
        )
    return Utterance(
        id=f"{speaker}_{letters}{number}",
        path=file,
        speaker=speaker,
        gender="male",
        language="en",
        labels={"emotion": EMOTIONS[letters], "sentence": f"{letters}{number}"},
    )
