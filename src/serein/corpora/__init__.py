"""Load corpora by name: ``emodb.py`` in this folder reads the corpus ``emodb``.

The reader of a corpus is a module with ``ABOUT`` and ``read(root)``. If the number of utterances is
known, the module also has ``COUNTS``, and ``read(root, partial=True)`` accepts an incomplete copy.
An optional ``notes(root, utterances)`` describes what is missing or was skipped. The locations of a
user's corpora are saved in ``corpora.json`` in the configuration folder. The user names a corpus
by a specification:

    emodb                   the corpus at its saved location
    emodb=~/data/EMO-DB     the corpus at this path
    mine=labels.csv         a table of the user's own (.csv, .tsv, .jsonl, .parquet)
    mine=labels.csv,speaker=spk,text=sentence
                            a table whose columns have other names
    mine=clips              a folder of the user's own with a subfolder for each class
    my_lab.podcast=DATA     a reader of the user's own, in ``my_lab/podcast.py``
"""

import gc
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from serein import registry
from serein.errors import ConfigError, CorpusError, UnknownName
from serein.records import ATTRIBUTES, Corpus, CorpusInfo, Utterance
from serein.utils.file_hashes import hash_files
from serein.utils.files import write_text

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SIMILARITY = 0.75
"""Similarity of a name to that of a known corpus, 0 to 1, from which on it may be misspelt."""


COLUMNS_PATTERN = re.compile(
    rf"(?P<path>.*({'|'.join(map(re.escape, TABLE_SUFFIXES))})),(?P<columns>[^/\\\\]*=.*)",
    re.IGNORECASE | re.DOTALL,
)
"""The path of a table with columns of other names after it."""


def load(
    spec: str, *, partial: bool | None = None, columns: Mapping[str, str] | None = None
) -> Corpus:
    """Read the corpus of a specification, ``NAME`` or ``NAME=PATH``.

    Args:
        spec: see the head of this module.
        partial: accept an incomplete copy of a corpus whose number of utterances is known; None
            takes the choice that was saved with the corpus's location.
        columns: for a table, its column for ``speaker``, ``text`` and the like, where it has
            another name; besides those in the specification.

    Raises:
        UnknownName: no corpus has that name, and the path is not a table.
        CorpusError: the location is unknown or does not exist, or its content is not as expected.
    """
    name, location = parse_spec(spec)
    path = location.path if location else None
    reader = _find_reader(name, path)
    if path is None:
        raise CorpusError(
            f"the location of {name} is unknown. Save it with `serein corpora add {name} PATH`, or "
            f"give it once with `--corpus {name}=PATH`. {_describe_origin(reader)}"
        )
    if not path.exists():
        raise CorpusError(
            f"{path} does not exist; expected {name} there. Give the correct path with `serein "
            f"corpora add {name} PATH` or `--corpus {name}=PATH`. {_describe_origin(reader)}"
        )
    if partial is None:
        partial = location is not None and location.partial
    accepted = signature(reader.read).parameters
    options: dict[str, Any] = {"partial": True} if partial and "partial" in accepted else {}
    if columns := {**(location.columns if location else {}), **(columns or {})}:
        if "columns" not in accepted:
            raise CorpusError(
                f"{name} is read by {reader.__name__}, and only columns of tables "
                f"({', '.join(TABLE_SUFFIXES)}) can be mapped; leave out {', '.join(columns)}"
            )
        options["columns"] = columns
    with _pause_gc():
        read = reader.read(path, **options)
        return _build_corpus(name, path, read, reader)


@contextmanager
def _pause_gc() -> Iterator[None]:
    """Pause garbage collection, which would traverse all utterances read so far many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def parse_spec(spec: str) -> "tuple[str, CorpusLocation | None]":
    """Return the name of a corpus, and its given or else its saved location, if there is one."""
    name, _, path = spec.partition("=")
    name = name.strip()
    if path:
        return name, parse_location(path)
    return name, saved_locations().get(name)


def parse_location(text: str, *, partial: bool = False) -> "CorpusLocation":
    """Return the location of a corpus: a path, and after that of a table its columns.

    >>> parse_location("labels.csv,speaker=spk").columns
    {'speaker': 'spk'}

    Raises:
        CorpusError: a part after the path is not NAME=COLUMN.
    """
    match = COLUMNS_PATTERN.fullmatch(text)
    if match is None or Path(text).expanduser().is_file():
        return CorpusLocation(path=Path(text).expanduser(), partial=partial)
    pairs = [part.partition("=") for part in match["columns"].split(",")]
    columns = {name.strip().lower(): column.strip() for name, _, column in pairs}
    if not all(name and column for name, column in columns.items()):
        raise CorpusError(
            f"{match['columns']!r} after {match['path']} is not NAME=COLUMN,NAME=COLUMN; expected "
            "such as speaker=spk,text=sentence"
        )
    return CorpusLocation(path=Path(match["path"]).expanduser(), partial=partial, columns=columns)


def as_corpus(corpus: str | Sequence[str] | Corpus, *, partial: bool | None = None) -> Corpus:
    """Return a corpus itself, or load the corpus of one or several specifications.

    Args:
        corpus: a corpus, a specification or several.
        partial: as for ``load``, for each corpus that is read.
    """
    if isinstance(corpus, Corpus):
        return corpus
    return load_many([corpus] if isinstance(corpus, str) else corpus, partial=partial)


def from_frame(
    frame: Any, name: str | None = None, columns: Mapping[str, str] | None = None
) -> Corpus:
    """Return the corpus of a data frame with the columns of a table.

    Args:
        frame: of pandas or Polars; relative paths start at the current folder.
        name: of the corpus; None is ``frame.attrs["name"]``, or else "table".
        columns: as for `load`.

    Raises:
        CorpusError: a row has a fault, or there is no such column.
    """
    reader = registry.load_module("corpora", "table")
    name = name or str(getattr(frame, "attrs", {}).get("name", "table"))
    utterances = reader.read_frame(frame, columns)
    return _build_corpus(name, Path("the data frame"), utterances, reader)


def load_many(
    specs: Sequence[str],
    *,
    partial: bool | None = None,
    columns: Mapping[str, str] | None = None,
) -> Corpus:
    """Read several corpora as one; ids, speakers, sessions and dialogues get the corpus's name.

    Args:
        specs: specifications of the corpora.
        partial: as for ``load``, for each corpus.
        columns: as for ``load``, for each corpus.

    Raises:
        CorpusError: no corpus is given, or one is given twice; and as ``load``.
    """
    if not specs:
        raise CorpusError("no corpus is given; name one or more, such as emodb")
    loaded = [load(spec, partial=partial, columns=columns) for spec in specs]
    if len(loaded) == 1:
        return loaded[0]
    names = [corpus.name for corpus in loaded]
    if len(set(names)) < len(names):
        raise CorpusError(f"the corpora {', '.join(names)} are not all different; give each once")
    utterances = [
        _prefix_names(utterance, corpus.name)
        for corpus in loaded
        for utterance in corpus.utterances
    ]
    ordered = tuple(sorted(utterances, key=attrgetter("id")))
    notes = tuple(f"{corpus.name}: {note}" for corpus in loaded for note in corpus.notes)
    return Corpus(name="+".join(names), utterances=ordered, notes=notes)


def _prefix_names(utterance: Utterance, corpus: str) -> Utterance:
    """Return an utterance whose names are unique among several corpora."""

    def prefix(name: str | None) -> str | None:
        return None if name is None else f"{corpus}/{name}"

    return replace(
        utterance,
        corpus=corpus,
        id=f"{corpus}/{utterance.id}",
        speaker=prefix(utterance.speaker),
        session=prefix(utterance.session),
        dialogue=prefix(utterance.dialogue),
    )


def _find_reader(name: str, path: Path | None) -> ModuleType:
    """Return the module that reads a corpus."""
    # Do not import what looks like a file or a path.
    is_module = all(part.isidentifier() for part in name.split("."))
    is_module = is_module and not name.endswith(TABLE_SUFFIXES)
    try:
        module = registry.load_module("corpora", name, allow_custom=is_module)
    except UnknownName as error:
        if name and path is not None and path.suffix.lower() in TABLE_SUFFIXES:
            return registry.load_module("corpora", "table")
        if is_module and "." in name:
            raise
        folders = registry.load_module("corpora", "label_folders")
        if name and path is not None and folders.has_layout(path):
            return folders
        known = {*registry.list_names("corpora"), *saved_paths()}
        hint = "A table of your own needs a name: `--corpus mine=labels.csv`."
        if path is not None and path.is_dir():
            hint = (
                f"{path} is a folder without a subfolder for each class; a folder of another "
                "layout needs a table of its recordings: `--corpus mine=labels.csv`."
            )
        elif path is not None and not path.exists():
            hint = (
                f"{path} does not exist; a corpus of your own is a table, or a folder with a "
                "subfolder for each class: `--corpus mine=labels.csv`. Check the path."
            )
        # Names of corpora are free, so that only a very similar one is a mistake.
        raise UnknownName("corpus", name, known, hint, cutoff=SIMILARITY) from error
    if not callable(getattr(module, "read", None)):
        raise CorpusError(
            f"{name} ({module.__file__}) is not a corpus: it has no function read(root)"
        )
    return module


def _describe_origin(reader: ModuleType) -> str:
    """Return a sentence about where to get a corpus; empty if that is unknown."""
    about = _get_about(reader, "")
    return f"To get it: {about.home} ({about.licence})." if about.home else ""


def _get_about(reader: ModuleType, name: str) -> CorpusInfo:
    unknown = CorpusInfo(title=name, language="", licence="", home="")
    return getattr(reader, "ABOUT", unknown)


def _build_corpus(
    name: str, path: Path, utterances: Iterable[Utterance], reader: ModuleType
) -> Corpus:
    """Sort the utterances, check that their ids are unique, and add notes."""
    ordered = sorted(utterances, key=attrgetter("id"))
    if not ordered:
        raise CorpusError(f"{path} has no utterances; expected {name} there")
    for first, second in pairwise(ordered):
        if first.id == second.id:
            raise CorpusError(
                f"{name} has two utterances {first.id!r}: {first.path} and {second.path}; "
                "expected unique ids. Remove the second copy"
            )
    notes = _collect_notes(reader, path, ordered)
    return Corpus(name=name, utterances=tuple(ordered), notes=tuple(notes))


def _collect_notes(reader: ModuleType, path: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return a note if utterances are missing or extra, and the notes of the reader."""
    count, notes = len(utterances), []
    total = sum(reader.COUNTS.values()) if _has_counts(reader) else count
    if count != total:
        what = "a partial copy" if count < total else "more than is published"
        notes = [f"{what}: {count:,} of {total:,} utterances"]
    return [*notes, *(reader.notes(path, utterances) if hasattr(reader, "notes") else [])]


def _has_counts(reader: ModuleType) -> bool:
    """Return whether a reader has the expected number of utterances, and accepts fewer."""
    return "partial" in signature(reader.read).parameters and hasattr(reader, "COUNTS")


def config_folder() -> Path:
    """Return the user's configuration folder; the environment variable SEREIN_CONFIG sets it."""
    if chosen := os.environ.get("SEREIN_CONFIG"):
        return Path(chosen).expanduser()
    from platformdirs import user_config_path

    return user_config_path("serein")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusLocation:
    """Where a corpus is stored.

    Attributes:
        path: its folder, or the table.
        partial: whether to accept an incomplete copy.
        columns: of a table: its column for ``speaker`` and the like.
    """

    path: Path
    partial: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the location as in a specification."""
        return ",".join([str(self.path), *(f"{key}={name}" for key, name in self.columns.items())])


def saved_paths() -> dict[str, Path]:
    """Return the saved path of each corpus, sorted by name.

    Raises:
        ConfigError: as ``saved_locations``.
    """
    return {name: location.path for name, location in saved_locations().items()}


def saved_locations() -> dict[str, CorpusLocation]:
    """Return the saved location of each corpus, sorted by name.

    Raises:
        ConfigError: ``corpora.json`` is corrupt.
    """
    file = config_folder() / "corpora.json"
    try:
        entries = json.loads(file.read_bytes()) if file.exists() else {}
        return {name: _parse_location(entry) for name, entry in sorted(entries.items())}
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ConfigError(
            f"{file} is not a table of corpora and their paths ({error}); correct it, or delete "
            "it and add each corpus again with `serein corpora add NAME PATH`"
        ) from error


def _parse_location(entry: str | dict[str, Any]) -> CorpusLocation:
    if isinstance(entry, dict):
        return parse_location(entry["path"], partial=bool(entry["partial"]))
    return parse_location(entry)


def register(name: str, path: Path, *, partial: bool = False) -> Corpus:
    """Read a corpus to check its count and content, and save its location for ``load``.

    Args:
        name: of the corpus.
        path: its folder, or the table, also with columns: ``labels.csv,speaker=spk``.
        partial: accept an incomplete copy, now and whenever ``load`` reads this corpus.

    Raises:
        SereinError: as ``load``; then nothing is saved.
    """
    path = path.expanduser().absolute()
    corpus = load(f"{name}={path}", partial=partial)
    location = parse_location(str(path), partial=partial)
    entries = {
        name: {"path": str(saved), "partial": True} if saved.partial else str(saved)
        for name, saved in {**saved_locations(), corpus.name: location}.items()
    }
    text = json.dumps(entries, indent=2, sort_keys=True) + "\n"
    write_text(config_folder() / "corpora.json", text)
    return corpus


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusEntry:
    """One line of the listing of ``serein corpora``.

    Attributes:
        name: of the corpus in specifications.
        about: its title, language, licence and home.
        path: its saved path, if there is one.
    """

    name: str
    about: CorpusInfo
    path: Path | None


def list_corpora() -> list[CorpusEntry]:
    """Return every corpus that can be read by name, sorted, including the user's own."""
    paths = saved_paths()
    names = sorted({*registry.list_names("corpora"), *paths})
    return [
        CorpusEntry(name=name, about=_describe_corpus(name, path), path=path)
        for name, path in ((name, paths.get(name)) for name in names)
    ]


def _describe_corpus(name: str, path: Path | None) -> CorpusInfo:
    """Return what is known of a corpus; if its reader fails, the error as its title."""
    try:
        return _get_about(_find_reader(name, path), name)
    except (UnknownName, CorpusError) as error:
        return CorpusInfo(title=str(error), language="", licence="", home="")


def hash_contents(utterances: Iterable[Utterance]) -> dict[str, str]:
    """Return a hash of the audio of each utterance, by its id: of its file, start and end.

    Equal hashes are the same recording under two ids.

    Raises:
        CorpusError: a file cannot be read.
    """
    utterances = list(utterances)
    files = [os.fspath(utterance.path) for utterance in utterances]
    distinct = list(dict.fromkeys(files))
    file_hashes = dict(zip(distinct, hash_files(distinct), strict=True))
    hashes = {}
    for file, utterance in zip(files, utterances, strict=True):
        segment = f"{file_hashes[file]} {utterance.start} {utterance.end}"
        hashes[utterance.id] = hashlib.blake2b(segment.encode(), digest_size=16).hexdigest()
    return hashes


UTTERANCES_PER_UPDATE = 1000
"""Utterances that are added to a fingerprint at once."""
ATTRIBUTE_NAMES = sorted(ATTRIBUTES)
TEXT_TYPES = frozenset((str, type(None)))
_get_attributes = attrgetter(*ATTRIBUTE_NAMES)
"""Return what ``Utterance.label`` returns for these names, seven times as fast."""


def fingerprint(corpus: Corpus, content_hashes: Mapping[str, str] | None = None) -> str:
    """Return 16 hexadecimal digits that change with any id, label, word or sample.

    Args:
        corpus: the corpus to identify.
        content_hashes: the result of ``hash_contents`` for it, if it is already known.
    """
    content_hashes = content_hashes or hash_contents(corpus.utterances)
    digest = hashlib.sha256()
    for start in range(0, len(corpus.utterances), UTTERANCES_PER_UPDATE):
        fields = [
            _fingerprint_fields(utterance, content_hashes[utterance.id])
            for utterance in corpus.utterances[start : start + UTTERANCES_PER_UPDATE]
        ]
        digest.update(f"{', ' if start else '['}{json.dumps(fields)[1:-1]}".encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]


def identify(corpus: Corpus, content_hashes: Mapping[str, str] | None = None) -> str:
    """Return 16 hexadecimal digits of recordings, labels and words, wherever the corpus is stored.

    They are the same for a copy at another path, with other ids, or under another name.

    Args:
        corpus: the corpus to identify.
        content_hashes: the result of ``hash_contents`` for it, if it is already known.
    """
    content_hashes = content_hashes or hash_contents(corpus.utterances)
    rows = []
    for utterance in corpus.utterances:
        prefix = f"{utterance.corpus}/"
        attributes = [
            (name, str(value).removeprefix(prefix) if utterance.corpus else value)
            for name in ATTRIBUTE_NAMES
            if name != "corpus" and (value := utterance.label(name)) is not None
        ]
        labels = sorted((name, value) for name, value in utterance.labels.items())
        rows.append(json.dumps([content_hashes[utterance.id], labels, attributes]))
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]


def _fingerprint_fields(utterance: Utterance, content_hash: str) -> list[object]:
    labels, values = utterance.labels, _get_attributes(utterance)
    # A label of an attribute's name, or an attribute that is not text: take the slow path.
    if not (labels.keys().isdisjoint(ATTRIBUTE_NAMES) and TEXT_TYPES.issuperset(map(type, values))):
        values = tuple(map(utterance.label, ATTRIBUTE_NAMES))
    return [utterance.id, content_hash, sorted(labels.items()), values]
