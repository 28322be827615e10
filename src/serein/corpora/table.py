"""A table of the user's own: CSV, TSV, JSON Lines or Parquet, with one row for each utterance.

    file,speaker,gender,emotion,arousal
    calls/0001.flac,03,f,anger,4.5
    calls/0002.flac,07,m,neutral,2.0

Column names are converted to lower case. The columns are:

- the recording: ``path``, ``file``, ``filename``, ``filepath``, ``audio``, ``wav`` or ``clip``;
  else the only column whose first row names an existing file. Relative paths start at the table's
  folder.
- ``id``; else the path as written, with start and end if the table has them.
- ``speaker``, ``session``, ``dialogue``, ``language``, ``text``; ``gender`` as f, female, woman,
  m, male or man; ``start`` and ``end`` in seconds, or as ``00:02.5`` or ``0 days 00:00:02.5``.
- other usual names of these, if a table has none of the above: ``file_id``, ``speaker_id``,
  ``sex``, ``transcript``, ``normalized_text`` and more (``ALIASES``). ``sentence`` is the text if
  it has words, and a label if it has codes such as a01.
- ``columns``, by which a user maps names of a table, come before all of these.
- any other column is a label of that name. It is numeric if every value is a number and at least
  one has a decimal point, or if it is called arousal, valence or dominance. Otherwise it is text:
  the class codes 1, 2, 3 are text, and so is speaker 03.

Several rows for one recording need a column ``rater``, ``annotator``, ``worker``, ``evaluator`` or
``listener``: they are the answers of several raters (see ``_reading.py``).

An empty cell is a missing value. Error messages count rows as a spreadsheet does, with the header
as row 1; JSON Lines has no header.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from itertools import islice
from operator import attrgetter
from os import scandir
from os.path import isfile, split
from pathlib import Path
from typing import Any, NamedTuple

from serein.audio.times import parse_duration
from serein.corpora._reading import RATER_COLUMNS, merge_raters
from serein.errors import CorpusError
from serein.records import ATTRIBUTES, CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="A table of your own: .csv, .tsv, .jsonl or .parquet",
    language="any",
    licence="yours",
    home="",
)
PATH_COLUMNS = (
    *("path", "file", "filename", "filepath", "audio", "wav", "clip"),
    *("file_path", "file_name", "audio_path", "audio_file", "wav_path", "wav_file"),
)
ALIASES = {
    "id": ("file_id", "utterance_id", "utt_id", "segment_id", "clip_id"),
    "speaker": ("speaker_id", "speakerid", "spk", "spk_id", "client_id", "actor_id"),
    "gender": ("sex",),
    "language": ("lang", "locale"),
    "text": ("transcript", "transcription", "normalized_text", "sentence"),
    "start": ("start_time", "start_seconds"),
    "end": ("end_time", "end_seconds"),
    "session": ("session_id",),
    "dialogue": ("dialogue_id", "dialog", "dialog_id"),
}
"""Other names of known columns, in the order in which they are looked for."""
MAX_EXAMPLES = 5
LISTING_THRESHOLD = 20
"""Number of recordings in a folder from which on the folder is listed instead of testing each."""
RESERVED_COLUMNS = {"id", "start", "end", *ATTRIBUTES} - {"corpus"}
MAPPABLE = ("path", *ALIASES, "sentence")
"""Columns to which a user may map columns of other names."""
DIMENSIONS = ("arousal", "valence", "dominance")
GENDERS = {
    **dict.fromkeys(("f", "female", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}
NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class Row(NamedTuple):
    """A row: its number in a spreadsheet, and its cells that are not empty."""

    number: int
    cells: dict[str, str]


def read(
    path: Path, *, partial: bool = False, columns: Mapping[str, str] | None = None
) -> list[Utterance]:
    """Read a table, in order of ids.

    Args:
        path: of the table.
        partial: leave out rows of missing files; `notes` lists them.
        columns: the table's column for each of ``MAPPABLE`` that has another name there.

    Raises:
        CorpusError: it cannot be read, a row is not as described in the head of this module, or the
            table has no such column.
    """
    return _build_utterances(path, *_read_table(path), partial=partial, mapping=columns)


_missing_files: dict[Path, tuple[int, list[str]]] = {}
"""For each table that was read with ``partial``: its rows, and the missing files."""


_unused_columns: dict[Path, list[str]] = {}
"""For each table, its columns in whose place other columns were read."""


def notes(path: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes on missing files of a table that was read with ``partial``, and its columns."""
    unused = _unused_columns.get(path, [])
    texts = [f"columns left out, as others were mapped to them: {', '.join(unused)}"] * bool(unused)
    total, missing = _missing_files.get(path, (0, []))
    if not missing:
        return texts
    more = f" and {len(missing) - MAX_EXAMPLES} more" if len(missing) > MAX_EXAMPLES else ""
    return [
        *texts,
        f"{len(missing)} of {total} rows left out, whose files do not exist: "
        f"{', '.join(missing[:MAX_EXAMPLES])}{more}",
    ]


def read_frame(frame: Any, columns: Mapping[str, str] | None = None) -> list[Utterance]:
    """Read a data frame with the columns of a table; relative paths start at the current folder.

    Args:
        frame: of pandas or Polars, or a table of PyArrow.
        columns: as for `read`.

    Raises:
        CorpusError: a row is not as described in the head of this module, or there is no such
            column.
    """
    place = Path("the data frame")
    read_columns, rows = _lower_names(place, *read_frame_rows(frame))
    return _build_utterances(place, read_columns, rows, mapping=columns)


def _build_utterances(
    path: Path,
    columns: list[str],
    rows: list[Row],
    *,
    partial: bool = False,
    mapping: Mapping[str, str] | None = None,
) -> list[Utterance]:
    if not rows:
        raise CorpusError(f"{path} has no rows; expected a row of names and one per utterance")
    _unused_columns.pop(path, None)
    if mapping:
        columns, rows = _map_columns(path, columns, rows, mapping)
    columns, rows = _rename_aliases(columns, rows)
    column = _find_path_column(path, columns, rows[0])
    _missing_files.pop(path, None)
    if partial:
        total = len(rows)
        rows, missing = _drop_missing(path, column, rows)
        _missing_files[path] = total, missing
    files = _resolve_files(path, column, rows)
    numeric = _find_numeric(set(columns) - {column, *RESERVED_COLUMNS}, rows)
    utterances = [
        _build_utterance(path, row, column, file, numeric)
        for row, file in zip(rows, files, strict=True)
    ]
    rater = next((name for name in RATER_COLUMNS if name in numeric), None)
    if rater is not None and len({one.id for one in utterances}) < len(utterances):
        numbers = [row.number for row in rows]
        utterances = merge_raters(path, rater, list(zip(numbers, utterances, strict=True)))
    else:
        _check_ids(path, rows, utterances)
    return sorted(utterances, key=attrgetter("id"))


def _map_columns(
    path: Path, columns: list[str], rows: list[Row], mapping: Mapping[str, str]
) -> tuple[list[str], list[Row]]:
    """Give columns the names that a user maps; a column that had the name is left out.

    Raises:
        CorpusError: a name is no known column, or the table has no such column.
    """
    unknown = [name for name in mapping if name not in MAPPABLE]
    if unknown:
        raise CorpusError(
            f"{', '.join(unknown)} cannot be mapped to a column of {path}; expected names among "
            f"{', '.join(MAPPABLE)}. A label keeps its name, and --set tasks.TASK.label=COLUMN "
            "selects it"
        )
    sources = {name: source.strip().lower() for name, source in mapping.items()}
    for name, source in sources.items():
        if source not in columns:
            similar = get_close_matches(source, columns, n=1)
            guess = f"did you mean {similar[0]}? " if similar else ""
            raise CorpusError(
                f"{path} has no column {source}, from which {name} is to be read; {guess}its "
                f"columns are {', '.join(columns)}"
            )
    used = {source for source in sources.values() if source not in (*PATH_COLUMNS, *MAPPABLE)}
    unused = [name for name in sources if name in columns and name not in sources.values()]
    if unused:
        _unused_columns[path] = unused
    kept = [name for name in columns if name not in used and name not in sources]
    mapped_rows = []
    for row in rows:
        cells = {name: cell for name, cell in row.cells.items() if name in kept}
        cells |= {n: row.cells[source] for n, source in sources.items() if source in row.cells}
        mapped_rows.append(Row(row.number, cells))
    return [*sources, *kept], mapped_rows


def _rename_aliases(columns: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Give columns their known names, where a table has none of that name."""
    new_names = {}
    for name, aliases in ALIASES.items():
        found = [alias for alias in aliases if alias in columns]
        if name in columns or not found:
            continue
        if found[0] == "sentence" and not _has_words(rows):
            continue
        new_names[found[0]] = name
    if not new_names:
        return columns, rows
    renamed = [
        Row(row.number, {new_names.get(key, key): cell for key, cell in row.cells.items()})
        for row in rows
    ]
    return [new_names.get(name, name) for name in columns], renamed


def _has_words(rows: list[Row]) -> bool:
    """Return whether the column ``sentence`` has sentences, and not their codes."""
    return any(" " in row.cells.get("sentence", "") for row in rows)


def _drop_missing(path: Path, column: str, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Leave out rows whose recording does not exist; return the rows and the missing files.

    Raises:
        CorpusError: no recording exists.
    """
    kept, missing = list[Row](), list[str]()
    for row in rows:
        name = row.cells.get(column)
        if name is None or isfile(path.parent / name):
            kept.append(row)
        else:
            missing.append(name)
    if not kept:
        raise CorpusError(
            f"{path}: none of {len(rows)} recordings exists, such as {path.parent / missing[0]}; "
            f"relative paths start at {path.parent.absolute()}{_hint_at_path(missing[0])}"
        )
    return kept, missing


def _read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Return the names of the columns in lower case, and the rows that are not empty."""
    return _lower_names(path, *read_rows(path))


def _lower_names(path: Path, columns: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    names = {name: name.lower() for name in columns}
    duplicates = sorted({name for name in names.values() if [*names.values()].count(name) > 1})
    if duplicates:
        raise CorpusError(f"{path} has several columns {', '.join(duplicates)}; rename all but one")
    lower = [Row(row.number, {names[key]: cell for key, cell in row.cells.items()}) for row in rows]
    return list(names.values()), lower


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Return the names of the columns of any table, and the rows that are not empty.

    Raises:
        CorpusError: the file cannot be read, or two columns have one name.
    """
    try:
        raw = path.read_bytes()
        kind = path.suffix.lower()
        if kind == ".parquet" or raw.startswith(b"PAR1"):
            header, records = _parse_parquet(raw)
        elif kind == ".jsonl" or raw.lstrip()[:1] == b"{":
            header, records = _parse_json_lines(raw.decode("utf-8-sig"))
        else:
            header, records = _parse_delimited(
                raw.decode("utf-8-sig"), "\t" if kind == ".tsv" else ""
            )
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise CorpusError(
            f"{path} cannot be read: {error}; expected a table in CSV, TSV, JSON Lines (all three "
            "in UTF-8) or Parquet"
        ) from error
    return _build_rows(path, header, records)


def read_frame_rows(frame: Any) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows of a data frame of pandas, Polars or PyArrow.

    Raises:
        CorpusError: two columns have one name.
    """
    if any(getattr(getattr(frame, "index", None), "names", ())):  # such as audformat's
        frame = frame.reset_index()
    if hasattr(frame, "to_pydict"):
        table = frame.to_pydict()
    elif hasattr(frame, "iter_rows"):
        table = frame.to_dict(as_series=False)
    else:
        table = {str(name): frame[name].tolist() for name in frame.columns}
    cells = zip(*([_to_text(value) for value in column] for column in table.values()), strict=True)
    return _build_rows("the data frame", list(table), list(enumerate(cells, 1)))


def is_frame(value: object) -> bool:
    """Return whether a value is a data frame of pandas or Polars, or a table of PyArrow."""
    is_table = hasattr(value, "columns") and hasattr(value, "shape")
    return is_table and any(map(partial(hasattr, value), ("to_dict", "to_pydict")))


def _build_rows(
    place: Path | str, header: Sequence[str], records: Sequence[tuple[int, Sequence[str]]]
) -> tuple[list[str], list[Row]]:
    columns = [str(name).strip() for name in header]
    duplicates = sorted({name for name in columns if name and columns.count(name) > 1})
    if duplicates:
        listing = ", ".join(duplicates)
        raise CorpusError(f"{place} has several columns {listing}; rename all but one")
    rows = [Row(number, _row_cells(columns, record)) for number, record in records]
    return [name for name in columns if name], [row for row in rows if row.cells]


def _row_cells(columns: list[str], record: Sequence[str]) -> dict[str, str]:
    pairs = zip(columns, record, strict=False)
    return {name: text for name, cell in pairs if name and (text := cell.strip())}


def _to_text(value: object) -> str:
    """Return a cell as text; a missing value is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # Parquet has NaN for a missing number
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


TableContent = tuple[list[str], list[tuple[int, Sequence[str]]]]
"""A header, and rows with their numbers."""


def _parse_delimited(text: str, delimiter: str) -> TableContent:
    """Parse CSV; without a delimiter, take Excel's ``sep=;``, or the most frequent of the header.

    A line ``sep=;`` is the first row of a spreadsheet.
    """
    first, _, rest = text.lstrip().partition("\n")
    has_separator = first.strip().lower()[:4] == "sep=" and len(first.strip()) == 5
    if has_separator:
        text, delimiter = rest, first.strip()[4]
    line = text.lstrip().partition("\n")[0]
    delimiter = delimiter or max(",;\t", key=line.count)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    header = lines[0] if lines else []
    for number, cells in enumerate(lines, 1 + has_separator):
        if any(cells[len(header) :]):
            raise ValueError(f"row {number} has {len(cells)} cells and the header {len(header)}")
    return header, list(enumerate(lines[1:], 2 + has_separator))


def _parse_json_lines(text: str) -> TableContent:
    objects: dict[int, dict[str, object]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                objects[number] = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON ({error})") from error
            if not isinstance(objects[number], dict):
                raise ValueError(f"line {number} is not an object such as {{...}}")
    header = list(dict.fromkeys(name for values in objects.values() for name in values))
    rows: list[tuple[int, Sequence[str]]] = [
        (number, [_to_text(values.get(name)) for name in header])
        for number, values in objects.items()
    ]
    return header, rows


def _parse_parquet(raw: bytes) -> TableContent:
    from pyarrow import BufferReader, parquet  # slow to import

    table = parquet.read_table(BufferReader(raw))
    columns = [list(map(_to_text, column.to_pylist())) for column in table.columns]
    return table.column_names, list(enumerate(zip(*columns, strict=True), 2))


def _find_path_column(path: Path, columns: list[str], first: Row) -> str:
    for name in PATH_COLUMNS:
        if name in columns:
            return name
    candidates = [name for name, text in first.cells.items() if isfile(path.parent / text)]
    if len(candidates) != 1:
        fault = "none names a file"
        if candidates:
            fault = f"several name files: {', '.join(candidates)}"
        raise CorpusError(
            f"{path} has the columns {', '.join(columns)}; {fault}. Call the one with the "
            f"recordings 'path', or name it (--corpus NAME=TABLE,path=COLUMN); paths start "
            f"at {path.parent}"
        )
    return candidates[0]


def _resolve_files(path: Path, column: str, rows: list[Row]) -> list[Path]:
    """Return the recording of each row."""
    for row in rows:
        if column not in row.cells:
            raise CorpusError(f"{path}, row {row.number}: {column} is empty; expected a recording")
    names, files = [row.cells[column] for row in rows], {}
    folders = _group_by_folder(names)
    for folder, bases in folders.items():
        parent = path.parent / folder
        files.update({name: parent / base for name, base in bases.items()})
    # Unlike Path.is_file, os.path.isfile does not raise for impossible names.
    unlisted = files.keys() - _existing_names(folders, path.parent)
    missing = {name for name in unlisted if not isfile(files[name])}
    faults = [index for index, name in enumerate(names) if name in missing] if missing else []
    if faults:
        first = faults[0]
        raise CorpusError(
            f"{path}, row {rows[first].number}: {files[names[first]]} does not exist "
            f"({len(faults)} of {len(rows)} rows name no existing file); relative paths start at "
            f"{path.parent.absolute()}{_hint_at_path(names[first])}. Rows of missing files are "
            "left out with --partial (in Python partial=True)"
        )
    return [files[name] for name in names]


def _hint_at_path(name: str) -> str:
    """Return advice on a path that is none of this system."""
    if name.lower().startswith("file:"):
        return ". Write paths without file://"
    if name.lower().startswith(("http://", "https://")):
        return ". Addresses are not read; download the files, and write their paths"
    if "\\" in name:
        return ". Write / in place of \\ in paths from Windows"
    return ""


def _group_by_folder(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return, for each folder, the base name of each of its recordings in the table."""
    folders: dict[str, dict[str, str]] = {}
    for name in names:
        folder, base = split(name)
        folders.setdefault(folder, {})[name] = base
    return folders


def _existing_names(folders: Mapping[str, Mapping[str, str]], root: Path) -> set[str]:
    """Return names that exist, by listing the folders that have many of them and little else."""
    existing: set[str] = set()
    for folder, bases in folders.items():
        if len(bases) < LISTING_THRESHOLD:
            continue
        names = {base: name for name, base in bases.items()}
        with suppress(OSError, ValueError), scandir(root / folder) as entries:
            existing.update(
                names[entry.name]
                for entry in islice(entries, 2 * len(bases))
                if entry.name in names and entry.is_file()
            )
    return existing


def _find_numeric(names: set[str], rows: list[Row]) -> dict[str, bool]:
    """Return for each label whether it is numeric."""
    numeric = {}
    for name in sorted(names):
        values = [row.cells[name] for row in rows if name in row.cells]
        is_decimal = name in DIMENSIONS or any("." in value for value in values)
        numeric[name] = is_decimal and all(NUMBER_PATTERN.fullmatch(value) for value in values)
    return numeric


def _build_utterance(
    path: Path, row: Row, column: str, file: Path, numeric: dict[str, bool]
) -> Utterance:
    """Build the utterance of a row; ``numeric`` has the names of all labels."""
    start, end = _parse_seconds(path, row, "start") or 0.0, _parse_seconds(path, row, "end")
    if end is not None and end <= start:
        raise CorpusError(f"{path}, row {row.number}: end {end} is not after start {start}")
    cells = row.cells
    return Utterance(
        id=cells.get("id") or _row_id(row, column),
        path=file,
        speaker=cells.get("speaker"),
        session=cells.get("session"),
        dialogue=cells.get("dialogue"),
        gender=_parse_gender(path, row),
        language=cells.get("language"),
        text=cells.get("text"),
        start=start,
        end=end,
        labels={
            name: float(cells[name]) if is_number else cells[name]
            for name, is_number in numeric.items()
            if name in cells
        },
    )


def _row_id(row: Row, column: str) -> str:
    start, end = row.cells.get("start", ""), row.cells.get("end", "")
    return row.cells[column] + (f":{start}-{end}" if start or end else "")


def _parse_seconds(path: Path, row: Row, name: str) -> float | None:
    text = row.cells.get(name)
    if text is None:
        return None
    seconds = float(text) if NUMBER_PATTERN.fullmatch(text) else parse_duration(text)
    if seconds is None and text == "NaT":
        return None
    if seconds is None or seconds < 0:
        raise CorpusError(
            f"{path}, row {row.number}: {name} is {text!r}; expected seconds (2.5), a time "
            "(00:02.5 or 0 days 00:00:02.5) or nothing"
        )
    return seconds


def _parse_gender(path: Path, row: Row) -> str | None:
    text = row.cells.get("gender")
    if text is not None and text.lower() not in GENDERS:
        raise CorpusError(
            f"{path}, row {row.number}: gender is {text!r}; expected one of {', '.join(GENDERS)}, "
            "or nothing"
        )
    return GENDERS[text.lower()] if text else None


def _check_ids(path: Path, rows: list[Row], utterances: list[Utterance]) -> None:
    seen: dict[str, int] = {}
    for row, utterance in zip(rows, utterances, strict=True):
        if utterance.id in seen:
            raise CorpusError(
                f"{path}: rows {seen[utterance.id]} and {row.number} are both {utterance.id!r}; "
                "give each row a unique id, or start and end if they are parts of a file"
            )
        seen[utterance.id] = row.number
