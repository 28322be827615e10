"""A folder with a subfolder for each class, and the recordings of the class in it.

    clips/
        anger/001.wav                   emotion anger, speaker unknown
        anger/ann/002.flac              emotion anger, speaker ann
        neutral/bob/003.mp3             emotion neutral, speaker bob

Folders below a class are speakers. The id of an utterance is its path below the folder. Without
speakers, recipes cannot be evaluated by speaker: write a table with a column ``speaker`` then.
"""

import os
from operator import attrgetter
from pathlib import Path

from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="Folders of your own, one for each class",
    language="any",
    licence="yours",
    home="",
)
SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".webm", ".mp4"),
)
"""Of recordings, in lower case."""
MIN_CLASSES = 2


def has_layout(root: Path) -> bool:
    """Return whether two subfolders or more have recordings, and the folder itself has none."""
    if not root.is_dir() or any(map(_is_recording, os.listdir(root))):
        return False
    return sum(bool(_list_recordings(folder)) for folder in _list_folders(root)) >= MIN_CLASSES


def read(root: Path) -> list[Utterance]:
    """Read the recordings of every subfolder, in order of ids.

    Raises:
        CorpusError: there are no two subfolders with recordings.
    """
    folders = _list_folders(root) if root.is_dir() else []
    found = {folder: _list_recordings(folder) for folder in folders}
    classes = [folder.name for folder, files in found.items() if files]
    if len(classes) < MIN_CLASSES:
        raise CorpusError(
            f"{root} has {len(classes)} subfolders with recordings; expected one for each class, "
            f"such as {root / 'anger'} and {root / 'neutral'}. Or write a table with a column for "
            "the file and one for each label"
        )
    utterances = [
        Utterance(
            id=file.relative_to(root).as_posix(),
            path=file,
            speaker=_find_speaker(folder, file),
            labels={"emotion": folder.name},
        )
        for folder, files in found.items()
        for file in files
    ]
    return sorted(utterances, key=attrgetter("id"))


def _find_speaker(folder: Path, file: Path) -> str | None:
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else None


def _list_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _list_recordings(folder: Path) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if _is_recording(name)
    )


def _is_recording(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and name[0] != "."
