"""Write result records as JSON and read them back.

Scores and predictions are written with all digits, transcripts, plans and explanations with six,
and undefined values as null. The scores of results are recomputed when they are loaded.
"""

import gc
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from serein.config import MAX_DEPTH, is_shallow, rename_settings
from serein.errors import ConfigError
from serein.records import Protocol
from serein.results.evaluation import Results
from serein.results.inference import Explanations, Transcriptions
from serein.results.intervals import recompute_intervals
from serein.results.plan import PlannedRun
from serein.results.reproduction import Reproduction
from serein.results.studies import Comparison, Search, Sweep
from serein.results.verification import find_fault
from serein.utils.files import write_bytes, write_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

RecordT = TypeVar("RecordT", Results, Search, Sweep, Transcriptions, PlannedRun, Reproduction)
Record = Results | Search | Sweep | Transcriptions | PlannedRun | Reproduction

FORMAT = 4
"""Version of the layout that is written; all earlier ones are read."""
RESULTS_FILE = "results.json"
SEARCH_FILE = "search.json"
SWEEP_FILE = "sweep.json"
REPRODUCTION_FILE = "reproduction.json"
FILE_NAMES: Mapping[type, str] = {
    Results: RESULTS_FILE,
    Search: SEARCH_FILE,
    Sweep: SWEEP_FILE,
    Reproduction: REPRODUCTION_FILE,
}
"""Name of the file in a run folder, by type of the record."""
GZIP_SUFFIX = ".gz"
MAX_BYTES = 2**28
"""Largest size of an unpacked ``.json.gz`` file, in bytes."""
ROUNDED_DIGITS = 6
"""Significant digits of records that hold no scores, and of all records before format 4."""
ROUNDED_RECORDS = (Transcriptions, PlannedRun, Explanations)
FORMAT_PATTERN = re.compile(rb'\s*\{\s*"format":\s*(\d+)\s*,')
"""The beginning of a file that was written by `save_record`."""
OPEN_FIELDS = ("recipe", "corpus", "protocol", "environment")
"""Fields of records that hold tables of any depth."""


def save_record(record: Record, path: Path) -> None:
    """Write a record to a run folder, or to a ``.json`` or ``.json.gz`` file.

    Raises:
        StorageError: the file could not be written; an earlier file is unchanged.
    """
    text = to_json(record)
    file = _resolve_file(type(record), path)
    if file.suffix == GZIP_SUFFIX:
        write_bytes(file, gzip.compress(text.encode(), mtime=0))
    else:
        write_text(file, text)


def load_record(record_type: type[RecordT], path: Path) -> RecordT:
    """Read a record from a run folder, or from a ``.json`` or ``.json.gz`` file.

    Older formats are converted. Scores are not recomputed; see `load_results`.

    Raises:
        ConfigError: the file is missing, holds another record, or has an unknown format.
    """
    from pydantic import TypeAdapter, ValidationError

    file = _resolve_file(record_type, path)
    adapter = TypeAdapter(record_type)
    with _pause_gc():
        content = _read_content(file)
        record = _parse_at_once(adapter, content)
        if record is not None:
            return record
        table = _parse_table(file, content)
        _restore_nan([table.get(name) for name in ("folds", "predictions", "held_out")])
        try:
            return adapter.validate_json(json.dumps(table), strict=True)
        except ValidationError as error:
            name = record_type.__name__.lower()
            raise ConfigError(f"{file} holds no {name}: {_describe_first_error(error)}") from None


@contextmanager
def _pause_gc() -> Iterator[None]:
    """Pause garbage collection, which would traverse all records read so far many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse_at_once(adapter: "TypeAdapter[RecordT]", content: bytes) -> RecordT | None:
    """Parse a record of the present format without a table in between, in a third of the time.

    Returns:
        None for other formats, for undefined predictions, and for content with a fault.
    """
    from pydantic import ValidationError

    beginning = FORMAT_PATTERN.match(content)
    if beginning is None or beginning[1] != str(FORMAT).encode():
        return None
    try:
        record = adapter.validate_json(content, strict=True)
    except ValidationError:
        return None
    tables = [getattr(record, name, None) for name in OPEN_FIELDS]
    return record if is_shallow([table for table in tables if isinstance(table, dict)]) else None


def load_results(path: Path) -> Results:
    """Read results from a run folder, or from a ``.json`` or ``.json.gz`` file.

    Older formats are converted. The scores are recomputed from the predictions, and so are their
    intervals, by the method that their description names.

    Raises:
        ConfigError: the file is missing, holds another record, has an unknown format, or has
            scores that do not follow from its predictions.
    """
    results = load_record(Results, path)
    with _pause_gc():
        fault = find_fault(results)
    if fault:
        raise ConfigError(
            f"{_resolve_file(Results, path)} was changed after it was written: {fault}. Restore "
            f"the file, or run its command again: {results.command}"
        )
    return recompute_intervals(results)


def resolve_results_file(path: Path) -> Path:
    """Return the path of a results file, or of the one in a run folder.

    >>> resolve_results_file(Path("runs/a")).as_posix()
    'runs/a/results.json'
    """
    return _resolve_file(Results, path)


def _resolve_file(record_type: type, path: Path) -> Path:
    if record_type not in FILE_NAMES or path.suffix in (".json", GZIP_SUFFIX):
        return path
    return path / FILE_NAMES[record_type]


def to_builtin(value: Any, digits: int | None = None) -> Any:
    """Convert records to dictionaries, and floats that are not finite to None.

    Args:
        value: a record, or any part of one.
        digits: significant digits of floats; None keeps all.

    >>> to_builtin({"wa": 2 / 3, "ua": float("nan"), "interval": (0.5, 1.0)})
    {'wa': 0.6666666666666666, 'ua': None, 'interval': [0.5, 1.0]}
    >>> to_builtin(2 / 3, digits=6)
    0.666667
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else float(f"{value:.{digits}g}")
    if is_dataclass(value):
        return {
            field.name: to_builtin(getattr(value, field.name), digits) for field in fields(value)
        }
    if isinstance(value, dict):
        return {key: to_builtin(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        is_plain = digits is None and all(type(item) is float for item in value)
        if is_plain and all(map(math.isfinite, value)):
            return list(value)
        return [to_builtin(item, digits) for item in value]
    return value


def to_json(record: Record | Comparison | Explanations) -> str:
    """Format a record as JSON."""
    digits = ROUNDED_DIGITS if isinstance(record, ROUNDED_RECORDS) else None
    # One line per field, so that the beginning of the file is readable in a text editor.
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in to_builtin(record, digits).items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _read_content(file: Path) -> bytes:
    """Read a file, decompressed if it is compressed."""
    try:
        content = file.read_bytes()
        return _decompress(content) if file.suffix == GZIP_SUFFIX else content
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}; give a run folder or its {RESULTS_FILE}"
        ) from error


def _parse_table(file: Path, content: bytes) -> dict[str, Any]:
    """Parse a record of any format as a table of the present one."""
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    version = table.get("format") if isinstance(table, dict) else None
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        hint = "; upgrade serein" if isinstance(version, int) and version > FORMAT else ""
        raise ConfigError(f"{file} has format {version!r}; this serein reads 1 to {FORMAT}{hint}")
    if not is_shallow(table):
        raise ConfigError(f"{file} is nested more than {MAX_DEPTH} deep, the limit of records")
    if version < 3:
        table = _rename_fields(table)
    if version < FORMAT:
        table = {**table, "format": FORMAT, **_convert_protocol_hash(table)}
    return table


def _convert_protocol_hash(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the protocol with the hash of its subsets, which earlier formats had not.

    A protocol whose hash is not that of its folds stays as it is.
    """
    protocol = table.get("protocol")
    if not isinstance(protocol, dict) or not isinstance(protocol.get("folds"), list):
        return {}
    try:
        split = Protocol.from_table(protocol)
    except (KeyError, TypeError, ValueError):
        return {}
    is_own = split.folds and protocol.get("hash") == split.listing_hash
    return {"protocol": {**protocol, "hash": split.hash}} if is_own else {}


RENAMED_FIELDS: Mapping[str, Mapping[str, str]] = {
    "calibration": {"tempered": "calibrated"},
    "contests": {"swapped": "permutation_unit"},
    "flatteries": {"words": "description"},
    "folds": {"chosen": "selected_c"},
    "held_out": {"heard": "transcripts"},
    "leakage": {"words": "description"},
    "points": {"trained": "training_utterances"},
    "predictions": {"heard": "transcripts"},
}
"""Fields of nested records in formats 1 and 2, by the field that holds them: old to new name."""
RENAMED_RECORDS: Mapping[str, str] = {
    "contests": "paired_tests",
    "flatteries": "optimistic_variants",
    "mistakes": "confident_errors",
}
"""Fields of a record in formats 1 and 2: old to new name."""


def _rename_fields(table: dict[str, Any]) -> dict[str, Any]:
    """Give a record of format 1 or 2 the names of format 3."""
    renamed = {}
    for name, value in table.items():
        names = RENAMED_FIELDS.get(name)
        if names and isinstance(value, list):
            value = [_rename_keys(item, names) for item in value]
        elif names and isinstance(value, dict):
            value = {key: _rename_keys(item, names) for key, item in value.items()}
        renamed[RENAMED_RECORDS.get(name, name)] = value
    if isinstance(renamed.get("recipe"), dict):
        renamed["recipe"] = rename_settings(renamed["recipe"], warn=False)
    return renamed


def _rename_keys(value: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {names.get(key, key): item for key, item in value.items()}


def _decompress(content: bytes) -> bytes:
    """Decompress at most `MAX_BYTES`: a small file may unpack to more than the memory."""
    with gzip.open(io.BytesIO(content)) as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes, the most that is read")
    return text


def _restore_nan(value: Any) -> None:
    """Turn null back into nan in fields that are never None: losses and probabilities."""
    if isinstance(value, dict):
        if "loss" in value and value["loss"] is None:
            value["loss"] = math.nan
        for item in value.values():
            _restore_nan(item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if item is None:
                value[index] = math.nan
            _restore_nan(item)


def _describe_first_error(error: "ValidationError") -> str:
    first, *others = error.errors()
    more = f" ({len(others)} more)" if others else ""
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}{more}"
