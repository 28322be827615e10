"""Words from a corpus to a report: recogniser, transcripts, joint training; small and by audio."""

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
from serein.records import Finding
from serein.report import document, explanation, terminal
from serein.report import html as page
from serein.results import io
from serein.synthetic import SyntheticConfig, generate
from serein.system import check_recipe

SMALL = (
    "features.bands=12",
    "features.seconds=4.0",
    "training.epochs=2",
    "training.batch=8",
)
EAR = (
    *SMALL,
    "model.encoder_hidden=8",
    "model.encoder_layers=1",
    "model.decoder_hidden=8",
    "model.decoder_words=8",
    "model.decoder_attention=8",
    "model.max_steps=6",
    "model.beam=2",
)
HEART = (
    "model.hidden=4",
    "model.attention_hidden=8",
    "model.heads=2",
    "model.dense=8",
    "model.embedding=6",
    "model.frames=200",
    "protocol.name=leave-one-speaker-out",
)
MADE = {"emotions": ("anger", "sadness"), "words": 2, "emotion_word_share": 1.0}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two corpora of other voices and sentences, of which each has two speakers more."""
    root = tmp_path_factory.mktemp("words")
    generate(root / "first", SyntheticConfig(speakers=2, sentences=4, seed=1, **MADE))  # type: ignore[arg-type]
    generate(root / "second", SyntheticConfig(speakers=3, sentences=3, seed=2, **MADE))  # type: ignore[arg-type]
    return {name: root / name for name in ("first", "second")}


@pytest.fixture(scope="module")
def ear(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser that has heard the first corpus."""
    path = tmp_path_factory.mktemp("ear") / "ear.safetensors"
    table = corpora["first"] / "labels.csv"
    train("feng2020-asr", f"heard={table}", path, settings=(*EAR, "text.min_count=1"))
    return path


@pytest.fixture(scope="module")
def joint(corpora: dict[str, Path], ear: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The joint system on the second corpus, begun from the recogniser."""
    return evaluate(
        "feng2020",
        f"synthetic={corpora['second']}",
        settings=(*EAR, *HEART, f"training.init={ear}"),
        runs=tmp_path_factory.mktemp("runs"),
    )


def test_a_recogniser_keeps_its_words(ear: Path) -> None:
    words = bundle.load(ear).system.words
    assert words[:3] == SPECIAL_TOKENS
    assert all(word.isalpha() for word in words[3:])
    assert len(words) > 6


def test_a_recogniser_writes_down_a_file(ear: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = Transcriber(ear)(file)
    assert found.id == str(file)
    assert found.seconds > 0.3
    assert found.score <= 0
    assert [word.word for word in found.words if word.word != "</s>"] == found.text.split()
    assert all(0 <= (word.time or 0) <= found.seconds for word in found.words)


def test_a_model_without_words_is_no_recogniser() -> None:
    with pytest.raises(ConfigError, match=r"does not recognise words; .* feng2020-asr-an4"):
        Transcriber(list_models()["li2019-emodb"])


def test_a_recogniser_alone_has_no_folds(corpora: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"only transcribes.*serein train.*serein transcribe"):
        evaluate("feng2020-asr", f"synthetic={corpora['first']}", runs=tmp_path)


def test_the_joint_system_finds_words_and_emotion(joint: Run) -> None:
    scores = joint.results.words["validation"]
    assert scores.utterances == 18
    assert scores.words == sum(len((one.text or "").split()) for one in joint.results.predictions)
    assert scores.wer is not None
    assert scores.closed == 18
    assert set(joint.results.classes) == {"emotion"}
    assert all("transcript" not in one.selections["last"] for one in joint.results.predictions)
    assert all("wer" in fold.scores["last"]["transcript"] for fold in joint.results.folds)


def test_its_results_are_read_back(joint: Run) -> None:
    read = io.load_results(joint.folder)
    assert read.words["last"].words == joint.results.words["last"].words
    assert read.predictions[0].transcripts == joint.results.predictions[0].transcripts


def test_reports_tell_the_words(joint: Run) -> None:
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


def test_a_fold_knows_the_words_of_its_training_side(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    apart = ("protocol.disjoint=text", "protocol.disjoint_groups=3")
    recipe = recipes.load("feng2020-text", [*SMALL, *HEART, *apart])
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


def read(corpora: dict[str, Path], runs: Path, *settings: str, system: str = "text") -> Run:
    """A system that reads transcripts, on the second corpus."""
    return evaluate(
        f"feng2020-{system}-asr",
        f"synthetic={corpora['second']}",
        settings=(*SMALL, *HEART, *settings),
        runs=runs,
    )


@pytest.mark.parametrize("system", ["text", "combined"])
def test_systems_that_read_are_judged_by_transcripts(
    system: str, corpora: dict[str, Path], ear: Path, tmp_path: Path
) -> None:
    settings = (f"text.transcripts_from={ear}", "training.epochs=1")
    run = read(corpora, tmp_path, *settings, system=system)
    assert run.results.scores["last"]["emotion"].utterances == 18
    assert run.results.words == {}


def test_each_utterance_is_read_as_the_fold_that_tested_it_heard_it(
    corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    named = f"text.transcripts_from={joint.folder}"
    recipe = recipes.load("feng2020-text-asr", [*SMALL, *HEART, named])
    corpus = reading.as_corpus(f"synthetic={corpora['second']}")
    todo = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
    wanted = {one.id: one.transcripts["validation"] for one in joint.results.predictions}
    assert todo.load_asr_transcripts() == wanted
    run = read(corpora, tmp_path, named)
    assert run.results.scores["last"]["emotion"].utterances == 18


def test_results_that_were_made_anew_are_read_anew(
    corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    file, named = (
        tmp_path / "run.json",
        [*SMALL, *HEART, f"text.transcripts_from={tmp_path / 'run.json'}"],
    )
    recipe = recipes.load("feng2020-text-asr", named)
    corpus = reading.as_corpus(f"synthetic={corpora['second']}")
    for word in ("bi", "du"):
        said = dict.fromkeys(joint.results.selections, word)
        changed = [replace(one, transcripts=said) for one in joint.results.predictions]
        io.save_record(replace(joint.results, predictions=changed), file)
        todo = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
        assert set(todo.load_asr_transcripts().values()) == {word}


@pytest.mark.parametrize(
    "split",
    [
        ("protocol.name=speaker-k-fold", "protocol.folds=3"),
        ("protocol.name=by-label", "protocol.by=speaker", "protocol.test=s01"),
    ],
)
def test_transcripts_of_other_folds_are_refused(
    split: tuple[str, ...], corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"tested the folds .* this recipe has"):
        read(corpora, tmp_path, *split, f"text.transcripts_from={joint.folder}")


def test_leaks_that_transcripts_bring_along_are_found(
    corpora: dict[str, Path], joint: Run, tmp_path: Path
) -> None:
    words = "ear.safetensors was trained on 9 utterances that validate or are tested"
    leak = Finding(kind="duplicate", verdict="allowed", count=9, description=words, examples=())
    io.save_record(replace(joint.results, leakage=[leak]), tmp_path / "run.json")
    runs = tmp_path / "runs"
    settings = (f"text.transcripts_from={tmp_path / 'run.json'}", "training.epochs=1")
    with pytest.raises(ProtocolError, match=r"whose transcripts are read: ear\.safetensors"):
        read(corpora, runs, *settings)
    with pytest.raises(ConfigError, match=r"text\.train_on_transcripts = true needs transcripts"):
        read(corpora, runs, *settings, "text.train_on_transcripts=true")
    run = read(corpora, runs, *settings, "protocol.allow=duplicate")
    verdicts = {
        one.kind: one.verdict for one in run.results.leakage if "transcripts" in one.description
    }
    assert verdicts == {"duplicate": "allowed", "validation": "warning"}
    other = replace(joint.results, corpus={**joint.results.corpus, "hash": "0" * 16})
    io.save_record(other, tmp_path / "other.json")
    with pytest.raises(ConfigError, match="of the corpus 0000000000000000; this recipe has"):
        read(corpora, runs, f"text.transcripts_from={tmp_path / 'other.json'}")


def test_transcripts_that_nobody_wrote_are_missed(
    corpora: dict[str, Path], ear: Path, tmp_path: Path
) -> None:
    split = ("protocol.name=by-label", "protocol.by=speaker", "protocol.test=s01")
    where, once = f"synthetic={corpora['second']}", (*split, "training.epochs=1")
    mute = evaluate("feng2020-audio", where, settings=(*SMALL, *HEART, *once), runs=tmp_path)
    with pytest.raises(ConfigError, match="holds no transcripts: feng2020-audio does not"):
        read(corpora, tmp_path, *once, f"text.transcripts_from={mute.folder}")
    settings = (*EAR, *HEART, *once, f"training.init={ear}")
    fixed = evaluate("feng2020", where, settings=settings, runs=tmp_path)
    with pytest.raises(ConfigError, match=r"tested none of 6 validation utterances"):
        read(corpora, tmp_path, *once, f"text.transcripts_from={fixed.folder}")


def test_what_has_been_heard_is_not_tested(
    corpora: dict[str, Path], ear: Path, tmp_path: Path
) -> None:
    corpus = f"again={corpora['first'] / 'labels.csv'}"
    settings = (*EAR, *HEART, f"training.init={ear}", "protocol.validation=none")
    with pytest.raises(ProtocolError, match=r"ear.safetensors, .* was trained on 16 utterances"):
        evaluate("feng2020", corpus, settings=settings, runs=tmp_path)


def test_a_corpus_without_text_cannot_be_read(corpora: dict[str, Path], tmp_path: Path) -> None:
    lines = (corpora["second"] / "labels.csv").read_text().splitlines()
    table = tmp_path / "mute.csv"
    rows = [line.rsplit(",", 1)[0] for line in lines]
    named = [rows[0], *(f"{corpora['second']}/{row}" for row in rows[1:])]
    table.write_text("\n".join(named) + "\n")
    with pytest.raises(ConfigError, match=r"none of \d+ training utterances has a transcript"):
        evaluate(
            "feng2020-text", f"mute={table}", settings=(*SMALL, *HEART), runs=tmp_path / "runs"
        )


def test_words_are_no_task_among_others() -> None:
    with pytest.raises(ConfigError, match=r"write their settings in \[text\]"):
        check_recipe(recipes.load("feng2020-audio", ["tasks.transcript.weight=0.2"]))


def test_another_front_end_cannot_be_begun_from(
    corpora: dict[str, Path], ear: Path, tmp_path: Path
) -> None:
    settings = (*EAR, *HEART, f"training.init={ear}", "features.bands=16")
    with pytest.raises(BundleError, match="has the front end"):
        evaluate("feng2020", f"synthetic={corpora['second']}", settings=settings, runs=tmp_path)


@pytest.fixture(scope="module")
def whole(corpora: dict[str, Path], ear: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The joint system as a saved model."""
    path = tmp_path_factory.mktemp("whole") / "joint.safetensors"
    settings = (*EAR, *HEART, f"training.init={ear}")
    train("feng2020", f"synthetic={corpora['second']}", path, settings=settings)
    return path


def test_a_recognition_holds_the_words(whole: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = Recognizer(whole)(file)
    assert found.words[-1].word == "</s>"
    assert sum(word.weight or 0 for word in found.words) == pytest.approx(1, abs=1e-4)
    assert len(found.attention["recogniser"].weights) == len(found.words)
    assert found.attention["recogniser"].words
    assert "words" not in found.attention
    assert found.to_dict()["words"][0].keys() == {"word", "time", "weight"}


def test_a_timeline_is_of_emotions(whole: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = Recognizer(whole).timeline(file, window=0.5, hop=0.25, speech=False)
    assert found.segments
    assert {tuple(one.tasks) for one in found.segments} == {("emotion",)}


def test_a_model_with_a_search_is_not_exported(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feng2020 cannot be exported: its beam search"):
        to_onnx(bundle.load(whole), tmp_path / "joint.onnx")


def test_an_explanation_shows_the_words(whole: Path, corpora: dict[str, Path]) -> None:
    file = next((corpora["second"] / "wav").glob("*.wav"))
    found = explain(whole, file)
    assert found.attention["recogniser"].words == [word.word for word in found.words]
    assert found.attention["recogniser"].by_head == []
    html = explanation.render_html(collect_explanations([found], {}))
    assert "Words, as recognised:" in html
    assert "recognised words and their weights" in html


def test_a_model_that_reads_needs_to_be_told(corpora: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    train("feng2020-text", f"synthetic={corpora['second']}", path, settings=(*SMALL, *HEART))
    file = next((corpora["second"] / "wav").glob("*.wav"))
    with pytest.raises(ConfigError, match="this model reads words, and none were given"):
        Recognizer(path)(file)
