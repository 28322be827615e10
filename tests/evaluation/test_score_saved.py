"""Tests of scoring a saved model on labelled audio."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from builders.small_systems import QUICK, small_system
from sklearn.metrics import accuracy_score

from serein import corpora
from serein.bundle import Bundle, Card, load
from serein.errors import ConfigError
from serein.evaluation.evaluate import evaluate
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.records import Corpus
from serein.results import io
from serein.synthetic import SyntheticConfig, generate
from serein.utils.cache import list_entries

ONE = ("training.epochs=1",)
ALONE = ("protocol.validation=none",)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("other")
    emotions = "anger", "fear", "neutral"
    generate(folder, SyntheticConfig(speakers=2, emotions=emotions, sentences=1, words=1, seed=1))
    return corpora.load(f"synthetic={folder}")


def untrained_model(file_hashes: Sequence[str] = ()) -> Bundle:
    return Bundle(small_system("features.pad=false").eval(), Card(file_hashes=tuple(file_hashes)))


def test_unknown_classes_are_dropped_and_counted(other: Corpus) -> None:
    results = score_model(untrained_model(), other, name="mine")
    assert [one.truth["emotion"] for one in results.predictions] == ["anger", "neutral"] * 2
    assert results.warnings == ["2 of 6 utterances left out: emotion is one of ['fear']"]
    found = results.scores["model"]["emotion"]
    assert found.utterances == 4
    assert list(found.recalls) == ["anger", "neutral", "sadness"]
    assert found.recalls["sadness"] is None
    assert results.corpus["utterances"] == 6
    texts = {utterance.id: utterance.text for utterance in other.utterances}
    assert [one.text for one in results.predictions] == [texts[p.id] for p in results.predictions]
    assert results.name == "mine-synthetic"
    assert results.headline == "model"


def test_notes_of_the_corpus_come_first(other: Corpus) -> None:
    noted = replace(other, notes=("a partial copy: 6 of 48 utterances",))
    assert score_model(untrained_model(), noted).warnings == [
        "a partial copy: 6 of 48 utterances",
        "2 of 6 utterances left out: emotion is one of ['fear']",
    ]


def test_scores_are_of_the_models_predictions(corpus: Corpus, tmp_path: Path) -> None:
    results = score_model(untrained_model(), corpus)
    truth = [one.truth["emotion"] for one in results.predictions]
    classes = results.classes["emotion"]
    rows = [one.selections["model"]["emotion"] for one in results.predictions]
    answers = [classes[int(np.argmax(row))] for row in rows]
    assert results.scores["model"]["emotion"].wa == pytest.approx(accuracy_score(truth, answers))
    assert results.warnings == []
    io.save_record(results, tmp_path)
    assert io.load_results(tmp_path).scores["model"]["emotion"].confusion == (
        results.scores["model"]["emotion"].confusion
    )


def test_scoring_adds_no_features_to_the_cache(other: Corpus) -> None:
    score_model(untrained_model(), other)
    assert [one.kind for one in list_entries() if one.kind != "hashes of files"] == []


def test_training_utterances_are_a_warning(corpus: Corpus, other: Corpus) -> None:
    file_hashes = list(corpora.hash_contents(corpus.utterances[:5]).values())
    warning, of_speakers = score_model(untrained_model(file_hashes), corpus).warnings
    assert warning.startswith("5 of 24 utterances were in this model's training data")
    assert of_speakers.startswith("1 speaker was in this model's training data")
    assert len(score_model(untrained_model(file_hashes), corpus).predictions) == 24
    assert not any(
        "training data" in text
        for text in score_model(untrained_model(file_hashes), other).warnings
    )


def test_corpus_without_a_class_of_the_model_is_an_error(corpus: Corpus) -> None:
    strange = [replace(one, labels={"emotion": "boredom"}) for one in corpus.utterances]
    with pytest.raises(ConfigError, match=r"\['boredom'\].*\['anger', 'neutral', 'sadness'\]"):
        score_model(untrained_model(), replace(corpus, utterances=tuple(strange)))


def test_raw_calibration_and_label_counts(
    corpus: Corpus,
) -> None:
    results = score_model(untrained_model(), corpus)
    for task, found in results.calibration.items():
        assert found.calibrated is None
        assert (
            sum(count for count, _, _ in found.raw.bins) == results.scores["model"][task].utterances
        )
    words = {"anger": {"anger": 8}, "neutral": {"neutral": 8}, "sadness": {"sadness": 8}}
    assert results.mapping["emotion"].mapped == words
    turned = score_model(untrained_model(), corpus, settings=["tasks.emotion.map.sadness=neutral"])
    assert turned.mapping["emotion"].mapped["neutral"] == {"neutral": 8, "sadness": 8}


def test_scoring_does_not_change_the_model(corpus: Corpus) -> None:
    bundle = untrained_model()
    before = {name: x.clone() for name, x in bundle.system.state_dict().items()}
    one, two = score_model(bundle, corpus), score_model(bundle, corpus)
    assert io.to_builtin(one.predictions) == io.to_builtin(two.predictions)
    assert all(torch.equal(x, before[name]) for name, x in bundle.system.state_dict().items())


def test_training_audio_is_found_in_other_files(corpus: Corpus, tmp_path: Path) -> None:
    trained = train("li2019", corpus, tmp_path / "a.safetensors", settings=[*QUICK, *ONE])
    known = {one.kind: one for one in score_model(trained, corpus).leakage}
    assert (known["duplicate"].count, known["speaker"].count) == (24, 4)
    flac = []
    for one in corpus.utterances:
        samples, rate = soundfile.read(one.path, dtype="int16")
        file = tmp_path / f"{one.id}.flac"
        soundfile.write(file, samples, rate)
        flac.append(replace(one, path=file))
    other_name = Corpus(name="other", utterances=tuple(flac))
    results = score_model(trained, other_name)
    assert "24 of 24 utterances were in this model's training data" in "".join(results.warnings)
    assert [one.verdict for one in results.leakage] == ["warning", "warning"]


def test_trained_and_loaded_model_predict_the_same(corpus: Corpus, tmp_path: Path) -> None:
    run = evaluate("li2019", corpus, settings=QUICK, runs=tmp_path)
    file = tmp_path / "a.safetensors"
    made = train("li2019", corpus, file, settings=QUICK, run=run.folder)
    saved = load(file)
    assert made.confidence == saved.confidence
    assert made.confidence["emotion"].temperature != 1
    assert made.system.temperatures == saved.system.temperatures
    ours, theirs = (score_model(one, corpus).predictions for one in (made, saved))
    assert ours == theirs
    found = run.results.calibration["emotion"]
    assert made.confidence["emotion"].temperature == pytest.approx(found.temperature, abs=1e-5)
    assert made.confidence["emotion"].threshold == pytest.approx(found.threshold, abs=1e-5)


def test_evaluation_with_leaks_gives_no_confidence(corpus: Corpus, tmp_path: Path) -> None:
    mixed = [*QUICK, "protocol.name=random", "protocol.folds=3", *ONE]
    run = evaluate("li2019", corpus, settings=mixed, runs=tmp_path)
    with pytest.raises(
        ConfigError, match="has leaks, which make its epochs and confidence optimistic"
    ):
        train("li2019", corpus, tmp_path / "a.safetensors", settings=mixed, run=run.folder)


def test_confidence_is_transferred_from_another_evaluation(corpus: Corpus, tmp_path: Path) -> None:
    elsewhere = Corpus(name="elsewhere", utterances=corpus.utterances[:-1])
    own = evaluate("li2019", corpus, settings=[*QUICK, *ALONE], runs=tmp_path)
    other = evaluate("li2019", elsewhere, settings=QUICK, runs=tmp_path)
    file = tmp_path / "a.safetensors"
    made = train(
        "li2019", corpus, file, settings=QUICK, run=own.folder, calibration_run=other.folder
    )
    assert made.system.recipe.training["epochs"] == own.results.recipe["training"]["epochs"]
    found = other.results.calibration["emotion"]
    assert made.confidence["emotion"].temperature == pytest.approx(found.temperature, rel=1e-5)
    assert "of elsewhere" in made.confidence["emotion"].description
    assert made.card.scores.startswith("spoken, ")


def test_validation_without_selection_calibrates_the_last_epoch(
    corpus: Corpus, tmp_path: Path
) -> None:
    longer = [*QUICK, "training.epochs=4", "training.rate=0.03"]
    run = evaluate("li2019", corpus, settings=[*longer, "training.select_by=none"], runs=tmp_path)
    chosen = evaluate("li2019", corpus, settings=longer, runs=tmp_path)
    assert [fold.epochs["validation"] for fold in run.results.folds] == [4] * len(run.results.folds)
    assert any(fold.epochs["validation"] < 4 for fold in chosen.results.folds)
    assert "select_by = none" in run.results.selections["validation"]
    assert run.results.scores["validation"] == run.results.scores["last"]
    file = tmp_path / "a.safetensors"
    made = train("li2019", corpus, file, settings=longer, calibration_run=run.folder)
    found = run.results.calibration["emotion"]
    assert made.confidence["emotion"].temperature == pytest.approx(found.temperature, rel=1e-5)


def test_evaluation_without_confidence_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"

    def train_with(*settings: str) -> None:
        run = evaluate("li2019", corpus, settings=[*QUICK, *settings], runs=tmp_path)
        train("li2019", corpus, file, settings=QUICK, calibration_run=run.folder)

    with pytest.raises(ConfigError, match="had no validation speakers"):
        train_with(*ALONE)
    with pytest.raises(ConfigError, match=r"emotion classes anger, neutral, and this model anger"):
        train_with("tasks.emotion.map.sadness=neutral")
    with pytest.raises(ConfigError, match="other settings of model"):
        train_with("model.attention=false")
    with pytest.raises(ConfigError, match="has leaks"):
        train_with("protocol.name=random", "protocol.folds=3", *ONE)
