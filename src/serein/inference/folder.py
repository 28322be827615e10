"""A folder of recordings to one table.

What was heard is kept every few seconds (``parts.py`` says how), so that a run that was killed
goes on where it was.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from serein.bundle import digest
from serein.errors import AudioError, ConfigError, UnknownName
from serein.files import write_text
from serein.inference import rows
from serein.inference.batches import Chunk, Failure, Work
from serein.inference.engines import ENGINES, Engine, here
from serein.inference.listing import Found, Listing, spelled
from serein.inference.parts import Store, agree, locked
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.rows import REASON, Row
from serein.inference.stream import Settings, Stream
from serein.results import Progress

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 64
"""Files that a worker gets at a time."""
EVERY = 5.0
"""Seconds of work that are lost at most when the process is killed."""
SUMMARY = "summary.json"
COUNTED = {"recognized", "failed", "reasons"}
TOLD = 10
"""Failures that a summary names."""
ENDED = (
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
    before: int
    seconds: float
    elapsed: float

    def table(self) -> "pd.DataFrame":
        """The answers, indexed by (file, start, end) as audformat's tables are; needs pandas."""
        store = Store(_run_of(self.output), rows.schema({}))
        return _answers(store.table()).to_pandas()


def recognise(
    recognizer: Recognizer,
    folder: Path,
    output: Path,
    *,
    jobs: int | None = None,
    engine: str = "processes",
    retry: bool = False,
    progress: Callable[[Progress], None] | None = None,
    hearing: Settings | None = None,
) -> Summary:
    """Recognise a folder; ``Recognizer.folder`` says what is what.

    Raises:
        AudioError: there is no such folder, or no recording in it.
        ConfigError: the output is of other settings, or of no run; or settings do not fit.
        StorageError: another process writes it, or it could not be written.
    """
    begun = time.monotonic()
    if hearing is not None:
        Stream(recognizer, recognizer.rate, hearing)  # settings that do not fit are told of once
    if not folder.is_dir():
        raise AudioError(f"{folder} is no folder; expected one with recordings. Check the path.")
    rows.writer_of(output)
    chosen = _engine(engine, jobs)
    _check_any(Listing(folder))
    work, model = Work(recognizer, folder, hearing), digest(recognizer.bundle)[:16]
    with locked(_run_of(output), output):
        agree(_run_of(output), output, _plan(work, model))
        store = Store(_run_of(output), rows.schema(recognizer.classes))
        store.tidy()
        if retry:
            _unfinished(store)
            store.replace(store.table().filter(pc.is_null(pc.field(REASON))))
        course = _Course(store, model, folder, progress)
        course.follow(work, chosen, jobs)
        counts = _written(store, output)
    return Summary(
        output=output,
        recognized=counts["recognized"],
        failed=counts["failed"],
        reasons=counts["reasons"],
        errors=_errors_of(output) if counts["failed"] else None,
        ignored=course.listing.ignored,
        before=len(course.known),
        seconds=course.seconds,
        elapsed=time.monotonic() - begun,
    )


def _check_any(listing: Listing) -> None:
    if next(iter(listing), None) is None:
        raise AudioError(
            f"{listing.root} holds no recordings; {listing.ignored} files are of other kinds or "
            "hidden. Check the path."
        )


def _run_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.run")


def _errors_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.errors.csv")


def _plan(work: Work, model: str) -> dict[str, object]:
    """What decides the answers, in words."""
    plan: dict[str, object] = {
        "model": f"{work.recognizer.name} ({model})",
        "folder": spelled(str(work.root.resolve())),
        "thresholds": work.recognizer.thresholds,
        "silence": "answered" if work.recognizer.always else "withheld",
    }
    return plan if work.hearing is None else {**plan, "segments": asdict(work.hearing)}


def _engine(name: str, jobs: int | None) -> Engine:
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected 1 or more")
    return here if name == "processes" and jobs in (None, 1) else ENGINES[name]


class _Course:
    """One run: what is known, what is new, and what is told of it."""

    def __init__(
        self,
        store: Store,
        model: str,
        folder: Path,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.store, self.model, self.progress = store, model, progress
        self.known = store.done()
        self.listing = Listing(folder)
        self.total: int | None = None
        self.done = self.failed = 0
        self.seconds = 0.0
        self.rows: list[Row] = []
        self.kept = time.monotonic()

    def follow(self, work: Work, engine: Engine, jobs: int | None) -> None:
        """Hear all that is new; whatever ends this, what was heard is kept."""
        new = (one for one in self.listing if spelled(one.name) not in self.known)
        first = next(new, None)
        if first is None:
            return
        _unfinished(self.store)
        Thread(target=self._count, args=(work.root,), daemon=True).start()
        try:
            for one in _heard(work, engine, self._chunks(chain([first], new)), jobs):
                self._take(one)
        finally:
            self._keep()

    def _count(self, root: Path) -> None:
        self.total = sum(1 for _ in Listing(root))

    def _chunks(self, new: Iterator[Found]) -> Iterator[Chunk]:
        """Names of files, some at a time; folders that cannot be listed have failed already."""
        while some := list(islice(new, AT_ONCE)):
            for one in some:
                if one.reason:
                    self._take(Failure(source=one.name, reason=one.reason))
            if chunk := tuple(one.name for one in some if not one.reason):
                yield chunk

    def _take(self, one: Recognition | Failure) -> None:
        name = spelled(one.source)
        if isinstance(one, Failure):
            self.rows.append(rows.failed(name, one.reason, self.model))
            self.failed += 1
        else:
            self.rows += rows.answered(name, one, self.model)
            self.seconds += one.end - one.start
        self.done += 1
        if time.monotonic() - self.kept > EVERY:
            self._keep()
        if self.progress is not None:
            self.progress(
                Progress(
                    total=self.total,
                    before=len(self.known),
                    done=self.done,
                    failed=self.failed,
                    seconds=self.seconds,
                )
            )

    def _keep(self) -> None:
        if self.rows:
            self.store.add(self.rows)
        self.rows, self.kept = [], time.monotonic()


def _heard(
    work: Work, engine: Engine, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[Recognition | Failure]:
    """Of every file; those that were with a process that died are tried again one by one."""
    lost: list[str] = []
    for chunk, heard in engine(work, chunks, jobs):
        lost += chunk if heard is None else ()
        yield from heard or ()
    if lost:
        for (name,), heard in engine(work, ((name,) for name in lost), 1):
            yield from heard or [Failure(source=name, reason=ENDED)]


def _unfinished(store: Store) -> None:
    """From here on the output does not hold all of it."""
    (store.folder / SUMMARY).unlink(missing_ok=True)


def _written(store: Store, output: Path) -> dict[str, Any]:
    """Write the answers and the failures, where that is not done yet; count both."""
    summary = store.folder / SUMMARY
    with suppress(OSError, ValueError, RecursionError):
        told = json.loads(summary.read_text(encoding="utf-8"))
        if output.exists() and isinstance(told, dict) and told.keys() >= COUNTED:
            return told
    table = store.table().sort_by([("file", "ascending"), ("start", "ascending")])
    store.replace(table)
    _write(table, output)
    counts = _counted(table)
    write_text(summary, json.dumps(counts))
    return counts


def _counted(table: pa.Table) -> dict[str, Any]:
    failures = _failures(table)
    some = failures.slice(0, TOLD).to_pylist()
    return {
        "recognized": len(pc.unique(table["file"])) - len(failures),
        "failed": len(failures),
        "reasons": {row["file"]: row[REASON] for row in some},
    }


def _write(table: pa.Table, output: Path) -> None:
    failures = _failures(table)
    if len(failures):
        rows.write(failures, _errors_of(output))
    else:
        _errors_of(output).unlink(missing_ok=True)
    rows.write(_answers(table), output)


def _failures(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_valid(pc.field(REASON))).select(["file", REASON])


def _answers(table: pa.Table) -> pa.Table:
    said = pc.is_null(pc.field(REASON)) & pc.is_valid(pc.field("start"))
    return table.filter(said).drop_columns([REASON])
