"""``results.json``, ``search.json``, ``sweep.json``: everything that a report shows, in one file.

Floats keep six significant digits. What is undefined is null.
"""

import gzip
import io
import json
import math
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from serein.config import MAX_DEPTH, is_shallow, rename_settings
from serein.errors import ConfigError
from serein.results.evaluation import Results
from serein.results.inference import Explanations, Transcriptions
from serein.results.studies import Comparison, Search, Sweep
from serein.utils.files import write_bytes, write_text

if TYPE_CHECKING:
    from pydantic import ValidationError

RecordT = TypeVar("RecordT", Results, Search, Sweep, Transcriptions)

FORMAT = 3
"""The layout that this version writes; it reads all that came before."""

RESULTS_FILE = "results.json"
SEARCH_FILE = "search.json"
SWEEP_FILE = "sweep.json"
GZIP_SUFFIX = ".gz"
MAX_BYTES = 2**28


def save_results(results: Results, path: Path) -> None:
    """Write results to a run folder, or to a ``.json`` or ``.json.gz`` file.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    text = to_json(results)
    file = resolve_results_file(path)
    if file.suffix == GZIP_SUFFIX:
        write_bytes(file, gzip.compress(text.encode(), mtime=0))
    else:
        write_text(file, text)


def load_results(path: Path) -> Results:
    """Read results from a run folder, or from a ``.json`` or ``.json.gz`` file.

    Raises:
        ConfigError: the file is missing, no results, or of another format.
    """
    file = resolve_results_file(path)
    table = _read_json(file)
    _restore_nan([table.get(name) for name in ("folds", "predictions", "held_out")])
    return _validate(Results, table, file)


RENAMED_FIELDS = {
    "calibration": {"tempered": "calibrated"},
    "contests": {"swapped": "permutation_unit"},
    "flatteries": {"words": "description"},
    "folds": {"chosen": "selected_c"},
    "held_out": {"heard": "transcripts"},
    "leakage": {"words": "description"},
    "points": {"trained": "training_utterances"},
    "predictions": {"heard": "transcripts"},
}
"""Fields of the records in formats 1 and 2, by the field that holds them, and present names."""
RENAMED_RECORDS = {
    "contests": "paired_tests",
    "flatteries": "optimistic_variants",
    "mistakes": "confident_errors",
}


def _rename_fields(table: dict[str, Any]) -> dict[str, Any]:
    """Give a record of formats 1 and 2 the names of format 3."""
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


def _rename_keys(value: Any, names: dict[str, str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {names.get(key, key): item for key, item in value.items()}


def save_search(search: Search, folder: Path) -> None:
    """Write a search to its folder.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    write_text(folder / SEARCH_FILE, to_json(search))


def load_search(folder: Path) -> Search:
    """Read a search from its folder.

    Raises:
        ConfigError: the file is missing, no search, or of another format.
    """
    file = folder / SEARCH_FILE
    return _validate(Search, _read_json(file), file)


def save_sweep(sweep: Sweep, folder: Path) -> None:
    """Write a sweep to its folder.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    write_text(folder / SWEEP_FILE, to_json(sweep))


def load_sweep(folder: Path) -> Sweep:
    """Read a sweep from its folder.

    Raises:
        ConfigError: the file is missing, no sweep, or of another format.
    """
    file = folder / SWEEP_FILE
    return _validate(Sweep, _read_json(file), file)


def save_transcriptions(transcriptions: Transcriptions, file: Path) -> None:
    """Write what a recogniser heard.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    write_text(file, to_json(transcriptions))


def load_transcriptions(file: Path) -> Transcriptions:
    """Read what `save_transcriptions` wrote.

    Raises:
        ConfigError: the file is missing, holds none, or is of another format.
    """
    return _validate(Transcriptions, _read_json(file), file)


def resolve_results_file(path: Path) -> Path:
    """The file itself, or the one in a run folder.

    >>> resolve_results_file(Path("runs/a")).as_posix()
    'runs/a/results.json'
    """
    return path if path.suffix in (".json", GZIP_SUFFIX) else path / RESULTS_FILE


def to_builtin(value: Any) -> Any:
    """Records as dictionaries, floats as six significant digits, what is not finite as None.

    >>> to_builtin({"wa": 2 / 3, "ua": float("nan"), "interval": (0.5, 1.0)})
    {'wa': 0.666667, 'ua': None, 'interval': [0.5, 1.0]}
    """
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if is_dataclass(value):
        return {field.name: to_builtin(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: to_builtin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtin(item) for item in value]
    return value


def to_json(record: Results | Search | Sweep | Comparison | Explanations | Transcriptions) -> str:
    """A record as JSON."""
    # A line for each field, so that the head of the file can be read without a program.
    lines = [f"{json.dumps(key)}: {_dump_json(value)}" for key, value in to_builtin(record).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _validate(record_type: type[RecordT], table: dict[str, Any], file: Path) -> RecordT:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(record_type).validate_json(json.dumps(table), strict=True)
    except ValidationError as error:
        name = record_type.__name__.lower()
        raise ConfigError(f"{file} holds no {name}: {_describe_first_error(error)}") from None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}; give a run folder or its {RESULTS_FILE}"
        ) from error
    try:
        table = json.loads(_decompress(content) if file.suffix == GZIP_SUFFIX else content)
    except (ValueError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    found = table.get("format") if isinstance(table, dict) else None
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        hint = "; upgrade serein" if isinstance(found, int) and found > FORMAT else ""
        raise ConfigError(f"{file} has format {found!r}; this serein reads 1 to {FORMAT}{hint}")
    if not is_shallow(table):
        raise ConfigError(f"{file} is nested more than {MAX_DEPTH} deep; no record is")
    return table if found == FORMAT else _rename_fields(table)


def _decompress(content: bytes) -> bytes:
    """A few bytes may unpack to more than there is memory."""
    with gzip.open(io.BytesIO(content)) as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes, the most that is read")
    return text


def _restore_nan(value: Any) -> None:
    """Turn null back to nan where a record knows no None: losses and probabilities."""
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
