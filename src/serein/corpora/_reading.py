"""What readers of corpora share: a folder, its recordings, codes in names, counts."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from serein.errors import CorpusError
from serein.records import Utterance

AUDIO_SUFFIXES = (".flac", ".wav")


def find_subfolder(root: Path, name: str, title: str, home: str) -> Path:
    """The folder ``name`` in ``root``.

    Args:
        root: what the user gave.
        name: of the folder that is looked for.
        title: of the corpus, as a user knows it.
        home: where to get it.

    Raises:
        CorpusError: it is not there; the message says where it seems to be.
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


def list_recordings(folder: Path) -> list[Path]:
    """The ``.wav`` files of a folder, in any case, sorted; hidden files are none of them.

    Folders within it are not entered: they may hold a second copy. Where there is no such folder
    there are no recordings.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    heard = sorted(name for name in names if name[-4:].lower() == ".wav" and name[0] != ".")
    return [folder / name for name in heard]


def find_unread(root: Path, utterances: Iterable[Utterance]) -> list[Path]:
    """Recordings in a folder and all below it that no utterance is read from, sorted."""
    read = {utterance.path for utterance in utterances}
    found = (
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(AUDIO_SUFFIXES) and name[0] != "."
    )
    return sorted(file for file in found if file not in read)


def describe_skipped(root: Path, files: list[Path], what: str) -> list[str]:
    """A note of recordings that were not read; none where there are no such ones.

    Args:
        root: the folder that their names are told from.
        files: those that were not read.
        what: they are.
    """
    if not files:
        return []
    return [f"{what} not read: {len(files)}, such as {files[0].relative_to(root).as_posix()}"]


def describe_missing(files: list[Path], total: int, of: str) -> str:
    """Which files are missing, in words that a comma or a semicolon may follow.

    Args:
        files: those that are; at least one.
        total: how many there should be.
        of: what they are, in words that follow their number.
    """
    more = f"as are {len(files) - 1} more" if len(files) > 1 else "one"
    return f"{files[0]} is missing, {more} of the {total} {of}"


def restore_advice(home: str) -> str:
    """What to do where a part of a corpus is missing."""
    return (
        f"Restore the rest from {home}, or read what is there with --partial (in Python with "
        "partial=True)"
    )


def decode_field(file: Path, field: str, code: str, known: Mapping[str, str], title: str) -> str:
    """What a code in the name of ``file`` stands for.

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
    """Compare counts with the corpus's own.

    Args:
        place: where the corpus was read.
        title: of the corpus, as a user knows it.
        found: of each recording the class that is counted.
        expected: the number of recordings in each class.
        advice: what to do if any number differs.

    Raises:
        CorpusError: one does.
    """
    counted, total = Counter(found), sum(expected.values())
    if counted != Counter(expected):
        wrong = {name: n for name, n in expected.items() if counted[name] != n}
        differing = [f"{name} {counted[name]} of {n}" for name, n in wrong.items()]
        raise CorpusError(
            f"{place} holds {counted.total()} recordings; {title} has {total} "
            f"({', '.join(differing)}). {advice}"
        )
