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

HASHES_FOLDER = Path(__file__).parent / "hashes"


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrityReport:
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
    published_count: int
    intact_count: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    other_format: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]
    incomplete_reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Whether nothing is missing or changed, as far as is known."""
        return not (self.missing or self.changed or self.incomplete_reason)


def check_corpus(spec: str) -> IntegrityReport:
    """Read a corpus, however much is missing, and compare its files with the published ones.

    Files are hashed where their hashes are known, or where another one is as long.

    Raises:
        SereinError: as ``corpora.load``; or a file cannot be read.
    """
    corpus, short = _load_available(spec)
    root = _corpus_folder(spec)
    files = sorted({utterance.path for utterance in corpus.utterances})
    known = published_hashes(corpus.name)
    names = {_published_name(file, known): file for file in files}
    same = {
        name: file
        for name, file in names.items()
        if _file_format(file) == _file_format(known.get(name))
    }
    hashes = _hash_files(files, set(same.values()))
    changed = {file for name, file in same.items() if hashes[file] != known[name][0]}
    return IntegrityReport(
        corpus=corpus.name,
        utterances=len(corpus.utterances),
        speakers=len({utterance.speaker for utterance in corpus.utterances} - {None}),
        published_count=len(known),
        intact_count=len(same) - len(changed),
        changed=_relative_paths(root, changed),
        missing=tuple(path for name, (_, path) in sorted(known.items()) if name not in names),
        extra=_relative_paths(
            root, (file for name, file in names.items() if known and name not in known)
        ),
        other_format=_relative_paths(
            root, (file for name, file in names.items() if name in known and name not in same)
        ),
        duplicates=_find_duplicates(root, hashes),
        incomplete_reason=short,
        notes=corpus.notes,
    )


def _load_available(spec: str) -> tuple[Corpus, str]:
    """A corpus, or what there is of it; and why that is not all, in words."""
    try:
        return corpora.load(spec, partial=False), ""
    except CorpusError as error:
        return corpora.load(spec, partial=True), str(error)


def _corpus_folder(spec: str) -> Path:
    """The folder that a specification stands for, once it was read; of a table, its own."""
    _, copy = corpora.parse_spec(spec)
    place = copy.path if copy else Path()
    return place if place.is_dir() else place.parent


def published_hashes(name: str) -> dict[str, tuple[str, str]]:
    """The SHA-256 and the path of each recording of a corpus, by a name that no other one has.

    That is its file name without extension, together with its folder's where names recur: then
    ``DC/a01.wav`` and the flat ``DC_a01.wav`` are both called DC_a01.
    """
    file = HASHES_FOLDER / f"{name}.sha256"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = [(cells[0], Path(cells[-1])) for line in lines if (cells := line.split())]
    unique = len({path.stem for _, path in found}) == len(found)
    return {
        path.stem if unique else _name_with_folder(path): (digest, path.as_posix())
        for digest, path in found
    }


def _name_with_folder(path: Path) -> str:
    return f"{path.parent.name}_{path.stem}"


def _published_name(file: Path, known: dict[str, tuple[str, str]]) -> str:
    """What a file is called in the list; its whole path if it is not there."""
    return next((name for name in (file.stem, _name_with_folder(file)) if name in known), str(file))


def _file_format(file: Path | tuple[str, str] | None) -> str:
    """The extension of a file, or of one in the list; of none, none."""
    path = Path(file[1]) if isinstance(file, tuple) else file
    return path.suffix.lower() if path else "none"


def _relative_paths(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(sorted(_relative_path(root, file) for file in files))


def _relative_path(root: Path, file: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _hash_files(files: Iterable[Path], wanted: set[Path]) -> dict[Path, str]:
    """The SHA-256 of the wanted files, and of those that are as long as another one."""
    try:
        sizes = {file: file.stat().st_size for file in files}
        lengths = Counter(sizes.values())
        chosen = [file for file, size in sizes.items() if file in wanted or lengths[size] > 1]
        return {file: _hash_file(file) for file in chosen}
    except OSError as error:
        raise CorpusError(
            f"{error.filename} cannot be read: {error.strerror}; restore it"
        ) from error


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_duplicates(root: Path, hashes: dict[Path, str]) -> tuple[tuple[str, str], ...]:
    """Each file that repeats another one, after the first that it repeats."""
    first: dict[str, Path] = {}
    pairs = [(first.setdefault(digest, file), file) for file, digest in sorted(hashes.items())]
    return tuple(
        (_relative_path(root, one), _relative_path(root, two)) for one, two in pairs if one != two
    )
