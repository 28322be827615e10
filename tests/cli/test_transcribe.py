"""Tests of `serein transcribe`: selection of utterances and the check of the training data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.corpus_layouts import write_librispeech
from builders.whisper_encoders import write_whisper_model

from serein.evaluation.train import train
from serein.inference.transcribe import WhisperTranscriber, open_transcriber

PARTS = ("train-clean-100", "dev-clean", "test-clean")
SETTINGS = (
    *("features.bands=12", "features.seconds=4.0", "training.epochs=1", "training.batch=8"),
    *("model.encoder_hidden=8", "model.encoder_layers=1", "model.decoder_hidden=8"),
    *("model.decoder_words=8", "model.decoder_attention=8", "model.max_steps=4", "model.beam=1"),
    "text.min_count=1",
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def libri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libri")
    write_librispeech(folder, parts=PARTS)
    return folder


@pytest.fixture(scope="module")
def model(libri: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser that was trained on the training part."""
    path = tmp_path_factory.mktemp("model") / "asr.safetensors"
    train("feng2020-asr", f"librispeech={libri}", path, settings=SETTINGS)
    return path


def test_only_selected_utterances_are_transcribed(
    run: Run, model: Path, libri: Path, tmp_path: Path
) -> None:
    options = ("--corpus", f"librispeech={libri}", "--set", "protocol.only.part=test-*")
    status, out, err = run("transcribe", "-m", model, *options, "-o", tmp_path / "t.json")
    assert status == 0
    assert len(out.splitlines()) == 7
    assert err == (
        "transcribes 6 of 18 utterances of librispeech; left out: 12 of another part than test-*\n"
    )
    record = json.loads((tmp_path / "t.json").read_text())
    assert record["corpus"] == {"name": "librispeech", "utterances": 6, "total": 18}
    assert record["left_out"][0]["count"] == 12
    assert [(one["kind"], one["verdict"]) for one in record["leakage"]] == [
        ("duplicate", "clean"),
        ("speaker", "clean"),
    ]
    assert record["warnings"] == []


def test_training_data_is_a_warning(run: Run, model: Path, libri: Path, tmp_path: Path) -> None:
    options = ("--corpus", f"librispeech={libri}", "-o", tmp_path / "t.json")
    status, _, err = run("transcribe", "-m", model, *options)
    assert status == 0
    lines = [line for line in err.splitlines() if line.startswith("serein: warning:")]
    assert lines[0].startswith(
        "serein: warning: 6 of 18 utterances were in this model's training data: these scores say "
        "nothing about new speakers, such as 10-0-0000"
    )
    assert lines[1].startswith("serein: warning: 2 speakers were in this model's training data")
    record = json.loads((tmp_path / "t.json").read_text())
    assert len(record["warnings"]) == 2
    assert [one["count"] for one in record["leakage"]] == [6, 2]


def test_missing_recording_does_not_stop_the_check(run: Run, model: Path, tmp_path: Path) -> None:
    write_librispeech(tmp_path / "other", parts=("test-clean",), seed=3)
    file = sorted((tmp_path / "other").rglob("*.flac"))[0]
    file.write_bytes(b"fLaC")
    status, out, err = run("transcribe", "-m", model, "--corpus", f"librispeech={tmp_path}/other")
    assert status == 1
    assert len(out.splitlines()) == 6
    assert "1 of 6 recordings could not be read" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--corpus", "LIBRI", "--set", "protocol.name=parts"), "protocol.name has no effect here"),
        (("--corpus", "LIBRI", "--set", "protocol.only.part=x"), "found dev-clean, test-clean"),
        (("a.wav", "--set", "protocol.max_duration=2"), "give it with --corpus"),
    ],
)
def test_setting_that_selects_nothing_is_an_error(
    run: Run, model: Path, libri: Path, words: tuple[str, ...], text: str
) -> None:
    words = tuple(f"librispeech={libri}" if word == "LIBRI" else word for word in words)
    status, _, err = run("transcribe", "-m", model, *words)
    assert status in (1, 2)
    assert err.count("serein:") == 1
    assert text in err


# Whisper


def test_a_whisper_transcribes_a_corpus_with_times(run: Run, libri: Path, tmp_path: Path) -> None:
    folder = write_whisper_model(tmp_path / "tiny")
    options = ("--corpus", f"librispeech={libri}", "--set", "protocol.only.part=test-*", "--times")
    status, out, _ = run("transcribe", "-m", folder, *options, "-o", tmp_path / "t.json")
    assert status == 0
    *lines, scores = out.splitlines()
    assert len(lines) == 6
    assert scores.startswith("WER ")
    assert scores.count(" 0 of them not in the vocabulary") == 1
    record = json.loads((tmp_path / "t.json").read_text())
    assert record["model"] == "tiny"
    assert "its training data are unknown" in record["card"]["data"]
    assert {one["verdict"] for one in record["leakage"]} == {"unknown"}
    for row in record["rows"]:
        times = [word["time"] for word in row["words"]]
        assert times == sorted(times)
        assert all(0 <= time <= row["seconds"] for time in times)
        spoken = [word["word"] for word in row["words"] if word["word"] != "</s>"]
        assert " ".join(spoken) == row["text"]


def test_a_whisper_takes_long_recordings_in_parts(tmp_path: Path) -> None:
    folder = write_whisper_model(tmp_path / "tiny")
    transcribe = open_transcriber(str(folder), language="de")
    assert isinstance(transcribe, WhisperTranscriber)
    wave_s = np.random.default_rng(0).normal(0, 0.1, 16_000 * 31).astype(np.float32)
    found = transcribe((wave_s, 16_000))
    parts = [transcribe((part_s, 16_000)) for part_s in np.split(wave_s, [16_000 * 30])]
    assert found.text.split() == [word for part in parts for word in part.text.split()]
    assert found.seconds == pytest.approx(31)
    assert found.score == pytest.approx(sum(part.score for part in parts))
    words = [word for word in found.words if word.word != "</s>"]
    assert len(words) == len(found.text.split())


def test_a_language_is_for_whisper_and_a_known_one(run: Run, model: Path, tmp_path: Path) -> None:
    folder = write_whisper_model(tmp_path / "tiny")
    status, _, err = run("transcribe", "-m", model, "--language", "de", "a.wav")
    assert status != 0
    assert "is no folder of Whisper; leave --language out" in err
    status, _, err = run("transcribe", "-m", folder, "--language", "klingon", "a.wav")
    assert status != 0
    assert "the language 'klingon' is none of 3" in err
    (folder / "tokenizer.json").unlink()
    status, _, err = run("transcribe", "-m", folder, "a.wav")
    assert status != 0
    assert "holds no tokenizer.json" in err
    assert err.count("serein:") == 1
