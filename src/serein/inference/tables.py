"""Answers as rows of a table, and such a table as Parquet, CSV or JSON lines.

A row is a recording, or a part of one: ``file``, ``start``, ``end``; for each task its class, that
one's confidence, whether the answer was withheld, and the probability of every class, or its
value; and the model that said so. The columns are those of audformat's tables: pandas reads file,
start and end as the index.

A run over a folder, as it lies on the disk while it goes on.

Beside ``out.parquet`` there is the folder ``out.parquet.run``:

- ``lock``: held by the process that writes;
- ``plan.json``: what is run, so that nothing else is mixed with it;
- ``part-000007.parquet``: rows as they came, answers and failures; whole or not there at all;
- ``base-000007.parquet``: all rows up to part 7, which it makes superfluous;
- ``summary.json``: there when ``out.parquet`` holds all of it.

So a file is done when its row is in a part, and at no other time: whatever kills the process, no
row is lost and none is there twice.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from serein.errors import ConfigError, StorageError, UnknownName
from serein.inference.recognition import Recognition, Segment
from serein.utils.files import replace_atomically, write_text

INDEX_COLUMNS = ("file", "start", "end")
REASON_COLUMN = "reason"
"""Why there is no answer; this column stands in the parts of a run and in no result."""
NANOSECONDS = 1_000_000_000

Row = dict[str, Any]


def build_schema(classes: Mapping[str, Sequence[str]]) -> pa.Schema:
    """Columns of a part.

    Args:
        classes: of each task; none where it answers with a number.
    """
    span = pa.duration("ns")
    fields = [("file", pa.string()), ("start", span), ("end", span)]
    for task, names in classes.items():
        if not names:
            fields.append((task, pa.float32()))
            continue
        fields += [(task, pa.string()), (f"{task}_confidence", pa.float32())]
        fields += [(f"{task}_abstained", pa.bool_())]
        fields += [(f"{task}_{name}", pa.float32()) for name in names]
    fields += [("model", pa.string()), (REASON_COLUMN, pa.string())]
    return pa.schema(fields, {b"pandas": json.dumps(_build_pandas_metadata(fields)).encode()})


def _build_pandas_metadata(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """What pandas reads in a Parquet file: which columns are the index."""
    kinds = {"string": ("unicode", "object"), "bool": ("bool", "bool")}
    kinds |= {"float": ("float32", "float32"), "duration[ns]": ("timedelta", "timedelta64[ns]")}
    columns = []
    for name, kind in fields:
        said, stored = kinds[str(kind)]
        facts = {"pandas_type": said, "numpy_type": stored, "metadata": None}
        columns.append({"name": name, "field_name": name, **facts})
    return {"index_columns": list(INDEX_COLUMNS), "column_indexes": [], "columns": columns}


def build_rows(name: str, recognition: Recognition, model: str) -> list[Row]:
    """The rows of an answer: one, or one for each segment of a timeline.

    Args:
        name: of the file.
        recognition: what was recognised in it.
        model: what answered.

    Returns:
        Where nobody speaks, one without a place, which stands in the parts of a run alone.
    """
    if not recognition.rows:
        return [{"file": name, "model": model}]
    return [_build_row(name, segment, model) for segment in recognition.rows]


def _build_row(name: str, segment: Segment, model: str) -> Row:
    row: Row = {
        "file": name,
        "start": round(segment.start * NANOSECONDS),
        "end": round(segment.end * NANOSECONDS),
    }
    for task, found in segment.tasks.items():
        row[task] = found.label
        row[f"{task}_confidence"] = found.confidence
        row[f"{task}_abstained"] = found.label is None
        row |= {f"{task}_{name}": p for name, p in found.probabilities.items()}
    return row | segment.values | {"model": model}


def build_failure_row(name: str, reason: str, model: str) -> Row:
    """The row of a file that could not be read."""
    return {"file": name, "model": model, REASON_COLUMN: reason}


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table, whole or not at all, as the ending of the path says.

    Raises:
        UnknownName: there is no such format.
        StorageError: the file could not be written.
    """
    writer = find_writer(path)
    with replace_atomically(path) as temporary:
        writer(table, temporary)


def find_writer(path: Path) -> Callable[[pa.Table, Path], None]:
    """What writes a file that is named so.

    Raises:
        UnknownName: nothing does.
    """
    if path.suffix not in WRITERS:
        raise UnknownName("output format", path.suffix or path.name, WRITERS)
    return WRITERS[path.suffix]


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _write_csv(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.column_names)
        for row in _iter_plain_rows(table):
            writer.writerow(row.values())


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in _iter_plain_rows(table):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _iter_plain_rows(table: pa.Table) -> Iterator[Row]:
    """Rows with times in seconds; probabilities keep six digits."""
    for name in {"start", "end"} & set(table.column_names):
        place = table.column_names.index(name)
        seconds = [None if t is None else t / NANOSECONDS for t in _to_integers(table[name])]
        table = table.set_column(place, name, pa.array(seconds, pa.float64()))
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield {key: _round_value(value) for key, value in row.items()}


def _to_integers(column: Any) -> list[int | None]:
    return column.cast(pa.int64()).to_pylist()


def _round_value(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}


PLAN_FILE = "plan.json"
PART_NAME = re.compile(r"(part|base)-(\d{6,})\.parquet")


class PartStore:
    """Rows in parts. Only who holds the lock may make one."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Look at what is there.

        Args:
            folder: of the run.
            schema: of the rows.
        """
        self.folder, self.schema = folder, schema
        found = sorted(_list_parts(folder))
        bases = [number for number, kind, _ in found if kind == "base"]
        self.base = bases[-1] if bases else -1
        self.next_number = found[-1][0] + 1 if found else 0

    def remove_leftovers(self) -> None:
        """Remove what a process was writing when it was killed."""
        begun = [*self.folder.glob(".part-*"), *self.folder.glob(".base-*")]
        for place in [*begun, *self._list_superseded()]:
            place.unlink()

    def read_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows.

        Raises:
            StorageError: a part is damaged.
        """
        paths = sorted(_list_parts(self.folder))
        parts = [_read_part(path, columns) for *key, path in paths if key >= [self.base, "base"]]
        if not parts:
            empty = self.schema.empty_table()
            return empty.select(columns) if columns else empty
        return pa.concat_tables(parts)

    def read_done(self) -> dict[str, bool]:
        """The files that have a row, and whether that is an answer."""
        table = self.read_table(["file", REASON_COLUMN])
        return dict(
            zip(table["file"].to_pylist(), table[REASON_COLUMN].is_null().to_pylist(), strict=True)
        )

    def add(self, rows: list[Row]) -> None:
        """Keep some rows, all of them or none.

        Raises:
            StorageError: the part could not be written.
        """
        self._write_part(
            f"part-{self.next_number:06d}.parquet", pa.Table.from_pylist(rows, self.schema)
        )
        self.next_number += 1

    def replace(self, table: pa.Table) -> None:
        """Put one table in the place of all parts.

        Raises:
            StorageError: it could not be written; the parts are still there.
        """
        self.base = self.next_number
        self._write_part(f"base-{self.base:06d}.parquet", table)
        self.next_number += 1
        for path in self._list_superseded():
            path.unlink()

    def _write_part(self, name: str, table: pa.Table) -> None:
        with replace_atomically(self.folder / name) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def _list_superseded(self) -> list[Path]:
        current = self.base, "base"
        return [p for number, kind, p in _list_parts(self.folder) if (number, kind) < current]


def _list_parts(folder: Path) -> Iterator[tuple[int, str, Path]]:
    for path in folder.iterdir():
        if match := PART_NAME.fullmatch(path.name):
            yield int(match[2]), match[1], path


def _read_part(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}): delete it and run the same command "
            "again; what it held will be recognised again"
        ) from error


@contextmanager
def lock_run(folder: Path, output: Path) -> Iterator[None]:
    """Let this process alone write to a run.

    Raises:
        ConfigError: the output is there, and is not of a run.
        StorageError: another process writes, or the folder cannot be made.
    """
    if output.exists() and not (folder / PLAN_FILE).exists():
        raise ConfigError(
            f"{output} is there already, and there is no {folder.name} beside it, by which a run "
            "could go on. Remove it, or choose another output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"another process is writing {output}: wait until it has ended, or give this one "
            "another output"
        ) from None
    except OSError as error:
        raise StorageError(
            f"could not make {folder}: {error.strerror}; choose an output that you may write to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_plan(folder: Path, output: Path, plan: Mapping[str, Any]) -> None:
    """Begin a plan, or see that it is the one that was begun.

    Args:
        folder: of the run.
        output: where its answers go.
        plan: what decides the answers, as JSON has it; keys are words for people.

    Raises:
        ConfigError: another plan was begun there.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        write_text(path, json.dumps(plan, indent=1))
        return
    begun: Any = None
    with suppress(ValueError, RecursionError):
        begun = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(begun, dict):
        raise ConfigError(f"{path} is damaged; remove {folder} and {output}, and begin anew")
    for key in [*plan, *(begun.keys() - plan.keys())]:
        if begun.get(key) != plan.get(key):
            raise ConfigError(
                f"{output} was begun with the {key} {begun.get(key)}; now it is {plan.get(key)}. "
                f"Choose another output, or remove {folder.name} and {output.name} to begin anew"
            )
