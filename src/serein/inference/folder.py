"""Recognize all recordings below a folder and write one table.

Answers are saved every few seconds (see ``tables``), so that a killed run can be resumed.
"""

import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference import tables
from serein.inference.embedding import Embedding, get_width
from serein.inference.predictor import Predictor
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.inference.tables import REASON_COLUMN, PartStore, Row, check_plan, lock_run
from serein.inference.workers import (
    ENGINES,
    Chunk,
    Engine,
    Failure,
    FileResult,
    RecognitionContext,
    run_inline,
)
from serein.results.evaluation import FolderProgress
from serein.utils.files import write_text

if TYPE_CHECKING:
    import pandas as pd

ESCAPE_PATTERN = re.compile(r"\\(?=x[0-9a-f]{2})")
"""A backslash in a file name that looks like an escape of ``path_to_text``."""
FILES_PER_CHUNK = 64
"""Files that a worker gets at a time."""
SAVE_INTERVAL = 5.0
"""Seconds between saves: the work that is lost if the process is killed."""
SUMMARY_FILE = "summary.json"
SUMMARY_KEYS = {"recognized", "failed", "reasons"}
MAX_REASONS = 10
"""Number of failures whose reasons are in a summary."""
CRASH_REASON = (
    "the process that read it ended, even when it read nothing else; the file is malicious, or too "
    "long for this memory"
)
AUDIO_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac"),
        *(".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpga", ".oga", ".ogg"),
        *(".opus", ".rf64", ".snd", ".spx", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma"),
    )
)
"""Suffixes of files that are read; their content determines how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The result of a run over a folder.

    Attributes:
        output: table of the answers.
        recognized: number of files in the table.
        failed: number of files that could not be read.
        reasons: reasons of the first ten failures, by file.
        errors: table of all failures with their reasons; None if there are none.
        ignored: number of hidden files and of files with other suffixes.
        done_before: number of files that earlier runs had finished.
        seconds: duration of the audio that this run recognized, in seconds.
        elapsed: duration of this run, in seconds.
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
        """Return the answers, indexed by (file, start, end) as in audformat; needs pandas."""
        store = PartStore(_run_folder(self.output), tables.build_schema({}))
        return _select_answers(store.read_table()).to_pandas()


def recognize_folder(
    predictor: Predictor,
    folder: Path,
    output: Path,
    *,
    jobs: int | None = None,
    engine: str = "processes",
    retry: bool = False,
    progress: Callable[[FolderProgress], None] | None = None,
    stream_config: StreamConfig | None = None,
    embedded_task: str | None = None,
) -> Summary:
    """Recognize all recordings below a folder; see ``Recognizer.folder``.

    Args:
        predictor: the model.
        folder: folder of the recordings.
        output: table to write: .parquet, .csv or .jsonl.
        jobs: number of processes; 1 uses only this process. None is 1, or all of a cluster.
        engine: "processes", or "ray" for a cluster.
        retry: whether to try files again that failed in an earlier run.
        progress: is called with the progress of the run.
        stream_config: settings of timelines; None gives one answer per file.
        embedded_task: the task whose vectors are written in place of answers (``embedding``).

    Raises:
        AudioError: the folder does not exist, or has no recordings.
        ConfigError: the output belongs to other settings or to no run, the settings do not fit, or
            the model needs words.
        StorageError: another process writes the output, or it could not be written.
    """
    start_time = time.monotonic()
    predictor.check_segment_words()
    if stream_config is not None:
        Stream(predictor, predictor.rate, stream_config)  # check the settings once, not per file
    if not folder.is_dir():
        raise AudioError(f"{folder} is no folder; expected one with recordings. Check the path.")
    tables.find_writer(output, embeddings=embedded_task is not None)
    run_engine = _choose_engine(engine, jobs)
    _check_not_empty(Listing(folder))
    context = RecognitionContext(predictor, folder, stream_config, embedded_task)
    model, run_folder = tables.describe_model(predictor), _run_folder(output)
    with lock_run(run_folder, output):
        check_plan(run_folder, output, _build_plan(context, model))
        store = PartStore(run_folder, _build_schema(context))
        store.remove_leftovers()
        if retry:
            _mark_unfinished(store)
            store.replace(store.read_table().filter(pc.is_null(pc.field(REASON_COLUMN))))
        run = _FolderRun(store, model, folder, progress)
        run.run(context, run_engine, jobs)
        counts = _write_results(store, output)
    return Summary(
        output=output,
        recognized=counts["recognized"],
        failed=counts["failed"],
        reasons=counts["reasons"],
        errors=_errors_file(output) if counts["failed"] else None,
        ignored=run.listing.ignored,
        done_before=len(run.done_before),
        seconds=run.seconds,
        elapsed=time.monotonic() - start_time,
    )


def _build_schema(context: RecognitionContext) -> pa.Schema:
    predictor = context.predictor
    if context.embedded_task is not None:
        return tables.build_embedding_schema(get_width(predictor))
    return tables.build_schema(predictor.classes, list(predictor.dimension_sources))


def _choose_engine(name: str, jobs: int | None) -> Engine:
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected 1 or more")
    return run_inline if name == "processes" and jobs in (None, 1) else ENGINES[name]


def _check_not_empty(listing: "Listing") -> None:
    if next(iter(listing), None) is None:
        raise AudioError(
            f"{listing.root} has no recordings; {listing.ignored} files are hidden or have other "
            "suffixes. Check the path."
        )


def _build_plan(context: RecognitionContext, model: Mapping[str, str]) -> dict[str, object]:
    """Return the settings that determine the answers, by names for error messages."""
    plan: dict[str, object] = {
        "model": f"{model[tables.MODEL_COLUMN]} ({model[tables.MODEL_HASH_COLUMN]})",
        "folder": path_to_text(str(context.root.resolve())),
        "thresholds": context.predictor.thresholds,
        "silence": "answered" if context.predictor.answer_nonspeech else "withheld",
    }
    if context.predictor.class_set:
        plan["classes"] = {task: list(own) for task, own in context.predictor.class_set.items()}
    if context.embedded_task is not None:
        plan["embeddings"] = context.embedded_task
    if context.stream_config is None:
        return {**plan, "precision": context.predictor.precision}
    return {**plan, "segments": asdict(context.stream_config)}


def _run_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.run")


def _errors_file(output: Path) -> Path:
    return output.with_name(f"{output.name}.errors.csv")


class _FolderRun:
    """A run: recognize new files, save their rows, and report progress.

    Attributes:
        done_before: files that earlier runs have finished, and whether they have an answer.
        listing: the files of the folder.
        seconds: duration of the recognized audio, in seconds.
    """

    def __init__(
        self,
        store: PartStore,
        model: Mapping[str, str],
        folder: Path,
        progress: Callable[[FolderProgress], None] | None,
    ) -> None:
        self.done_before = store.read_done()
        self.listing = Listing(folder)
        self.seconds = 0.0
        self._store, self._model, self._progress = store, model, progress
        self._total: int | None = None
        self._done = self._failed = 0
        self._rows: list[Row] = []
        self._last_saved = time.monotonic()

    def run(self, context: RecognitionContext, engine: Engine, jobs: int | None) -> None:
        """Recognize all new files; finished answers are saved even if this raises."""
        new = (entry for entry in self.listing if path_to_text(entry.name) not in self.done_before)
        first = next(new, None)
        if first is None:
            return
        _mark_unfinished(self._store)
        Thread(target=self._count_files, args=(context.root,), daemon=True).start()
        chunks = self._iter_chunks(chain([first], new))
        try:
            for result in _iter_results(context, engine, chunks, jobs):
                self._add_result(result)
        finally:
            self._save_rows()

    def _count_files(self, root: Path) -> None:
        self._total = sum(1 for _ in Listing(root))

    def _iter_chunks(self, new: Iterator["ListingEntry"]) -> Iterator[Chunk]:
        """Yield chunks of file names; folders that cannot be listed are recorded as failures."""
        while entries := list(islice(new, FILES_PER_CHUNK)):
            for entry in entries:
                if entry.reason:
                    self._add_result(Failure(source=entry.name, reason=entry.reason))
            if chunk := tuple(entry.name for entry in entries if not entry.reason):
                yield chunk

    def _add_result(self, result: FileResult) -> None:
        name = path_to_text(result.source)
        if isinstance(result, Failure):
            self._rows.append(tables.build_failure_row(name, result.reason, self._model))
            self._failed += 1
        elif isinstance(result, Embedding):
            self._rows += tables.build_embedding_rows(name, result, self._model)
            self.seconds += result.end - result.start
        else:
            self._rows += tables.build_rows(name, result, self._model)
            self.seconds += result.end - result.start
        self._done += 1
        if time.monotonic() - self._last_saved > SAVE_INTERVAL:
            self._save_rows()
        if self._progress is not None:
            self._progress(
                FolderProgress(
                    total=self._total,
                    done_before=len(self.done_before),
                    done=self._done,
                    failed=self._failed,
                    seconds=self.seconds,
                )
            )

    def _save_rows(self) -> None:
        if self._rows:
            self._store.add(self._rows)
        self._rows, self._last_saved = [], time.monotonic()


def _iter_results(
    context: RecognitionContext, engine: Engine, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FileResult]:
    """Yield the result for every file; files of a crashed process are tried again one by one."""
    lost: list[str] = []
    for chunk, results in engine(context, chunks, jobs):
        lost += chunk if results is None else ()
        yield from results or ()
    if lost:
        for (name,), results in engine(context, ((name,) for name in lost), 1):
            yield from results or [Failure(source=name, reason=CRASH_REASON)]


def _mark_unfinished(store: PartStore) -> None:
    """Remove the summary, which marks a complete output."""
    (store.folder / SUMMARY_FILE).unlink(missing_ok=True)


def _write_results(store: PartStore, output: Path) -> dict[str, Any]:
    """Write the tables of answers and failures if they are out of date, and count both."""
    summary_file = store.folder / SUMMARY_FILE
    with suppress(OSError, ValueError, RecursionError):
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        if output.exists() and isinstance(summary, dict) and summary.keys() >= SUMMARY_KEYS:
            return summary
    table = store.read_table().sort_by([("file", "ascending"), ("start", "ascending")])
    store.replace(table)
    failures = _select_failures(table)
    if len(failures):
        tables.write_table(failures, _errors_file(output))
    else:
        _errors_file(output).unlink(missing_ok=True)
    tables.write_table(_select_answers(table), output)
    first_failures = failures.slice(0, MAX_REASONS).to_pylist()
    counts = {
        "recognized": len(pc.unique(table["file"])) - len(failures),
        "failed": len(failures),
        "reasons": {row["file"]: row[REASON_COLUMN] for row in first_failures},
    }
    write_text(summary_file, json.dumps(counts))
    return counts


def _select_failures(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_valid(pc.field(REASON_COLUMN))).select(["file", REASON_COLUMN])


def _select_answers(table: pa.Table) -> pa.Table:
    has_answer = pc.is_null(pc.field(REASON_COLUMN)) & pc.is_valid(pc.field("start"))
    return table.filter(has_answer).drop_columns([REASON_COLUMN])


class ListingEntry(NamedTuple):
    """A recording, or a folder that cannot be listed.

    Attributes:
        name: path from the root folder on, with ``/``.
        reason: why a folder cannot be listed; empty for a recording.
    """

    name: str
    reason: str = ""


class Listing:
    """The recordings below a folder, always in the same order.

    In each folder the files come first, sorted by name, and then its folders. Folders that are
    links come last of all, and no folder is entered twice, so that a link to a parent folder causes
    no infinite loop. Only one folder is held in memory at a time.

    Attributes:
        root: the folder.
        ignored: number of hidden files and of files with other suffixes, in the latest iteration.
    """

    def __init__(self, root: Path) -> None:
        """Store the folder; nothing is read yet."""
        self.root = str(root)
        self.ignored = 0

    def __iter__(self) -> Iterator[ListingEntry]:
        """List all recordings, and all folders that cannot be listed."""
        self.ignored = 0
        seen: set[tuple[int, int]] = set()
        links = deque([""])
        while links:
            stack = [links.popleft()]
            while stack:
                folder = stack.pop()
                try:
                    files, subfolders, linked = self._scan_folder(folder, seen)
                except OSError as error:
                    path = path_to_text(self._to_path(folder))
                    reason = f"{path} cannot be listed: {error.strerror}. Check its permissions."
                    yield ListingEntry(folder or ".", reason)
                    continue
                yield from map(ListingEntry, files)
                stack += reversed(subfolders)
                links += linked

    def _to_path(self, name: str) -> str:
        return os.path.join(self.root, name) if name else self.root

    def _scan_folder(
        self, folder: str, seen: set[tuple[int, int]]
    ) -> tuple[list[str], list[str], list[str]]:
        """Return recordings, folders and linked folders; nothing for a folder in ``seen``."""
        files: list[str] = []
        subfolders: list[str] = []
        links: list[str] = []
        status = os.stat(self._to_path(folder))
        identity = status.st_dev, status.st_ino
        if identity in seen:
            return files, subfolders, links
        with os.scandir(self._to_path(folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    self.ignored += 1
                elif _is_folder(entry):
                    (links if entry.is_symlink() else subfolders).append(name)
                elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
                    files.append(name)
                else:
                    self.ignored += 1
        seen.add(identity)
        return sorted(files), sorted(subfolders), sorted(links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link to itself
        return entry.is_dir()
    return False


def path_to_text(name: str) -> str:
    """Convert a path to text; bytes that are not UTF-8 become backslash escapes.

    A backslash that would look like such an escape becomes one, so that texts are unique.

    >>> path_to_text("M" + chr(0xDCFC) + "ller.wav") == "M" + chr(92) + "xfcller.wav"
    True
    >>> path_to_text("M" + chr(92) + "xfcller.wav") == "M" + chr(92) + "x5cxfcller.wav"
    True
    """
    escaped = os.fsencode(ESCAPE_PATTERN.sub(r"\\x5c", name))
    return escaped.decode("utf-8", "backslashreplace")
