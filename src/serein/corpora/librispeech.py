"""LibriSpeech (read English without emotion labels) and corpora in its layout, such as AN4.

    root/
        SPEAKERS.TXT                                   ; ID |SEX| SUBSET           |MINUTES| NAME
                                                       14   | F | train-clean-360  | 25.03 | ...
        test-clean/1089/134686/1089-134686-0000.flac   part/speaker/chapter/recording
        test-clean/1089/134686/1089-134686.trans.txt   1089-134686-0000 HE HOPED THERE WOULD BE STEW

The root is the folder of the parts, the folder above ``LibriSpeech/``, or a single part. The user
may have any of the parts, so the number of utterances is not checked, but the recordings and the
transcript of each chapter must match. ``part`` and ``chapter`` are labels. FLAC and WAV files are
listed without opening them. ``SPEAKERS.TXT`` is optional; without it genders are unknown.

Panayotov et al., "LibriSpeech: an ASR Corpus Based on Public Domain Audio Books", ICASSP 2015.
"""

import os
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="LibriSpeech, read speech without emotion labels (also AN4 in its layout)",
    language="English",
    licence="CC BY 4.0",
    home="https://www.openslr.org/12",
)
GENDERS = {"F": "female", "M": "male"}
AUDIO_SUFFIXES = (".flac", ".wav")


def read(root: Path) -> list[Utterance]:
    """Read every utterance of every part, in order of their ids.

    Raises:
        CorpusError: there is no part, a line is not a transcript, or a recording or its text is
            missing.
    """
    parts = _find_parts(root)
    genders = _read_genders(parts[0].parent / "SPEAKERS.TXT")
    utterances = [
        utterance
        for part in parts
        for speaker in _numbered_folders(part)
        for chapter in _numbered_folders(speaker)
        for utterance in _read_chapter(part.name, speaker.name, chapter, genders)
    ]
    return sorted(utterances, key=attrgetter("id"))


def _find_parts(root: Path) -> list[Path]:
    """Return the parts, which are the folders of speakers: ``root`` itself, or folders in it."""
    root = root.absolute()
    if (root / "LibriSpeech").is_dir():
        root = root / "LibriSpeech"
    if root.is_dir():
        if _is_part(root):
            return [root]
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
        if parts := [folder for folder in folders if _is_part(folder)]:
            return parts
    raise CorpusError(
        f"{root} has no part such as test-clean/1089/134686/; give the folder of the parts, or "
        f"get the corpus from {ABOUT.home}"
    )


def _is_part(folder: Path) -> bool:
    """Return whether a folder has a speaker's folder with a chapter."""
    return any(True for speaker in _numbered_folders(folder) for _ in _numbered_folders(speaker))


def _numbered_folders(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return the subfolders whose names are numbers, as those of speakers and chapters are."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.isdigit() and entry.is_dir()]
            return sorted(found, key=attrgetter("name"))
    except OSError as error:
        raise CorpusError(f"{folder} cannot be read: {error.strerror}; restore it") from error


def _read_genders(file: Path) -> dict[str, str]:
    """The gender of each speaker; nothing if the table is absent."""
    if not file.exists():
        return {}
    genders = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(";"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 3 or cells[1] not in GENDERS:
            raise CorpusError(
                f"{file}, line {number}: {line!r} is not a speaker such as '14 | F | "
                "train-clean-360 | 25.03 | Kristin LeMoine'; restore the file or remove it"
            )
        genders[cells[0]] = GENDERS[cells[1]]
    return genders


def _read_chapter(
    part: str, speaker: str, folder: os.DirEntry[str], genders: dict[str, str]
) -> Iterator[Utterance]:
    """Yield the utterances of one chapter of a speaker."""
    path = Path(folder.path)
    file = path / f"{speaker}-{folder.name}.trans.txt"
    recordings = _find_recordings(path)
    texts = _read_transcript(file)
    _check_agreement(file, recordings, texts)
    for name, text in texts.items():
        yield Utterance(
            id=name,
            path=recordings[name],
            speaker=speaker,
            gender=genders.get(speaker),
            language="en",
            text=text,
            labels={"part": part, "chapter": folder.name},
        )


def _check_agreement(file: Path, recordings: dict[str, Path], texts: dict[str, str]) -> None:
    """Raise CorpusError for a recording without a text, or a text without a recording."""
    for name in sorted(recordings.keys() - texts.keys()):
        raise CorpusError(
            f"{recordings[name]} has no line in {file}; restore the transcript from {ABOUT.home}, "
            "or move the recording elsewhere"
        )
    for name in sorted(texts.keys() - recordings.keys()):
        raise CorpusError(
            f"{file} has the text of {name}, but {file.with_name(name)}.flac is missing; restore "
            f"it from {ABOUT.home}, or remove the line"
        )


def _find_recordings(folder: Path) -> dict[str, Path]:
    """Return the path of each recording by its id."""
    recordings: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in AUDIO_SUFFIXES and not stem.startswith("."):
                if stem in recordings:
                    raise CorpusError(
                        f"{entry.path} and {recordings[stem]} are one utterance; remove one of them"
                    )
                recordings[stem] = folder / entry.name
    return recordings


def _read_transcript(file: Path) -> dict[str, str]:
    """Return the text of each recording by its id."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{file} cannot be read ({error}); expected a transcript of the chapter. Restore it"
        ) from error
    texts: dict[str, str] = {}
    prefix = file.name.removesuffix(".trans.txt")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, text = line.partition(" ")
        if not name.startswith(f"{prefix}-") or name in texts:
            raise CorpusError(
                f"{file}, line {number}: {line!r} is not a new line such as "
                f"'{prefix}-0000 GO DO YOU HEAR'; restore the file"
            )
        texts[name] = text.strip()
    return texts
