"""Models that serein did not build: functions, estimators and audio classifiers."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import serein
from serein import audio
from serein.errors import ConfigError
from serein.evaluation import answers
from serein.evaluation.answers import FunctionModel
from serein.evaluation.external import UNKNOWN_TRAINING, evaluate_external
from serein.evaluation.pooled_features import Features, standardize_by_speaker
from serein.metrics.calibration import expected_calibration_error
from serein.records import Corpus, Utterance
from serein.report import audit, document, html, summary, tables
from serein.results.evaluation import MODEL, Results

EMOTIONS = ("anger", "neutral", "sadness")
Wave = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(autouse=True)
def _without_forest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out the nuisance baseline, which takes seconds, and write into an empty folder."""
    monkeypatch.setattr("serein.evaluation.nuisance.score_nuisance", lambda *_: {})
    monkeypatch.chdir(tmp_path)


def loudness(wave: Wave, rate: int) -> list[float]:
    assert wave.ndim == 1
    return [float(np.sqrt(np.mean(wave**2))), len(wave) / rate]


class Centroids:
    """An estimator without a library: the nearest mean of a class."""

    def fit(self, x_nd: Wave, labels_n: Wave) -> "Centroids":
        self.classes_ = sorted({*labels_n.tolist()})
        self.means = np.stack([x_nd[labels_n == name].mean(axis=0) for name in self.classes_])
        return self

    def predict_proba(self, x_nd: Wave) -> Wave:
        distance_nk = np.linalg.norm(x_nd[:, None] - self.means, axis=2)
        p_nk = np.exp(-distance_nk)
        return cast(Wave, p_nk / p_nk.sum(axis=1, keepdims=True))

    def predict(self, x_nd: Wave) -> list[str]:
        return [self.classes_[int(k)] for k in self.predict_proba(x_nd).argmax(axis=1)]


class LabelsOnly(Centroids):
    predict_proba: Any = property(lambda self: self.missing)
    """Not there, as that of an SVC without probabilities."""

    def predict(self, x_nd: Wave) -> list[str]:
        distance_nk = np.linalg.norm(x_nd[:, None] - self.means, axis=2)
        return [self.classes_[int(k)] for k in distance_nk.argmin(axis=1)]


def numpy_state() -> list[int]:
    state: list[int] = np.random.get_state(legacy=False)["state"]["key"].tolist()
    return state


def always_anger(wave: Wave, rate: int) -> dict[str, float]:
    return {"anger": 0.6, "neutral": 0.3, "sadness": 0.1}


def test_an_estimator_is_trained_in_each_fold(corpus: Corpus) -> None:
    model = Centroids()
    run = serein.evaluate(model, corpus, features=loudness, protocol="leave-one-speaker-out")
    results = run.results
    assert not hasattr(model, "means"), "the estimator itself is not trained"
    assert len(results.folds) == 4
    assert len(results.predictions) == 24
    assert results.recipe["name"] == "Centroids"
    assert "fitted on each fold's training subset" in results.selections[MODEL]
    assert UNKNOWN_TRAINING not in results.protocol["caution"]
    assert all(fold.temperatures for fold in results.folds), "validation speakers calibrate"
    assert results.calibration["emotion"].calibrated is not None
    by_id = {u.id: u for u in corpus.utterances}
    for fold in results.protocol["folds"]:
        test = {by_id[id_].speaker for id_ in fold["test"]}
        assert not test & {by_id[id_].speaker for id_ in (*fold["train"], *fold["validation"])}


def test_scores_follow_from_an_estimator_trained_by_hand(corpus: Corpus) -> None:
    results = serein.evaluate(Centroids(), corpus, features=loudness).results
    vectors = {}
    for utterance in corpus.utterances:
        wave = audio.load(utterance.path)
        vectors[utterance.id] = loudness(wave, 16_000)
    label = {u.id: str(u.labels["emotion"]) for u in corpus.utterances}
    predicted, rows = {}, {}
    for fold in results.protocol["folds"]:
        fitted = Centroids().fit(
            np.array([vectors[id_] for id_ in fold["train"]]),
            np.array([label[id_] for id_ in fold["train"]]),
        )
        for id_ in fold["test"]:
            rows[id_] = fitted.predict_proba(np.array([vectors[id_]]))[0]
            predicted[id_] = fitted.predict(np.array([vectors[id_]]))[0]
    correct = {id_ for id_ in predicted if predicted[id_] == label[id_]}
    scores = results.scores[MODEL]["emotion"]
    assert scores.wa == pytest.approx(len(correct) / len(label))
    recalls = [
        len([i for i in correct if label[i] == name]) / sum(v == name for v in label.values())
        for name in EMOTIONS
    ]
    assert scores.ua == pytest.approx(np.mean(recalls))
    ids = list(label)
    p_nk = np.array([rows[id_] for id_ in ids])
    truth_n = np.array([EMOTIONS.index(label[id_]) for id_ in ids])
    ece = expected_calibration_error(p_nk, truth_n)
    assert results.calibration["emotion"].raw.ece == pytest.approx(ece, abs=1e-6)


def test_front_ends_give_means_and_deviations(corpus: Corpus) -> None:
    steps: list[tuple[str, int, int]] = []
    run = serein.evaluate(
        Centroids(),
        corpus,
        features={"name": "logmel", "bands": 8, "deltas": False},
        on_step=lambda *step: steps.append(step),
    )
    assert "means and deviations over time of logmel (bands=8" in run.results.selections[MODEL]
    assert ("features logmel", 24, 24) in steps
    assert steps[-1] == ("folds of Centroids", 4, 4)


def test_an_estimator_without_probabilities_has_labels_only(corpus: Corpus) -> None:
    results = serein.evaluate(LabelsOnly(), corpus, features=loudness).results
    assert results.calibration == {}
    assert results.confident_errors == []
    assert any("labels without probabilities" in text for text in results.warnings)
    assert {sum(p.selections[MODEL]["emotion"]) for p in results.predictions} == {1.0}


def test_several_seeds_of_an_estimator(corpus: Corpus) -> None:
    class Random(Centroids):
        def predict_proba(self, x_nd: Wave) -> Wave:
            p_nk = np.random.random((len(x_nd), len(self.classes_)))
            return cast(Wave, p_nk / p_nk.sum(axis=1, keepdims=True))

    state = numpy_state()
    runs = [
        serein.evaluate(Random(), corpus, features=loudness, seeds=2, runs=f"run{number}").results
        for number in (1, 2)
    ]
    assert [repeat.seed for repeat in runs[0].repeats] == [0, 1]
    assert runs[0].predictions == runs[1].predictions
    folders = [Path("run1") / repeat.run for repeat in runs[0].repeats]
    first, second = (serein.load_results(folder).predictions for folder in folders)
    assert first != second
    assert numpy_state() == state


def test_a_function_is_used_as_it_is(corpus: Corpus) -> None:
    run = serein.evaluate(always_anger, corpus)
    results = serein.load_results(str(run.folder))
    scores = results.scores[MODEL]["emotion"]
    assert scores.wa == pytest.approx(1 / 3)
    assert scores.recalls == {"anger": 1.0, "neutral": 0.0, "sadness": 0.0}
    assert results.protocol["caution"] == UNKNOWN_TRAINING
    assert results.folds[0].epochs == {MODEL: 1}
    assert math.isnan(results.folds[0].history[0].loss)
    page = html.render_html(results)
    assert "Learning curves" not in page
    fold_table = tables.build_fold_table(results, "emotion")
    assert fold_table is not None
    assert "epoch" not in {column.name for column in fold_table.columns}


@pytest.mark.parametrize(
    ("answer", "classes"),
    [
        ("anger", ()),
        ({"anger": 1.0}, ()),
        ([{"label": "anger", "score": 0.7}, {"label": "sadness", "score": 0.3}], ()),
        (np.array([0.1, 0.8, 0.1]), ("neutral", "anger", "sadness")),
        ((0.1, 0.8, 0.1), ("neutral", "anger", "sadness")),
    ],
)
def test_forms_of_an_answer(answer: object, classes: tuple[str, ...]) -> None:
    found = answers.Answers()
    found.add("a", answer, classes)
    assert max(found.of["a"], key=found.of["a"].__getitem__) == "anger"
    assert sum(found.of["a"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"anger": 0.5, "sadness": 0.3}, r"answer for a: .* anger, sadness sum to 0.8; expected 1"),
        ({"anger": 50.0, "sadness": 50.0}, "sum to 100; expected 1: divide them by 100"),
        ({"anger": -2.5, "sadness": 3.5}, r"anger -2.5 is no probability.*softmax"),
        ({"anger": math.nan}, "anger nan is no probability"),
        (np.array([0.5, 0.5]), r"2 numbers, and which class each stands for.*classes="),
        (3, "is 3; expected a label"),
        (None, "is None; expected a label"),
        ({"anger": "high"}, "expected a label, or a dictionary"),
        ({}, "expected a label"),
    ],
)
def test_faulty_answers_are_errors(answer: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        answers.Answers().add("a", answer)


def test_an_answer_with_another_number_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"3 numbers for 2 classes \(joy, fear\)"):
        answers.Answers().add("a", [0.2, 0.3, 0.5], ("joy", "fear"))


def failing(ids: set[str], corpus: Corpus) -> Callable[[Wave, int], str]:
    lengths = {len(audio.load(u.path)) for u in corpus.utterances if u.id in ids}

    def answer(wave: Wave, rate: int) -> str:
        if len(wave) in lengths:
            raise ValueError("no voice\nfound")
        return "sadness"

    return answer


def test_a_file_on_which_a_function_fails_is_missed_and_listed(corpus: Corpus) -> None:
    sad = next(u.id for u in corpus.utterances if u.labels["emotion"] == "sadness")
    results = serein.evaluate(failing({sad}, corpus), corpus, name="mine").results
    (note,) = [text for text in results.warnings if "without an answer" in text]
    assert f"{sad} (ValueError: no voice found)" in note
    assert note.endswith("they count as errors")
    (missed,) = [p for p in results.predictions if p.id == sad]
    assert missed.predicted_label(MODEL, "emotion", results.classes["emotion"]) != "sadness"
    assert results.scores[MODEL]["emotion"].recalls["sadness"] == pytest.approx(7 / 8)


def test_a_function_that_always_fails_is_an_error(corpus: Corpus) -> None:
    def broken(wave: Wave) -> str:
        return "anger"

    message = (
        r"broken failed on each of the first 5 recordings.*TypeError.*broken\(waveform, rate\)"
    )
    with pytest.raises(ConfigError, match=message):
        serein.evaluate(broken, corpus)


def test_features_that_fail_are_missed_in_tests_and_left_out_of_training(corpus: Corpus) -> None:
    bad = corpus.utterances[0].id
    length = len(audio.load(corpus.utterances[0].path))

    def features(wave: Wave, rate: int) -> list[float]:
        return [math.nan, 0.0] if len(wave) == length else loudness(wave, rate)

    results = serein.evaluate(Centroids(), corpus, features=features).results
    (note,) = [text for text in results.warnings if "without an answer" in text]
    assert f"{bad} (ConfigError: features of values that are not finite)" in note


def test_labels_of_another_spelling_are_suggested(corpus: Corpus) -> None:
    def model(wave: Wave, rate: int) -> dict[str, float]:
        return {"Ang": 0.5, "neutral": 0.25, "sad": 0.25}

    with pytest.raises(ConfigError, match=r"answers 'Ang', 'sad'.*--labels Ang=anger,sad=sadness"):
        serein.evaluate(model, corpus)
    renames = {"Ang": "anger", "sad": "sadness"}
    assert serein.evaluate(model, corpus, labels=renames).results.scores[MODEL]["emotion"].wa
    with pytest.raises(ConfigError, match="labels names fear, which model never answers"):
        serein.evaluate(model, corpus, labels={"fear": "anger"})


def test_answers_that_no_label_has(corpus: Corpus) -> None:
    replies = cycle(["surprise", "anger"])

    def surprised(wave: Wave, rate: int) -> str:
        return next(replies)

    results = serein.evaluate(surprised, corpus).results
    assert results.classes["emotion"] == [*EMOTIONS, "surprise"]
    assert any("answers of surprise are always wrong" in text for text in results.warnings)
    with pytest.raises(ConfigError, match="none of these is a class of spoken"):
        serein.evaluate(lambda wave, rate: "LABEL_1", corpus)


def test_utterances_whose_class_a_model_lacks_are_left_out(corpus: Corpus) -> None:
    def two(wave: Wave, rate: int) -> list[float]:
        return [0.6, 0.4]

    results = serein.evaluate(two, corpus, classes=("anger", "sadness")).results
    assert len(results.predictions) == 16
    assert any("neutral (8)" in text for text in results.warnings)


def test_labels_of_one_class_are_added() -> None:
    merged = answers.merge_labels(
        {"calm": 0.25, "neutral": 0.5, "fear": 0.25}, {"calm": "a", "neutral": "a", "fear": "b"}
    )
    assert merged == {"a": 0.75, "b": 0.25}


def test_a_corpus_without_speakers_is_not_split_for_a_fixed_model(corpus: Corpus) -> None:
    anonymous = replace(
        corpus, utterances=tuple(replace(u, speaker=None) for u in corpus.utterances)
    )
    results = serein.evaluate(always_anger, anonymous).results
    assert results.protocol["name"] == "not split"
    assert len(results.predictions) == 24
    assert "majority" not in results.baselines
    with pytest.raises(serein.SereinError, match="speaker"):
        serein.evaluate(Centroids(), anonymous, features=loudness)


def test_another_protocol_and_runs_compared_with_a_recipe(corpus: Corpus) -> None:
    first = serein.evaluate(always_anger, corpus)
    second = serein.evaluate(Centroids(), corpus, features=loudness)
    comparison = serein.compare(first, second.folder)
    (test,) = comparison.paired_tests
    assert test.utterances == 24
    assert not [text for text in comparison.warnings if "same split" in text]
    settings = {"name": "speaker-k-fold", "folds": 2, "validation": "none"}
    other = serein.evaluate(always_anger, corpus, protocol=settings).results
    assert other.protocol["name"] == "speaker-k-fold"
    assert len(other.folds) == 2
    assert other.calibration["emotion"].calibrated is None
    assert other.calibration["emotion"].thresholds


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Centroids(), {}, r"Centroids is trained on features.*'egemaps'"),
        (always_anger, {"features": "logmel"}, "features are for an estimator"),
        (always_anger, {"settings": "training.epochs=3"}, "'training.epochs=3' cannot change"),
        (always_anger, {"settings": ["tasks.gender.label=gender"]}, "one task.*emotion, gender"),
        (always_anger, {"settings": ["tasks.emotion.scheme=values"]}, "scored by classes"),
        (always_anger, {"audit": True}, "always_anger is used as it is: no fold trains it"),
        (Centroids(), {"features": {"bands": 8}}, "names no front end"),
        (Centroids(), {"features": lambda wave, rate: [0.0] * (len(wave) % 3 + 1)}, "lengths"),
        (17, {}, "type int cannot be evaluated; expected a recipe"),
        ("model.safetensors", {}, r"serein\.score_model"),
    ],
)
def test_faulty_calls(corpus: Corpus, model: object, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        serein.evaluate(model, corpus, **options)


def test_an_estimator_that_fails_names_the_fold(corpus: Corpus) -> None:
    class Broken(Centroids):
        def fit(self, x_nd: Wave, labels_n: Wave) -> "Centroids":
            raise ValueError("too few")

    with pytest.raises(ConfigError, match=r"Broken fails in fold s01, on 12 vectors of 2 numbers"):
        serein.evaluate(Broken(), corpus, features=loudness)


def test_the_report_has_every_section(corpus: Corpus) -> None:
    results: Results = evaluate_external(FunctionModel(always_anger, name="mine"), corpus).results
    titles = {section.title for section in document.build_sections(results)}
    assert {"Headline", "Scores", "Classes", "Confidence", "Leakage check", "Labels"} <= titles


def test_an_audio_classifier_of_transformers(corpus: Corpus, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    labels = {0: "ang", 1: "neu", 2: "sad"}
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(40, 8),
        conv_kernel=(40, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
    )
    torch.manual_seed(0)
    folder = tmp_path / "my-wav2vec2"
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"no audio classifier of transformers.*save_pre"):
        serein.load_audio_classifier(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder)
    model = serein.load_audio_classifier(str(folder))
    assert (model.name, model.rate, model.labels) == ("my-wav2vec2", 16_000, ("ang", "neu", "sad"))
    with pytest.raises(ConfigError, match="--labels ang=anger,neu=neutral,sad=sadness"):
        serein.evaluate(model, corpus)
    renames = {"ang": "anger", "neu": "neutral", "sad": "sadness"}
    results = serein.evaluate(model, corpus, labels=renames).results
    assert len(results.predictions) == 24
    assert len(str(results.environment["weights"])) == 16
    with pytest.raises(ConfigError, match=r"no-model is no folder; .*ORG/NAME"):
        serein.load_audio_classifier("no-model")
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        serein.load_audio_classifier(tmp_path)


def test_an_estimator_is_audited(corpus: Corpus) -> None:
    run = serein.evaluate(Centroids(), corpus, features=loudness, audit=True, seeds=2)
    mixed, by_speaker = run.results.optimistic_variants
    assert (mixed.name, by_speaker.name) == ("random-split", "test-speaker-normalisation")
    assert by_speaker.description.startswith("features standardised by each speaker's own")
    assert len(run.results.repeats) == 2
    plain = serein.evaluate(Centroids(), corpus, features=loudness).results
    assert run.results.scores == plain.scores
    variant = serein.load_results(run.folder.parent / by_speaker.run)
    assert variant.recipe["normalise"] == {"statistics": "speaker"}
    assert any("vectors are standardised by speaker" in text for text in html_warnings(variant))
    split = serein.load_results(run.folder.parent / mixed.run)
    assert split.protocol["name"] == "random"
    table = audit.build_optimistic_table(run.results)
    assert table is not None
    assert [row.cells[0] for row in table.rows] == [
        "as quoted",
        "random split",
        "test speaker normalisation",
    ]


def html_warnings(results: Results) -> list[str]:
    return summary.list_warnings(results)


def test_vectors_are_standardised_within_each_speaker() -> None:
    utterances = [Utterance(id=str(n), path=Path("a.wav"), speaker="ab"[n % 2]) for n in range(6)]
    vectors = {str(n): np.array([float(n), 5.0]) for n in range(6)}
    found = standardize_by_speaker(Features(vectors, {}, "x"), utterances)
    x_nd = np.stack([found.of[str(n)] for n in (0, 2, 4)])
    assert x_nd[:, 0].mean() == pytest.approx(0)
    assert x_nd[:, 0].std() == pytest.approx(1)
    assert (x_nd[:, 1] == 0).all(), "a number that does not vary"
