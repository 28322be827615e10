"""Shared functions of the corpus readers: finding files, decoding names, checking counts."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from serein.errors import CorpusError
from serein.records import Utterance

AUDIO_SUFFIXES = (".flac", ".wav")


def find_subfolder(root: Path, name: str, title: str, home: str) -> Path:
    """Return the folder ``name`` in ``root``.

    Args:
        root: the folder that the user gave.
        name: of the folder to find.
        title: name of the corpus, for error messages.
        home: where to get the corpus.

    Raises:
        CorpusError: the folder does not exist; the message suggests a likely one.
    """
    if (root / name).is_dir():
        return root / name
    advice = f"Give the folder that holds {name}/, or get the corpus from {home}"
    near = sorted(folder.parent for folder in root.glob(f"*/{name}") if folder.is_dir())
    if list_recordings(root) or (root.name == name and root.is_dir()):
        advice = f"This is {name}/ itself: give the folder above, {root.parent}"
    elif len(near) == 1:
        advice = f"Did you mean {near[0]}?"
    raise CorpusError(f"{root} has no folder {name}/; expected {title} there. {advice}")


def list_recordings(folder: Path, suffixes: tuple[str, ...] = (".wav",)) -> list[Path]:
    """Return the recordings of a folder, sorted, without hidden files.

    Subfolders are not searched, since they may hold a second copy. A folder that does not exist has
    no recordings.

    Args:
        folder: to search.
        suffixes: of recordings, in lower case; those of files may be in upper case.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    names = sorted(name for name in names if name.lower().endswith(suffixes) and name[0] != ".")
    return [folder / name for name in names]


def find_unread(root: Path, utterances: Iterable[Utterance]) -> list[Path]:
    """Return the recordings anywhere below a folder that belong to no utterance, sorted."""
    read = {utterance.path for utterance in utterances}
    files = (
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(AUDIO_SUFFIXES) and name[0] != "."
    )
    return sorted(file for file in files if file not in read)


def describe_skipped(root: Path, files: list[Path], what: str) -> list[str]:
    """Return a note about recordings that were not read; no note without such recordings.

    Args:
        root: the folder that file names in the note are relative to.
        files: recordings that were not read.
        what: plural noun for them.
    """
    if not files:
        return []
    return [f"{what} not read: {len(files)}, such as {files[0].relative_to(root).as_posix()}"]


def describe_missing(files: list[Path], total: int, of: str) -> str:
    """Describe missing files in a clause, without a full stop.

    Args:
        files: the missing files; at least one.
        total: expected number of files.
        of: plural noun for the files.
    """
    more = f"as are {len(files) - 1} more" if len(files) > 1 else "one"
    return f"{files[0]} is missing, {more} of the {total} {of}"


def restore_advice(home: str) -> str:
    """Return advice for a corpus of which a part is missing."""
    return (
        f"Restore the rest from {home}, or read what is there with --partial (serein corpora add "
        "NAME FOLDER --partial stores this; in Python partial=True)"
    )


def decode_field(file: Path, field: str, code: str, known: Mapping[str, str], title: str) -> str:
    """Return the meaning of a code in a file name.

    Args:
        file: whose name has the code.
        field: name of the field, such as "emotion".
        code: to decode.
        known: meaning of each code.
        title: name of the corpus, for error messages.

    Raises:
        CorpusError: the corpus has no such code.
    """
    if code not in known:
        listing = ", ".join(sorted(known))
        raise CorpusError(f"{file}: unknown {field} {code!r}; {title} has {listing}")
    return known[code]


def check_counts(
    place: Path, title: str, found: Iterable[str], expected: Mapping[str, int], advice: str
) -> None:
    """Compare the number of recordings of each class with the published numbers.

    Args:
        place: path of the corpus.
        title: name of the corpus, for error messages.
        found: the class of each recording.
        expected: number of recordings of each class.
        advice: what to do if a number differs.

    Raises:
        CorpusError: a number differs.
    """
    counts, total = Counter(found), sum(expected.values())
    if counts != Counter(expected):
        differences = [
            f"{name} {counts[name]} of {count}"
            for name, count in expected.items()
            if counts[name] != count
        ]
        raise CorpusError(
            f"{place} has {counts.total()} recordings; {title} has {total} "
            f"({', '.join(differences)}). {advice}"
        )
