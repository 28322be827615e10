"""Explanation by occlusion: how the answer changes when a span of a recording is silenced."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from builders.small_systems import CLASSES, VALUE_TASKS, small_system
from builders.word_systems import noise, small_asr, small_joint_model, small_text_model
from pydantic import TypeAdapter

from serein import recipes
from serein.audio import Samples, envelope, split_evenly
from serein.bundle import Bundle, Card
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference.explain import collect_explanations, explain
from serein.inference.occlusion import (
    DECIMALS,
    MAX_SPANS,
    build_background,
    occlude,
    place_spans,
)
from serein.inference.recognizer import Recognizer
from serein.inference.words import WindowPrediction
from serein.results import io as store
from serein.results.inference import Explanations
from serein.system import System

RATE = 16_000
PLAIN = ("features.pad=false", "model.attention=false")


def plain_recognizer(*settings: str, answer_nonspeech: bool = True) -> Recognizer:
    """Return a small model without attention."""
    bundle = Bundle(small_system(*PLAIN, *settings).eval(), Card(name="plain"))
    return Recognizer(bundle, answer_nonspeech=answer_nonspeech)


def speech(seconds: float = 3.0, seed: int = 0) -> Samples:
    """Return noise whose loudness changes four times a second, above a quiet background."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    knots = np.arange(0, seconds + 0.5, 0.25)
    loudness = np.interp(time, knots, draw.uniform(-3, 0, len(knots)))
    quiet = 1e-4 * draw.normal(size=len(time))
    return (10**loudness * draw.normal(0, 0.3, len(time)) + quiet).astype(np.float32)


class LoudSecondRecognizer(Recognizer):
    """A recognizer of anger by what is loud in the second second, and sadness in the third."""

    def predict_batches(
        self,
        windows: Sequence[Samples],
        *,
        attention: bool,
        texts: Sequence[str | None] | None = None,
    ) -> list[WindowPrediction]:
        assert texts is None or len(texts) == len(windows)
        predictions = []
        for wave_s in windows:
            anger, sadness = (
                float(np.abs(wave_s[first * RATE : (first + 1) * RATE]).mean()) for first in (1, 2)
            )
            p = 0.6 + anger - sadness
            outputs = {"emotion": [p, 1 - p, 0.0], "gender": [0.4, 0.6]}
            predictions.append(WindowPrediction(outputs, {}))
        return predictions


# Spans and what replaces them


@pytest.mark.parametrize("seconds", [0.025, 0.03, 0.1, 0.33, 1.0, 2.0, 2.81, 30.0, 31.7, 300.0])
def test_spans_cover_the_recording_and_are_bounded(seconds: float) -> None:
    length = round(seconds * RATE)
    spans = place_spans(length, RATE)
    start_n = spans.start_n
    assert start_n[0] == 0
    assert start_n[-1] + spans.length == length
    assert len(start_n) <= MAX_SPANS
    assert (np.diff(start_n) <= np.ceil(spans.length / 2) + 1).all()  # half of each is new
    expected = 0.4 if 2 <= seconds <= 30 else max(0.04, seconds / 5)
    if seconds > 30:
        expected = 2 * seconds / (MAX_SPANS + 1)
    assert spans.length == pytest.approx(min(expected, seconds) * RATE, abs=1)


def test_background_is_the_quietest_tenth() -> None:
    draw = np.random.default_rng(0)
    quiet = np.convolve(draw.normal(size=5 * RATE), np.ones(16) / 16, "same")  # mostly low
    loud = np.r_[np.zeros(RATE), np.ones(4 * RATE)] * draw.normal(0, 0.2, 5 * RATE)
    wave_s = (0.01 * quiet + loud).astype(np.float32)
    background_s = build_background(wave_s, RATE)
    assert background_s.dtype == np.float32
    assert background_s.shape == wave_s.shape
    assert background_s.std() == pytest.approx(0.01 * quiet[:RATE].std(), rel=0.1)
    power_f = np.abs(np.fft.rfft(background_s)) ** 2
    assert power_f[: len(power_f) // 8].sum() > 0.8 * power_f.sum()
    assert np.array_equal(background_s, build_background(wave_s, RATE))


@pytest.mark.parametrize(
    "wave_s",
    [
        np.zeros(RATE, np.float32),
        np.r_[np.zeros(RATE), np.ones(RATE)].astype(np.float32),
        np.ones(500, np.float32),
    ],
)
def test_background_of_digital_silence_and_of_a_short_recording_is_zeros(wave_s: Samples) -> None:
    assert not build_background(wave_s, RATE).any()


def test_occluded_span_fades_to_the_background() -> None:
    wave_s = np.full(RATE, 0.5, np.float32)
    background_s = np.full(RATE, 0.01, np.float32)
    occluded_s = occlude(wave_s, background_s, 4000, 8000, RATE)
    assert (occluded_s[:4000] == 0.5).all()
    assert (occluded_s[8000:] == 0.5).all()
    assert (occluded_s[4160:7840] == np.float32(0.01)).all()
    assert np.abs(np.diff(occluded_s)).max() < 0.01  # no click
    assert wave_s[5000] == 0.5  # the recording itself is unchanged
    short_s = occlude(wave_s, 0 * background_s, 10, 14, RATE)
    assert (short_s[11:13] == 0).all()


# Drops


def test_drop_is_positive_for_evidence_of_the_label_and_negative_for_that_against_it() -> None:
    recognizer = LoudSecondRecognizer(plain_recognizer().bundle, answer_nonspeech=True)
    draw = np.random.default_rng(0)
    loudness = np.repeat([0.002, 0.3, 0.1, 0.002], RATE)
    wave_s = (loudness * draw.normal(size=4 * RATE)).astype(np.float32)
    found = explain(recognizer, (wave_s, RATE))
    assert (found.method, found.attention, found.labels["emotion"]) == ("occlusion", {}, "anger")
    track = found.occlusion["emotion"]
    assert track.label == "anger"
    drop = dict(zip(np.round(track.times, 2).tolist(), track.drop, strict=True))
    for time, value in drop.items():
        if time <= 0.8 or time >= 3.2:
            assert value == pytest.approx(0, abs=2e-3)
        elif 1.2 <= time <= 1.8:  # within the second second: 0.4 s of a mean of 0.24
            assert value == pytest.approx(0.4 * 0.3 * 0.8, rel=0.1)
        elif 2.2 <= time <= 2.8:
            assert value == pytest.approx(-0.4 * 0.1 * 0.8, rel=0.1)
    assert not any(found.occlusion["gender"].drop)
    assert found.occlusion["gender"].correlation.description.endswith("the same at every step")
    assert track.correlation.pearson is not None
    assert track.correlation.count == len(track.times) == 19
    assert found.answers == 20


@pytest.mark.parametrize("seconds", [1.3, 20.0])
def test_drops_equal_the_answers_to_occluded_recordings(seconds: float) -> None:
    """Only the windows that a span overlaps are answered again; the drop is that of the mean."""
    recognizer = plain_recognizer()
    wave_s = speech(seconds)
    found = explain(recognizer, (wave_s, RATE))
    spans, background_s = place_spans(len(wave_s), RATE), build_background(wave_s, RATE)
    bounds = split_evenly(len(wave_s), round((recognizer.window or 0) * RATE))
    assert len(found.windows) == len(bounds) == (1 if seconds < 2 else 3)
    assert found.answers == len(bounds) + sum(
        first < start + spans.length and start < last
        for start in spans.start_n
        for first, last in bounds
    )
    assert found.answers <= len(spans.start_n) + 3 * len(bounds)
    within = [
        index
        for index, start in enumerate(spans.start_n.tolist())
        if any(first <= start and start + spans.length <= last for first, last in bounds)
    ]
    for index in within[:: len(within) // 4]:
        start = int(spans.start_n[index])
        occluded_s = occlude(wave_s, background_s, start, start + spans.length, RATE)
        (answer,) = recognizer.predict_many([("occluded", occluded_s)])
        there = answer.tasks
        for task, track in found.occlusion.items():
            assert track.label is not None
            after = there[task].probabilities[track.label]
            assert track.drop[index] == pytest.approx(
                found.probabilities[task][track.label] - after, abs=10**-DECIMALS
            )
    for track in found.occlusion.values():
        assert track.energy == pytest.approx(
            envelope.compute_energy(wave_s, RATE, track.times, track.length).tolist()
        )
        assert max(map(abs, track.drop)) > 0


def test_window_without_speech_has_no_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = plain_recognizer()
    monkeypatch.setattr(recognizer, "detect_speech", lambda windows: [True, False, True])
    found = explain(recognizer, (speech(18.0), RATE), start=1.0)
    assert len(found.windows) == 2
    (_, end), (start, _) = found.windows
    track = found.occlusion["emotion"]
    half = track.length / 2
    unused = [
        drop
        for time, drop in zip(track.times, track.drop, strict=True)
        if end <= time - half and time + half <= start
    ]
    assert len(unused) > 20
    assert not any(unused)
    assert any(track.drop)


def test_times_of_a_part_count_from_the_start_of_the_recording() -> None:
    recognizer, wave_s = plain_recognizer(), speech(3.0)
    part = explain(recognizer, (wave_s, RATE), start=1.0, end=2.5).occlusion["emotion"]
    alone = explain(recognizer, (wave_s[RATE : 5 * RATE // 2], RATE)).occlusion["emotion"]
    assert part.times == pytest.approx([1 + time for time in alone.times])
    assert part.drop == alone.drop


def test_regression_tasks_have_drops_of_their_value() -> None:
    recognizer = plain_recognizer(*VALUE_TASKS)
    wave_s = speech(1.0)
    found = explain(recognizer, (wave_s, RATE))
    assert (found.labels, set(found.values)) == ({}, {"arousal", "valence"})
    assert found.occlusion["valence"].label is None
    spans, background_s = place_spans(len(wave_s), RATE), build_background(wave_s, RATE)
    there = recognizer((occlude(wave_s, background_s, 0, spans.length, RATE), RATE)).values
    drop = found.values["valence"] - there["valence"]
    assert found.occlusion["valence"].drop[0] == pytest.approx(drop, abs=1e-5)


def test_svm_is_explained() -> None:
    spectra = ["model.name=svm", "features.bands=16", "features.window=400", "features.pad=false"]
    torch.manual_seed(0)
    system = System(recipes.load("li2019", spectra), CLASSES)
    found = explain(Bundle(system.eval(), Card(name="svm")), (speech(1.5), RATE))
    assert found.method == "occlusion"
    assert any(found.occlusion["emotion"].drop)


def test_class_set_is_kept() -> None:
    recognizer = plain_recognizer().with_classes(("anger", "sadness"))
    found = explain(recognizer, (speech(1.0), RATE))
    assert set(found.probabilities["emotion"]) == {"anger", "sadness"}
    assert found.occlusion["emotion"].label in {"anger", "sadness"}


# Bad input


def test_silence_has_no_drops() -> None:
    for recognizer in (plain_recognizer(), plain_recognizer(answer_nonspeech=False)):
        found = explain(recognizer, (np.zeros(2 * RATE), RATE))
        for track in found.occlusion.values():
            assert not any(track.drop)
            assert track.correlation.pearson is None
            assert track.correlation.description.endswith("at every step (silence)")


@pytest.mark.parametrize(("seconds", "spans"), [(0.03, 1), (0.1, 4)])
def test_short_recordings_have_short_spans(seconds: float, spans: int) -> None:
    found = explain(plain_recognizer(), (speech(seconds), RATE))
    track = found.occlusion["emotion"]
    assert (len(track.drop), found.answers) == (spans, spans + 1)
    assert track.length == pytest.approx(min(0.04, seconds))
    assert track.correlation.pearson_interval is None
    with pytest.raises(AudioError, match="expected at least 25 ms"):
        explain(plain_recognizer(), (speech(0.01), RATE))


def test_methods_are_chosen() -> None:
    attending = Bundle(small_system("features.pad=false").eval(), Card(name="small"))
    wave_s = speech(1.0)
    assert explain(attending, (wave_s, RATE)).method == "attention"
    occluded = explain(attending, (wave_s, RATE), method="occlusion")
    assert (occluded.method, occluded.attention) == ("occlusion", {})
    assert set(occluded.occlusion) == set(CLASSES)
    with pytest.raises(ConfigError, match=r"has no attention to explain; choose .* occlusion"):
        explain(plain_recognizer(), (wave_s, RATE), method="attention")
    with pytest.raises(UnknownName, match="unknown method 'atention'; did you mean 'attention'"):
        explain(attending, (wave_s, RATE), method="atention")  # type: ignore[arg-type]
    both = [occluded, explain(attending, (wave_s, RATE))]
    with pytest.raises(ConfigError, match="by attention and by occlusion in one collection"):
        collect_explanations(both, {})


# Words


def test_model_that_reads_given_words_only_is_refused() -> None:
    for bundle in (small_text_model("text"), small_text_model("text", asr=small_asr())):
        recognizer = Recognizer(bundle, answer_nonspeech=True)
        with pytest.raises(ConfigError, match="reads the given words only, and not the recording"):
            explain(recognizer, noise(), words="left away", method="occlusion")


def test_given_words_stay_and_recognised_words_are_recognised_anew() -> None:
    combined = Recognizer(small_text_model("combined"), answer_nonspeech=True)
    found = explain(combined, noise(), words="left away", method="occlusion")
    assert any(found.occlusion["emotion"].drop)
    assert [word.word for word in found.words] == ["left", "away"]
    recognised = Recognizer(small_text_model("text", asr=small_asr()), answer_nonspeech=True)
    assert any(explain(recognised, noise(), method="occlusion").occlusion["emotion"].drop)
    joint = Recognizer(small_joint_model(), answer_nonspeech=True)
    assert any(explain(joint, noise(), method="occlusion").occlusion["emotion"].drop)


# JSON


def test_json_round_trip() -> None:
    found = [explain(plain_recognizer(), (speech(2.0, seed), RATE)) for seed in range(2)]
    record = collect_explanations(found, {})
    text = store.to_json(record)
    back = TypeAdapter(Explanations).validate_json(text, strict=True)
    assert store.to_json(back) == text
    document = json.loads(text)
    assert (document["format"], document["explained"][0]["method"]) == (3, "occlusion")
    assert document["correlations"]["emotion"]["count"] == 2
    earlier = {**document, "format": 2}
    for one in earlier["explained"]:
        for name in ("method", "values", "occlusion", "answers"):
            del one[name]
    assert TypeAdapter(Explanations).validate_python(earlier).explained[0].method == "attention"
