"""Class sets: answers among some of a model's classes, everywhere that a model answers."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.service_client import RECOGNIZE, SPEECH, open_client
from builders.small_systems import small_system
from builders.speech_streams import make_speech
from builders.websocket_client import host_service, stream_pcm, to_pcm

from serein.bundle import Bundle, Card, ConfidenceCalibration, save
from serein.errors import ConfigError, UnknownName
from serein.evaluation.score_saved import score_model
from serein.inference.recognizer import Recognizer
from serein.labels.class_sets import find_prior_factors, renormalize, resolve_class_set
from serein.records import Corpus

RATE = 16_000
PAIR = ("anger", "sadness")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle(small_system("features.pad=false").eval(), Card(name="small"))


@pytest.fixture(scope="module")
def whole(bundle: Bundle) -> Recognizer:
    return Recognizer(bundle, answer_nonspeech=True)


@pytest.fixture(scope="module")
def pair(bundle: Bundle) -> Recognizer:
    return Recognizer(bundle, answer_nonspeech=True, classes=PAIR)


def noise(seconds: float) -> tuple[np.ndarray, int]:
    wave_s = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    return wave_s, RATE


def test_probabilities_are_a_softmax_over_the_logits_of_the_set(
    whole: Recognizer, pair: Recognizer
) -> None:
    before, after = whole(noise(1.0)), pair(noise(1.0))
    assert tuple(after.tasks["emotion"].probabilities) == PAIR
    p_k = torch.tensor([before.tasks["emotion"].probabilities[name] for name in PAIR])
    wanted = p_k.log().softmax(dim=0)
    got = torch.tensor(list(after.tasks["emotion"].probabilities.values()))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)
    assert after.tasks["gender"] == before.tasks["gender"]


def test_every_window_is_renormalised_before_the_mean(pair: Recognizer) -> None:
    wave_s, rate = noise(20)
    (long,) = pair.predict_many([("long", wave_s)])
    ends = [round(end * rate) for _, end in long.windows]
    parts = np.split(wave_s, ends[:-1])
    for name in PAIR:
        alone = [pair((part, rate)).tasks["emotion"].probabilities[name] for part in parts]
        mean = float(np.mean(alone))
        assert long.tasks["emotion"].probabilities[name] == pytest.approx(mean, abs=1e-5)


def test_order_of_the_set_does_not_matter_and_other_tasks_may_be_named(whole: Recognizer) -> None:
    classes = whole.system.classes
    assert resolve_class_set("sadness, anger", classes) == {"emotion": PAIR}
    assert resolve_class_set(["sadness", "anger", "anger"], classes) == {"emotion": PAIR}
    both = {"emotion": "anger,neutral", "gender": ["male", "female"]}
    assert resolve_class_set(both, classes) == {
        "emotion": ("anger", "neutral"),
        "gender": ("female", "male"),
    }
    assert whole.with_classes(PAIR).with_classes(None).classes == classes


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("anger,sadnes", UnknownName, r"unknown class of emotion 'sadnes'; did you mean 'sadness'"),
        ("anger,boredom", UnknownName, r"Known: anger, neutral, sadness"),
        ("anger", ConfigError, "the class set of emotion is anger; expected two or more of anger"),
        ({"mood": PAIR}, UnknownName, "unknown classification task 'mood'"),
    ],
)
def test_unknown_and_single_classes_are_refused(
    whole: Recognizer, given: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        whole.with_classes(given)


def test_model_of_numbers_has_no_class_set() -> None:
    with pytest.raises(ConfigError, match=r"all tasks of the model \(arousal\) predict numbers"):
        resolve_class_set(PAIR, {"arousal": ()})


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_priors_of_the_recipe_have_no_part_in_a_class_set(temperature: float) -> None:
    priors = {"neutral": 3.0, "fear": 0.25}
    classes = ("anger", "fear", "neutral")
    logit_k = np.array([0.3, 0.1, -0.4])
    with_priors_k = (logit_k + np.log([1.0, 0.25, 3.0])) / temperature
    prior_k = find_prior_factors({"name": "lda", "priors": priors}, classes, temperature)
    got = renormalize(np.exp(with_priors_k)[None] / np.exp(with_priors_k).sum(), [0, 2], prior_k)
    wanted_k = np.exp(logit_k[[0, 2]] / temperature)
    np.testing.assert_allclose(got[0], wanted_k / wanted_k.sum())
    assert find_prior_factors({"name": "svm"}, classes) == [1.0, 1.0, 1.0]


def test_recognition_and_evaluation_remove_the_same_priors(corpus: Corpus) -> None:
    system = small_system("features.pad=false").eval()
    saved = Bundle(system, Card(name="small"), {"emotion": ConfidenceCalibration(1.7, 0.3, "x")})
    table = {**system.recipe.model, "priors": {"neutral": 30.0}}
    plain = Recognizer(saved, answer_nonspeech=True, classes=("anger", "neutral"))(noise(1.0))
    system.recipe = replace(system.recipe, model=table)
    with_priors = Recognizer(saved, answer_nonspeech=True, classes=("anger", "neutral"))(noise(1.0))
    before, after = (
        answer.tasks["emotion"].probabilities["neutral"] for answer in (plain, with_priors)
    )
    factor = 30.0 ** (-1 / 1.7)
    assert after == pytest.approx(before * factor / (before * factor + 1 - before), abs=1e-6)
    results = score_model(saved, corpus, classes=("anger", "neutral"))
    position = system.classes["emotion"].index("neutral")
    for item in results.predictions:
        own, forced = (item.selections[name]["emotion"] for name in ("model", "forced"))
        odds = own[position] / own[system.classes["emotion"].index("anger")] * factor
        assert forced[position] == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_probabilities_of_zero_stay_finite() -> None:
    p_bk = renormalize([[0.0, 1.0, 0.0], [0.1, 0.6, 0.3]], [0, 2])
    assert p_bk.tolist() == [[0.5, 0.5], [pytest.approx(0.25), pytest.approx(0.75)]]


def test_fitted_threshold_with_a_class_set_is_a_warning(bundle: Bundle) -> None:
    fitted = Bundle(bundle.system, Card(), {"emotion": ConfidenceCalibration(threshold=0.4)})
    restricted = Recognizer(fitted, confidence="auto", classes=PAIR)
    assert "thresholds were fitted to answers among all classes" in restricted.warnings[-1]
    assert Recognizer(fitted, confidence="auto").warnings == []


def test_streams_and_timelines_answer_within_the_set(corpus: Corpus, pair: Recognizer) -> None:
    wave_s = make_speech(corpus, 9.0)
    timeline = pair.timeline((wave_s, RATE), speech=False)
    stream = pair.stream(RATE, speech=False)
    segments = [*stream.feed(wave_s), *stream.close()]
    assert [one.label for one in segments] == [one.label for one in timeline.rows]
    for segment in [*segments, *timeline.rows]:
        assert tuple(segment.tasks["emotion"].probabilities) == PAIR
        assert sum(segment.tasks["emotion"].probabilities.values()) == pytest.approx(1)
        assert len(segment.tasks["gender"].probabilities) == 2
    assert tuple(timeline.tasks["emotion"].probabilities) == PAIR


def test_command_and_folder_answer_within_the_set(
    run: Run, corpus: Corpus, bundle: Bundle, tmp_path: Path
) -> None:
    save(bundle, tmp_path / "small.safetensors")
    file = corpus.utterances[0].path
    base = ["--model", tmp_path / "small.safetensors", "--answer-nonspeech"]
    status, out, _ = run("recognize", file, *base, "--classes", "sadness,anger", "--format", "json")
    assert status == 0
    (answer,) = json.loads(out)["recognized"]
    assert tuple(answer["tasks"]["emotion"]["probabilities"]) == PAIR
    status, _, err = run("recognize", file, *base, "--classes", "angr,sadness")
    assert status == 2
    assert "unknown class of emotion 'angr'; did you mean 'anger'? Known: anger" in err

    table = tmp_path / "out.csv"
    command = ["recognize", file.parent, *base, "--jobs", "1", "-o", table]
    assert run(*command, "--classes", "sadness,anger")[0] == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert "emotion_neutral" not in rows[0]
    assert {row["emotion"] for row in rows} <= set(PAIR)
    assert run(*command, "--classes", "anger,sadness")[0] == 0  # the same set resumes the run
    status, _, err = run(*command)
    assert status == 2
    assert "classes" in err


def test_service_answers_within_the_set(pair: Recognizer) -> None:
    with open_client() as (call, engine):
        found = call("POST", f"{RECOGNIZE}?classes=sadness,anger", content=SPEECH)
        assert found.status_code == 200
        probabilities = found.json()["tasks"]["emotion"]["probabilities"]
        assert tuple(probabilities) == PAIR
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        segments = call("POST", f"{RECOGNIZE}?classes=anger,sadness&speech=false", content=SPEECH)
        (segment, *_) = segments.json()["segments"]
        assert tuple(segment["tasks"]["emotion"]["probabilities"]) == PAIR
        refused = call("POST", f"{RECOGNIZE}?classes=anger,joy", content=SPEECH)
        assert refused.status_code == 400
        assert "Known: anger, neutral, sadness" in refused.json()["detail"]
        recognizer = engine.recognizer
        assert engine.restrict_classes(recognizer, "anger,sadness") is engine.restrict_classes(
            recognizer, ["sadness", "anger"]
        )
        assert engine.restrict_classes(recognizer, None) is recognizer


def test_stream_of_the_service_answers_within_the_set(corpus: Corpus) -> None:
    pcm = to_pcm(make_speech(corpus, 5.0)).tobytes()
    with host_service() as host:
        received = stream_pcm(host, pcm, rate=RATE, speech=False, classes=["sadness", "anger"])
        refused = stream_pcm(host, pcm, rate=RATE, classes=["joy", "anger"])
    assert received.messages[0]["classes"]["emotion"] == list(PAIR)
    assert received.items
    assert all(tuple(item["probabilities"]) == PAIR for item in received.items)
    assert "unknown class of emotion 'joy'" in json.dumps(refused.last)
