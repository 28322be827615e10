"""Compare a copy of a corpus with what its owners publish, file by file."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serein import corpora
from serein.errors import CorpusError
from serein.records import Corpus

HASHES = Path(__file__).parent / "hashes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What became of a corpus on its way to this disk; files by their paths inside it.

    Attributes:
        corpus: its name.
        utterances: how many can be read.
        speakers: of them, where they are known.
        listed: files whose hashes are known; 0 where nobody lists any.
        whole: files that are the published ones, byte by byte.
        changed: those that are not.
        missing: listed, and not here.
        extra: here, and not listed.
        incomparable: here in another format than listed, such as FLAC instead of WAV; only
            their names were compared.
        twins: pairs of files with the same bytes. Some corpora were published with such pairs.
        short: why the corpus cannot be read as a whole one, in words; empty where it can.
        notes: what reading it told of: what was missing or passed over.
    """

    corpus: str
    utterances: int
    speakers: int
    listed: int
    whole: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    incomparable: tuple[str, ...]
    twins: tuple[tuple[str, str], ...]
    short: str = ""
    notes: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether nothing is missing or changed, as far as is known."""
        return not (self.missing or self.changed or self.short)


def checked(spec: str) -> Check:
    """Read a corpus, however much is missing, and compare its files with the published ones.

    Files are hashed where their hashes are known, or where another one is as long.

    Raises:
        SereinError: as ``corpora.load``; or a file cannot be read.
    """
    corpus, short = _read(spec)
    root = _root(spec)
    files = sorted({utterance.path for utterance in corpus.utterances})
    known = listed(corpus.name)
    names = {_name(file, known): file for file in files}
    same = {name: file for name, file in names.items() if _format(file) == _format(known.get(name))}
    hashes = _hashes(files, set(same.values()))
    changed = {file for name, file in same.items() if hashes[file] != known[name][0]}
    return Check(
        corpus=corpus.name,
        utterances=len(corpus.utterances),
        speakers=len({utterance.speaker for utterance in corpus.utterances} - {None}),
        listed=len(known),
        whole=len(same) - len(changed),
        changed=_paths(root, changed),
        missing=tuple(path for name, (_, path) in sorted(known.items()) if name not in names),
        extra=_paths(root, (file for name, file in names.items() if known and name not in known)),
        incomparable=_paths(
            root, (file for name, file in names.items() if name in known and name not in same)
        ),
        twins=_twins(root, hashes),
        short=short,
        notes=corpus.notes,
    )


def _read(spec: str) -> tuple[Corpus, str]:
    """A corpus, or what there is of it; and why that is not all, in words."""
    try:
        return corpora.load(spec, partial=False), ""
    except CorpusError as error:
        return corpora.load(spec, partial=True), str(error)


def _root(spec: str) -> Path:
    """The folder that a specification stands for, once it was read; of a table, its own."""
    _, copy = corpora.meant(spec)
    place = copy.place if copy else Path()
    return place if place.is_dir() else place.parent


def listed(name: str) -> dict[str, tuple[str, str]]:
    """The SHA-256 and the path of each recording of a corpus, by a name that no other one has.

    That is its file name without extension, together with its folder's where names recur: then
    ``DC/a01.wav`` and the flat ``DC_a01.wav`` are both called DC_a01.
    """
    file = HASHES / f"{name}.sha256"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = [(cells[0], Path(cells[-1])) for line in lines if (cells := line.split())]
    unique = len({path.stem for _, path in found}) == len(found)
    return {
        path.stem if unique else _longer(path): (digest, path.as_posix()) for digest, path in found
    }


def _longer(path: Path) -> str:
    return f"{path.parent.name}_{path.stem}"


def _name(file: Path, known: dict[str, tuple[str, str]]) -> str:
    """What a file is called in the list; its whole path if it is not there."""
    return next((name for name in (file.stem, _longer(file)) if name in known), str(file))


def _format(file: Path | tuple[str, str] | None) -> str:
    """The extension of a file, or of one in the list; of none, none."""
    path = Path(file[1]) if isinstance(file, tuple) else file
    return path.suffix.lower() if path else "none"


def _paths(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(sorted(_inside(root, file) for file in files))


def _inside(root: Path, file: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _hashes(files: Iterable[Path], wanted: set[Path]) -> dict[Path, str]:
    """The SHA-256 of the wanted files, and of those that are as long as another one."""
    try:
        sizes = {file: file.stat().st_size for file in files}
        lengths = Counter(sizes.values())
        chosen = [file for file, size in sizes.items() if file in wanted or lengths[size] > 1]
        return {file: _hash(file) for file in chosen}
    except OSError as error:
        raise CorpusError(
            f"{error.filename} cannot be read: {error.strerror}; restore it"
        ) from error


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _twins(root: Path, hashes: dict[Path, str]) -> tuple[tuple[str, str], ...]:
    """Each file that repeats another one, after the first that it repeats."""
    first: dict[str, Path] = {}
    pairs = [(first.setdefault(digest, file), file) for file, digest in sorted(hashes.items())]
    return tuple((_inside(root, one), _inside(root, two)) for one, two in pairs if one != two)
