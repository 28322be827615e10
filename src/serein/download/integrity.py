"""Compare a copy of a corpus with the published corpus, file by file."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serein import corpora, protocols
from serein.errors import CorpusError
from serein.records import Corpus, Utterance

HASHES_FOLDER = Path(__file__).parent / "hashes"


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrityReport:
    """The result of comparing a corpus with the published one; files are relative paths.

    Attributes:
        corpus: its name.
        utterances: number of utterances that can be read.
        speakers: number of their speakers, if known.
        published_count: number of files with a published hash; 0 if no hashes are published.
        intact_count: number of files that are identical to the published ones.
        changed: files that differ from the published ones.
        missing: published files that the copy lacks.
        extra: files of the copy that are not published.
        other_format: files in another format than the published ones, such as FLAC instead of
            WAV; only their names were compared.
        duplicates: pairs of identical files. Some corpora were published with such pairs.
        copies: pairs of utterances that are copies or overlapping stretches of a recording, by
            their fingerprints; identical files are not among them.
        label_conflicts: pairs of utterances with the same audio and different labels.
        speaker_conflicts: pairs of utterances from one recording that have different speakers.
        incomplete_reason: why the corpus cannot be read completely; empty if it can.
        notes: of the reader, on what is missing or was skipped.
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
    copies: tuple[str, ...] = ()
    label_conflicts: tuple[str, ...] = ()
    speaker_conflicts: tuple[str, ...] = ()
    incomplete_reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Whether nothing is known to be missing or changed."""
        return not (self.missing or self.changed or self.incomplete_reason)


def check_corpus(spec: str, *, compare_audio: bool = True) -> IntegrityReport:
    """Read a corpus, even an incomplete one, and compare its files with the published ones.

    A file is hashed if its hash is published, or if another file has the same size.

    Args:
        spec: NAME or NAME=PATH.
        compare_audio: whether to look for utterances with the same audio, by fingerprints.

    Raises:
        SereinError: as ``corpora.load``; or a file cannot be read.
    """
    corpus, incomplete_reason = _load_available(spec)
    root = _corpus_folder(spec)
    files = sorted({utterance.path for utterance in corpus.utterances})
    published = published_hashes(corpus.name)
    by_name = {_published_name(file, published): file for file in files}
    comparable = {
        name: file
        for name, file in by_name.items()
        if name in published and file.suffix.lower() == Path(published[name][1]).suffix.lower()
    }
    hashes = _hash_files(files, set(comparable.values()))
    changed = {file for name, file in comparable.items() if hashes[file] != published[name][0]}
    return IntegrityReport(
        corpus=corpus.name,
        utterances=len(corpus.utterances),
        speakers=len({utterance.speaker for utterance in corpus.utterances} - {None}),
        published_count=len(published),
        intact_count=len(comparable) - len(changed),
        changed=_relative_paths(root, changed),
        missing=tuple(path for name, (_, path) in sorted(published.items()) if name not in by_name),
        extra=_relative_paths(
            root, (file for name, file in by_name.items() if published and name not in published)
        ),
        other_format=_relative_paths(
            root,
            (
                file
                for name, file in by_name.items()
                if name in published and name not in comparable
            ),
        ),
        duplicates=_find_duplicates(root, hashes),
        **(_find_same_audio(corpus, hashes) if compare_audio else {}),
        incomplete_reason=incomplete_reason,
        notes=corpus.notes,
    )


def _load_available(spec: str) -> tuple[Corpus, str]:
    """Return a corpus or its available part, and why it is incomplete (empty if it is not)."""
    try:
        return corpora.load(spec, partial=False), ""
    except CorpusError as error:
        return corpora.load(spec, partial=True), str(error)


def _corpus_folder(spec: str) -> Path:
    """Return the folder of a corpus that was loaded; for a table, the folder of the table."""
    _, location = corpora.parse_spec(spec)
    path = location.path if location else Path()
    return path if path.is_dir() else path.parent


def published_hashes(name: str) -> dict[str, tuple[str, str]]:
    """Return the SHA-256 and the path of each published recording, by a unique name.

    The name is the file name without its extension. If file names recur, the folder's name is part
    of it: then ``DC/a01.wav`` and the flat ``DC_a01.wav`` are both called DC_a01.
    """
    file = HASHES_FOLDER / f"{name}.sha256"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    hashes = [(cells[0], Path(cells[-1])) for line in lines if (cells := line.split())]
    is_unique = len({path.stem for _, path in hashes}) == len(hashes)
    return {
        path.stem if is_unique else _name_with_folder(path): (digest, path.as_posix())
        for digest, path in hashes
    }


def _name_with_folder(path: Path) -> str:
    return f"{path.parent.name}_{path.stem}"


def _published_name(file: Path, published: dict[str, tuple[str, str]]) -> str:
    """Return the name of a file among the published ones; its path if it is not published."""
    names = (file.stem, _name_with_folder(file))
    return next((name for name in names if name in published), str(file))


def _relative_paths(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(sorted(_relative_path(root, file) for file in files))


def _relative_path(root: Path, file: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _hash_files(files: Iterable[Path], wanted: set[Path]) -> dict[Path, str]:
    """Return the SHA-256 of the wanted files, and of files with the same size as another one."""
    try:
        sizes = {file: file.stat().st_size for file in files}
        counts = Counter(sizes.values())
        selected = [file for file, size in sizes.items() if file in wanted or counts[size] > 1]
        return {file: _hash_file(file) for file in selected}
    except OSError as error:
        raise CorpusError(
            f"{error.filename} cannot be read: {error.strerror}; restore it"
        ) from error


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_duplicates(root: Path, hashes: dict[Path, str]) -> tuple[tuple[str, str], ...]:
    """Return pairs of identical files: the first one, and each later one."""
    first: dict[str, Path] = {}
    pairs = [(first.setdefault(digest, file), file) for file, digest in sorted(hashes.items())]
    return tuple(
        (_relative_path(root, one), _relative_path(root, two)) for one, two in pairs if one != two
    )


def _find_same_audio(corpus: Corpus, hashes: Mapping[Path, str]) -> dict[str, tuple[str, ...]]:
    """Find utterances with the same audio, and those of them with different labels or speakers.

    Args:
        corpus: to be searched.
        hashes: of files of the same size.

    Returns:
        The last three attributes of a report.
    """
    utterances = {utterance.id: utterance for utterance in corpus.utterances}
    content_hashes = corpora.hash_contents(corpus.utterances)
    pairs = {
        (pair.first, pair.second): pair.is_whole
        for pair in protocols.find_copies(corpus.utterances, content_hashes)
    }
    identical = _drop_silence(_pair_equal_values(content_hashes), utterances)
    same_file = _pair_equal_values({u.id: str(u.path.resolve()) for u in corpus.utterances})
    found: dict[str, list[str]] = {"copies": [], "label_conflicts": [], "speaker_conflicts": []}
    for first, second in sorted({*pairs, *identical, *same_file}):
        one, two = utterances[first], utterances[second]
        is_same = pairs.get((first, second), False) or (first, second) in identical
        name = f"{first} = {second}" if is_same else f"{first} ~ {second}"
        if (first, second) in pairs and (
            hashes.get(one.path, first) != hashes.get(two.path, second)
        ):
            found["copies"].append(name)
        labels = _describe_different_labels(one, two)
        if is_same and labels:
            found["label_conflicts"].append(f"{name} ({labels})")
        if one.speaker and two.speaker and one.speaker != two.speaker:
            found["speaker_conflicts"].append(f"{name} ({one.speaker}, {two.speaker})")
    return {kind: tuple(names) for kind, names in found.items()}


def _pair_equal_values(value_of: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return pairs of ids with the same value: the first one, and each later one."""
    first: dict[str, str] = {}
    pairs = {(first.setdefault(value, id_), id_) for id_, value in value_of.items()}
    return {(one, two) for one, two in pairs if one != two}


def _drop_silence(
    pairs: set[tuple[str, str]], utterances: Mapping[str, Utterance]
) -> set[tuple[str, str]]:
    """Drop pairs of digital silence, which is no recording of anything."""
    members = {id_ for pair in pairs for id_ in pair}
    excerpts = protocols.hash_audio_excerpts([utterances[id_] for id_ in sorted(members)])
    return {pair for pair in pairs if excerpts.get(pair[0]) != protocols.SILENCE}


def _describe_different_labels(one: Utterance, two: Utterance) -> str:
    """Describe the emotions of two utterances if they differ; without emotions, other labels."""
    names = [name for name in one.labels if name in two.labels]
    names = ["emotion"] if "emotion" in names else names
    return ", ".join(
        f"{name} {one.labels[name]} and {two.labels[name]}"
        for name in names
        if one.labels[name] != two.labels[name]
    )
