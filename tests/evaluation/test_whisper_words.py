"""Text systems that read the words of a Whisper: cache, leakage, and faults."""

from pathlib import Path

import pytest
from builders.whisper_encoders import write_whisper_model

from serein.errors import BundleError, ConfigError, EncoderError, SereinError
from serein.evaluation import transcripts
from serein.evaluation.evaluate import evaluate
from serein.evaluation.train import train
from serein.features import whisper_asr
from serein.results.evaluation import Results
from serein.synthetic import SyntheticConfig, generate

SETTINGS = (
    *("features.bands=12", "features.seconds=4.0", "training.epochs=1", "training.batch=8"),
    *("model.hidden=4", "model.attention_hidden=8", "model.heads=2", "model.dense=8"),
    *("model.embedding=6", "protocol.name=leave-one-speaker-out", "protocol.validation=none"),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    config = SyntheticConfig(speakers=2, sentences=2, words=2, emotions=("anger", "sadness"))
    generate(folder, config)
    return f"synthetic={folder}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEREIN_CACHE", str(tmp_path / "cache"))
    return write_whisper_model(tmp_path / "tiny")


def run(corpus: str, source: object, runs: Path, *settings: str) -> Results:
    named = (*SETTINGS, f"text.transcripts_from={source}", *settings)
    return evaluate("feng2020-text-asr", corpus, settings=named, runs=runs).results


def test_a_text_system_is_tested_on_the_words_of_whisper(
    corpus: str, folder: Path, tmp_path: Path
) -> None:
    results = run(corpus, folder, tmp_path / "runs")
    read = {one.id: one.transcripts["last"] for one in results.predictions}
    assert len(read) == 8
    assert all(text is not None for text in read.values())
    unknown = [one for one in results.leakage if "Whisper" in one.description]
    assert [one.verdict for one in unknown] == ["unknown"]
    files = sorted((tmp_path / "cache" / "transcripts").glob("*.json"))
    assert len(files) == 8


def test_transcripts_are_kept_recording_by_recording(
    corpus: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(corpus, folder, tmp_path / "first")
    files = sorted((tmp_path / "cache" / "transcripts").glob("*.json"))
    files[0].unlink()
    calls = []
    recognize = whisper_asr.WhisperRecognizer.recognize_parts

    def count(*args: object, **kwargs: object) -> object:
        calls.append(args)
        return recognize(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(whisper_asr.WhisperRecognizer, "recognize_parts", count)
    second = run(corpus, folder, tmp_path / "second")
    assert len(calls) == 1
    assert second.predictions == first.predictions
    run(corpus, folder, tmp_path / "third", "text.language=de")
    assert len(calls) == 9


def test_a_whisper_of_the_shared_folder_is_found_by_its_name(
    corpus: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEREIN_ENCODERS", str(tmp_path))
    assert not transcripts.is_evaluation(folder)
    results = run(corpus, "tiny", tmp_path / "runs")
    assert len(results.predictions) == 8


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("tokenizer", r"holds no tokenizer\.json"),
        ("weights", r"holds no model\.safetensors"),
        ("folder", "cannot read"),
        ("language", "the language 'xx' is none of 3"),
    ],
)
def test_a_faulty_whisper_ends_the_run_before_the_training(
    corpus: str, folder: Path, tmp_path: Path, fault: str, message: str
) -> None:
    if fault == "tokenizer":
        (folder / "tokenizer.json").unlink()
    if fault == "weights":
        (folder / "model.safetensors").unlink()
    source = tmp_path / "none.safetensors" if fault == "folder" else folder
    settings = ["text.language=xx"] if fault == "language" else []
    with pytest.raises(SereinError, match=message) as caught:
        run(corpus, source, tmp_path / "runs", *settings)
    assert isinstance(caught.value, BundleError | ConfigError | EncoderError)
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_a_saved_model_carries_no_whisper(corpus: str, folder: Path, tmp_path: Path) -> None:
    settings = (*SETTINGS, f"text.transcripts_from={folder}")
    with pytest.raises(ConfigError, match=r"is a Whisper, which a saved model does not carry"):
        train("feng2020-text-asr", corpus, tmp_path / "m.safetensors", settings=settings)
