import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from serein import audio, corpora, protocols
from serein.corpora import hf_dataset
from serein.errors import CorpusError
from serein.protocols.settings import SplitConfig

NAMES = ["anger", "neutral"]
FEATURES = {
    "audio": {"sampling_rate": 16000, "_type": "Audio"},
    "emotion": {"names": NAMES, "_type": "ClassLabel"},
    "speaker_id": {"dtype": "int64", "_type": "Value"},
}


def wav_bytes(seed: int) -> bytes:
    content = io.BytesIO()
    samples = 0.1 * np.random.default_rng(seed).standard_normal(3200)
    soundfile.write(content, samples, 16_000, format="WAV")
    return content.getvalue()


def build_table(rows: list[dict[str, Any]], features: dict[str, Any] | None = None) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    if features is None:
        return table
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata)


def row(seed: int, name: str | None, emotion: int, **other: Any) -> dict[str, Any]:
    recording = {"bytes": wav_bytes(seed), "path": name}
    return {"audio": recording, "emotion": emotion, "speaker_id": seed % 2, **other}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEREIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set in two parts, with a shard of other names, nulls, lists and equal file names."""
    data = tmp_path / "set" / "data"
    data.mkdir(parents=True)
    other = {"gender": "F", "sentence": " Ja. ", "score": 0.5, "tags": ["a"], "kept": True}
    first = [row(0, "a.wav", 0, **other), row(1, None, -1, **other)]
    second = [row(2, "audio.wav", 1, **{**other, "score": None, "sentence": None})] * 2
    for index, rows in enumerate((first, second)):
        name = f"train-{index:05}-of-00002.parquet"
        parquet.write_table(build_table(rows, FEATURES), data / name)
    test = build_table([row(4, "x/b.flac", 1)], FEATURES)
    parquet.write_table(test, data / "validation-00000-of-00001.parquet")
    (data / ".cache").mkdir()
    (data / ".cache" / "train.parquet").write_bytes(b"partial download")
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n")
    return tmp_path / "set"


def test_parquet_with_bytes(root: Path, cache: Path) -> None:
    utterances = hf_dataset.read(root)
    assert [one.id for one in utterances] == [
        "dev/b.flac",
        "train/000001",
        "train/a.wav",
        "train/audio.wav#000001",
        "train/audio.wav#000002",
    ]
    first = utterances[2]
    assert (first.speaker, first.gender, first.text) == ("0", "female", "Ja.")
    assert first.labels == {"emotion": "anger", "score": 0.5, "kept": "True", "part": "train"}
    assert "emotion" not in utterances[1].labels  # ClassLabel -1 is a missing label
    assert utterances[3].labels == {"emotion": "neutral", "kept": "True", "part": "train"}
    assert first.path.read_bytes() == wav_bytes(0)
    assert first.path.is_relative_to(cache)
    assert len(audio.load(first.path)) == 3200
    (fold,) = protocols.split(
        utterances, SplitConfig(name="by-label", by="part", test="dev", validation="none")
    ).folds
    assert fold.test == ("dev/b.flac",)


def test_recordings_are_unpacked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = corpora.load(f"hf_dataset={root}")
    monkeypatch.setattr(hf_dataset, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert corpora.load(f"hf_dataset={root}") == before
    assert before.notes == ()
    one = hf_dataset.read(root / "data" / "validation-00000-of-00001.parquet")
    assert [utterance.id for utterance in one] == ["dev/b.flac"]


def test_arrow_files_and_paths(tmp_path: Path) -> None:
    folder = tmp_path / "saved" / "test"
    folder.mkdir(parents=True)
    (folder / "sound.wav").write_bytes(wav_bytes(0))
    rows = [
        {"recording": {"bytes": None, "path": "sound.wav"}, "label": 3},
        {"recording": {"bytes": None, "path": "gone.wav"}, "label": 4},
    ]
    table = build_table(rows)
    path = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CorpusError, match=r"test/gone\.wav has no recording, as have 0 more rows"):
        hf_dataset.read(folder.parent)
    corpus = corpora.load(f"hf_dataset={folder.parent}", partial=True)
    (utterance,) = corpus.utterances
    assert utterance.path == folder / "sound.wav"
    assert utterance.labels == {"label": "3", "part": "test"}
    assert corpus.notes == ("rows without a recording, left out: 1",)


def test_data_sets_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no \.parquet and no \.arrow file; expected a data"):
        hf_dataset.read(tmp_path)
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "train.parquet")
    message = r"no column with an Audio feature; its columns are text, label.*cast_column"
    with pytest.raises(CorpusError, match=message):
        hf_dataset.read(tmp_path)
    two = [{"left": {"bytes": b"", "path": ""}, "right": {"bytes": b"", "path": ""}}]
    parquet.write_table(pa.Table.from_pylist(two), tmp_path / "train.parquet")
    with pytest.raises(CorpusError, match="has several columns with an Audio feature"):
        hf_dataset.read(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"train\.parquet cannot be read .*download the data set"):
        hf_dataset.read(tmp_path)
