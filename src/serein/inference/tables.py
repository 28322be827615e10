"""Answers as rows of a table, and such a table as Parquet, CSV or JSON lines.

A row is a recording, or a part of one: ``file``, ``start``, ``end``; for each task its class, that
one's confidence, whether the answer was withheld, and the probability of every class, or its
value; and the model that said so. The columns are those of audformat's tables: pandas reads file,
start and end as the index.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serein.errors import UnknownName
from serein.inference.recognition import Recognition, Segment
from serein.utils.files import replace_atomically

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
