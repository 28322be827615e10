"""A data set of the Hugging Face hub on disk: Parquet, or Arrow files of ``save_to_disk``.

    root/
        data/train-00000-of-00002.parquet     as `hf download --repo-type dataset` leaves it
        data/test-00000-of-00001.parquet
        train/data-00000-of-00001.arrow       or as save_to_disk writes it

    audio                              speaker_id    label
    {"bytes": b"RIFF...", "path": "03a01Fa.wav"}     03    0  (ClassLabel: anger)

The column with an Audio feature, or else with ``bytes`` and ``path``, is the recording. Recordings
inside the files are unpacked once, to ``recordings/`` in serein's cache; paths start at the data
set's folder. Names of files or of their folders give the label ``part``: train, dev or test.

- Columns called speaker, gender, language, text, session, dialogue or id, or like one of their
  aliases (``COLUMNS``), become attributes. Other columns become labels: a ClassLabel by its names,
  decimal numbers as numbers, other scalars as text. Lists and tables are left out.
- The id is the part and the file name, or else the number of the row: ``train/000012``.

pyarrow reads the files; the package ``datasets`` is not needed.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serein.errors import CorpusError
from serein.records import CorpusInfo, Label, Utterance
from serein.utils.files import cache_folder, write_bytes

if TYPE_CHECKING:
    import pyarrow

ABOUT = CorpusInfo(
    title="A data set of the Hugging Face hub: a folder with Parquet or Arrow files",
    language="any",
    licence="as its card says",
    home="https://huggingface.co/datasets",
)
COLUMNS = {
    "speaker": ("speaker", "speaker_id", "spk_id", "client_id"),
    "gender": ("gender", "sex"),
    "language": ("language", "lang", "locale"),
    "text": ("text", "transcription", "transcript", "sentence", "normalized_text"),
    "session": ("session", "session_id"),
    "dialogue": ("dialogue", "dialogue_id"),
    "id": ("id", "file_id", "utterance_id"),
}
"""Columns of each attribute of an utterance; the first one that exists is used."""
PARTS = {"train": "train", "validation": "dev", "valid": "dev", "val": "dev", "dev": "dev"}
PARTS["test"] = "test"
GENDERS = {
    **dict.fromkeys(("f", "female", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}
METADATA_KEY = b"huggingface"


@dataclass(frozen=True)
class _Shard:
    """A file of a data set.

    Attributes:
        path: of the file.
        part: train, dev, test, or empty.
    """

    path: Path
    part: str


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every row of every file, in order of ids.

    Args:
        root: the folder of the data set, or one file.
        partial: leave out rows whose recording is missing.

    Raises:
        CorpusError: there are no files, one cannot be read or has no audio column, or a recording
            is missing.
    """
    shards = _find_shards(root)
    if not shards:
        raise CorpusError(
            f"{root} has no .parquet and no .arrow file; expected a data set of the Hugging Face "
            "hub, such as `hf download --repo-type dataset ORG/NAME --local-dir FOLDER` writes"
        )
    utterances: list[Utterance] = []
    missing: list[str] = []
    rows_before: Counter[str] = Counter()
    folder = root if root.is_dir() else root.parent
    for shard in shards:
        utterances += _read_shard(folder, shard, rows_before[shard.part], missing)
        rows_before[shard.part] += _count_rows(shard.path)
    if missing and not partial:
        raise CorpusError(
            f"{missing[0]} has no recording, as have {len(missing) - 1} more rows of {root}: it "
            "holds no bytes, and no such file exists. Download the data set completely, or read "
            "what is there with --partial"
        )
    return sorted(_make_ids_unique(utterances), key=lambda utterance: utterance.id)


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return a note of rows whose recording is missing."""
    missing = sum(_count_rows(shard.path) for shard in _find_shards(root)) - len(utterances)
    return [f"rows without a recording, left out: {missing}"] if missing else []


def _find_shards(root: Path) -> list[_Shard]:
    """Return the files of a data set, sorted, without those of caches."""
    if root.is_file():
        return [_Shard(root, _find_part(root, root.parent))]
    files = [*root.rglob("*.parquet"), *root.rglob("*.arrow")]
    return [
        _Shard(file, _find_part(file, root))
        for file in sorted(files)
        if not any(part.startswith((".", "cache-")) for part in file.relative_to(root).parts)
    ]


def _find_part(file: Path, root: Path) -> str:
    """Return the part that the name of a file or of a folder begins with; empty without one."""
    for name in reversed(file.relative_to(root).parts):
        word = name.lower().split("-")[0].split(".")[0].split("_")[0]
        if word in PARTS:
            return PARTS[word]
    return ""


def _open_table(path: Path, columns: Sequence[str] | None = None) -> "pyarrow.Table":
    """Read columns of a file."""
    import pyarrow
    from pyarrow import parquet

    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path, columns=None if columns is None else list(columns))
        with pyarrow.memory_map(str(path)) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{path} cannot be read ({error}); download the data set again"
        ) from error
    return table if columns is None else table.select(columns)


def _read_schema(path: Path) -> "pyarrow.Schema":
    import pyarrow
    from pyarrow import parquet

    try:
        if path.suffix == ".parquet":
            return parquet.read_schema(path)
        with pyarrow.memory_map(str(path)) as source:
            return pyarrow.ipc.open_stream(source).schema
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{path} cannot be read ({error}); download the data set again"
        ) from error


def _count_rows(path: Path) -> int:
    from pyarrow import parquet

    if path.suffix == ".parquet":
        return int(parquet.read_metadata(path).num_rows)
    return int(_open_table(path).num_rows)


def _read_features(schema: "pyarrow.Schema") -> dict[str, Any]:
    """Return the features of the columns as ``datasets`` stored them; empty without them."""
    try:
        features = json.loads((schema.metadata or {})[METADATA_KEY])["info"]["features"]
        return dict(features)
    except (KeyError, TypeError, ValueError):
        return {}


def _find_audio_column(path: Path, schema: "pyarrow.Schema", features: Mapping[str, Any]) -> str:
    """Return the column with recordings.

    Raises:
        CorpusError: there is none, or several of which none is called audio.
    """
    import pyarrow

    def holds_audio(name: str, kind: "pyarrow.DataType") -> bool:
        feature = features.get(name)
        is_audio = isinstance(feature, dict) and feature.get("_type") == "Audio"
        fields = {kind.field(i).name for i in range(kind.num_fields)}
        return is_audio or (pyarrow.types.is_struct(kind) and {"bytes", "path"} <= fields)

    names = [field.name for field in schema if holds_audio(field.name, field.type)]
    if len(names) > 1 and "audio" in names:
        return "audio"
    if len(names) != 1:
        raise CorpusError(
            f"{path} has {'several columns' if names else 'no column'} with an Audio feature; its "
            f"columns are {', '.join(schema.names)}. Expected one, or one called audio: cast it "
            'with dataset.cast_column("audio", datasets.Audio())'
        )
    return str(names[0])


def _read_shard(root: Path, shard: _Shard, first: int, missing: list[str]) -> list[Utterance]:
    """Return the utterances of a file; add the ids of rows without a recording to ``missing``.

    Args:
        root: folder of the data set.
        shard: the file.
        first: number of rows of the part in files before it.
        missing: is appended to.
    """
    schema = _read_schema(shard.path)
    features = _read_features(schema)
    audio = _find_audio_column(shard.path, schema, features)
    recordings = _list_recordings(root, shard.path, audio, schema)
    others = [name for name in schema.names if name != audio]
    table = _open_table(shard.path, others)
    columns = {
        name: values
        for name in others
        if (values := _convert_column(table.column(name), features.get(name))) is not None
    }
    attributes = {
        attribute: next((name for name in aliases if name in columns), None)
        for attribute, aliases in COLUMNS.items()
    }
    labels = [name for name in columns if name not in attributes.values()]
    prefix = f"{shard.part}/" if shard.part else ""
    utterances = []
    for row, (name, path) in enumerate(recordings):

        def get(attribute: str, row: int = row) -> str | None:
            column = attributes[attribute]
            value = None if column is None else columns[column][row]
            return None if value is None else f"{value:g}" if isinstance(value, float) else value

        id_ = f"{prefix}{get('id') or name or f'{first + row:06}'}"
        if path is None:
            missing.append(id_)
            continue
        own = {label: value for label in labels if (value := columns[label][row]) is not None}
        utterances.append(
            Utterance(
                id=id_,
                path=path,
                speaker=get("speaker"),
                gender=GENDERS.get((get("gender") or "").lower()),
                language=get("language"),
                text=get("text"),
                session=get("session"),
                dialogue=get("dialogue"),
                labels={**own, **({"part": shard.part} if shard.part else {})},
            )
        )
    return utterances


def _convert_column(column: "pyarrow.ChunkedArray", feature: Any) -> list[Label | None] | None:
    """Return the values of a column as labels; None for lists and tables."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
        return None
    values = column.to_pylist()
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        names = feature.get("names") or []
        return [
            str(names[value]) if isinstance(value, int) and 0 <= value < len(names) else None
            for value in values
        ]
    if pyarrow.types.is_floating(kind):
        return [None if value is None or value != value else float(value) for value in values]
    texts = [None if value is None else str(value).strip() for value in values]
    return [text or None for text in texts]


def _list_recordings(
    root: Path, shard: Path, audio: str, schema: "pyarrow.Schema"
) -> list[tuple[str, Path | None]]:
    """Return the name and the file of each row's recording; None for a missing one.

    Bytes are unpacked to the cache, once for each state of the file.
    """
    import pyarrow

    kind = schema.field(audio).type
    if not pyarrow.types.is_struct(kind):  # paths alone
        paths = _open_table(shard, [audio]).column(audio).to_pylist()
        return [(_get_name(path), _resolve_path(root, shard, path)) for path in paths]
    status = shard.stat()
    identity = f"{shard.absolute()} {status.st_size} {status.st_mtime_ns} {audio}"
    folder = cache_folder() / "recordings" / hashlib.sha256(identity.encode()).hexdigest()[:24]
    index = folder / "index.json"
    try:
        entries: list[list[str]] = json.loads(index.read_bytes())
    except (OSError, ValueError):
        entries = _unpack(shard, audio, folder)
        write_bytes(index, json.dumps(entries).encode())
    return [
        (name, folder / unpacked if unpacked else _resolve_path(root, shard, path))
        for name, unpacked, path in entries
    ]


def _unpack(shard: Path, audio: str, folder: Path) -> list[list[str]]:
    """Write the bytes of each row to a file; return name, file in the folder, and path of each."""
    entries = []
    column = _open_table(shard, [audio]).column(audio)
    for row, value in enumerate(column):
        cell = value.as_py() or {}
        path, content = str(cell.get("path") or ""), cell.get("bytes")
        unpacked = ""
        if content:
            unpacked = f"{row:06}{Path(path).suffix.lower() or '.audio'}"
            write_bytes(folder / unpacked, content)
        entries.append([_get_name(path), unpacked, path])
    return entries


def _get_name(path: str | None) -> str:
    return (path or "").replace("\\", "/").rpartition("/")[2]


def _resolve_path(root: Path, shard: Path, path: str | None) -> Path | None:
    """Return the file of a path, which starts at the data set's folder or at the file's."""
    if not path:
        return None
    places = (root / path, shard.parent / path)
    return next((place for place in places if os.path.isfile(place)), None)


def _make_ids_unique(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Add a number to ids that several rows have, such as the file name audio.wav."""
    from dataclasses import replace

    counts, seen = Counter(one.id for one in utterances), Counter[str]()
    unique = []
    for one in utterances:
        if counts[one.id] > 1:
            seen[one.id] += 1
            one = replace(one, id=f"{one.id}#{seen[one.id]:06}")
        unique.append(one)
    return unique
