"""Recognition of folders: answers, failures, resumed runs, and engines."""

import csv
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from builders.audio_folders import (
    CRASH_SAMPLE,
    RATE,
    CrashingFrontEnd,
    small_recognizer,
    write_bad_files,
    write_noise,
    write_recordings,
)
from safetensors import safe_open

from serein.errors import AudioError, ConfigError, SereinError, StorageError, UnknownName
from serein.inference import folder, tables, workers
from serein.inference.model_loading import DEFAULT_MODEL, find_model_file
from serein.inference.recognizer import Recognizer
from serein.results.evaluation import FolderProgress


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return small_recognizer()


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    write_recordings(tmp_path / "voices")
    return tmp_path / "voices"


def read_files(path: Path) -> list[str]:
    return list(pd.read_parquet(path).index.get_level_values("file"))


def test_folder_gives_the_answers_of_single_files(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    write_noise(voices / "long.wav", 17.0)
    done = recognizer.folder(voices, tmp_path / "out.parquet")
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table.index.names == ["file", "start", "end"]
    assert list(table.index.get_level_values("file")) == sorted(
        [*write_recordings(voices), "long.wav"]
    )
    assert (done.recognized, done.failed, done.errors, done.done_before) == (10, 0, None, 0)
    for row in table.reset_index().to_dict("records"):
        alone = recognizer(voices / row["file"])
        assert row["start"].total_seconds() == 0
        assert row["end"].total_seconds() == pytest.approx(alone.end)
        for task, answer in alone.tasks.items():
            assert row[task] == answer.label
            assert row[f"{task}_confidence"] == pytest.approx(answer.confidence, abs=1e-5)
            for name, p in answer.probabilities.items():
                assert row[f"{task}_{name}"] == pytest.approx(p, abs=1e-5)
    pd.testing.assert_frame_equal(done.to_frame(), table)


def test_columns_have_name_and_digest_of_the_bundle(voices: Path, tmp_path: Path) -> None:
    shipped = Recognizer()
    with safe_open(find_model_file(DEFAULT_MODEL), "pt") as file:
        mark = file.metadata()["sha256"]
    table = shipped.folder(voices, tmp_path / "out.csv").to_frame()
    assert set(table["model"]) == {DEFAULT_MODEL}
    assert set(table["model_hash"]) == {mark[:16]}


def test_index_is_that_of_audformat(recognizer: Recognizer, voices: Path, tmp_path: Path) -> None:
    index = recognizer.folder(voices, tmp_path / "out.csv").to_frame().index
    assert isinstance(index, pd.MultiIndex)
    assert [str(kind) for kind in index.dtypes.iloc[1:]] == ["timedelta64[ns]"] * 2
    assert index.is_unique


def test_csv_jsonl_and_parquet_are_equal(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        recognizer.folder(voices, tmp_path / name)
    with (tmp_path / "out.csv").open() as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    stored = pd.read_parquet(tmp_path / "out.parquet").reset_index()
    assert list(table[0]) == list(lines[0]) == list(stored.columns)
    for row, line, (_, kept) in zip(table, lines, stored.iterrows(), strict=True):
        assert row["file"] == line["file"] == kept["file"]
        assert float(row["end"]) == line["end"] == pytest.approx(kept["end"].total_seconds())
        assert row["emotion"] == line["emotion"] == kept["emotion"]
        assert float(row["emotion_anger"]) == line["emotion_anger"]
        assert line["emotion_anger"] == pytest.approx(kept["emotion_anger"], rel=1e-5)
        assert line["emotion_abstained"] is False


def test_withheld_labels_are_marked(voices: Path, tmp_path: Path) -> None:
    done = small_recognizer(confidence=0.99).folder(voices, tmp_path / "out.jsonl")
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert line["emotion"] is None
    assert line["emotion_abstained"] is True
    assert 0 < line["emotion_confidence"] < 0.99
    assert done.to_frame()["emotion"].isna().all()


def test_failures_are_listed_with_reasons(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    bad = write_bad_files(voices)
    (voices / "x.wav").mkdir()
    (voices / "notes.txt").touch()
    done = recognizer.folder(voices, tmp_path / "out.parquet")
    assert read_files(tmp_path / "out.parquet") == write_recordings(voices)
    assert (done.recognized, done.failed, done.ignored) == (9, len(bad), 1)
    assert done.errors == tmp_path / "out.parquet.errors.csv"
    reasons = pd.read_csv(done.errors).set_index("file")["reason"]
    assert sorted(reasons.index) == bad
    assert done.reasons == reasons.to_dict()
    expected = {"cut": "is truncated", "empty": "0 bytes", "gone": "does not exist"}
    expected |= {"pipe": "device or pipe", "short": "at least 25 ms", "text": "text.flac"}
    for name in bad:
        assert expected[name.split(".")[0]] in reasons[name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_listed(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    (voices / "a/00.wav").chmod(0)
    (voices / "b").chmod(0)
    done = recognizer.folder(voices, tmp_path / "out.csv")
    (voices / "b").chmod(0o755)
    assert done.errors is not None
    assert set(pd.read_csv(done.errors)["file"]) == {"a/00.wav", "b"}


def test_finished_run_reads_no_audio(
    recognizer: Recognizer, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bad_files(voices)
    first = recognizer.folder(voices, tmp_path / "out.parquet")
    stamp = (tmp_path / "out.parquet").stat().st_mtime_ns
    monkeypatch.setattr("serein.audio.load", None)
    again = recognizer.folder(voices, tmp_path / "out.parquet")
    assert (again.recognized, again.failed) == (first.recognized, first.failed)
    assert (again.done_before, again.seconds) == (15, 0)
    assert (tmp_path / "out.parquet").stat().st_mtime_ns == stamp


def test_resumed_run_adds_new_files(recognizer: Recognizer, voices: Path, tmp_path: Path) -> None:
    recognizer.folder(voices, tmp_path / "out.csv")
    write_noise(voices / "a/new.wav", 0.5)
    done = recognizer.folder(voices, tmp_path / "out.csv")
    assert (done.recognized, done.done_before, done.seconds) == (10, 9, 0.5)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 11


def test_retry_reads_failed_files_again(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    write_bad_files(voices)
    recognizer.folder(voices, tmp_path / "out.parquet")
    write_noise(voices / "empty.wav", 0.5)
    untouched = recognizer.folder(voices, tmp_path / "out.parquet")
    assert (untouched.recognized, untouched.failed) == (9, 6)
    done = recognizer.folder(voices, tmp_path / "out.parquet", retry=True)
    assert (done.recognized, done.failed, done.done_before) == (10, 5, 9)
    for name in ("cut.wav", "text.flac", "gone.ogg", "pipe.wav", "short.wav"):
        (voices / name).unlink()
    done = recognizer.folder(voices, tmp_path / "out.parquet", retry=True)
    assert (done.recognized, done.failed, done.errors) == (10, 0, None)
    assert not (tmp_path / "out.parquet.errors.csv").exists()
    assert read_files(tmp_path / "out.parquet") == sorted([*write_recordings(voices), "empty.wav"])


def test_error_during_a_run_keeps_finished_answers(
    recognizer: Recognizer, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "FILES_PER_CHUNK", 2)

    def broken(progress: FolderProgress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recognizer.folder(voices, tmp_path / "out.parquet", progress=broken)
    assert not (tmp_path / "out.parquet").exists()
    done = recognizer.folder(voices, tmp_path / "out.parquet")
    assert (done.recognized, done.done_before) == (9, 5)
    assert read_files(tmp_path / "out.parquet") == write_recordings(voices)


def test_error_while_the_table_is_written(
    recognizer: Recognizer, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            recognizer.folder(voices, tmp_path / "out.parquet")
    done = recognizer.folder(voices, tmp_path / "out.parquet")
    assert (done.recognized, done.done_before) == (9, 9)
    assert read_files(tmp_path / "out.parquet") == write_recordings(voices)
    (tmp_path / "out.parquet").unlink()
    recognizer.folder(voices, tmp_path / "out.parquet")
    assert read_files(tmp_path / "out.parquet") == write_recordings(voices)


def test_progress_reaches_the_total(
    recognizer: Recognizer, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "FILES_PER_CHUNK", 2)
    bad = write_bad_files(voices)
    reports: list[FolderProgress] = []
    recognizer.folder(voices, tmp_path / "out.csv", progress=reports.append)
    assert [one.done for one in reports] == list(range(1, 16))
    assert reports[-1].failed == len(bad)
    assert reports[-1].total in (15, None)
    assert reports[-1].seconds == pytest.approx(sum(0.1 + 0.07 * i for i in range(9)))


def test_resuming_with_other_settings_is_refused(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    recognizer.folder(voices, tmp_path / "out.csv")
    write_recordings(tmp_path / "others")
    with pytest.raises(ConfigError, match="started with the thresholds"):
        small_recognizer(confidence=0.5).folder(voices, tmp_path / "out.csv")
    with pytest.raises(
        ConfigError, match=r"started with the model small .*; now it is serein-base"
    ):
        Recognizer().folder(voices, tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="started with the folder"):
        recognizer.folder(tmp_path / "others", tmp_path / "out.csv")


def test_invalid_arguments(recognizer: Recognizer, voices: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none/notes.txt").touch()
    wrong: list[tuple[Path, str, dict[str, object], type[SereinError], str]] = [
        (tmp_path / "gone", "out.csv", {}, AudioError, "is no folder"),
        (voices / "a/00.wav", "out.csv", {}, AudioError, "is no folder"),
        (tmp_path / "none", "none.csv", {}, AudioError, "has no recordings; 1 files"),
        (voices, "out.xlsx", {}, UnknownName, "Known: .csv, .jsonl, .parquet"),
        (voices, "out", {}, UnknownName, "unknown output format 'out'"),
        (voices, "out.csv", {"engine": "spark"}, UnknownName, "unknown engine 'spark'"),
        (voices, "out.csv", {"jobs": 0}, ConfigError, "expected 1 or more"),
    ]
    for place, output, settings, kind, words in wrong:
        with pytest.raises(kind, match=words):
            recognizer.folder(place, tmp_path / output, **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.run"))


def test_only_failures_give_an_empty_table(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    write_bad_files(tmp_path / "bad")
    for i in range(9):
        (tmp_path / f"bad/{i}.wav").touch()
    done = recognizer.folder(tmp_path / "bad", tmp_path / "out.parquet")
    assert (done.recognized, done.failed) == (0, 15)
    assert list(done.reasons) == [*(f"{i}.wav" for i in range(9)), "cut.wav"]
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert len(table) == 0
    assert "emotion_anger" in table.columns


def test_processes_give_the_same_answers(
    recognizer: Recognizer, voices: Path, tmp_path: Path
) -> None:
    alone = recognizer.folder(voices, tmp_path / "alone.parquet").to_frame()
    done = recognizer.folder(voices, tmp_path / "out.parquet", jobs=2)
    pd.testing.assert_frame_equal(done.to_frame(), alone, atol=1e-5)


@pytest.mark.slow
def test_processes_survive_a_crash(voices: Path, tmp_path: Path) -> None:
    recognizer = small_recognizer()
    recognizer.system.front_end = CrashingFrontEnd(recognizer.system.front_end)  # type: ignore[arg-type, assignment]
    soundfile.write(
        voices / "deadly.wav", np.full(RATE, CRASH_SAMPLE, np.float32), RATE, subtype="FLOAT"
    )
    done = recognizer.folder(voices, tmp_path / "out.parquet", jobs=2)
    assert (done.recognized, done.failed) == (9, 1)
    assert done.errors is not None
    assert "the process that read it ended" in done.errors.read_text()
    assert read_files(tmp_path / "out.parquet") == write_recordings(voices)


def test_error_if_no_process_can_be_started(
    recognizer: Recognizer, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_init_worker", os._exit)
    with pytest.raises(StorageError, match="no worker process could be started"):
        recognizer.folder(voices, tmp_path / "out.parquet", jobs=2)


@pytest.mark.slow
def test_ray_gives_the_same_answers_and_survives_a_crash(voices: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    recognizer = small_recognizer()
    alone = recognizer.folder(voices, tmp_path / "alone.parquet").to_frame()
    recognizer.system.front_end = CrashingFrontEnd(recognizer.system.front_end)  # type: ignore[arg-type, assignment]
    soundfile.write(
        voices / "deadly.wav", np.full(RATE, CRASH_SAMPLE, np.float32), RATE, subtype="FLOAT"
    )
    tests = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, runtime_env=tests)
    try:
        done = recognizer.folder(voices, tmp_path / "out.parquet", engine="ray")
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert (done.recognized, done.failed) == (9, 1)
    pd.testing.assert_frame_equal(done.to_frame(), alone, atol=1e-5)


def test_engine_ray_without_ray(
    recognizer: Recognizer, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"serein\[ray\]"):
        recognizer.folder(voices, tmp_path / "out.parquet", engine="ray")


def test_groups_are_limited_by_count_and_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GROUP_SIZE", 3)
    monkeypatch.setattr(workers, "MAX_SECONDS_IN_MEMORY", 2.0)
    lengths = [1, 1, 1, 1, 0.5, 3, 1]
    waves = [
        workers._LoadedRecording(str(i), np.zeros(round(s * RATE), np.float32), "")
        for i, s in enumerate(lengths)
    ]
    groups = [[w.name for w in group] for group in workers._group_recordings(iter(waves))]
    assert groups == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_memory_error_is_a_failure(
    recognizer: Recognizer, voices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("serein.audio.load", short)
    (found,) = workers.recognize_files(workers.RecognitionContext(recognizer, voices), ["a/00.wav"])
    assert isinstance(found, workers.Failure)
    assert "too long for this memory" in found.reason


def test_columns_of_the_schema(recognizer: Recognizer) -> None:
    names = tables.build_schema({"mood": ("low", "high")}).names
    assert names == [
        *("file", "start", "end", "mood", "mood_confidence", "mood_abstained"),
        *("mood_low", "mood_high", "first_mood", "first_mood_probability"),
        *("second_mood", "second_mood_probability", "model", "model_hash", "reason"),
    ]
    names = tables.build_schema({"arousal": ()}, ["arousal"]).names
    assert names[3:-3] == ["arousal", "scaled_arousal", "scaled_arousal_basis"]
