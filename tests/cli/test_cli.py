"""The commands: options, output, exit status, error messages."""

import csv
import io
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from builders.corpus_layouts import write_emodb
from builders.small_systems import SIZES, small_system

from serein import bundle
from serein.bundle import Bundle, Card
from serein.errors import ConfigError

Run = Callable[..., tuple[int, str, str]]
SMALL = [word for setting in SIZES for word in ("--set", setting)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    system = small_system("features.pad=false").eval()
    bundle.save(Bundle(system, Card(name="small", data="nothing")), path)
    return path


def one_line(complaint: str) -> bool:
    return complaint.startswith("serein: ") and complaint.count("\n") == 1


def test_help_lists_every_command(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    names = (
        "recognize",
        "explain",
        "evaluate",
        "train",
        "recipes",
        "corpora",
        "card",
        "quickstart",
    )
    for name in names:
        assert name in out


@pytest.mark.parametrize("command", ["recognize", "explain", "transcribe", "evaluate", "serve"])
def test_model_option_is_the_same_in_every_command(command: str, run: Run) -> None:
    _, out, _ = run(command, "--help")
    assert re.search(r"--model\s+-m\b", out)


def test_recipes_are_listed_with_published_scores(run: Run) -> None:
    status, out, _ = run("recipes")
    assert status == 0
    assert "li2019-no-attention" in out
    assert "WA 81.6, UA 82.8" in out


@pytest.mark.parametrize("ending", ["json", "csv", "rttm", "vtt"])
def test_recognize_writes_answers_to_a_file(
    ending: str, run: Run, model: Path, root: Path, tmp_path: Path
) -> None:
    file, output = next(root.rglob("*.wav")), tmp_path / f"answers.{ending}"
    status, out, _ = run("recognize", file, "--model", model, "-o", output)
    assert (status, out) == (0, f"{output}\n")
    _, shown, _ = run("recognize", file, "--model", model, "--format", ending)
    assert output.read_text() == shown


def test_recognize_writes_failures_to_the_file(
    run: Run, model: Path, root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.json"
    files = [next(root.rglob("*.wav")), tmp_path / "gone.wav"]
    status, _, err = run("recognize", *files, "--model", model, "-o", output)
    assert status == 1
    assert "gone.wav" in err
    found = json.loads(output.read_text())
    assert len(found["recognized"]) == len(found["failed"]) == 1
    status, _, err = run("recognize", files[0], "--model", model, "-o", tmp_path / "x.parquet")
    assert status == 2
    assert "Parquet is for a folder" in err
    status, _, err = run("recognize", files[1], "--model", model, "-o", output)
    assert (status, "gone.wav" in err, "no file or folder" in err) == (1, True, True)


def test_subtitles_of_two_recordings_are_refused(
    run: Run, model: Path, root: Path, tmp_path: Path
) -> None:
    files = sorted(root.rglob("*.wav"))[:2]
    status, out, err = run("recognize", *files, "--model", model, "-o", tmp_path / "x.vtt")
    assert (status, out) == (2, "")
    assert "vtt holds subtitles of one recording; found 2" in err
    assert not (tmp_path / "x.vtt").exists()


def test_recognize_in_every_format(run: Run, model: Path, root: Path) -> None:
    files = sorted((root / "wav").iterdir())[:2]
    status, out, err = run("recognize", *files, "--model", model, "--format", "json")
    assert (status, err) == (0, "")
    answers = json.loads(out)["recognized"]
    assert [one["source"] for one in answers] == [str(file) for file in files]
    status, out, _ = run("recognize", *files, "--model", model, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["emotion"] for row in rows] == [one["tasks"]["emotion"]["label"] for one in answers]
    status, out, _ = run("recognize", *files, "--model", model)
    assert status == 0
    assert answers[0]["tasks"]["emotion"]["label"] in out


def test_recognize_skips_unreadable_files(run: Run, model: Path, root: Path) -> None:
    good = sorted((root / "wav").iterdir())[0]
    Path("text.wav").write_text("this is not audio")
    Path("empty.wav").touch()
    words = ["recognize", "missing.wav", good, "text.wav", "empty.wav"]
    status, out, err = run(*words, "--model", model, "--format", "json")
    document = json.loads(out)
    assert status == 1
    assert [one["source"] for one in document["recognized"]] == [str(good)]
    assert [one["source"] for one in document["failed"]] == ["missing.wav", "text.wav", "empty.wav"]
    assert len(err.splitlines()) == 3
    assert all(line.startswith("serein: ") for line in err.splitlines())


def test_recognize_reads_parts_and_standard_input(
    run: Run, model: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sorted((root / "wav").iterdir())[0]
    part = ["--start", "0.1", "--end", "0.5", "--model", model, "--format", "json"]
    _, out, _ = run("recognize", file, *part)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    _, piped, _ = run("recognize", "-", *part)
    first, second = (json.loads(text)["recognized"][0] for text in (out, piped))
    assert (first["start"], first["end"]) == (0.1, 0.5)
    assert first["tasks"] == second["tasks"]
    assert second["source"] == "bytes"


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (
            ["recognize", "a.wav", "--format", "xml"],
            2,
            "csv, json, label-studio, rttm, table, vtt",
        ),
        (["recognize", "a.wav", "--model", "li2019-emobd"], 2, "did you mean 'li2019-emodb'"),
        (["recognize", "a.wav", "--model", "no.safetensors"], 1, "No such file"),
        (["evaluate", "li2091", "--corpus", "emodb=x"], 2, "did you mean 'li2019'"),
        (["evaluate", "li2019", "--corpus", "emobd=x"], 2, "did you mean 'emodb'"),
        (["evaluate", "li2019", "--corpus", "emodb"], 1, "serein corpora add emodb"),
        (["evaluate", "li2019", "--corpus", "emodb=nowhere"], 1, "does not exist"),
        (["evaluate", "--corpus", "emodb=x"], 2, "--model"),
        (["evaluate", "li2019", "--corpus", "x.csv"], 2, "unknown corpus"),
        (["corpora", "add", "emodb", "nowhere"], 1, "does not exist"),
        (["corpora", "check", "emodb=nowhere"], 1, "does not exist"),
        (["corpora", "fetch", "iemocap"], 2, "Known: emodb, librispeech, ravdess."),
        (["corpora", "fetch", "librispeech"], 2, "serein corpora fetch librispeech dev-clean"),
        (["report", "nowhere"], 2, "nowhere"),
        (["recognize", "a.wav", "--device", "gpu"], 2, "Known: auto, cpu, cuda"),
    ],
)
def test_usage_errors_are_one_line(run: Run, words: list[str], status: int, expected: str) -> None:
    found, _, err = run(*words)
    assert (found, one_line(err)) == (status, True), err
    assert expected in err


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("training.epoch=3", "did you mean 'epochs'"),
        ("training.epochs=many", "training.epochs = 'many'"),
        ("training.epochs=0", "greater than or equal to 1"),
        ("model.name=lee2019", "did you mean 'li2019'"),
        ("epochs=3", "table.key=value"),
        ("trainin.epochs=3", "did you mean 'training'"),
        ("protocol.name=random-split", "did you mean 'random'? Known: by-label, leave-one"),
        ("tasks.mood.weight=1", "unknown task or label 'mood'"),
    ],
)
def test_wrong_settings_suggest_the_right_ones(
    run: Run, root: Path, setting: str, expected: str
) -> None:
    status, _, err = run("evaluate", "li2019", "--corpus", f"synthetic={root}", "--set", setting)
    assert (status, one_line(err)) == (2, True), err
    assert expected in err


def test_bad_corpora_are_one_line(run: Run, tmp_path: Path) -> None:
    write_emodb(tmp_path / "emodb", words=1)
    some = sorted((tmp_path / "emodb/wav").iterdir())
    some[0].rename(tmp_path / "aside.wav")
    status, _, err = run("corpora", "add", "emodb", tmp_path / "emodb")
    assert (status, one_line(err)) == (1, True), err
    assert "534" in err
    assert "535" in err
    (tmp_path / "aside.wav").rename(some[0].with_name("03a01Xa.wav"))
    status, _, err = run("corpora", "add", "emodb", tmp_path / "emodb")
    assert (status, one_line(err)) == (1, True), err
    assert "03a01Xa.wav" in err


def test_bad_tables_name_the_row(run: Run, root: Path) -> None:
    Path("no-path.csv").write_text("speaker,emotion\nann,anger\n")
    Path("gone.csv").write_text(f"file,emotion\n{root / 'labels.csv'},anger\nnowhere.wav,joy\n")
    status, _, err = run("evaluate", "li2019", "--corpus", "mine=no-path.csv")
    assert (status, one_line(err)) == (1, True), err
    status, _, err = run("evaluate", "li2019", "--corpus", "mine=gone.csv")
    assert (status, one_line(err)) == (1, True), err
    assert "row 3" in err


def test_corpora_check(run: Run, tmp_path: Path, root: Path) -> None:
    status, out, _ = run("corpora", "check", f"synthetic={root}")
    assert status == 0
    assert out.startswith("synthetic: 24 utterances of 4 speakers\n")
    assert "no published hashes to compare" in out
    write_emodb(tmp_path / "emodb", utterances=7, words=1)
    status, out, _ = run("corpora", "check", f"emodb={tmp_path / 'emodb'}")
    assert status == 1
    assert out.startswith("emodb: 7 utterances of 7 speakers\n")
    counts = {words: int(count) for count, words in re.findall(r"(\d+) +(changed|missing)", out)}
    assert counts["missing"] + counts["changed"] == 535


def test_corpora_add_and_list(run: Run, tmp_path: Path, root: Path) -> None:
    status, out, _ = run("corpora", "add", "synthetic", root)
    assert status == 0
    assert "24 utterances of 4 speakers" in out
    status, out, _ = run("corpora")
    assert str(root) in out
    assert "emodb" in out
    assert "CC0" in out
    status, out, _ = run(
        "corpora", "make", tmp_path / "more", "--speakers", "2", "--sentences", "1"
    )
    assert status == 0
    assert (tmp_path / "more/labels.csv").is_file()


def test_evaluate_train_and_score_a_model(run: Run, root: Path, tmp_path: Path) -> None:
    corpus = f"spoken={root / 'labels.csv'}"
    status, out, err = run("evaluate", "li2019", "--corpus", corpus, "--jobs", "1", *SMALL)
    assert status == 0, err
    assert "optimistic" in out
    folder = next((tmp_path / "runs").iterdir())
    assert {"results.json", "report.html"} <= {file.name for file in folder.iterdir()}
    assert "epoch 2/2" in err

    status, again, err = run("evaluate", "li2019", "--corpus", corpus, "--jobs", "1", *SMALL)
    assert (status, again) == (0, out)
    assert "--fresh trains again" in err

    words = ["--corpus", corpus, "--run", folder, "-o", "mine.safetensors"]
    status, out, err = run("train", "li2019", *words, *SMALL)
    assert status == 0, err
    status, out, _ = run("card", "mine.safetensors")
    assert "leave-one-speaker-out" in out

    status, out, err = run("evaluate", "--model", "mine.safetensors", "--corpus", corpus)
    assert status == 0, err
    assert "24 of 24 utterances were in this model's training data" in " ".join(out.split())
    assert len(list(tmp_path.glob("runs/mine-spoken-*/report.html"))) == 1

    Path("moods.csv").write_text((root / "labels.csv").read_text().replace("emotion", "mood", 1))
    shutil.copytree(root / "wav", "wav")
    other = ["--model", "mine.safetensors", "--corpus", "other=moods.csv"]
    status, _, err = run("evaluate", *other)
    assert (status, one_line(err)) == (2, True), err
    assert "--set tasks.emotion.label" in err
    status, _, err = run("evaluate", *other, "--set", "tasks.emotion.label=mood")
    assert status == 0, err
    status, _, err = run("evaluate", *other, "--set", "training.epochs=3")
    assert (status, one_line(err)) == (2, True), err

    status, out, _ = run("report", folder)
    assert status == 0
    assert "optimistic" in out


def test_bad_models_are_one_line(run: Run, model: Path, root: Path) -> None:
    content = model.read_bytes()
    file = sorted((root / "wav").iterdir())[0]
    changed = bytearray(content)
    changed[-5] ^= 1
    for bad in (content[:-100], bytes(changed), b"text", b""):
        model.write_bytes(bad)
        status, out, err = run("recognize", file, "--model", model)
        assert (status, out, one_line(err)) == (1, "", True), err


def test_interruption_is_reported_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("serein.recipes.list_recipes", interrupted)
    before = signal.getsignal(signal.SIGINT)
    status, _, err = run("recipes")
    assert (status, one_line(err)) == (130, True)
    assert "run the same command again" in err
    signal.signal(signal.SIGINT, before)


def test_mp3_and_wav_of_one_recording_agree(run: Run, model: Path, root: Path) -> None:
    file = sorted((root / "wav").iterdir())[0]
    samples, rate = soundfile.read(file)
    soundfile.write("speech.mp3", samples, rate)
    shutil.copy(file, "speech.wav")
    _, out, _ = run("recognize", "speech.wav", "speech.mp3", "--model", model, "--format", "json")
    wav, mp3 = (one["tasks"]["emotion"] for one in json.loads(out)["recognized"])
    assert wav["label"] == mp3["label"]
    assert mp3["probabilities"] == pytest.approx(wav["probabilities"], abs=0.05)


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        (("recognize",), "--always", "--answer-nonspeech"),
        (("serve",), "--queue", "--max-requests"),
        (("corpora", "make"), "--telling", "--emotion-word-share"),
        (("train",), "--confidence", "--calibration-run"),
    ],
)
def test_help_shows_new_option_names_only(
    run: Run, command: tuple[str, ...], old: str, new: str
) -> None:
    _, out, _ = run(*command, "--help")
    assert new in out
    assert f"{old} " not in out


def renamed(old: str, new: str) -> str:
    return f"serein: {old} is now {new}; the old name works in this release\n"


def test_renamed_option_of_recognize(run: Run, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", [0.0] * 32_000, 16_000)
    options = ("recognize", "silence.wav", "--model", model, "--format", "json")
    _, plain, _ = run(*options)
    assert not json.loads(plain)["recognized"][0]["speech"]
    new = run(*options, "--answer-nonspeech")
    assert json.loads(new[1])["recognized"][0]["tasks"]
    old = run(*options, "--always")
    assert old == (0, new[1], renamed("--always", "--answer-nonspeech"))


def test_renamed_option_of_corpora_make(run: Run) -> None:
    options = ("--speakers", "1", "--sentences", "1", "--emotions", "anger,sadness")
    run("corpora", "make", "new", *options, "--emotion-word-share", "1")
    status, _, err = run("corpora", "make", "old", *options, "--telling", "1")
    assert (status, err) == (0, renamed("--telling", "--emotion-word-share"))
    assert Path("new/labels.csv").read_text() == Path("old/labels.csv").read_text()


def test_renamed_option_of_train(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, calibration_run: Path, **__: object) -> None:
        raise ConfigError(f"calibrate with {calibration_run}")

    monkeypatch.setattr("serein.evaluation.train.train", refuse)
    options = ("train", "li2019", "--corpus", "mine", "-o", "x.safetensors")
    for name in ("--calibration-run", "--confidence"):
        status, _, err = run(*options, name, "other")
        assert status == 2
        assert err.endswith("serein: calibrate with other\n")
        warning = renamed("--confidence", "--calibration-run")
        assert err.startswith(warning) == (name == "--confidence")


def test_renamed_settings_warn_in_one_line(run: Run, root: Path) -> None:
    options = ("--set", "training.average=0.9", "--set", "model.name=lee2019")
    _, _, err = run("evaluate", "li2019", "--corpus", f"synthetic={root}", *options)
    warning, error = err.splitlines()
    assert warning.startswith("serein: training.average is now training.ema_decay;")
    assert "did you mean 'li2019'" in error
