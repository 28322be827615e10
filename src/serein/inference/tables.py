"""Tables of the answers for a folder of recordings, and the parts that a run writes on the way.

A row is a recording or a segment of one: ``file``, ``start``, ``end``; for each classification task
its label, confidence, whether the label was withheld, and the probability of every class; for each
regression task its value; the two most likely classes of each classification task; arousal and
valence from -1 to 1 with their basis; and the model's name and hash. These are the columns of
audformat's tables: pandas reads file, start and end as the index.

Beside ``out.parquet``, a run keeps the folder ``out.parquet.run``:

- ``lock``: held by the process that writes;
- ``plan.json``: what determines the answers, so that a run only goes on with the same settings;
- ``part-000007.parquet``: rows in the order of their completion, answers and failures; written
  atomically;
- ``base-000007.parquet``: all rows up to part 7, which it replaces;
- ``summary.json``: exists when ``out.parquet`` holds all rows.

A file is done exactly if a part has a row for it: no row is lost or duplicated if the process is
killed.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from serein.errors import ConfigError, StorageError, UnknownName
from serein.inference.embedding import Embedding
from serein.inference.recognition import RANKS, Recognition, Segment, round_floats
from serein.utils.files import replace_atomically, write_text

INDEX_COLUMNS = ("file", "start", "end")
EMBEDDING_COLUMN = "embedding"
"""The vectors in a table of embeddings."""
REASON_COLUMN = "reason"
"""Why a file has no answer; a column of the parts of a run, and of no result."""
MODEL_COLUMN, MODEL_HASH_COLUMN = "model", "model_hash"
"""The model's name, and the first digits of the SHA-256 of its file."""
HASH_DIGITS = 16
NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""
ADDED_KEYS = ("precision",)
"""Keys of a plan that earlier releases did not write; a run without them is continued."""
PLAN_FILE = "plan.json"
PART_NAME = re.compile(r"(part|base)-(\d{6,})\.parquet")

Row = dict[str, Any]


def build_schema(classes: Mapping[str, Sequence[str]], dimensions: Sequence[str] = ()) -> pa.Schema:
    """Return the columns of a part.

    Args:
        classes: classes of each task; empty for a regression task.
        dimensions: those that the model gives, such as arousal.
    """
    duration = pa.duration("ns")
    columns = {"file": pa.string(), "start": duration, "end": duration}
    for task, names in classes.items():
        if not names:
            columns[task] = pa.float32()
            continue
        columns |= {task: pa.string(), f"{task}_confidence": pa.float32()}
        columns[f"{task}_abstained"] = pa.bool_()
        columns |= {f"{task}_{name}": pa.float32() for name in names}
    for task in filter(classes.get, classes):
        for rank in RANKS:
            columns |= {f"{rank}_{task}": pa.string(), f"{rank}_{task}_probability": pa.float32()}
    for name in dimensions:
        columns |= {f"scaled_{name}": pa.float32(), f"scaled_{name}_basis": pa.string()}
    return _complete_schema(columns)


def build_embedding_schema(width: int) -> pa.Schema:
    """Return the columns of a part of embeddings: times, whether there is speech, and vectors.

    Args:
        width: number of values of a vector.
    """
    duration = pa.duration("ns")
    columns = {"file": pa.string(), "start": duration, "end": duration, "speech": pa.bool_()}
    return _complete_schema({**columns, EMBEDDING_COLUMN: pa.list_(pa.float32(), width)})


def _complete_schema(columns: Mapping[str, Any]) -> pa.Schema:
    """Add the columns that all parts have, and the metadata for pandas."""
    names = (MODEL_COLUMN, MODEL_HASH_COLUMN, REASON_COLUMN)
    fields = list({**columns, **dict.fromkeys(names, pa.string())}.items())
    return pa.schema(fields, {b"pandas": json.dumps(_build_pandas_metadata(fields)).encode()})


def _build_pandas_metadata(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the metadata by which pandas finds the index columns of a Parquet file."""
    types = {"string": ("unicode", "object"), "bool": ("bool", "bool")}
    types |= {"float": ("float32", "float32"), "duration[ns]": ("timedelta", "timedelta64[ns]")}
    columns = []
    for name, arrow_type in fields:
        pandas_type, numpy_type = types.get(str(arrow_type), ("list[float32]", "object"))
        columns.append(
            {
                "name": name,
                "field_name": name,
                "pandas_type": pandas_type,
                "numpy_type": numpy_type,
                "metadata": None,
            }
        )
    return {"index_columns": list(INDEX_COLUMNS), "column_indexes": [], "columns": columns}


def describe_model(predictor: Any) -> dict[str, str]:
    """Return the name of a predictor's model, and the first digits of its SHA-256, by column."""
    digest = predictor.backend.compute_digest()[:HASH_DIGITS]
    return {MODEL_COLUMN: predictor.name, MODEL_HASH_COLUMN: digest}


def build_rows(name: str, recognition: Recognition, model: Mapping[str, str]) -> list[Row]:
    """Return the rows of an answer: one, or one per segment of a timeline.

    Args:
        name: path of the file from the folder on.
        recognition: the answer.
        model: its name and hash, by column.

    Returns:
        For a timeline without segments, one row without start and end, which is kept only in the
        parts of a run.
    """
    if not recognition.rows:
        return [{"file": name, **model}]
    return [_build_row(name, segment, model) for segment in recognition.rows]


def build_embedding_rows(name: str, embedding: Embedding, model: Mapping[str, str]) -> list[Row]:
    """Return a row for each vector; without vectors, one row as `build_rows`."""
    if not len(embedding.vectors):
        return [{"file": name, **model}]
    return [
        {
            "file": name,
            "start": round(start * NANOSECONDS),
            "end": round(end * NANOSECONDS),
            "speech": embedding.speech,
            EMBEDDING_COLUMN: vector_d.tolist(),
            **model,
        }
        for (start, end), vector_d in zip(embedding.windows, embedding.vectors, strict=True)
    ]


def _build_row(name: str, segment: Segment, model: Mapping[str, str]) -> Row:
    row: Row = {
        "file": name,
        "start": round(segment.start * NANOSECONDS),
        "end": round(segment.end * NANOSECONDS),
        **model,
    }
    for task, answer in segment.tasks.items():
        row[f"{task}_confidence"] = answer.confidence
        row[f"{task}_abstained"] = answer.label is None
    return row | segment.to_columns()


def build_failure_row(name: str, reason: str, model: Mapping[str, str]) -> Row:
    """Return the row of a file that could not be read."""
    return {"file": name, **model, REASON_COLUMN: reason}


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table atomically, in the format of the path's suffix.

    Raises:
        UnknownName: there is no such format.
        StorageError: the file could not be written.
    """
    writer = find_writer(path, embeddings=EMBEDDING_COLUMN in table.column_names)
    with replace_atomically(path) as temporary:
        writer(table, temporary)


def find_writer(path: Path, *, embeddings: bool = False) -> Callable[[pa.Table, Path], None]:
    """Return the writer for the suffix of a path.

    Args:
        path: of the table.
        embeddings: whether the table has vectors, which ``.npz`` holds, too.

    Raises:
        UnknownName: there is none.
    """
    writers = {**WRITERS, **({".npz": _write_npz} if embeddings else {})}
    if path.suffix not in writers:
        raise UnknownName("output format", path.suffix or path.name, writers)
    return writers[path.suffix]


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _write_csv(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(name for field in table.schema for name in _list_csv_names(field))
        for row in _iter_plain_rows(table):
            cells = (value if isinstance(value, list) else [value] for value in row.values())
            writer.writerow(cell for own in cells for cell in own)


def _list_csv_names(field: pa.Field) -> list[str]:
    """Return the names of the columns of a field in CSV: one for each value of a vector."""
    if not pa.types.is_fixed_size_list(field.type):
        return [field.name]
    return [f"{field.name}_{index}" for index in range(field.type.list_size)]


def _write_npz(table: pa.Table, path: Path) -> None:
    """Write arrays with a row for each vector; times are in seconds."""
    times = {
        name: table[name].cast(pa.int64()).to_numpy() / NANOSECONDS for name in ("start", "end")
    }
    column = table[EMBEDDING_COLUMN].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False)
    width = table.schema.field(EMBEDDING_COLUMN).type.list_size
    with path.open("wb") as file:
        np.savez(
            file,
            files=np.array(table["file"].to_pylist(), dtype=str),
            **times,
            speech=np.array(table["speech"].to_pylist(), dtype=bool),
            model=np.array(table[MODEL_COLUMN].to_pylist(), dtype=str),
            model_hash=np.array(table[MODEL_HASH_COLUMN].to_pylist(), dtype=str),
            **{EMBEDDING_COLUMN: vectors.reshape(-1, width).astype(np.float32)},
        )


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in _iter_plain_rows(table):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _iter_plain_rows(table: pa.Table) -> Iterator[Row]:
    """Yield rows with times in seconds and numbers rounded to six significant digits."""
    for name in {"start", "end"} & set(table.column_names):
        index = table.column_names.index(name)
        times = table[name].cast(pa.int64()).to_pylist()
        seconds = [None if time is None else time / NANOSECONDS for time in times]
        table = table.set_column(index, name, pa.array(seconds, pa.float64()))
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield round_floats(row)


WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}


class PartStore:
    """The rows of a run, in parts; only the process that holds the lock may create one."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Find the parts that exist.

        Args:
            folder: folder of the run.
            schema: schema of the rows.
        """
        self.folder, self.schema = folder, schema
        parts = sorted(_list_parts(folder))
        bases = [number for number, kind, _ in parts if kind == "base"]
        self.base = bases[-1] if bases else -1
        self.next_number = parts[-1][0] + 1 if parts else 0

    def remove_leftovers(self) -> None:
        """Remove incomplete parts of a killed process, and replaced parts."""
        incomplete = [*self.folder.glob(".part-*"), *self.folder.glob(".base-*")]
        for path in [*incomplete, *self._list_superseded()]:
            path.unlink()

    def read_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read all rows.

        Raises:
            StorageError: a part is damaged.
        """
        paths = sorted(_list_parts(self.folder))
        parts = [_read_part(path, columns) for *key, path in paths if key >= [self.base, "base"]]
        if not parts:
            empty = self.schema.empty_table()
            return empty.select(columns) if columns else empty
        # Parts of an earlier version lack later columns.
        return pa.concat_tables(parts, promote_options="default")

    def read_done(self) -> dict[str, bool]:
        """Read for each file that has a row whether it has an answer."""
        table = self.read_table(["file", REASON_COLUMN])
        return dict(
            zip(table["file"].to_pylist(), table[REASON_COLUMN].is_null().to_pylist(), strict=True)
        )

    def add(self, rows: list[Row]) -> None:
        """Write rows as a new part, atomically.

        Raises:
            StorageError: the part could not be written.
        """
        self._write_part(
            f"part-{self.next_number:06d}.parquet", pa.Table.from_pylist(rows, self.schema)
        )
        self.next_number += 1

    def replace(self, table: pa.Table) -> None:
        """Replace all parts by one table.

        Raises:
            StorageError: it could not be written; the parts still exist.
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
        parts = _list_parts(self.folder)
        return [path for number, kind, path in parts if (number, kind) < current]


def _list_parts(folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield number, kind ("part" or "base") and path of each part."""
    for path in folder.iterdir():
        if match := PART_NAME.fullmatch(path.name):
            yield int(match[2]), match[1], path


def _read_part(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}): delete it and run the same command "
            "again; its recordings will be recognised again"
        ) from error
    if MODEL_COLUMN in table.column_names and MODEL_HASH_COLUMN not in table.column_names:
        # Earlier versions wrote the hash as the model, and no name.
        index = table.column_names.index(MODEL_COLUMN)
        table = table.append_column(MODEL_HASH_COLUMN, table[MODEL_COLUMN])
        table = table.set_column(index, MODEL_COLUMN, pa.nulls(len(table), pa.string()))
    return table


@contextmanager
def lock_run(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock of a run, so that no other process writes to it.

    Raises:
        ConfigError: the output exists and does not belong to a run.
        StorageError: another process holds the lock, or the folder cannot be created.
    """
    try:
        is_foreign = output.exists() and not (folder / PLAN_FILE).exists()
    except OSError as error:  # a folder that may not be entered
        raise StorageError(
            f"{output} cannot be written: {error.strerror}; choose an output that you may write to"
        ) from error
    if is_foreign:
        raise ConfigError(
            f"{output} exists already, and there is no {folder.name} beside it, from which a run "
            "could go on. Remove it, or choose another output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"another process is writing {output}: wait until it has ended, or choose another "
            "output"
        ) from None
    except OSError as error:
        raise StorageError(
            f"could not create {folder}: {error.strerror}; choose an output that you may write to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_plan(folder: Path, output: Path, plan: Mapping[str, Any]) -> None:
    """Write the plan of a new run, or compare it with the plan of the run that exists.

    Args:
        folder: folder of the run.
        output: table of its answers.
        plan: settings that determine the answers, as JSON; the keys appear in error messages.

    Raises:
        ConfigError: the run has another plan.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        write_text(path, json.dumps(plan, indent=1))
        return
    earlier: Any = None
    with suppress(ValueError, RecursionError):
        earlier = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(earlier, dict):
        raise ConfigError(f"{path} is damaged; remove {folder} and {output}, and start again")
    added = {key: value for key, value in plan.items() if key in ADDED_KEYS}
    earlier = {**added, **earlier}  # runs of earlier releases do not have them
    for key in [*plan, *(earlier.keys() - plan.keys())]:
        if earlier.get(key) != plan.get(key):
            raise ConfigError(
                f"{output} was started with the {key} {earlier.get(key)}; now it is "
                f"{plan.get(key)}. Choose another output, or remove {folder.name} and "
                f"{output.name} to start again"
            )
