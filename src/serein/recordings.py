"""What readers of corpora share: a folder, its recordings, codes in names, counts."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from serein.errors import CorpusError


def subfolder(root: Path, name: str, title: str, home: str) -> Path:
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
    if recordings(root) or (root.name == name and root.is_dir()):
        advice = f"This is {name}/ itself: give the folder above, {root.parent}"
    elif len(near) == 1:
        advice = f"Did you mean {near[0]}?"
    raise CorpusError(f"{root} has no folder {name}/; expected {title} there. {advice}")


def recordings(folder: Path) -> list[Path]:
    """The ``.wav`` files of a folder, in any case, sorted; hidden files are none of them.

    Folders within it are not entered: they may hold a second copy. Where there is no such folder
    there are no recordings.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    heard = sorted(name for name in names if name[-4:].lower() == ".wav" and name[0] != ".")
    return [folder / name for name in heard]


def decoded(file: Path, part: str, code: str, known: Mapping[str, str], title: str) -> str:
    """What a code in the name of ``file`` stands for.

    Raises:
        CorpusError: the corpus has no such code.
    """
    if code not in known:
        listing = ", ".join(sorted(known))
        raise CorpusError(f"{file}: unknown {part} {code!r}; {title} has {listing}")
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
