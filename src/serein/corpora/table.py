"""A table of one's own: CSV, TSV, JSON Lines or Parquet, a row for each utterance.

    file,speaker,gender,emotion,arousal
    calls/0001.flac,03,f,anger,4.5
    calls/0002.flac,07,m,neutral,2.0

Names of columns are read in lower case. What they may be:

- the recording: ``path``, ``file``, ``filename``, ``filepath``, ``audio``, ``wav`` or ``clip``;
  else the only column in whose first row an existing file is named. Relative to the table's folder.
- ``id``; else the path as written, with start and end if the table has them.
- ``speaker``, ``session``, ``dialogue``, ``language``, ``text``; ``gender`` as f, female, woman,
  m, male or man; ``start`` and ``end`` in seconds.
- any other is a label of that name. It holds numbers if every value is one and at least one is
  written with a decimal point, or if it is called arousal, valence or dominance. Otherwise it
  holds words: the class codes 1, 2, 3 are words, and so is speaker 03.

An empty cell is an absent value. Errors count rows as a spreadsheet does, where the header is
row 1; JSON Lines has no header.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from os import scandir
from os.path import isfile, split
from pathlib import Path
from typing import NamedTuple

from serein.errors import CorpusError
from serein.records import ATTRIBUTES, CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="A table of your own: .csv, .tsv, .jsonl or .parquet",
    language="any",
    licence="yours",
    home="",
)
PATH_COLUMNS = ("path", "file", "filename", "filepath", "audio", "wav", "clip")
LISTING_THRESHOLD = 20
"""Recordings in one folder, from which on it is read as a whole and not asked for each of them."""
RESERVED_COLUMNS = {"id", "start", "end", *ATTRIBUTES} - {"corpus"}
DIMENSIONS = ("arousal", "valence", "dominance")
GENDERS = {
    **dict.fromkeys(("f", "female", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}
NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class Row(NamedTuple):
    """A row: its number in a spreadsheet, and those of its cells that are not empty."""

    number: int
    cells: dict[str, str]


def read(path: Path) -> list[Utterance]:
    """Read a table, in order of ids.

    Raises:
        CorpusError: it cannot be read, or a row is not as this module's head says.
    """
    columns, rows = _read_table(path)
    if not rows:
        raise CorpusError(f"{path} has no rows; expected a row of names and one per utterance")
    column = _find_path_column(path, columns, rows[0])
    files = _resolve_files(path, column, rows)
    numeric = _find_numeric(set(columns) - {column, *RESERVED_COLUMNS}, rows)
    utterances = [
        _build_utterance(path, row, column, file, numeric)
        for row, file in zip(rows, files, strict=True)
    ]
    _check_ids(path, rows, utterances)
    return sorted(utterances, key=attrgetter("id"))


def _read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Names of the columns, and the rows that are not empty."""
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
    columns = [name.strip().lower() for name in header]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise CorpusError(f"{path} has several columns {', '.join(twice)}; rename all but one")
    rows = [Row(number, _row_cells(columns, record)) for number, record in records]
    return [name for name in columns if name], [row for row in rows if row.cells]


def _row_cells(columns: list[str], record: Sequence[str]) -> dict[str, str]:
    pairs = zip(columns, record, strict=False)
    return {name: text for name, cell in pairs if name and (text := cell.strip())}


def _to_text(value: object) -> str:
    """A cell as a person would write it; what is not there is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # a missing number of Parquet is not a number
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


TableContent = tuple[list[str], list[tuple[int, Sequence[str]]]]
"""A header, and rows with their numbers."""


def _parse_delimited(text: str, delimiter: str) -> TableContent:
    """Without a given delimiter, take the one that the header has most of."""
    line = text.lstrip().partition("\n")[0]
    delimiter = delimiter or max(",;\t", key=line.count)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    header = lines[0] if lines else []
    for number, cells in enumerate(lines, 1):
        if any(cells[len(header) :]):
            raise ValueError(f"row {number} has {len(cells)} cells and the header {len(header)}")
    return header, list(enumerate(lines[1:], 2))


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
    likely = [name for name, text in first.cells.items() if isfile(path.parent / text)]
    if len(likely) != 1:
        found = f"several name files: {', '.join(likely)}" if likely else "none names a file"
        raise CorpusError(
            f"{path} has the columns {', '.join(columns)}; {found}. Call the one that holds the "
            f"recordings 'path'; relative paths start at {path.parent}"
        )
    return likely[0]


def _resolve_files(path: Path, column: str, rows: list[Row]) -> list[Path]:
    """The recording of each row."""
    for row in rows:
        if column not in row.cells:
            raise CorpusError(f"{path}, row {row.number}: {column} is empty; expected a recording")
    named, files = [row.cells[column] for row in rows], {}
    folders = _group_by_folder(named)
    for folder, names in folders.items():
        within = path.parent / folder
        files.update({name: within / base for name, base in names.items()})
    # Unlike Path.is_file, this isfile is calm about names that cannot be.
    asked = files.keys() - _existing_names(folders, path.parent)
    gone = {name for name in asked if not isfile(files[name])}
    missing = [number for number, name in enumerate(named) if name in gone] if gone else []
    if missing:
        first = missing[0]
        raise CorpusError(
            f"{path}, row {rows[first].number}: {files[named[first]]} does not exist "
            f"({len(missing)} of {len(rows)} rows name no file); relative paths start at "
            f"{path.parent}"
        )
    return [files[name] for name in named]


def _group_by_folder(named: Sequence[str]) -> dict[str, dict[str, str]]:
    """Of each folder, its recordings: as the table writes them, and as a listing does."""
    found: dict[str, dict[str, str]] = {}
    for name in named:
        folder, base = split(name)
        found.setdefault(folder, {})[name] = base
    return found


def _existing_names(folders: Mapping[str, Mapping[str, str]], root: Path) -> set[str]:
    """Names that are seen at once where a folder holds many of them, and little else."""
    found: set[str] = set()
    for folder, names in folders.items():
        if len(names) < LISTING_THRESHOLD:
            continue
        written = {base: name for name, base in names.items()}
        with suppress(OSError, ValueError), scandir(root / folder) as entries:
            some = islice(entries, 2 * len(names))
            found.update(written[one.name] for one in some if one.name in written and one.is_file())
    return found


def _find_numeric(names: set[str], rows: list[Row]) -> dict[str, bool]:
    """Of each label, whether it holds numbers."""
    found = {}
    for name in sorted(names):
        words = [row.cells[name] for row in rows if name in row.cells]
        pointed = name in DIMENSIONS or any("." in word for word in words)
        found[name] = pointed and all(NUMBER_PATTERN.fullmatch(word) for word in words)
    return found


def _build_utterance(
    path: Path, row: Row, column: str, file: Path, numeric: dict[str, bool]
) -> Utterance:
    """One row; ``numeric`` names the labels."""
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
            name: float(cells[name]) if number else cells[name]
            for name, number in numeric.items()
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
    if not NUMBER_PATTERN.fullmatch(text) or float(text) < 0:
        raise CorpusError(
            f"{path}, row {row.number}: {name} is {text!r}; expected seconds (2.5) or nothing"
        )
    return float(text)


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
                "give each row an id of its own, or start and end if they are parts of a file"
            )
        seen[utterance.id] = row.number
