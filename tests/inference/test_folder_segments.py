"""Folders with long recordings, which are read in blocks, and with a row per segment."""

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from builders.audio_folders import RATE, small_recognizer, write_noise
from builders.speech_streams import Wave, make_speech, rating_recognizer

from serein import audio
from serein.bundle import save
from serein.errors import ConfigError, UnknownName
from serein.inference import long_form, workers
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.stream_config import StreamConfig
from serein.records import Corpus

Run = Callable[..., tuple[int, str, str]]
QUICK: dict[str, Any] = {"window": 1.0, "hop": 0.5}


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return small_recognizer()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than 2 s is too long to be held."""
    monkeypatch.setattr(workers, "MAX_SECONDS_IN_MEMORY", 2.0)
    monkeypatch.setattr(long_form, "BLOCK_SECONDS", 1.0)


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 40.0)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, wave: Wave) -> Path:
    """Two who speak, one of them late, and one who does not."""
    folder = tmp_path_factory.mktemp("calls")
    soundfile.write(folder / "long.flac", wave, RATE)
    (folder / "sub").mkdir()
    soundfile.write(folder / "sub" / "short.wav", wave[: 3 * RATE], RATE)
    soundfile.write(folder / "silent.wav", np.zeros(2 * RATE), RATE)
    return folder


LONG = [
    ("wav", RATE, 1, 17.0),
    ("wav", RATE, 1, 15.0),  # two windows exactly
    ("flac", 44_100, 2, 23.456),
    ("mp3", 22_050, 1, 9.9),
    ("ogg", 8_000, 1, 30.01),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("kind", "rate", "channels", "seconds"), LONG)
def test_long_recording_in_a_folder_equals_single_recognition(
    recognizer: Recognizer, tmp_path: Path, kind: str, rate: int, channels: int, seconds: float
) -> None:
    generator = np.random.default_rng(0)
    loud = np.linspace(0.001, 0.3, round(seconds * rate))[:, None]
    noise = loud * generator.normal(size=(len(loud), channels))
    (tmp_path / "voices").mkdir()
    path = tmp_path / "voices" / f"long.{kind}"
    soundfile.write(path, noise.clip(-1, 1), rate)
    found = recognizer.folder(tmp_path / "voices", tmp_path / "out.csv").to_frame().reset_index()
    wanted = recognizer(path)
    (row,) = found.to_dict("records")
    assert row["end"].total_seconds() == pytest.approx(wanted.end)
    for task, answer in wanted.tasks.items():
        for name, p in answer.probabilities.items():
            assert row[f"{task}_{name}"] == pytest.approx(p, abs=1e-5)
    (one,) = workers.recognize_files(
        workers.RecognitionContext(recognizer, path.parent), [path.name]
    )
    assert not isinstance(one, workers.Failure)
    assert (one.source, one.windows) == (path.name, wanted.windows)


def test_short_and_long_recordings_keep_their_order(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}.wav" for number in range(6)]
    for number, name in enumerate(names):
        write_noise(tmp_path / name, 0.5 if number % 2 else 3.0, seed=number)
    work = workers.RecognitionContext(recognizer, tmp_path)
    wanted = workers.recognize_files(work, names)
    monkeypatch.setattr(workers, "MAX_SECONDS_IN_MEMORY", 2.0)
    called: list[None] = []
    found = workers.recognize_files(work, names, lambda: called.append(None))
    assert [one.source for one in found] == names
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, Recognition)
        assert isinstance(other, Recognition)
        expected = other.tasks["emotion"].probabilities
        assert one.tasks["emotion"].probabilities == pytest.approx(expected, abs=1e-5)
    assert len(called) >= 3


def test_values_of_a_long_recording_equal_single_recognition(
    tmp_path: Path, impatient: None
) -> None:
    write_noise(tmp_path / "long.wav", 9.0)
    one = rating_recognizer()
    (found,) = workers.recognize_files(workers.RecognitionContext(one, tmp_path), ["long.wav"])
    assert isinstance(found, Recognition)
    assert found.values == pytest.approx(one(tmp_path / "long.wav").values, abs=1e-5)


def test_memory_does_not_grow_with_the_length(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_SECONDS_IN_MEMORY", 20.0)
    monkeypatch.setattr(long_form, "BLOCK_SECONDS", 5.0)
    (tmp_path / "long.flac").touch()
    peaks = []
    for seconds in (600, 1500):  # a decoder holds a minute of it
        soundfile.write(tmp_path / "long.flac", np.zeros(seconds * RATE, np.float32), RATE)
        tracemalloc.start()
        (found,) = workers.recognize_files(
            workers.RecognitionContext(recognizer, tmp_path), ["long.flac"]
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert not isinstance(found, workers.Failure)
        assert found.end == seconds
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 4 * 1500 * RATE


def test_model_without_window_loads_long_recordings(tmp_path: Path, impatient: None) -> None:
    bundle = small_recognizer().bundle
    bundle.system.front_end.max_seconds = None
    whole = Recognizer(bundle, answer_nonspeech=True)
    write_noise(tmp_path / "long.wav", 5.0)
    (found,) = workers.recognize_files(workers.RecognitionContext(whole, tmp_path), ["long.wav"])
    assert not isinstance(found, workers.Failure)
    assert found.windows == [(0.0, 5.0)]


@pytest.mark.usefixtures("impatient")
def test_long_recordings_that_cannot_be_read(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cut.flac", "nan.wav", "good.wav", "huge.wav"):
        write_noise(tmp_path / name, 6.0)
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    odd = np.full(6 * RATE, 0.1, np.float32)
    odd[5 * RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", odd, RATE, subtype="FLOAT")
    read = audio.iter_blocks

    def short(source: Path, **rest: Any) -> Any:
        if source.name == "huge.wav":
            raise MemoryError
        return read(source, **rest)

    monkeypatch.setattr(audio, "iter_blocks", short)
    names = sorted(os.listdir(tmp_path))
    for hearing in (None, StreamConfig(speech=False)):
        found = workers.recognize_files(
            workers.RecognitionContext(recognizer, tmp_path, hearing), names
        )
        reasons = {one.source: getattr(one, "reason", "") for one in found}
        assert list(reasons) == names
        assert "is truncated" in reasons["cut.flac"]
        assert "first at 5.000 s" in reasons["nan.wav"]
        assert "too long for this memory" in reasons["huge.wav"]
        assert reasons["good.wav"] == ""


# Timelines


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_segment_is_a_row(
    recognizer: Recognizer, calls: Path, tmp_path: Path, jobs: int
) -> None:
    done = recognizer.folder(calls, tmp_path / "out.parquet", jobs=jobs, **QUICK)
    assert (done.recognized, done.failed) == (3, 0)
    table = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(done.to_frame(), table)
    assert set(table.index.get_level_values("file")) == {"long.flac", "sub/short.wav"}
    assert table.index.is_monotonic_increasing
    for name, rows in table.groupby(level="file"):
        wanted = recognizer.timeline(calls / str(name), **QUICK).to_frame()
        assert rows["emotion"].tolist() == wanted["emotion"].tolist()
        for column in ("emotion_anger", "gender_male"):
            assert rows[column].tolist() == pytest.approx(wanted[column].tolist(), abs=1e-5)
        for edge in ("start", "end"):
            found, expected = (
                one.reset_index()[edge].dt.total_seconds().tolist() for one in (rows, wanted)
            )
            assert found == pytest.approx(expected, abs=1e-6)


def test_values_have_their_columns(calls: Path, tmp_path: Path) -> None:
    one = rating_recognizer("tasks.sex={name='gender'}")
    one.folder(calls, tmp_path / "out.jsonl", **QUICK)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    wanted = one.timeline(calls / "long.flac", **QUICK).segments or []
    found = [line["arousal"] for line in lines if line["file"] == "long.flac"]
    assert found == pytest.approx([segment.values["arousal"] for segment in wanted], abs=1e-4)


def test_finished_run_is_kept_and_new_files_are_added(
    recognizer: Recognizer, calls: Path, tmp_path: Path
) -> None:
    voices = tmp_path / "voices"
    shutil.copytree(calls, voices)
    first = recognizer.folder(voices, tmp_path / "out.csv", **QUICK)
    again = recognizer.folder(voices, tmp_path / "out.csv", **QUICK)
    assert (again.done_before, again.seconds, again.recognized) == (3, 0, first.recognized)
    rows = len((tmp_path / "out.csv").read_text().splitlines())
    shutil.copy(voices / "sub" / "short.wav", voices / "new.wav")
    done = recognizer.folder(voices, tmp_path / "out.csv", **QUICK)
    assert (done.recognized, done.done_before) == (4, 3)
    table = pd.read_csv(tmp_path / "out.csv")
    assert len(table) == rows - 1 + (table["file"] == "new.wav").sum() > rows - 1
    assert not table.duplicated(["file", "start"]).any()


def test_resuming_with_other_segments_is_refused(
    recognizer: Recognizer, calls: Path, tmp_path: Path
) -> None:
    recognizer.folder(calls, tmp_path / "whole.csv")
    recognizer.folder(calls, tmp_path / "out.csv", **QUICK)
    wrong: list[tuple[str, dict[str, Any], type[Exception], str]] = [
        ("out.csv", {}, ConfigError, "started with the segments .*; now it is None"),
        ("out.csv", {"window": 2.0}, ConfigError, "started with the segments .*'window': 2.0"),
        ("whole.csv", QUICK, ConfigError, "started with the segments None"),
        ("new.csv", {"smooth": 2}, ConfigError, "odd number"),
        ("new.csv", {"window": 30.0}, ConfigError, "takes at most 7.5 s"),
        ("new.csv", {"widow": 3.0}, UnknownName, "widow"),
    ]
    for output, settings, kind, words in wrong:
        with pytest.raises(kind, match=words):
            recognizer.folder(calls, tmp_path / output, **settings)
    assert not (tmp_path / "new.csv.run").exists()


def test_recognize_command_with_segments(
    recognizer: Recognizer, calls: Path, run: Run, tmp_path: Path
) -> None:
    save(recognizer.bundle, tmp_path / "small.safetensors")
    words = ["recognize", calls, "--model", "small.safetensors", "--jobs", "1"]
    status, out, _ = run(*words, "-o", "out.csv", "--window", "1", "--hop", "0.5")
    assert (status, out.startswith("out.csv: 3 recognized, 0 failed")) == (0, True)
    table = pd.read_csv(tmp_path / "out.csv")
    wanted = recognizer.timeline(calls / "long.flac", **QUICK).segments or []
    found = table[table["file"] == "long.flac"]["start"].tolist()
    assert found == pytest.approx([one.start for one in wanted])
    status, _, err = run(*words, "-o", "x.csv", "--no-speech", "--hop", "9")
    assert (status, "leaves gaps" in err) == (2, True)
    for more in (["--format", "vtt"], ["--channels", "each"], ["--end", "3"]):
        status, _, err = run(*words, "-o", "x.csv", *more)
        assert (status, "--channels are for recordings" in err) == (2, True)
