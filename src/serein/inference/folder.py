"""A folder of recordings to one table.

What was heard is kept every few seconds (``parts.py`` says how), so that a run that was killed
goes on where it was.

The recordings in a folder and in all folders below it, one after the other.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from serein.bundle import compute_bundle_digest
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference import tables
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream, StreamConfig
from serein.inference.tables import REASON_COLUMN, PartStore, Row, check_plan, lock_run
from serein.inference.workers import ENGINES, Chunk, Engine, Failure, RecognitionContext, run_inline
from serein.results.evaluation import FolderProgress
from serein.utils.files import write_text

if TYPE_CHECKING:
    import pandas as pd


AUDIO_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac"),
        *(".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpga", ".oga", ".ogg"),
        *(".opus", ".rf64", ".snd", ".spx", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma"),
    )
)
"""Names that end so are tried; what such a file holds decides how it is read, and whether."""


class ListingEntry(NamedTuple):
    """A recording, or a folder that cannot be listed.

    Attributes:
        name: path from the folder on, with ``/``.
        reason: why it cannot be listed; empty for a recording.
    """

    name: str
    reason: str = ""


class Listing:
    """The recordings below a folder, in the same order every time.

    No more than one folder is held at a time. In each folder the files come first, sorted by
    name; then the folders in it. Folders that are links come last of all, and no folder is
    entered twice, so that a link to a folder above is not followed for ever.

    Attributes:
        ignored: files of other kinds and hidden ones, counted by the latest pass.
    """

    def __init__(self, root: Path) -> None:
        """Prepare; nothing is read yet."""
        self.root = str(root)
        self.ignored = 0

    def __iter__(self) -> Iterator[ListingEntry]:
        """Pass over all of it."""
        self.ignored = 0
        seen: set[tuple[int, int]] = set()
        links = deque([""])
        while links:
            stack = [links.popleft()]
            while stack:
                folder = stack.pop()
                try:
                    files, inner, linked = self._scan_folder(folder, seen)
                except OSError as error:
                    yield ListingEntry(folder or ".", _listing_error(self._to_path(folder), error))
                    continue
                yield from map(ListingEntry, files)
                stack += reversed(inner)
                links += linked

    def _to_path(self, name: str) -> str:
        return os.path.join(self.root, name) if name else self.root

    def _scan_folder(
        self, folder: str, seen: set[tuple[int, int]]
    ) -> tuple[list[str], list[str], list[str]]:
        """Recordings, folders and folders that are links; nothing of a folder that was seen."""
        files: list[str] = []
        inner: list[str] = []
        links: list[str] = []
        facts = os.stat(self._to_path(folder))
        mark = facts.st_dev, facts.st_ino
        if mark in seen:
            return files, inner, links
        with os.scandir(self._to_path(folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    self.ignored += 1
                elif _is_folder(entry):
                    (links if entry.is_symlink() else inner).append(name)
                elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
                    files.append(name)
                else:
                    self.ignored += 1
        seen.add(mark)
        return sorted(files), sorted(inner), sorted(links)


def path_to_text(name: str) -> str:
    """A path as text; bytes that are no UTF-8 are written as such.

    >>> path_to_text("M" + chr(0xDCFC) + "ller.wav") == "M" + chr(92) + "xfcller.wav"
    True
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link that leads to itself
        return entry.is_dir()
    return False


def _listing_error(path: str, error: OSError) -> str:
    return f"{path_to_text(path)} cannot be listed: {error.strerror}. Check its rights."


FILES_PER_CHUNK = 64
"""Files that a worker gets at a time."""
SAVE_INTERVAL = 5.0
"""Seconds of work that are lost at most when the process is killed."""
SUMMARY_FILE = "summary.json"
SUMMARY_KEYS = {"recognized", "failed", "reasons"}
MAX_REASONS = 10
"""Failures that a summary names."""
CRASH_REASON = (
    "the process that read it ended, even when it read nothing else; the file is hostile, or too "
    "long for this memory"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What came of a folder.

    Attributes:
        output: the table of answers.
        recognized: files in it.
        failed: files that could not be read.
        reasons: of the first ten of these, by file.
        errors: a table of file and reason; None where nothing failed.
        ignored: files of other kinds, and hidden ones.
        before: files that earlier runs had done.
        seconds: of audio that this run heard.
        elapsed: seconds that this run took.
    """

    output: Path
    recognized: int
    failed: int
    reasons: dict[str, str]
    errors: Path | None
    ignored: int
    done_before: int
    seconds: float
    elapsed: float

    def to_frame(self) -> "pd.DataFrame":
        """The answers, indexed by (file, start, end) as audformat's tables are; needs pandas."""
        store = PartStore(_run_folder(self.output), tables.build_schema({}))
        return _select_answers(store.read_table()).to_pandas()


def recognize_folder(
    predictor: Recognizer,
    folder: Path,
    output: Path,
    *,
    jobs: int | None = None,
    engine: str = "processes",
    retry: bool = False,
    progress: Callable[[FolderProgress], None] | None = None,
    stream_config: StreamConfig | None = None,
) -> Summary:
    """Recognise a folder; ``Recognizer.folder`` says what is what.

    Raises:
        AudioError: there is no such folder, or no recording in it.
        ConfigError: the output is of other settings, or of no run; or settings do not fit.
        StorageError: another process writes it, or it could not be written.
    """
    begun = time.monotonic()
    if stream_config is not None:
        Stream(
            predictor, predictor.rate, stream_config
        )  # settings that do not fit are told of once
    if not folder.is_dir():
        raise AudioError(f"{folder} is no folder; expected one with recordings. Check the path.")
    tables.find_writer(output)
    chosen = _choose_engine(engine, jobs)
    _check_not_empty(Listing(folder))
    work, model = (
        RecognitionContext(predictor, folder, stream_config),
        compute_bundle_digest(predictor.bundle)[:16],
    )
    with lock_run(_run_folder(output), output):
        check_plan(_run_folder(output), output, _build_plan(work, model))
        store = PartStore(_run_folder(output), tables.build_schema(predictor.classes))
        store.remove_leftovers()
        if retry:
            _mark_unfinished(store)
            store.replace(store.read_table().filter(pc.is_null(pc.field(REASON_COLUMN))))
        course = _FolderRun(store, model, folder, progress)
        course.run(work, chosen, jobs)
        counts = _write_results(store, output)
    return Summary(
        output=output,
        recognized=counts["recognized"],
        failed=counts["failed"],
        reasons=counts["reasons"],
        errors=_errors_file(output) if counts["failed"] else None,
        ignored=course.listing.ignored,
        done_before=len(course.done_before),
        seconds=course.seconds,
        elapsed=time.monotonic() - begun,
    )


def _check_not_empty(listing: Listing) -> None:
    if next(iter(listing), None) is None:
        raise AudioError(
            f"{listing.root} holds no recordings; {listing.ignored} files are of other kinds or "
            "hidden. Check the path."
        )


def _run_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.run")


def _errors_file(output: Path) -> Path:
    return output.with_name(f"{output.name}.errors.csv")


def _build_plan(work: RecognitionContext, model: str) -> dict[str, object]:
    """What decides the answers, in words."""
    plan: dict[str, object] = {
        "model": f"{work.predictor.name} ({model})",
        "folder": path_to_text(str(work.root.resolve())),
        "thresholds": work.predictor.thresholds,
        "silence": "answered" if work.predictor.answer_nonspeech else "withheld",
    }
    return plan if work.stream_config is None else {**plan, "segments": asdict(work.stream_config)}


def _choose_engine(name: str, jobs: int | None) -> Engine:
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected 1 or more")
    return run_inline if name == "processes" and jobs in (None, 1) else ENGINES[name]


class _FolderRun:
    """One run: what is known, what is new, and what is told of it."""

    def __init__(
        self,
        store: PartStore,
        model: str,
        folder: Path,
        progress: Callable[[FolderProgress], None] | None,
    ) -> None:
        self.store, self.model, self.progress = store, model, progress
        self.done_before = store.read_done()
        self.listing = Listing(folder)
        self.total: int | None = None
        self.done = self.failed = 0
        self.seconds = 0.0
        self.rows: list[Row] = []
        self.last_saved = time.monotonic()

    def run(self, work: RecognitionContext, engine: Engine, jobs: int | None) -> None:
        """Hear all that is new; whatever ends this, what was heard is kept."""
        new = (one for one in self.listing if path_to_text(one.name) not in self.done_before)
        first = next(new, None)
        if first is None:
            return
        _mark_unfinished(self.store)
        Thread(target=self._count_files, args=(work.root,), daemon=True).start()
        try:
            for one in _iter_results(work, engine, self._iter_chunks(chain([first], new)), jobs):
                self._add_result(one)
        finally:
            self._save_rows()

    def _count_files(self, root: Path) -> None:
        self.total = sum(1 for _ in Listing(root))

    def _iter_chunks(self, new: Iterator[ListingEntry]) -> Iterator[Chunk]:
        """Names of files, some at a time; folders that cannot be listed have failed already."""
        while some := list(islice(new, FILES_PER_CHUNK)):
            for one in some:
                if one.reason:
                    self._add_result(Failure(source=one.name, reason=one.reason))
            if chunk := tuple(one.name for one in some if not one.reason):
                yield chunk

    def _add_result(self, result: Recognition | Failure) -> None:
        name = path_to_text(result.source)
        if isinstance(result, Failure):
            self.rows.append(tables.build_failure_row(name, result.reason, self.model))
            self.failed += 1
        else:
            self.rows += tables.build_rows(name, result, self.model)
            self.seconds += result.end - result.start
        self.done += 1
        if time.monotonic() - self.last_saved > SAVE_INTERVAL:
            self._save_rows()
        if self.progress is not None:
            self.progress(
                FolderProgress(
                    total=self.total,
                    done_before=len(self.done_before),
                    done=self.done,
                    failed=self.failed,
                    seconds=self.seconds,
                )
            )

    def _save_rows(self) -> None:
        if self.rows:
            self.store.add(self.rows)
        self.rows, self.last_saved = [], time.monotonic()


def _iter_results(
    work: RecognitionContext, engine: Engine, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[Recognition | Failure]:
    """Of every file; those that were with a process that died are tried again one by one."""
    lost: list[str] = []
    for chunk, heard in engine(work, chunks, jobs):
        lost += chunk if heard is None else ()
        yield from heard or ()
    if lost:
        for (name,), heard in engine(work, ((name,) for name in lost), 1):
            yield from heard or [Failure(source=name, reason=CRASH_REASON)]


def _mark_unfinished(store: PartStore) -> None:
    """From here on the output does not hold all of it."""
    (store.folder / SUMMARY_FILE).unlink(missing_ok=True)


def _write_results(store: PartStore, output: Path) -> dict[str, Any]:
    """Write the answers and the failures, where that is not done yet; count both."""
    summary = store.folder / SUMMARY_FILE
    with suppress(OSError, ValueError, RecursionError):
        told = json.loads(summary.read_text(encoding="utf-8"))
        if output.exists() and isinstance(told, dict) and told.keys() >= SUMMARY_KEYS:
            return told
    table = store.read_table().sort_by([("file", "ascending"), ("start", "ascending")])
    store.replace(table)
    _write_tables(table, output)
    counts = _count_results(table)
    write_text(summary, json.dumps(counts))
    return counts


def _count_results(table: pa.Table) -> dict[str, Any]:
    failures = _select_failures(table)
    some = failures.slice(0, MAX_REASONS).to_pylist()
    return {
        "recognized": len(pc.unique(table["file"])) - len(failures),
        "failed": len(failures),
        "reasons": {row["file"]: row[REASON_COLUMN] for row in some},
    }


def _write_tables(table: pa.Table, output: Path) -> None:
    failures = _select_failures(table)
    if len(failures):
        tables.write_table(failures, _errors_file(output))
    else:
        _errors_file(output).unlink(missing_ok=True)
    tables.write_table(_select_answers(table), output)


def _select_failures(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_valid(pc.field(REASON_COLUMN))).select(["file", REASON_COLUMN])


def _select_answers(table: pa.Table) -> pa.Table:
    said = pc.is_null(pc.field(REASON_COLUMN)) & pc.is_valid(pc.field("start"))
    return table.filter(said).drop_columns([REASON_COLUMN])
