"""Embeddings: the vectors that heads read, of recordings, windows, long files and folders."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from builders.service_client import small_recognizer
from builders.speech_streams import make_speech

from serein import audio
from serein.bundle import save
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference import workers
from serein.inference.embedding import embed_batches, embed_long, embed_windows
from serein.inference.predictor import Predictor
from serein.inference.recognizer import Recognizer
from serein.inference.stream_config import StreamConfig
from serein.records import Corpus

RATE = 16_000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(small_recognizer().bundle)


@pytest.fixture(scope="module")
def speech(corpus: Corpus) -> np.ndarray[Any, Any]:
    return make_speech(corpus, 12.0)


@pytest.fixture
def recordings(tmp_path: Path, speech: np.ndarray[Any, Any]) -> Path:
    """A folder with speech at two rates, silence, a broken file and an empty one."""
    folder = tmp_path / "recordings"
    (folder / "sub").mkdir(parents=True)
    soundfile.write(folder / "a.wav", speech[: 4 * RATE], RATE)
    soundfile.write(folder / "sub/b.flac", speech[3 * RATE : 9 * RATE : 2], RATE // 2)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF no audio")
    (folder / "empty.wav").touch()
    return folder


def test_the_head_reads_the_vector(recognizer: Recognizer, speech: np.ndarray[Any, Any]) -> None:
    part = speech[: 3 * RATE]
    for task in recognizer.classes:
        found = recognizer.embed((part, RATE), task=task)
        assert found.vectors.shape == (1, recognizer.system.model.width)
        head = recognizer.system.tasks[task]
        with torch.inference_mode():
            p_bk = head.decode(head(torch.from_numpy(found.vectors)))
        expected = recognizer((part, RATE)).tasks[task].probabilities
        assert p_bk[0].tolist() == pytest.approx(list(expected.values()), abs=1e-5)
        assert np.array_equal(found.vector, found.vectors[0])
    assert recognizer.embed((part, RATE)).task == "emotion"


def test_a_part_has_its_times(recognizer: Recognizer, recordings: Path) -> None:
    found = recognizer.embed(recordings / "a.wav", start=1.0, end=2.5)
    assert (found.start, found.end, found.windows) == (1.0, 2.5, [(1.0, 2.5)])
    assert found.source == str(recordings / "a.wav")
    assert found.model == recognizer.name


def test_long_recordings_are_means_over_windows_with_speech(
    recognizer: Recognizer, speech: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    assert recognizer.window == 7.5
    wave_s = np.concatenate([speech[: 7 * RATE], np.zeros(8 * RATE, np.float32)])
    bounds = audio.split_evenly(len(wave_s), round(7.5 * RATE))
    windows = [wave_s[first:last] for first, last in bounds]
    has_speech = recognizer.detect_speech(windows)
    assert has_speech == [True, False]
    vectors = embed_batches(recognizer, windows, "emotion")
    found = recognizer.embed((wave_s, RATE))
    assert found.vectors[0] == pytest.approx(vectors[0], abs=1e-5)
    path = tmp_path / "long.wav"
    soundfile.write(path, wave_s, RATE, subtype="FLOAT")
    long = embed_long(recognizer, path, "long.wav", "emotion", lambda: None)
    assert long.vectors == pytest.approx(found.vectors, abs=1e-5)
    assert (long.source, long.windows) == ("long.wav", found.windows)


def test_silence_has_a_vector_and_no_speech(recognizer: Recognizer) -> None:
    found = recognizer.embed((np.zeros(RATE, np.float32), RATE))
    assert not found.speech
    assert np.isfinite(found.vectors).all()
    nothing = recognizer.embed((np.zeros(5 * RATE, np.float32), RATE), window=2.0)
    assert (nothing.speech, nothing.windows) == (False, [])
    assert nothing.vectors.shape == (0, recognizer.system.model.width)
    assert np.isnan(nothing.vector).all()


def test_windows_are_those_of_a_timeline(
    recognizer: Recognizer, speech: np.ndarray[Any, Any]
) -> None:
    settings: dict[str, Any] = {"window": 2.0, "hop": 1.0}
    found = recognizer.embed((speech, RATE), start=1.0, **settings)
    timeline = recognizer.timeline((speech, RATE), start=1.0, **settings)
    assert found.windows == timeline.windows
    assert len(found.vectors) == len(found.windows) > 3
    for (start, end), vector_d in zip(found.windows, found.vectors, strict=True):
        window_s = speech[round(start * RATE) : round(end * RATE)]
        assert vector_d == pytest.approx(
            embed_batches(recognizer, [window_s], "emotion")[0], abs=1e-4
        )
    assert found.vector == pytest.approx(found.vectors.mean(axis=0), abs=1e-6)


def test_blocks_do_not_change_windows(
    recognizer: Recognizer, speech: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StreamConfig(window=2.0, hop=1.0)
    whole = embed_windows(recognizer, (speech, RATE), "emotion", config)
    monkeypatch.setattr("serein.inference.embedding.CHUNKS_AT_A_TIME", 0.01)
    steps: list[None] = []
    small = embed_windows(
        recognizer, (speech, RATE), "emotion", config, on_step=lambda: steps.append(None)
    )
    assert len(steps) > 5
    assert small.windows == whole.windows
    assert small.vectors == pytest.approx(whole.vectors, abs=1e-4)


def test_faults(recognizer: Recognizer, recordings: Path) -> None:
    with pytest.raises(UnknownName, match="unknown task 'mood'"):
        recognizer.embed(recordings / "a.wav", task="mood")
    with pytest.raises(AudioError, match=r"empty\.wav"):
        recognizer.embed(recordings / "empty.wav")
    with pytest.raises(ConfigError, match="does not read words"):
        recognizer.embed(recordings / "a.wav", words="hello")
    with pytest.raises(ConfigError, match="windows have none"):
        recognizer.embed(recordings / "a.wav", words="hello", window=2.0)
    with pytest.raises(ConfigError, match="takes at most"):
        recognizer.embed(recordings / "a.wav", window=20.0)


def test_an_exported_model_has_no_embeddings(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer.backend, "is_exported", True, raising=False)
    with pytest.raises(ConfigError, match="exported model, which gives answers and no embeddings"):
        recognizer.embed((np.zeros(RATE, np.float32), RATE))


# Tables


def test_folder_with_failures_is_resumed(
    recognizer: Recognizer, recordings: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    summary = recognizer.embed_folder(recordings, output)
    assert (summary.recognized, summary.failed, set(summary.reasons)) == (
        *(3, 2),
        {"broken.wav", "empty.wav"},
    )
    table = pq.read_table(output)
    assert table["file"].to_pylist() == ["a.wav", "silent.wav", "sub/b.flac"]
    assert table["speech"].to_pylist() == [True, False, True]
    expected = recognizer.embed(recordings / "a.wav").vector
    assert table["embedding"].to_pylist()[0] == pytest.approx(expected, abs=1e-5)
    again = recognizer.embed_folder(recordings, output)
    assert (again.recognized, again.done_before) == (3, 5)
    with pytest.raises(ConfigError, match="was started with the embeddings emotion"):
        recognizer.folder(recordings, output)
    with pytest.raises(ConfigError, match="now it is gender"):
        recognizer.embed_folder(recordings, output, task="gender")


def test_folder_in_windows_as_arrays(
    recognizer: Recognizer, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer.embed_folder(recordings, tmp_path / "out.npz", window=1.0, hop=0.5)
    with np.load(tmp_path / "out.npz") as arrays:
        count = len(arrays["files"])
        assert set(arrays["files"].tolist()) == {"a.wav", "sub/b.flac"}
        assert arrays["embedding"].shape == (count, recognizer.system.model.width)
        assert arrays["embedding"].dtype == np.float32
        assert (arrays["end"] > arrays["start"]).all()
        assert arrays["speech"].all()
    with pytest.raises(UnknownName, match="unknown output format"):
        recognizer.folder(recordings, tmp_path / "answers.npz")
    monkeypatch.setattr(workers, "MAX_SECONDS_IN_MEMORY", 5.0)
    recognizer.embed_folder(recordings, tmp_path / "blocks.csv")
    with (tmp_path / "blocks.csv").open() as lines:
        rows = {row["file"]: row for row in csv.DictReader(lines)}
    vector = recognizer.embed(recordings / "sub/b.flac").vector
    found = [float(rows["sub/b.flac"][f"embedding_{index}"]) for index in range(len(vector))]
    assert found == pytest.approx(vector.tolist(), rel=1e-3, abs=1e-4)


def test_command_writes_vectors_and_lists_failures(
    recognizer: Predictor, recordings: Path, tmp_path: Path, run: Any
) -> None:
    save(recognizer.bundle, tmp_path / "small.safetensors")
    command = ["recognize", "--model", "small.safetensors", "--embeddings"]
    paths = [recordings / name for name in ("a.wav", "broken.wav", "silent.wav")]
    status, out, err = run(*command, "out.parquet", *paths)
    width = recognizer.system.model.width
    assert (status, out) == (
        1,
        f"out.parquet: 2 vectors of {width} values from 2 recordings, 1 failed\n",
    )
    assert "broken.wav" in err
    assert pq.read_table("out.parquet").column_names == [
        *("file", "start", "end", "speech", "embedding", "model", "model_hash")
    ]
    status, out, err = run(*command, "windows.jsonl", paths[0], paths[2], "--window", "1")
    assert status == 0
    assert "silent.wav has no speech, and so no windows" in err
    assert "from 2 recordings, 0 failed" in out
    status, out, _ = run(*command, "folder.csv", recordings, "--jobs", "1")
    assert (status, "3 embedded, 2 failed" in out) == (1, True)
    for options, message in (
        (["--format", "csv"], "--format is for answers"),
        (["-o", "answers.csv"], "--output is for answers"),
        (["--window", "60"], "takes at most"),
    ):
        status, _, err = run(*command, "other.parquet", paths[0], *options)
        assert (status, message in err) == (2, True), err
    status, _, err = run(*command, "other.txt", paths[0])
    assert (status, "unknown output format" in err) == (2, True)
    assert not Path("other.parquet").exists()
    status, _, err = run(*command, "none.parquet", paths[1])
    assert (status, "none.parquet was not written" in err) == (1, True)
