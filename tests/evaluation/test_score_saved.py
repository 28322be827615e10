"""Scoring a saved model on labelled audio."""

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

ONE = ("training.epochs=1",)
ALONE = ("protocol.validation=none",)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("other")
    emotions = "anger", "fear", "neutral"
    generate(folder, SyntheticConfig(speakers=2, emotions=emotions, sentences=1, words=1, seed=1))
    return corpora.load(f"synthetic={folder}")


def model(heard: Sequence[str] = ()) -> Bundle:
    return Bundle(small_system("features.pad=false").eval(), Card(file_hashes=tuple(heard)))


def test_unknown_classes_are_left_out_and_counted(other: Corpus) -> None:
    results = score_model(model(), other, name="mine")
    assert [one.truth["emotion"] for one in results.predictions] == ["anger", "neutral"] * 2
    assert results.warnings == ["2 of 6 utterances left out: emotion is one of ['fear']"]
    found = results.scores["model"]["emotion"]
    assert found.utterances == 4
    assert list(found.recalls) == ["anger", "neutral", "sadness"]
    assert found.recalls["sadness"] is None
    assert results.corpus["utterances"] == 6
    assert results.name == "mine-synthetic"
    assert results.headline == "model"


def test_what_is_known_of_the_copy_comes_first(other: Corpus) -> None:
    noted = replace(other, notes=("a partial copy: 6 of 48 utterances",))
    assert score_model(model(), noted).warnings == [
        "a partial copy: 6 of 48 utterances",
        "2 of 6 utterances left out: emotion is one of ['fear']",
    ]


def test_a_judged_model_scores_what_it_foretells(corpus: Corpus, tmp_path: Path) -> None:
    results = score_model(model(), corpus)
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


def test_utterances_of_the_training_side_are_warned_of(corpus: Corpus, other: Corpus) -> None:
    heard = list(corpora.hash_contents(corpus.utterances[:5]).values())
    (warning,) = score_model(model(heard), corpus).warnings
    assert warning.startswith("5 of 24 utterances were in this model's training data")
    assert len(score_model(model(heard), corpus).predictions) == 24
    assert not any("training data" in text for text in score_model(model(heard), other).warnings)


def test_a_corpus_without_a_known_class_is_refused(corpus: Corpus) -> None:
    strange = [replace(one, labels={"emotion": "boredom"}) for one in corpus.utterances]
    with pytest.raises(ConfigError, match=r"\['boredom'\].*\['anger', 'neutral', 'sadness'\]"):
        score_model(model(), replace(corpus, utterances=tuple(strange)))


def test_a_judged_model_is_as_sure_as_it_says_and_labels_are_counted(
    corpus: Corpus,
) -> None:
    results = score_model(model(), corpus)
    for task, found in results.calibration.items():
        assert found.calibrated is None
        assert (
            sum(count for count, _, _ in found.raw.bins) == results.scores["model"][task].utterances
        )
    words = {"anger": {"anger": 8}, "neutral": {"neutral": 8}, "sadness": {"sadness": 8}}
    assert results.mapping["emotion"].mapped == words
    turned = score_model(model(), corpus, settings=["tasks.emotion.map.sadness=neutral"])
    assert turned.mapping["emotion"].mapped["neutral"] == {"neutral": 8, "sadness": 8}


def test_judging_does_not_train(corpus: Corpus) -> None:
    bundle = model()
    before = {name: x.clone() for name, x in bundle.system.state_dict().items()}
    one, two = score_model(bundle, corpus), score_model(bundle, corpus)
    assert io.to_builtin(one.predictions) == io.to_builtin(two.predictions)
    assert all(torch.equal(x, before[name]) for name, x in bundle.system.state_dict().items())


def test_what_was_trained_on_is_known_in_any_file(corpus: Corpus, tmp_path: Path) -> None:
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
    assert [one.verdict for one in results.leakage] == ["warning", "clean"]


def test_a_trained_model_answers_as_the_saved_one(corpus: Corpus, tmp_path: Path) -> None:
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


def test_a_leaking_run_gives_no_model_its_confidence(corpus: Corpus, tmp_path: Path) -> None:
    mixed = [*QUICK, "protocol.name=random", "protocol.folds=3", *ONE]
    run = evaluate("li2019", corpus, settings=mixed, runs=tmp_path)
    with pytest.raises(
        ConfigError, match="has leaks, which make its epochs and confidence optimistic"
    ):
        train("li2019", corpus, tmp_path / "a.safetensors", settings=mixed, run=run.folder)


def test_another_evaluation_says_how_far_a_model_is_believed(
    corpus: Corpus, tmp_path: Path
) -> None:
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


def test_validation_that_chooses_nothing_says_how_sure_the_last_epoch_is(
    corpus: Corpus, tmp_path: Path
) -> None:
    longer = [*QUICK, "training.epochs=4", "training.rate=0.03"]
    run = evaluate("li2019", corpus, settings=[*longer, "training.select_by=none"], runs=tmp_path)
    chosen = evaluate("li2019", corpus, settings=longer, runs=tmp_path)
    assert [fold.epochs["validation"] for fold in run.results.folds] == [4] * len(run.results.folds)
    assert any(fold.epochs["validation"] < 4 for fold in chosen.results.folds)
    assert "without a selection" in run.results.selections["validation"]
    assert run.results.scores["validation"] == run.results.scores["last"]
    file = tmp_path / "a.safetensors"
    made = train("li2019", corpus, file, settings=longer, calibration_run=run.folder)
    found = run.results.calibration["emotion"]
    assert made.confidence["emotion"].temperature == pytest.approx(found.temperature, rel=1e-5)


def test_an_evaluation_that_cannot_say_so_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"

    def asked(*settings: str) -> None:
        run = evaluate("li2019", corpus, settings=[*QUICK, *settings], runs=tmp_path)
        train("li2019", corpus, file, settings=QUICK, calibration_run=run.folder)

    with pytest.raises(ConfigError, match="had no validation speakers"):
        asked(*ALONE)
    with pytest.raises(ConfigError, match=r"emotion classes anger, neutral, and this model anger"):
        asked("tasks.emotion.map.sadness=neutral")
    with pytest.raises(ConfigError, match="other settings of model"):
        asked("model.attention=false")
    with pytest.raises(ConfigError, match="has leaks"):
        asked("protocol.name=random", "protocol.folds=3", *ONE)
