"""Tests of the systems of Feng et al. 2020, from corpus to report, on small synthetic speech."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from serein import bundle, recipes
from serein import corpora as reading
from serein.errors import BundleError, ConfigError, ProtocolError
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import build_plan
from serein.evaluation.train import train
from serein.inference.explain import collect_explanations, explain
from serein.inference.model_loading import list_models
from serein.inference.onnx_export import to_onnx
from serein.inference.recognizer import Recognizer
from serein.inference.transcribe import Transcriber
from serein.labels.vocabulary import SPECIAL_TOKENS
from serein.metrics.word_error_rate import compute_word_scores
from serein.records import Finding
from serein.report import document, explanation, terminal
from serein.report import html as page
from serein.report.markdown import render_markdown
from serein.results import io
from serein.synthetic import SyntheticConfig, generate
from serein.system import check_recipe

SMALL = (
    "features.bands=12",
    "features.seconds=4.0",
    "training.epochs=2",
    "training.batch=8",
)
ASR_SETTINGS = (
    *SMALL,
    "model.encoder_hidden=8",
    "model.encoder_layers=1",
    "model.decoder_hidden=8",
    "model.decoder_words=8",
    "model.decoder_attention=8",
    "model.max_steps=6",
    "model.beam=2",
)
EMOTION_SETTINGS = (
    "model.hidden=4",
    "model.attention_hidden=8",
    "model.heads=2",
    "model.dense=8",
    "model.embedding=6",
    "model.frames=200",
    "protocol.name=leave-one-speaker-out",
)
SYNTHETIC = {"emotions": ("anger", "sadness"), "words": 2, "emotion_word_share": 1.0}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two corpora with different voices and sentences."""
    root = tmp_path_factory.mktemp("words")
    generate(root / "first", SyntheticConfig(speakers=2, sentences=4, seed=1, **SYNTHETIC))  # type: ignore[arg-type]
    generate(root / "second", SyntheticConfig(speakers=3, sentences=3, seed=2, **SYNTHETIC))  # type: ignore[arg-type]
    return {name: root / name for name in ("first", "second")}


@pytest.fixture(scope="module")
def asr_model(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ASR model that was trained on the first corpus."""
    path = tmp_path_factory.mktemp("ear") / "ear.safetensors"
    table = corpora["first"] / "labels.csv"
    train("feng2020-asr", f"heard={table}", path, settings=(*ASR_SETTINGS, "text.min_count=1"))
    return path


@pytest.fixture(scope="module")
def joint(
    corpora: dict[str, Path], asr_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The joint system on the second corpus, initialized with the ASR model."""
    return evaluate(
        "feng2020",
        f"synthetic={corpora['second']}",
        settings=(*ASR_SETTINGS, *EMOTION_SETTINGS, f"training.init={asr_model}"),
        runs=tmp_path_factory.mktemp("runs"),
    )


def test_asr_model_keeps_its_vocabulary(asr_model: Path) -> None:
    words = bundle.load(asr_model).system.words
    assert words[:3] == SPECIAL_TOKENS
    assert all(word.isalpha() for word in words[3:])
    assert len(words) > 6


def test_asr_model_transcribes_a_file(asr_model: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = Transcriber(asr_model)(file)
    assert found.id == str(file)
    assert found.seconds > 0.3
    assert found.score <= 0
    assert [word.word for word in found.words if word.word != "</s>"] == found.text.split()
    assert all(0 <= (word.time or 0) <= found.seconds for word in found.words)


def test_model_without_words_cannot_transcribe() -> None:
    with pytest.raises(ConfigError, match=r"does not recognise words; .* feng2020-asr-an4"):
        Transcriber(list_models()["li2019-emodb"])


def test_asr_recipe_cannot_be_evaluated_by_folds(corpora: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"only transcribes.*serein train.*serein transcribe"):
        evaluate("feng2020-asr", f"synthetic={corpora['first']}", runs=tmp_path)


def test_joint_system_recognizes_words_and_emotion(joint: Run) -> None:
    scores = joint.results.words["validation"]
    assert scores.utterances == 18
    assert scores.words == sum(len((one.text or "").split()) for one in joint.results.predictions)
    assert scores.wer is not None
    assert scores.closed == 18
    assert set(joint.results.classes) == {"emotion"}
    assert all("transcript" not in one.selections["last"] for one in joint.results.predictions)
    assert all("wer" in fold.scores["last"]["transcript"] for fold in joint.results.folds)


def test_results_round_trip(joint: Run) -> None:
    evaluate_reading_system = io.load_results(joint.folder)
    assert evaluate_reading_system.words["last"].words == joint.results.words["last"].words
    assert (
        evaluate_reading_system.predictions[0].transcripts
        == joint.results.predictions[0].transcripts
    )


def test_reports_show_word_error_rates(joint: Run) -> None:
    html = page.render_html(joint.results)
    assert "Closed set" in html
    assert "transcripts with most errors" in html
    titles = [
        table.title for part in document.build_sections(joint.results) for table in part.tables
    ]
    assert "words: error rate, %" in titles
    console = Console(width=80, record=True)
    console.print(terminal.render_terminal(joint.results))
    assert "words: error rate" in console.export_text()


def test_vocabulary_of_a_fold_is_of_its_training_subset(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    apart = ("protocol.disjoint=text", "protocol.disjoint_groups=3")
    recipe = recipes.load("feng2020-text", [*SMALL, *EMOTION_SETTINGS, *apart])
    todo = build_plan(
        recipe,
        reading.as_corpus(f"synthetic={corpora['second']}"),
        seed=0,
        device="cpu",
        runs=tmp_path,
    )
    fold = todo.protocol.folds[0]
    said = {word for one in todo.corpus.select(fold.train) for word in (one.text or "").split()}
    assert set(todo.build_system(fold).words) == {*SPECIAL_TOKENS, *said}


def evaluate_reading_system(
    corpora: dict[str, Path], runs: Path, *settings: str, system: str = "text"
) -> Run:
    """Evaluate a system that reads transcripts on the second corpus."""
    return evaluate(
        f"feng2020-{system}-asr",
        f"synthetic={corpora['second']}",
        settings=(*SMALL, *EMOTION_SETTINGS, *settings),
        runs=runs,
    )


@pytest.mark.parametrize("system", ["text", "combined"])
def test_reading_systems_are_tested_on_asr_transcripts(
    system: str, corpora: dict[str, Path], asr_model: Path, tmp_path: Path
) -> None:
    settings = (f"text.transcripts_from={asr_model}", "training.epochs=1")
    run = evaluate_reading_system(corpora, tmp_path, *settings, system=system)
    assert run.results.scores["last"]["emotion"].utterances == 18
    scores = run.results.words["last"]
    assert (scores.utterances, scores.closed) == (18, None)
    assert scores.wer is not None
    assert scores.words == sum(len((p.text or "").split()) for p in run.results.predictions)
    shown = render_markdown(run.results)
    assert "Of the transcripts that the system read in tests, by ear." in shown
    assert "words: this run and published results, %" in shown


def test_each_utterance_has_the_transcript_of_its_test_fold(
    corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    named = f"text.transcripts_from={joint.folder}"
    recipe = recipes.load("feng2020-text-asr", [*SMALL, *EMOTION_SETTINGS, named])
    corpus = reading.as_corpus(f"synthetic={corpora['second']}")
    todo = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
    wanted = {one.id: one.transcripts["validation"] for one in joint.results.predictions}
    assert todo.load_asr_transcripts() == wanted
    run = evaluate_reading_system(corpora, tmp_path, named)
    assert run.results.scores["last"]["emotion"].utterances == 18


def test_changed_results_are_read_again(
    corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    file, named = (
        tmp_path / "run.json",
        [*SMALL, *EMOTION_SETTINGS, f"text.transcripts_from={tmp_path / 'run.json'}"],
    )
    recipe = recipes.load("feng2020-text-asr", named)
    corpus = reading.as_corpus(f"synthetic={corpora['second']}")
    for word in ("bi", "du"):
        said = dict.fromkeys(joint.results.selections, word)
        changed = [replace(one, transcripts=said) for one in joint.results.predictions]
        scored = compute_word_scores(
            [str(one.text) for one in changed],
            [word] * len(changed),
            [one.speaker for one in changed],
            closed=None,
            unknown=0,
        )
        words = dict.fromkeys(joint.results.selections, scored)
        io.save_record(replace(joint.results, predictions=changed, words=words), file)
        todo = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
        assert set(todo.load_asr_transcripts().values()) == {word}


@pytest.mark.parametrize(
    "split",
    [
        ("protocol.name=speaker-k-fold", "protocol.folds=2", "protocol.validation=none"),
        ("protocol.name=by-label", "protocol.by=speaker", "protocol.test=s01"),
    ],
)
def test_transcripts_of_other_folds_are_an_error(
    split: tuple[str, ...], corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"tested the folds .* this recipe has"):
        evaluate_reading_system(corpora, tmp_path, *split, f"text.transcripts_from={joint.folder}")


def test_leaks_of_transcripts_are_findings(
    corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    words = "ear.safetensors was trained on 9 utterances that validate or are tested"
    leak = Finding(kind="duplicate", verdict="allowed", count=9, description=words, examples=())
    io.save_record(replace(joint.results, leakage=[leak]), tmp_path / "run.json")
    runs = tmp_path / "runs"
    settings = (f"text.transcripts_from={tmp_path / 'run.json'}", "training.epochs=1")
    with pytest.raises(ProtocolError, match=r"whose transcripts are read: ear\.safetensors"):
        evaluate_reading_system(corpora, runs, *settings)
    with pytest.raises(ConfigError, match=r"text\.train_on_transcripts = true needs transcripts"):
        evaluate_reading_system(corpora, runs, *settings, "text.train_on_transcripts=true")
    run = evaluate_reading_system(corpora, runs, *settings, "protocol.allow=duplicate")
    verdicts = {
        one.kind: one.verdict for one in run.results.leakage if "transcripts" in one.description
    }
    assert verdicts == {"duplicate": "allowed", "validation": "warning"}
    other = replace(joint.results, corpus={**joint.results.corpus, "hash": "0" * 16})
    io.save_record(other, tmp_path / "other.json")
    with pytest.raises(ConfigError, match="of the corpus 0000000000000000; this recipe has"):
        evaluate_reading_system(corpora, runs, f"text.transcripts_from={tmp_path / 'other.json'}")


def test_missing_transcripts_are_an_error(
    corpora: dict[str, Path], asr_model: Path, tmp_path: Path
) -> None:
    split = ("protocol.name=by-label", "protocol.by=speaker", "protocol.test=s01")
    where, once = f"synthetic={corpora['second']}", (*split, "training.epochs=1")
    without_words = evaluate(
        "feng2020-audio", where, settings=(*SMALL, *EMOTION_SETTINGS, *once), runs=tmp_path
    )
    source = f"text.transcripts_from={without_words.folder}"
    with pytest.raises(ConfigError, match="holds no transcripts: feng2020-audio does not"):
        evaluate_reading_system(corpora, tmp_path, *once, source)
    settings = (*ASR_SETTINGS, *EMOTION_SETTINGS, *once, f"training.init={asr_model}")
    fixed = evaluate("feng2020", where, settings=settings, runs=tmp_path)
    with pytest.raises(ConfigError, match=r"tested none of 6 validation utterances"):
        evaluate_reading_system(corpora, tmp_path, *once, f"text.transcripts_from={fixed.folder}")


def test_training_data_of_the_asr_model_is_not_tested(
    corpora: dict[str, Path], asr_model: Path, tmp_path: Path
) -> None:
    corpus = f"again={corpora['first'] / 'labels.csv'}"
    settings = (
        *ASR_SETTINGS,
        *EMOTION_SETTINGS,
        f"training.init={asr_model}",
        "protocol.validation=none",
    )
    with pytest.raises(ProtocolError, match=r"ear.safetensors, .* was trained on 16 utterances"):
        evaluate("feng2020", corpus, settings=settings, runs=tmp_path)


def test_corpus_without_text_is_an_error(corpora: dict[str, Path], tmp_path: Path) -> None:
    lines = (corpora["second"] / "labels.csv").read_text().splitlines()
    table = tmp_path / "mute.csv"
    rows = [line.rsplit(",", 1)[0] for line in lines]
    named = [rows[0], *(f"{corpora['second']}/{row}" for row in rows[1:])]
    table.write_text("\n".join(named) + "\n")
    with pytest.raises(ConfigError, match=r"none of \d+ training utterances has a transcript"):
        evaluate(
            "feng2020-text",
            f"mute={table}",
            settings=(*SMALL, *EMOTION_SETTINGS),
            runs=tmp_path / "runs",
        )


def test_transcript_is_not_a_task() -> None:
    with pytest.raises(ConfigError, match=r"write their settings in \[text\]"):
        check_recipe(recipes.load("feng2020-audio", ["tasks.transcript.weight=0.2"]))


def test_initial_weights_of_another_front_end_are_an_error(
    corpora: dict[str, Path], asr_model: Path, tmp_path: Path
) -> None:
    settings = (*ASR_SETTINGS, *EMOTION_SETTINGS, f"training.init={asr_model}", "features.bands=16")
    with pytest.raises(BundleError, match="has the front end"):
        evaluate("feng2020", f"synthetic={corpora['second']}", settings=settings, runs=tmp_path)


@pytest.fixture(scope="module")
def saved_joint_model(
    corpora: dict[str, Path], asr_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The joint system as a saved model."""
    path = tmp_path_factory.mktemp("whole") / "joint.safetensors"
    settings = (*ASR_SETTINGS, *EMOTION_SETTINGS, f"training.init={asr_model}")
    train("feng2020", f"synthetic={corpora['second']}", path, settings=settings)
    return path


def test_recognition_has_the_words(saved_joint_model: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = Recognizer(saved_joint_model)(file)
    assert found.words[-1].word == "</s>"
    assert sum(word.weight or 0 for word in found.words) == pytest.approx(1, abs=1e-4)
    assert len(found.attention["recogniser"].weights) == len(found.words)
    assert found.attention["recogniser"].words
    assert "words" not in found.attention
    assert found.to_dict()["words"][0].keys() == {"word", "time", "weight"}


def test_timeline_has_emotions(saved_joint_model: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = Recognizer(saved_joint_model).timeline(file, window=0.5, hop=0.25, speech=False)
    assert found.segments
    assert {tuple(one.tasks) for one in found.segments} == {("emotion",)}


def test_model_with_beam_search_is_not_exported(saved_joint_model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="feng2020 with a speech recogniser cannot be exported: its"
    ):
        to_onnx(bundle.load(saved_joint_model), tmp_path / "joint.onnx")


def test_explanation_shows_the_words(saved_joint_model: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = explain(saved_joint_model, file)
    assert found.attention["recogniser"].words == [word.word for word in found.words]
    assert found.attention["recogniser"].by_head == []
    html = explanation.render_html(collect_explanations([found], {}))
    assert "Words, as recognised:" in html
    assert "recognised words and their weights" in html


def test_reading_model_needs_transcripts(corpora: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    train(
        "feng2020-text",
        f"synthetic={corpora['second']}",
        path,
        settings=(*SMALL, *EMOTION_SETTINGS),
    )
    file = next((corpora["second"] / "wav").glob("*.wav"))
    with pytest.raises(ConfigError, match="reads words and has no recogniser that makes them"):
        Recognizer(path)(file)
