"""Corpora by name: ``emodb.py`` in this folder reads the corpus ``emodb``.

A corpus is one file that offers ``ABOUT`` and ``read(root)``. Where the count of its utterances is
known, it offers ``COUNTS`` too, and ``read(root, partial=True)`` takes what is there. It may offer
``notes(root, utterances)``: what was missing or passed over, in words. Where a user's copies lie is
kept in ``corpora.json`` in the configuration folder. A specification is what a user types:

    emodb                   the copy at the remembered place
    emodb=~/data/EMO-DB     the copy that is there
    mine=labels.csv         a table of one's own (.csv, .tsv, .jsonl, .parquet)
    my_lab.podcast=DATA     a reader of one's own, in ``my_lab/podcast.py``
"""

import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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


def load(spec: str, *, partial: bool | None = None) -> Corpus:
    """Read what ``NAME`` or ``NAME=PATH`` stands for.

    Args:
        spec: as above.
        partial: take what is there, however much is missing, of corpora whose count is known;
            None does so where that was remembered of the copy.

    Raises:
        UnknownName: no corpus has that name, and the path is not a table.
        CorpusError: no place is known, nothing is there, or it is not as expected.
    """
    name, held = parse_spec(spec)
    place = held.path if held else None
    reader = _find_reader(name, place)
    if place is None:
        raise CorpusError(
            f"where is {name}? Add its place with `serein corpora add {name} PATH`, or give it "
            f"once with `--corpus {name}=PATH`. {_describe_origin(reader)}"
        )
    if not place.exists():
        raise CorpusError(
            f"{place} does not exist; expected {name} there. Give the right place with "
            f"`serein corpora add {name} PATH` or `--corpus {name}=PATH`. {_describe_origin(reader)}"
        )
    partly = partial if partial is not None else held is not None and held.partial
    takes = "partial" in signature(reader.read).parameters
    with _pause_gc():
        read = reader.read(place, partial=True) if partly and takes else reader.read(place)
        return _build_corpus(name, place, read, reader)


@contextmanager
def _pause_gc() -> Iterator[None]:
    """Spare the collector of circles, which would walk all that was read again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def parse_spec(spec: str) -> "tuple[str, CorpusLocation | None]":
    """The corpus's name, and the copy that is named or remembered, if there is one."""
    name, _, path = spec.partition("=")
    name = name.strip()
    return name, CorpusLocation(path=Path(path).expanduser()) if path else saved_locations().get(
        name
    )


def as_corpus(corpus: str | Sequence[str] | Corpus, *, partial: bool | None = None) -> Corpus:
    """Give the corpus that is meant: itself, or what one or several specifications stand for.

    Args:
        corpus: as above.
        partial: as for ``load``, of each that is read.
    """
    if isinstance(corpus, Corpus):
        return corpus
    return load_many([corpus] if isinstance(corpus, str) else corpus, partial=partial)


def load_many(specs: Sequence[str], *, partial: bool | None = None) -> Corpus:
    """Read several corpora as one: ids, speakers, sessions and dialogues carry their names.

    Args:
        specs: what to read.
        partial: as for ``load``, of each.

    Raises:
        CorpusError: none is given, or one is given twice; and as ``load``.
    """
    if not specs:
        raise CorpusError("no corpus is given; name one or more, such as emodb")
    read = [load(spec, partial=partial) for spec in specs]
    if len(read) == 1:
        return read[0]
    names = [corpus.name for corpus in read]
    if len(set(names)) < len(names):
        raise CorpusError(f"the corpora {', '.join(names)} are not all different; give each once")
    utterances = [_prefix_names(one, corpus.name) for corpus in read for one in corpus.utterances]
    ordered = tuple(sorted(utterances, key=attrgetter("id")))
    notes = tuple(f"{corpus.name}: {note}" for corpus in read for note in corpus.notes)
    return Corpus(name="+".join(names), utterances=ordered, notes=notes)


def _prefix_names(utterance: Utterance, corpus: str) -> Utterance:
    """An utterance whose names are its own among several corpora."""

    def own(name: str | None) -> str | None:
        return None if name is None else f"{corpus}/{name}"

    return replace(
        utterance,
        corpus=corpus,
        id=f"{corpus}/{utterance.id}",
        speaker=own(utterance.speaker),
        session=own(utterance.session),
        dialogue=own(utterance.dialogue),
    )


def _find_reader(name: str, place: Path | None) -> ModuleType:
    """The module that reads this corpus."""
    # What looks like a file or a path must not be imported.
    own = all(part.isidentifier() for part in name.split(".")) and not name.endswith(TABLE_SUFFIXES)
    try:
        module = registry.load_module("corpora", name, allow_custom=own)
    except UnknownName as error:
        if name and place is not None and place.suffix.lower() in TABLE_SUFFIXES:
            return registry.load_module("corpora", "table")
        if own and "." in name:
            raise
        known = {*registry.list_names("corpora"), *saved_paths()}
        hint = "A table of your own needs a name: `--corpus mine=labels.csv`."
        raise UnknownName("corpus", name, known, hint) from error
    if not callable(getattr(module, "read", None)):
        raise CorpusError(f"{name} ({module.__file__}) is no corpus: it has no function read(root)")
    return module


def _describe_origin(reader: ModuleType) -> str:
    about = _get_about(reader, "")
    return f"To get it: {about.home} ({about.licence})." if about.home else ""


def _get_about(reader: ModuleType, name: str) -> CorpusInfo:
    unknown = CorpusInfo(title=name, language="", licence="", home="")
    return getattr(reader, "ABOUT", unknown)


def _build_corpus(
    name: str, place: Path, utterances: Iterable[Utterance], reader: ModuleType
) -> Corpus:
    ordered = sorted(utterances, key=attrgetter("id"))
    if not ordered:
        raise CorpusError(f"{place} holds no utterances; expected {name} there")
    for one, next_ in pairwise(ordered):
        if one.id == next_.id:
            raise CorpusError(
                f"{name} has two utterances {one.id!r}: {one.path} and {next_.path}; "
                "each needs an id of its own. Remove the second copy"
            )
    notes = _collect_notes(reader, place, ordered)
    return Corpus(name=name, utterances=tuple(ordered), notes=tuple(notes))


def _collect_notes(reader: ModuleType, place: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Whether these are all, and what the reader itself tells of them."""
    count, told = len(utterances), []
    total = sum(reader.COUNTS.values()) if _has_counts(reader) else count
    if count != total:
        what = "a partial copy" if count < total else "more than is published"
        told = [f"{what}: {count:,} of {total:,} utterances"]
    return [*told, *(reader.notes(place, utterances) if hasattr(reader, "notes") else [])]


def _has_counts(reader: ModuleType) -> bool:
    """Whether it knows how many utterances there should be, and can do with fewer."""
    return "partial" in signature(reader.read).parameters and hasattr(reader, "COUNTS")


def config_folder() -> Path:
    """Where this user's settings lie; the environment variable SEREIN_CONFIG moves it."""
    if chosen := os.environ.get("SEREIN_CONFIG"):
        return Path(chosen).expanduser()
    from platformdirs import user_config_path

    return user_config_path("serein")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusLocation:
    """A remembered copy of a corpus.

    Attributes:
        place: its folder, or the table.
        partial: whether to take what is there, however much is missing.
    """

    path: Path
    partial: bool = False


def saved_paths() -> dict[str, Path]:
    """The remembered place of each corpus, sorted by name.

    Raises:
        ConfigError: as ``copies``.
    """
    return {name: copy.path for name, copy in saved_locations().items()}


def saved_locations() -> dict[str, CorpusLocation]:
    """The remembered copy of each corpus, sorted by name.

    Raises:
        ConfigError: ``corpora.json`` is corrupt.
    """
    file = config_folder() / "corpora.json"
    try:
        held = json.loads(file.read_bytes()) if file.exists() else {}
        return {name: _parse_location(told) for name, told in sorted(held.items())}
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ConfigError(
            f"{file} is not a table of corpora and their places ({error}); correct it, or delete "
            "it and add each corpus again with `serein corpora add NAME PATH`"
        ) from error


def _parse_location(told: str | dict[str, Any]) -> CorpusLocation:
    if isinstance(told, dict):
        return CorpusLocation(path=Path(told["path"]), partial=bool(told["partial"]))
    return CorpusLocation(path=Path(told))


def register(name: str, path: Path, *, partial: bool = False) -> Corpus:
    """Read a corpus as a check of its count and content, and keep its place for ``load``.

    Args:
        name: of the corpus.
        path: its folder, or the table.
        partial: take what is there, however much is missing; ``load`` will do so too.

    Raises:
        SereinError: as ``load``; then nothing is remembered.
    """
    place = path.expanduser().absolute()
    corpus = load(f"{name}={place}", partial=partial)
    held = {**saved_locations(), corpus.name: CorpusLocation(path=place, partial=partial)}
    told = {
        known: {"path": str(one.path), "partial": True} if one.partial else str(one.path)
        for known, one in held.items()
    }
    write_text(config_folder() / "corpora.json", json.dumps(told, indent=2, sort_keys=True) + "\n")
    return corpus


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusEntry:
    """A line of ``serein corpora``.

    Attributes:
        name: what the user types.
        about: what it is.
        place: where this user's copy lies, if it was remembered.
    """

    name: str
    about: CorpusInfo
    path: Path | None


def list_corpora() -> list[CorpusEntry]:
    """Every corpus that can be read by name, sorted; a user's own ones among them."""
    held = saved_paths()
    names = sorted({*registry.list_names("corpora"), *held})
    return [
        CorpusEntry(name=name, about=_describe_corpus(name, held), path=held.get(name))
        for name in names
    ]


def _describe_corpus(name: str, held: dict[str, Path]) -> CorpusInfo:
    try:
        return _get_about(_find_reader(name, held.get(name)), name)
    except (UnknownName, CorpusError) as error:
        return CorpusInfo(title=str(error), language="", licence="", home="")


def hash_contents(utterances: Iterable[Utterance]) -> dict[str, str]:
    """For each id a hash of what is heard: the file's bytes, and the stretch of it.

    Equal hashes are the same recording under two names.

    Raises:
        CorpusError: a file cannot be read.
    """
    members = list(utterances)
    files = [os.fspath(one.path) for one in members]
    distinct = list(dict.fromkeys(files))
    known = dict(zip(distinct, hash_files(distinct), strict=True))
    hashes = {}
    for file, one in zip(files, members, strict=True):
        stretch = f"{known[file]} {one.start} {one.end}"
        hashes[one.id] = hashlib.blake2b(stretch.encode(), digest_size=16).hexdigest()
    return hashes


def fingerprint(corpus: Corpus, content_hashes: Mapping[str, str] | None = None) -> str:
    """Sixteen hexadecimal digits that change with any id, label, word or sample.

    Args:
        corpus: what to mark.
        content_hashes: what ``contents`` gave for it, where that is known already.
    """
    content_hashes = content_hashes or hash_contents(corpus.utterances)
    mark = hashlib.sha256()
    for start in range(0, len(corpus.utterances), UTTERANCES_PER_UPDATE):
        said = [
            _fingerprint_fields(one, content_hashes[one.id])
            for one in corpus.utterances[start : start + UTTERANCES_PER_UPDATE]
        ]
        mark.update(f"{', ' if start else '['}{json.dumps(said)[1:-1]}".encode())
    mark.update(b"]")
    return mark.hexdigest()[:16]


def _fingerprint_fields(one: Utterance, heard: str) -> list[object]:
    words = _get_attributes(one)
    if not (
        one.labels.keys().isdisjoint(ATTRIBUTE_NAMES) and TEXT_TYPES.issuperset(map(type, words))
    ):
        words = tuple(map(one.label, ATTRIBUTE_NAMES))
    return [one.id, heard, sorted(one.labels.items()), words]


UTTERANCES_PER_UPDATE = 1000
"""Utterances that are written as one text."""
ATTRIBUTE_NAMES = sorted(ATTRIBUTES)
TEXT_TYPES = frozenset((str, type(None)))
_get_attributes = attrgetter(*ATTRIBUTE_NAMES)
"""Of an utterance, what ``label`` gives for each of these, seven times as fast."""
