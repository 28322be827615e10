"""Saved models that read words: with the recogniser that makes them, and without one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from builders.word_systems import (
    ASR_SIZES,
    EMOTION_SIZES,
    FEATURES,
    noise,
    small_asr,
    small_joint_model,
    small_text_model,
)

from serein import audio, corpora, recipes
from serein.bundle import Bundle, Card, compute_bundle_digest, load, save
from serein.errors import BundleError, ConfigError
from serein.evaluation import transcripts
from serein.evaluation.evaluate import evaluate
from serein.evaluation.plan import build_plan
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.inference.recognizer import Recognizer
from serein.inference.transcribe import Transcriber
from serein.records import Corpus
from serein.report import document
from serein.results import io
from serein.results.evaluation import Results
from serein.system import System

Run = Callable[..., tuple[int, str, str]]
TEXTS = ("LEFT, right!", "up so", None, "down", "away - away", "Left")
EMOTIONS = ("anger", "neutral", "anger", "sadness", "neutral", "xxx")
SPEAKERS = ("s01", "s01", "s02", "s02", "s03", "s03")
TRAINING = (*FEATURES, *EMOTION_SIZES, "training.epochs=1", "training.batch=4")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus whose words are as in real ones: one is missing, others have capitals and signs."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = ["file,emotion,speaker,text"]
    for index, (text, emotion, speaker) in enumerate(zip(TEXTS, EMOTIONS, SPEAKERS, strict=True)):
        wave_s, rate = noise(1.0 + index / 10, index)
        soundfile.write(folder / f"{index}.wav", wave_s, rate, subtype="FLOAT")
        rows.append(f'{index}.wav,{emotion},{speaker},"{text or ""}"')
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def corpus(table: Path) -> Corpus:
    return corpora.as_corpus(f"spoken={table}")


@pytest.fixture(scope="module")
def asr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asr") / "ear.safetensors"
    save(small_asr(), path)
    return path


def headline(results: Results) -> str:
    return " ".join(document.describe_headline(results))


def answers(results: Results) -> list[list[float]]:
    return [prediction.selections["model"]["emotion"] for prediction in results.predictions]


def recognize(model: Bundle, corpus: Corpus, ids: list[str], **words: Any) -> list[list[float]]:
    """Return the probabilities that a recogniser answers with, for each utterance."""
    recognizer = Recognizer(model, answer_nonspeech=True)
    return [
        list(recognizer(u.path, **words).tasks["emotion"].probabilities.values())
        for u in corpus.select(ids)
    ]


# Scoring


@pytest.mark.parametrize("kind", ["text", "combined"])
def test_model_with_a_recogniser_is_scored_on_its_words(kind: str, corpus: Corpus) -> None:
    """It is scored as it is used: with the answers of `recognize`, whatever the corpus says."""
    model = small_text_model(kind, asr=small_asr())
    results = score_model(model, corpus, name="reader")
    ids = [prediction.id for prediction in results.predictions]
    assert len(ids) == 5  # the third has no transcript and needs none, the last no class
    for found, expected in zip(answers(results), recognize(model, corpus, ids), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    transcribe = Transcriber(small_asr())
    texts = [transcribe(utterance.path).text for utterance in corpus.select(ids)]
    assert [one.transcripts["model"] for one in results.predictions] == texts
    silent = [replace(utterance, text=None) for utterance in corpus.utterances]
    mute = score_model(model, replace(corpus, utterances=tuple(silent)))
    assert answers(mute) == answers(results)
    assert mute.words == {}


def test_headline_says_that_words_are_recognised(corpus: Corpus, tmp_path: Path) -> None:
    results = score_model(small_text_model(asr=small_asr()), corpus, name="reader")
    wer = results.words["model"]
    assert (wer.utterances, wer.words, wer.closed) == (4, 7, None)
    assert wer.unknown == 2  # away
    text = "as it is; its words are recognised, by its own recogniser ear, WER "
    assert text in headline(results)
    tables = [table.title for part in document.build_sections(results) for table in part.tables]
    assert "words: error rate, %" in tables
    io.save_record(results, tmp_path)
    assert io.load_results(tmp_path).words["model"].wer == pytest.approx(wer.wer, rel=1e-5)


def test_model_without_a_recogniser_is_scored_on_the_corpus(corpus: Corpus) -> None:
    model = small_text_model("combined")
    results = score_model(model, corpus, name="reader")
    assert "its words are the corpus's own transcripts, not recognised ones" in headline(results)
    assert results.words == {}
    assert [one.id for one in results.predictions] == ["0.wav", "1.wav", "3.wav", "4.wav"]
    assert "1 of 5 utterances left out: they have no transcript" in " ".join(results.warnings)
    for prediction, found in zip(results.predictions, answers(results), strict=True):
        (utterance,) = corpus.select([prediction.id])
        (expected,) = recognize(model, corpus, [prediction.id], words=utterance.text)
        assert found == pytest.approx(expected, abs=1e-5)


def test_joint_model_is_scored_on_the_words_that_it_recognises(corpus: Corpus) -> None:
    results = score_model(small_joint_model(), corpus, name="joint")
    assert "; it recognises words itself, WER " in headline(results)
    assert results.words["model"].utterances == 4
    ids = [prediction.id for prediction in results.predictions]
    expected = recognize(small_joint_model(), corpus, ids)
    for found, answer in zip(answers(results), expected, strict=True):
        assert found == pytest.approx(answer, abs=1e-5)


def test_teacher_forcing_gives_a_saved_model_no_true_words(corpus: Corpus) -> None:
    forced = small_joint_model("model.teacher_forcing=true")
    assert answers(score_model(forced, corpus)) == answers(score_model(small_joint_model(), corpus))


def test_headline_of_a_model_without_words_is_unchanged(corpus: Corpus) -> None:
    results = score_model(small_text_model("audio"), corpus, name="deaf")
    assert results.selections["model"] == "the saved model deaf, as it is"


def test_long_utterance_has_the_words_of_all_windows(corpus: Corpus) -> None:
    """A score is that of the mean over windows; an answer to a long recording is its timeline's."""
    model = small_text_model("text", "features.seconds=0.6", asr=small_asr())
    results = score_model(model, corpus)
    recognizer = Recognizer(model, answer_nonspeech=True)
    for prediction in results.predictions:
        wave_s = audio.load(corpus.select([prediction.id])[0].path, recognizer.rate)
        (answer,) = recognizer.predict_many([(prediction.id, wave_s)])
        wanted = list(answer.tasks["emotion"].probabilities.values())
        assert prediction.selections["model"]["emotion"] == pytest.approx(wanted, abs=1e-5)
        text = " ".join(word.word for word in answer.words if word.word != "</s>")
        assert prediction.transcripts["model"] == text
        assert len(answer.windows) > 1


def test_corpus_without_words_is_an_error(corpus: Corpus) -> None:
    silent = tuple(replace(utterance, text=None) for utterance in corpus.utterances)
    with pytest.raises(ConfigError, match=r"reader \(feng2020-text\) reads words .* column 'text'"):
        score_model(small_text_model(), replace(corpus, utterances=silent), name="reader")


def test_model_that_was_saved_without_its_recogniser_is_not_scored(corpus: Corpus) -> None:
    lost = small_text_model("text-asr", "text.transcripts_from=gone.safetensors")
    with pytest.raises(ConfigError, match=r"old \(feng2020-text-asr\) .* gone.safetensors.* again"):
        score_model(lost, corpus, name="old")


def test_training_data_of_the_recogniser_is_a_warning(corpus: Corpus) -> None:
    ids = [utterance.id for utterance in corpus.utterances[:2]]
    hashes = corpora.hash_contents(corpus.select(ids))
    trained = replace(small_asr(), card=Card(name="ear", file_hashes=tuple(hashes.values())))
    results = score_model(small_text_model(asr=trained), corpus)
    warnings = {one.kind: one for one in results.leakage if one.verdict == "warning"}
    assert list(warnings) == ["duplicate", "speaker"]
    described = warnings["duplicate"].description
    assert described.startswith("2 of 5 utterances were in its recogniser's training")
    assert warnings["speaker"].examples == ("spoken/s01",)
    assert {one.description for one in warnings.values()} <= set(results.warnings)
    assert len(results.leakage) == 4
    results = score_model(small_text_model(asr=small_asr()), corpus)
    assert [one.count for one in results.leakage if one.verdict == "warning"] == [1]  # spoken/s01


# Training


@pytest.mark.parametrize("kind", ["text", "combined"])
def test_training_embeds_the_recogniser(
    kind: str, corpus: Corpus, asr_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "reader.safetensors"
    settings = (*TRAINING, f"text.transcripts_from={asr_file}")
    made = train(f"feng2020-{kind}-asr", corpus, file, settings=settings)
    found, asr = load(file), load(asr_file)
    assert found.asr is not None
    assert compute_bundle_digest(found.asr) == compute_bundle_digest(asr)
    assert "away" in found.system.words  # trained on the corpus's own words
    results = [score_model(model, corpus, name="reader") for model in (made, found)]
    assert answers(results[0]) == answers(results[1])
    assert "by its own recogniser ear" in headline(results[1])
    assert results[1].words["model"].utterances == 4


def test_training_on_transcripts_reads_those_of_the_recogniser(
    corpus: Corpus, asr_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = transcripts.encode_transcripts

    def record_texts(system: System, utterances: Any, texts: transcripts.Texts) -> Any:
        seen.append(texts)
        return encode(system, utterances, texts)

    monkeypatch.setattr(transcripts, "encode_transcripts", record_texts)
    file = tmp_path / "reader.safetensors"
    named = (*TRAINING, f"text.transcripts_from={asr_file}")
    train("feng2020-text-asr", corpus, file, settings=named)
    train("feng2020-text-asr", corpus, file, settings=(*named, "text.train_on_transcripts=true"))
    own, recognised = seen
    assert own == {}
    transcribe = Transcriber(asr_file)
    trained = {u.id: transcribe(u.path).text for u in corpus.utterances if u.id in recognised}
    assert recognised == trained
    assert len(trained) >= 5


def test_training_without_a_recogniser_embeds_none(corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "reader.safetensors"
    train("feng2020-text", corpus, file, settings=TRAINING)
    assert load(file).asr is None
    assert Recognizer(file).word_source == "given"


@pytest.mark.parametrize("source", ["runs/a", "run.json", "run.json.gz"])
def test_run_of_an_evaluation_gives_no_recogniser(
    source: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its folds has one, whether the run is there or not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    settings = (*TRAINING, f"text.transcripts_from={source}")
    message = "an evaluation, in which each fold has a recogniser .*transcripts_from=FILE"
    with pytest.raises(ConfigError, match=message):
        train("feng2020-text-asr", corpus, tmp_path / "a.safetensors", settings=settings)
    assert not (tmp_path / "a.safetensors").exists()


# Recognisers that are gone, altered or none


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def replace_by_text_model(file: Path) -> None:
    save(small_text_model(name="other"), file)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (
        Path.unlink,
        "text.transcripts_from: cannot read the model .*ear.safetensors: No such",
    ),
    "altered": (alter, "text.transcripts_from: .*ear.safetensors was changed after it was saved"),
    "cut": (cut, "text.transcripts_from: .*ear.safetensors is not a serein model, or is cut short"),
    "other": (replace_by_text_model, r"other \(feng2020-text\) does not recognise words"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_recogniser_is_an_error_before_any_training(
    fault: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ear.safetensors"
    save(small_asr(), file)
    change, message = FAULTS[fault]
    change(file)
    monkeypatch.setattr("serein.evaluation.train.fit", pytest.fail)
    monkeypatch.setattr("serein.evaluation.folds.fit", pytest.fail)
    settings = (*TRAINING, f"text.transcripts_from={file}")
    error = ConfigError if fault == "other" else BundleError
    with pytest.raises(error, match=message) as training_error:
        train("feng2020-text-asr", corpus, tmp_path / "a.safetensors", settings=settings)
    folds = ("protocol.name=leave-one-speaker-out", "protocol.validation=none")
    with pytest.raises(error, match=message) as evaluation_error:
        evaluate("feng2020-text-asr", corpus, settings=(*settings, *folds), runs=tmp_path / "runs")
    assert str(training_error.value) == str(evaluation_error.value)
    assert "\n" not in str(training_error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "cannot read .*ear.safetensors: No such file.* restore the file"),
        (lambda file: save(small_asr(seed=5), file), "ear.safetensors was changed after this run"),
    ],
)
def test_recogniser_that_changes_during_a_run_is_an_error(
    change: Callable[[Path], object], message: str, corpus: Corpus, tmp_path: Path
) -> None:
    file = tmp_path / "ear.safetensors"
    save(small_asr(), file)
    folds = (
        "protocol.name=leave-one-speaker-out",
        "protocol.validation=none",
        "protocol.allow=speaker",
    )
    recipe = recipes.load("feng2020-text-asr", [*TRAINING, *folds, f"text.transcripts_from={file}"])
    plan = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path / "runs")
    assert len(plan.load_asr_transcripts()) >= 5
    change(file)
    with pytest.raises(BundleError, match=rf"text\.transcripts_from: .*{message}"):
        plan.load_asr_transcripts()


def test_initial_model_that_is_gone_is_named_by_its_setting(corpus: Corpus, tmp_path: Path) -> None:
    settings = (*FEATURES, *ASR_SIZES, *EMOTION_SIZES, f"training.init={tmp_path}/no.safetensors")
    with pytest.raises(BundleError, match=r"training\.init: cannot read the model .*--set"):
        train("feng2020", corpus, tmp_path / "a.safetensors", settings=settings)


# Commands


def test_commands_with_a_model_that_carries_its_recogniser(
    run: Run, table: Path, asr_file: Path, tmp_path: Path
) -> None:
    where, model = f"spoken={table}", tmp_path / "reader.safetensors"
    options = [word for setting in TRAINING for word in ("--set", setting)]
    named = ["--set", f"text.transcripts_from={asr_file}", "-o", model]
    status, out, _ = run("train", "feng2020-combined-asr", "--corpus", where, *options, *named)
    assert status == 0
    assert "MB, of which the recogniser 0.02 MB, 1 epochs" in out
    status, out, _ = run("evaluate", "--model", model, "--corpus", where)
    assert status == 0
    assert "its words are recognised, by its own recogniser ear" in " ".join(out.split())
    status, out, _ = run("card", model)
    assert "## Words\n\nby the speech recogniser ear (feng2020-asr), 4,312 weights" in out
    file = table.parent / "0.wav"
    status, out, _ = run("recognize", "-m", model, "--answer-nonspeech", "--format=json", file)
    assert status == 0
    assert '"word": "</s>"' in out
    status, out, _ = run("explain", "-m", model, "--format", "json", file)
    assert status == 0
    assert '"recogniser"' in out


def test_commands_with_a_model_that_needs_words(run: Run, table: Path, tmp_path: Path) -> None:
    model, file = tmp_path / "reader.safetensors", table.parent / "0.wav"
    save(small_text_model("combined"), model)
    recognize = ("recognize", "-m", model, "--answer-nonspeech")
    status, _, complaint = run(*recognize, file, table.parent / "1.wav")
    assert status == 2
    assert complaint.count("\n") == 1
    assert "reads words and has no recogniser" in complaint
    assert "--words" in complaint
    status, out, complaint = run(*recognize, file, "--words", "so left", "--format", "json")
    assert (status, complaint) == (0, "")
    assert '"word": "so"' in out
    status, out, _ = run("explain", "-m", model, file, "--words", "so left", "--format", "json")
    assert status == 0
    status, out, _ = run("evaluate", "-m", model, "--corpus", f"spoken={table}")
    assert "its words are the corpus's own transcripts" in " ".join(out.split())


@pytest.mark.parametrize(
    "words",
    [
        ["0.wav", "1.wav"],
        ["."],
        ["0.wav", "--window", "1"],
        ["0.wav", "--format", "vtt"],
        ["0.wav", "--channels", "each"],
    ],
)
def test_words_are_of_one_recording(
    run: Run, table: Path, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "reader.safetensors"
    save(small_text_model(), model)
    monkeypatch.chdir(table.parent)
    given = [str(table.parent / word) if "wav" in word or word == "." else word for word in words]
    status, _, complaint = run("recognize", "-m", model, "--words", "left", *given)
    assert status == 2
    assert "--words are those of one recording with one answer" in complaint


def test_words_for_a_model_that_reads_none_are_an_error(
    run: Run, table: Path, tmp_path: Path
) -> None:
    model = tmp_path / "audio.safetensors"
    save(small_text_model("audio"), model)
    file = table.parent / "0.wav"
    status, _, complaint = run("recognize", "-m", model, file, "--words", "left")
    assert status == 2
    assert "does not read words; leave them out" in complaint


def test_folder_of_a_model_that_needs_words_is_one_error(
    run: Run, table: Path, tmp_path: Path
) -> None:
    model = tmp_path / "reader.safetensors"
    save(small_text_model(), model)
    for options in ([], ["--window", "1"]):
        status, _, complaint = run(
            "recognize", "-m", model, table.parent, "-o", tmp_path / "out.csv", *options
        )
        assert status == 2
        assert complaint.count("\n") == 1
        assert "segments, streams and folders have no words" in complaint
    assert not list(tmp_path.glob("out.csv*"))
