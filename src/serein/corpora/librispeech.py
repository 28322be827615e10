"""LibriSpeech, read English without emotion labels; and any corpus in its layout, such as AN4.

    root/
        SPEAKERS.TXT                                   ; ID |SEX| SUBSET           |MINUTES| NAME
                                                       14   | F | train-clean-360  | 25.03 | ...
        test-clean/1089/134686/1089-134686-0000.flac   part/speaker/chapter/recording
        test-clean/1089/134686/1089-134686.trans.txt   1089-134686-0000 HE HOPED THERE WOULD BE STEW

The root is the folder of the parts, the one above its ``LibriSpeech/``, or a single part. Which
parts are there is the user's choice, hence no count is expected; but in each chapter recordings
and transcript must agree. ``part`` and ``chapter`` are labels. FLAC and WAV are read; no recording
is opened. Without ``SPEAKERS.TXT`` nobody has a gender.

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
        CorpusError: there is no part, a line is not a transcript, or a recording or its words
            are missing.
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
    """The folders of speakers: ``root`` itself, or those inside it."""
    root = root.absolute()
    if (root / "LibriSpeech").is_dir():
        root = root / "LibriSpeech"
    if root.is_dir():
        if _is_part(root):
            return [root]
        below = sorted(one for one in root.iterdir() if one.is_dir())
        if parts := [one for one in below if _is_part(one)]:
            return parts
    raise CorpusError(
        f"{root} has no part such as test-clean/1089/134686/; give the folder of the parts, or "
        f"get the corpus from {ABOUT.home}"
    )


def _is_part(folder: Path) -> bool:
    """Whether a speaker's folder with a chapter is there."""
    return any(True for speaker in _numbered_folders(folder) for _ in _numbered_folders(speaker))


def _numbered_folders(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The folders in it that are numbers, as speakers and chapters are."""
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
    """The utterances of one reader's chapter."""
    place = Path(folder.path)
    file = place / f"{speaker}-{folder.name}.trans.txt"
    recordings = _find_recordings(place)
    words = _read_transcript(file)
    _check_agreement(file, recordings, words)
    for name, text in words.items():
        yield Utterance(
            id=name,
            path=recordings[name],
            speaker=speaker,
            gender=genders.get(speaker),
            language="en",
            text=text,
            labels={"part": part, "chapter": folder.name},
        )


def _check_agreement(file: Path, recordings: dict[str, Path], words: dict[str, str]) -> None:
    """Refuse a recording without words, and words without a recording."""
    for name in sorted(recordings.keys() - words.keys()):
        raise CorpusError(
            f"{recordings[name]} has no line in {file}; restore the transcript from {ABOUT.home}, "
            "or move the recording elsewhere"
        )
    for name in sorted(words.keys() - recordings.keys()):
        raise CorpusError(
            f"{file} has the words of {name}, and {file.with_name(name)}.flac is missing; restore "
            f"it from {ABOUT.home}, or remove the line"
        )


def _find_recordings(folder: Path) -> dict[str, Path]:
    """The path of each recording, by its id."""
    found: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in AUDIO_SUFFIXES and not stem.startswith("."):
                if stem in found:
                    raise CorpusError(
                        f"{entry.path} and {found[stem]} are one utterance; remove one of them"
                    )
                found[stem] = folder / entry.name
    return found


def _read_transcript(file: Path) -> dict[str, str]:
    """What is said in each recording, by its id."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{file} cannot be read ({error}); each chapter needs its transcript: restore it"
        ) from error
    words = {}
    prefix = file.name.removesuffix(".trans.txt")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, text = line.partition(" ")
        if not name.startswith(f"{prefix}-") or name in words:
            raise CorpusError(
                f"{file}, line {number}: {line!r} is not a line of its own such as "
                f"'{prefix}-0000 GO DO YOU HEAR'; restore the file"
            )
        words[name] = text.strip()
    return words
