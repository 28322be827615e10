"""Databases in the audformat format: a header, tables, and media files.

    root/
        db.yaml             the header: schemes, splits, tables
        db.files.csv        a table of files: file,speaker,transcription
        db.emotion.parquet  a table of segments: file,start,end,emotion
        db.speaker.csv      a miscellaneous table: speaker,gender,age
        wav/03a01Fa.wav

    wav/03a01Fa.wav,0 days 00:00:00.5,0 days 00:00:01.898250,happiness

The rows of all tables are joined by file, start and end. Values of a whole file also apply to its
segments, and a file with segments is not an utterance itself.

- Columns or schemes called speaker, gender (or sex), language, session, dialogue, text or
  transcription become attributes of the utterance. Any other column becomes a label: a number if
  its scheme is float or time (in seconds), or int without a list of labels; else a string.
- If two tables disagree in a column, its labels are called ``table.column``.
- If a scheme describes its labels (a speaker's gender and age), in the header or in a
  miscellaneous table, the utterance gets these values too.
- The cache of ``audb`` is read, too: ``root`` may be ``CACHE/NAME``, ``CACHE/NAME/VERSION`` or its
  folder of a flavour, ``CACHE/NAME/VERSION/FLAVOUR``. The newest version is taken. Media that audb
  converted have another suffix than the tables say. Tables and media that were not requested are
  missing there: ``partial`` leaves them out.
- ``split`` is the type of the split that the table belongs to: train, dev or test.
- The codes of common languages are converted to ISO 639-1.

Specification: https://audeering.github.io/audformat/
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

from serein.corpora._reading import describe_missing
from serein.errors import CorpusError
from serein.records import CorpusInfo, Label, Utterance

ABOUT = CorpusInfo(
    title="A database in audformat: a folder with db.yaml",
    language="any",
    licence="as its header says",
    home="https://audeering.github.io/audformat/",
)
HEADER = "db.yaml"
ATTRIBUTE_COLUMNS = {
    "speaker": ("speaker",),
    "gender": ("gender", "sex"),
    "language": ("language",),
    "session": ("session",),
    "dialogue": ("dialogue",),
    "text": ("transcription", "text"),
}
"""Columns or schemes of each attribute of an utterance; the first one that exists is used."""
ATTRIBUTE_COLUMN_NAMES = {name for names in ATTRIBUTE_COLUMNS.values() for name in names}
GENDERS = {
    **dict.fromkeys(("f", "female", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}
LANGUAGES = {
    **{"ara": "ar", "ben": "bn", "cat": "ca", "ces": "cs", "cmn": "zh", "dan": "da", "deu": "de"},
    **{"ell": "el", "eng": "en", "est": "et", "eus": "eu", "fas": "fa", "fin": "fi", "fra": "fr"},
    **{"heb": "he", "hin": "hi", "hun": "hu", "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko"},
    **{"nld": "nl", "nor": "no", "pol": "pl", "por": "pt", "ron": "ro", "rus": "ru", "spa": "es"},
    **{"swe": "sv", "tam": "ta", "tha": "th", "tur": "tr", "ukr": "uk", "urd": "ur", "vie": "vi"},
    "zho": "zh",
}
TIME_PATTERN = re.compile(r"(\d+) days?(?: (\d+):(\d\d):(\d\d(?:\.\d+)?))?")

SegmentKey = tuple[str, float, float | None]
"""A segment: file, start and end in seconds; (file, 0, None) is a whole file."""


@dataclass(frozen=True)
class Table:
    """A table of files or segments.

    Attributes:
        name: its name in the header.
        split: type of its split; empty without a split.
        rows: the cells that are not empty, by segment and column.
        schemes: scheme of each column; empty without a scheme.
    """

    name: str
    split: str
    rows: dict[SegmentKey, dict[str, str]]
    schemes: dict[str, str]


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance of the tables, in order of ids.

    Args:
        root: the folder of the database, or of audb's cache with one.
        partial: leave out tables and media that are missing.

    Raises:
        CorpusError: the header or a table cannot be read, tables contradict each other, or a
            table or a media file is missing.
    """
    root = find_database(root)
    header = _read_header(root / HEADER)
    try:
        return _build_utterances(root, header, partial)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorpusError(
            f"{root / HEADER} does not have the structure of audformat ({type(error).__name__}: "
            f"{error}); correct it, or save the database again with audformat"
        ) from error


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes of tables and of segments that are left out."""
    root = find_database(root)
    header = _read_header(root / HEADER)
    names = list(_get_mapping(root, header, "tables"))
    missing = [name for name in names if not _has_table(root, name)]
    present = [_read_table(root, header, name) for name in names if name not in missing]
    left_out = len(_segment_keys(present)) - len(utterances)
    notes = [f"tables without a file: {', '.join(missing)}"] if missing else []
    return [*notes, *([f"segments without media: {left_out}"] if left_out else [])]


def find_database(root: Path) -> Path:
    """Return the folder of a database, also in the cache of audb: of its newest version.

    Raises:
        CorpusError: a version has several flavours.
    """
    if (root / HEADER).exists():
        return root
    found = [file.parent for depth in ("*", "*/*") for file in root.glob(f"{depth}/{HEADER}")]
    if not found:
        return root
    newest = max({folder.parent for folder in found}, key=lambda folder: _version_key(folder.name))
    flavours = sorted(folder for folder in found if folder.parent == newest)
    if len(flavours) > 1:
        listing = ", ".join(folder.name for folder in flavours)
        raise CorpusError(f"{newest} has several flavours: {listing}; give the folder of one")
    return flavours[0]


def _version_key(version: str) -> list[tuple[int, str]]:
    """Return a key that sorts 1.10.0 after 1.9.0."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in version.split(".")]


def _has_table(root: Path, name: str) -> bool:
    return any((root / f"db.{name}{suffix}").exists() for suffix in (".parquet", ".csv"))


def _build_utterances(root: Path, header: Mapping[str, Any], partial: bool) -> list[Utterance]:
    schemes = {name: scheme or {} for name, scheme in _get_mapping(root, header, "schemes").items()}
    meanings = {name: _label_meanings(root, header, scheme) for name, scheme in schemes.items()}
    names = [
        name
        for name in _get_mapping(root, header, "tables")
        if not partial or _has_table(root, name)
    ]
    tables = [_read_table(root, header, name) for name in names]
    keys = _segment_keys(tables)
    files = _find_media(root, header, {key[0] for key in keys})
    if not partial:
        _check_files(root, {key[0] for key in keys} - files.keys(), len(files))
    languages = [str(language) for language in header.get("languages") or ()]
    defaults: dict[str, Label] = {"language": languages[0]} if len(languages) == 1 else {}
    conflicting = _conflicting_columns(tables)
    return [
        _build_utterance(
            files[key[0]],
            key,
            defaults
            | _collect_values(_whole_file(key), tables, conflicting, schemes, meanings)
            | _collect_values(key, tables, conflicting, schemes, meanings),
        )
        for key in keys
        if key[0] in files
    ]


def _read_header(file: Path) -> dict[str, Any]:
    import yaml  # slow to import

    try:
        header = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{file.parent} has no {HEADER}; expected a database in audformat there, with its "
            "header and tables in one folder"
        ) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CorpusError(f"{file} cannot be read: {error}; expected YAML in UTF-8") from error
    if not isinstance(header, dict) or not header.get("tables"):
        raise CorpusError(f"{file} has no tables; expected the header of a database in audformat")
    return header


def _get_mapping(root: Path, header: Mapping[str, Any], part: str) -> dict[str, Any]:
    mapping = header.get(part) or {}
    if not isinstance(mapping, dict):
        raise CorpusError(f"{root / HEADER}: {part} is {mapping!r:.60}; expected names and values")
    return mapping


def _read_table(root: Path, header: Mapping[str, Any], name: str) -> Table:
    about = _get_mapping(root, header["tables"], name)
    columns = {
        str(column): settings or {}
        for column, settings in _get_mapping(root, about, "columns").items()
    }
    file, rows = _read_rows(root, name)
    indexed: dict[SegmentKey, dict[str, str]] = {}
    for number, row in enumerate(rows, 2):
        key = _parse_key(file, number, row)
        if key in indexed:
            raise CorpusError(
                f"{file}, row {number}: {_format_id(key)} is a duplicate; keep one of them"
            )
        indexed[key] = {column: row[column] for column in columns if row.get(column)}
    split = about.get("split_id")
    kind = (_get_mapping(root, header, "splits").get(str(split)) or {}).get("type", split)
    column_schemes = {column: settings.get("scheme_id", "") for column, settings in columns.items()}
    return Table(name, str(kind or ""), indexed, column_schemes)


def _read_rows(root: Path, name: str) -> tuple[Path, list[dict[str, str]]]:
    """Return the file of a table, and its rows as strings."""
    for suffix, reader in ((".parquet", _read_parquet), (".csv", _read_csv)):
        file = root / f"db.{name}{suffix}"
        if file.exists():
            try:
                return file, reader(file)
            except (OSError, ValueError, csv.Error) as error:
                raise CorpusError(f"{file} cannot be read: {error}; restore it") from error
    pickled = (root / f"db.{name}.pkl").exists()
    advice = "it is pickled: save it again as CSV or Parquet" if pickled else "restore the table"
    raise CorpusError(f"{root / HEADER} has the table {name}, but {file} is missing; {advice}")


def _read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, strict=True)
        return [{k: "" if v == "NaT" else v or "" for k, v in row.items() if k} for row in rows]


def _read_parquet(file: Path) -> list[dict[str, str]]:
    import pyarrow as arrow  # slow to import
    from pyarrow import parquet

    table = parquet.read_table(file)
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if arrow.types.is_duration(column.type):  # Python has no type for nanoseconds
            counts = column.cast(arrow.duration("ns")).cast(arrow.int64()).to_pylist()
            columns[name] = [None if count is None else count / 1e9 for count in counts]
        else:
            columns[name] = column.to_pylist()
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, map(_to_text, row), strict=True)) for row in rows]


def _to_text(value: object) -> str:
    """Return a cell as CSV has it; a missing value is empty."""
    return "" if value is None or value != value else str(value)


def _parse_key(file: Path, number: int, row: Mapping[str, str]) -> SegmentKey:
    try:
        times = [_parse_seconds(row[name]) if row.get(name) else None for name in ("start", "end")]
    except ValueError as error:
        raise CorpusError(f"{file}, row {number}: {error}") from error
    if not row.get("file"):
        raise CorpusError(f"{file}, row {number}: file is empty; expected the path of a recording")
    start, end = times[0] or 0.0, times[1]
    if end is not None and end <= start:
        raise CorpusError(f"{file}, row {number}: end {end} is not after start {start}; correct it")
    return row["file"], start, end


def _parse_seconds(text: str) -> float:
    """Parse a time such as "0 days 00:00:01.5" or "1.5" to seconds."""
    if match := TIME_PATTERN.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return round(((days * 24 + hours) * 60 + minutes) * 60 + seconds, 9)
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time such as '0 days 00:00:01.5'") from error


def _label_meanings(
    root: Path, header: Mapping[str, Any], scheme: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the meaning of each label of a scheme: a text, or names and values."""
    labels = scheme.get("labels")
    if isinstance(labels, str):
        if labels not in _get_mapping(root, header, "misc_tables"):
            raise CorpusError(
                f"{root / HEADER}: labels refer to the table {labels}, which is not in misc_tables"
            )
        return _read_misc_table(root, header, labels)
    if isinstance(labels, dict):
        return {str(label): meaning for label, meaning in labels.items()}
    return {}


def _read_misc_table(
    root: Path, header: Mapping[str, Any], name: str
) -> dict[str, dict[str, Label]]:
    """Return the values that a miscellaneous table has for each label in its index column."""
    about, schemes = header["misc_tables"][name], _get_mapping(root, header, "schemes")
    file, rows = _read_rows(root, name)
    index = _index_column(about, file, rows)
    column_schemes = {
        column: (settings or {}).get("scheme_id")
        for column, settings in (about["columns"] or {}).items()
    }
    return {
        row[index]: {
            column: _parse_value(f"{file}: {column}", row[column], schemes.get(str(scheme)) or {})
            for column, scheme in column_schemes.items()
            if row.get(column)
        }
        for row in rows
    }


def _index_column(about: Mapping[str, Any], file: Path, rows: Sequence[Mapping[str, str]]) -> str:
    """Return the column of a miscellaneous table that identifies its rows."""
    levels = [str(level) for level in about.get("levels") or ()]
    if len(levels) != 1 or (rows and levels[0] not in rows[0]):
        raise CorpusError(
            f"{file}: its levels are {levels}; expected exactly one, which is a column"
        )
    return levels[0]


def _segment_keys(tables: Sequence[Table]) -> list[SegmentKey]:
    """Return every segment, and every file without segments, in order of ids."""
    keys = {key for table in tables for key in table.rows}
    segmented = {key[0] for key in keys if key != _whole_file(key)}
    return sorted(
        (key for key in keys if key != _whole_file(key) or key[0] not in segmented), key=_format_id
    )


def _whole_file(key: SegmentKey) -> SegmentKey:
    return key[0], 0.0, None


def _format_id(key: SegmentKey) -> str:
    file, start, end = key
    if key == _whole_file(key):
        return file
    return f"{file}:{start:.12g}-{'' if end is None else f'{end:.12g}'}"


def _conflicting_columns(tables: Sequence[Table]) -> set[str]:
    """Return the columns for which two tables have different values."""
    seen: dict[tuple[SegmentKey, str], str] = {}
    return {
        column
        for table in tables
        for key, row in table.rows.items()
        for column, text in row.items()
        if seen.setdefault((key, column), text) != text
    }


def _collect_values(
    key: SegmentKey,
    tables: Sequence[Table],
    conflicting: set[str],
    schemes: Mapping[str, Mapping[str, Any]],
    meanings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Label]:
    """Return the values of a segment: of its own rows, else those that its labels imply."""
    values: dict[str, Label] = {}
    implied: dict[str, Label] = {}
    for table, column, text in _iter_cells(tables, key):
        scheme = table.schemes.get(column, "")
        meaning = meanings.get(scheme, {}).get(text)
        attribute = next(
            (name for name in (column, scheme) if name in ATTRIBUTE_COLUMN_NAMES), None
        )
        is_ambiguous = column in conflicting and not attribute
        name = f"{table.name}.{column}" if is_ambiguous else attribute or column
        value = _parse_value(f"{_format_id(key)}: {name}", text, schemes.get(scheme, {}))
        if attribute:
            is_text = attribute in ATTRIBUTE_COLUMNS["text"]
            value = meaning if is_text and isinstance(meaning, str) else text
        if values.setdefault(name, value) != value:
            raise CorpusError(
                f"{_format_id(key)}: {name} is {values[name]!r} and {value!r}; correct one"
            )
        if isinstance(meaning, Mapping):
            implied |= {str(k): _to_label(v) for k, v in meaning.items() if v is not None}
    return implied | values


def _iter_cells(tables: Sequence[Table], key: SegmentKey) -> Iterator[tuple[Table, str, str]]:
    """Yield table, column and text of each value of a segment, and the split of its tables."""
    for table in tables:
        if key in table.rows:
            for column, text in table.rows[key].items():
                yield table, column, text
            if table.split:
                yield table, "split", table.split


def _parse_value(where: str, text: str, scheme: Mapping[str, Any]) -> Label:
    """Convert a cell to a number or a string, by its scheme."""
    kind = scheme.get("dtype")
    try:
        if kind == "time":
            return _parse_seconds(text)
        if kind == "float" or (kind == "int" and not scheme.get("labels")):
            return float(text)
    except ValueError as error:
        raise CorpusError(
            f"{where} is {text!r}; expected {kind}, the type of its scheme. Correct either"
        ) from error
    return text.lower() if kind == "bool" else text


def _to_label(value: object) -> Label:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(str(value)) if number else str(value)


def _build_utterance(path: Path, key: SegmentKey, values: Mapping[str, Label]) -> Utterance:
    attributes = {
        attribute: next((str(values[name]) for name in names if name in values), None)
        for attribute, names in ATTRIBUTE_COLUMNS.items()
    }
    attributes["gender"] = GENDERS.get((attributes["gender"] or "").lower())
    language = attributes["language"]
    attributes["language"] = LANGUAGES.get(language or "", language)
    _, start, end = key
    return Utterance(
        id=_format_id(key),
        path=path,
        start=start,
        end=end,
        labels={
            name: value for name, value in values.items() if name not in ATTRIBUTE_COLUMN_NAMES
        },
        **attributes,
    )


def _find_media(root: Path, header: Mapping[str, Any], files: set[str]) -> dict[str, Path]:
    """Return the media file of each name that exists, with the suffix of audb's flavour."""
    about = (header.get("meta") or {}).get("audb") or header.get("audb")
    flavour = about.get("flavor") if isinstance(about, dict) else None
    suffix = flavour.get("format") if isinstance(flavour, dict) else None
    found = {file: root / file for file in files if isfile(root / file)}
    if isinstance(suffix, str):
        for file in files - found.keys():
            converted = (root / file).with_suffix(f".{suffix}")
            if isfile(converted):
                found[file] = converted
    return found


def _check_files(root: Path, missing: set[str], found: int) -> None:
    if missing:
        fault = describe_missing(
            [root / file for file in sorted(missing)],
            found + len(missing),
            "files that the tables name",
        )
        raise CorpusError(
            f"{fault}; get the media of this database, correct the tables, or read what is there "
            "with --partial"
        )
