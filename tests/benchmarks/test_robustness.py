"""The shipped model on bad channels, mixtures of speakers, and recordings without speech."""

from collections.abc import Callable

import numpy as np
import pytest

from serein.audio import Samples
from serein.augment import waveform
from serein.inference.recognizer import Recognizer
from serein.synthetic import Voice, synthesize

RATE = 16_000
WORDS = ["fosira", "xuri", "kapeti", "lumo", "ogari"]


def speech(gender: str = "female", emotion: str = "anger") -> Samples:
    return synthesize(WORDS, Voice.for_speaker("a", gender), emotion, np.random.default_rng(0))


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def add_background(other_s: Samples) -> Samples:
    wave_s = speech()
    return waveform.add_noise(wave_s, np.resize(other_s, len(wave_s)), 0.0)


def in_silence() -> Samples:
    """Return 0.3 s of speech in 30 s of silence."""
    out_s = np.zeros(30 * RATE, np.float32)
    out_s[10 * RATE : 10 * RATE + 4800] = speech()[4800:9600]
    return out_s


HARD: dict[str, Callable[[], Samples]] = {
    "telephone": lambda: waveform.telephone(speech(), RATE),
    "clipped": lambda: (20 * speech()).clip(-1, 1),
    "soft": lambda: waveform.apply_gain(speech(), -20.0),
    "offset": lambda: speech() + np.float32(0.3),
    "whispered": lambda: waveform.whisper(speech(), RATE, rng()),
    "two at once": lambda: add_background(speech("male", "sadness")),
    "noise": lambda: add_background(waveform.generate_noise(RATE, RATE, rng())),
    "room": lambda: waveform.add_reverb(
        speech(), waveform.simulate_impulse_response(RATE, 1.5, rng())
    ),
    "in_silence": in_silence,
}


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(confidence="auto")


@pytest.mark.parametrize("kind", HARD)
def test_bad_recordings_have_low_confidence_or_no_answer(recognizer: Recognizer, kind: str) -> None:
    found = recognizer((HARD[kind](), RATE))
    assert all(np.isfinite(list(one.probabilities.values())).all() for one in found.tasks.values())
    if found.speech:
        answer = found.tasks["emotion"]
        assert answer.confidence < 0.9
        assert (answer.label is None) == (answer.confidence < recognizer.thresholds["emotion"])


@pytest.mark.parametrize("gain", [-20.0, 20.0])
def test_prediction_does_not_depend_on_loudness(recognizer: Recognizer, gain: float) -> None:
    """The speech has a background, as any recording; digital silence has no loudness."""
    wave_s = 0.1 * speech()
    wave_s = waveform.add_noise(wave_s, waveform.generate_noise(len(wave_s), RATE, rng()), 40.0)
    ours, theirs = (
        recognizer((waveform.apply_gain(wave_s, by), RATE)).tasks["emotion"] for by in (0.0, gain)
    )
    assert theirs.probabilities == pytest.approx(ours.probabilities, abs=0.02)


@pytest.mark.parametrize("offset", [-0.5, 0.2])
def test_prediction_does_not_depend_on_an_offset(recognizer: Recognizer, offset: float) -> None:
    """The offset of a sound card; the smaller one is as large as the speech."""
    wave_s = 0.1 * speech()
    ours, theirs = (
        recognizer((wave_s + np.float32(by), RATE)).tasks["emotion"] for by in (0.0, offset)
    )
    assert theirs.probabilities == pytest.approx(ours.probabilities, abs=0.02)


@pytest.mark.parametrize("seconds", [0.2, 3.0, 30.0])
def test_recordings_without_speech_have_no_emotion(recognizer: Recognizer, seconds: float) -> None:
    count = round(seconds * RATE)
    time_s = np.arange(count) / RATE
    for wave_s in (
        np.zeros(count),
        0.1 * rng().normal(size=count),
        0.3 * np.sin(2 * np.pi * 1000 * time_s) * (time_s % 0.5 < 0.2),
    ):
        found = recognizer((wave_s.astype(np.float32), RATE))
        assert (found.speech, found.label) == (False, None)
