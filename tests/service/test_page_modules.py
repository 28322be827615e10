"""Functions of the page's modules, called in Chromium."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from builders.browser import open_browser, open_page
from builders.service_client import SmallModelServer

EMODB = ["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"]
RAVDESS = ["anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
IEMOCAP = ["anger", "excitement", "frustration", "happiness", "neutral", "sadness", "surprise"]
LEVELS = ["low", "middle", "high"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    live = SmallModelServer(tmp_path_factory.mktemp("modules"))
    try:
        with open_browser() as chromium, open_page(chromium, live.url) as made:
            yield made
    except LookupError as error:
        pytest.skip(str(error))
    finally:
        assert live.end() == 0


def call_module(page: Any, module: str, name: str, *arguments: object) -> Any:
    script = f"async given => (await import('/page/{module}.js')).{name}(...given)"
    return page.evaluate(script, list(arguments))


def hop(start: float, label: str | None, p: float) -> dict[str, Any]:
    answer = {"label": label, "confidence": p, "probabilities": {"a": p, "b": 1 - p}}
    return {"start": start, "end": start + 1, "tasks": {"emotion": answer}}


@pytest.mark.parametrize("classes", [EMODB, RAVDESS, IEMOCAP, LEVELS], ids=len)
def test_class_colours_differ(page: Any, classes: list[str]) -> None:
    found = call_module(page, "colours", "assignColours", classes)
    assert list(found) == classes
    assert len(set(found.values())) == len(classes)


def test_merge_runs_of_one_label(page: Any) -> None:
    hops = [hop(0, "a", 0.9), hop(1, "a", 0.7), hop(2, None, 0.5), hop(5, None, 0.6)]
    found = call_module(page, "segments", "mergeRuns", hops, "emotion")
    assert [(one["start"], one["end"], one["label"]) for one in found] == [
        (0, 2, "a"),
        (2, 3, None),
        (5, 6, None),  # after a pause
    ]
    assert [one["confidence"] for one in found] == pytest.approx([0.8, 0.5, 0.6])
    assert call_module(page, "segments", "mergeRuns", [], "emotion") == []


def test_agreement_over_common_time(page: Any) -> None:
    one = [hop(0, "a", 0.9), hop(1, "b", 0.2), hop(2, "a", 0.9)]
    other = [hop(0.5, "a", 0.9), hop(1.5, "a", 0.9)]
    assert call_module(page, "segments", "agreement", one, other, "emotion") == pytest.approx(0.5)
    assert call_module(page, "segments", "agreement", one, [hop(9, "a", 1)], "emotion") is None


def test_differences_of_two_timelines(page: Any) -> None:
    one = [hop(0, "a", 0.9), hop(1, "b", 0.2), hop(2, "a", 0.9)]
    other = [hop(0.5, "a", 0.9), hop(1.5, "a", 0.9), hop(2.5, None, 0.5)]
    found = call_module(page, "segments", "differences", one, other, "emotion")
    assert [(part["start"], part["end"]) for part in found] == [(1, 2), (2.5, 3)]
    assert call_module(page, "segments", "differences", one, one, "emotion") == []


def test_channels_that_cancel_are_not_averaged(page: Any) -> None:
    script = """async channels => {
      const {mixChannels} = await import('/page/wav.js');
      return [...mixChannels(channels.map(one => Float32Array.from(one)))];
    }"""
    wave = [0.5, -0.25, 0.75]
    assert page.evaluate(script, [wave, [0, 0, 0]]) == [0.25, -0.125, 0.375]
    assert page.evaluate(script, [wave, [-one for one in wave]]) == wave
    assert page.evaluate(script, [wave]) == wave


def test_card_leaves_out_what_is_not_for_people(page: Any) -> None:
    card = (
        "# m\n\n## Recipe\n\nr\n\n## Limits\n\nnot `--this`\n\nor that\n\n## Training\n\ncommand c"
    )
    found = call_module(page, "card", "parseCard", card)
    assert found == {"Recipe": "r", "Limits": "not --this\n\nor that", "Training": "command c"}
    text = page.evaluate(
        "async card => (await import('/page/card.js')).describeModel({name: 'm', card})"
        ".map(one => one.textContent).join(' ')",
        card,
    )
    assert "Where it fails" in text
    assert "command c" not in text


def test_mean_value_is_weighted_by_duration(page: Any) -> None:
    segments = [
        {"start": 0, "end": 1, "values": {"arousal": 2.0}},
        {"start": 1, "end": 1.5, "values": {"arousal": 5.0}},
        {"start": 2, "end": 3, "values": {"arousal": 9.0}},
    ]
    for end, wanted in ((1, 2.0), (1.5, 3.0), (3, 5.4)):
        found = call_module(page, "segments", "meanValue", segments, "arousal", 0, end)
        assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("seconds", "digits", "words"),
    [(0, 0, "0:00"), (61, 0, "1:01"), (59.96, 1, "1:00.0"), (3.04, 1, "0:03.0"), (600, 0, "10:00")],
)
def test_format_time(page: Any, seconds: float, digits: int, words: str) -> None:
    assert call_module(page, "segments", "formatTime", seconds, digits) == words


def test_spectrogram_of_a_tone(page: Any) -> None:
    time = np.arange(8_000) / 16_000
    for hertz in (300, 1_000, 4_000):
        tone = (0.5 * np.sin(2 * np.pi * hertz * time)).tolist()
        found = call_module(page, "spectrum", "spectrogram", tone, 16_000)
        column = np.array(found["z"])[:, 20]
        band = int(column.argmax())
        assert column[band] == pytest.approx(0, abs=1)
        assert found["hz"][band] - 32 <= hertz <= found["hz"][band + 1] + 32


def test_envelope_keeps_extremes(page: Any) -> None:
    wave = np.zeros(10_000)
    wave[1234], wave[9999] = -0.5, 0.25
    found = call_module(page, "spectrum", "envelope", wave.tolist(), 100)
    assert len(found["low"]) == 100
    assert found["low"][12] == -0.5
    assert found["high"][99] == 0.25


def test_recording_is_a_wav_file(page: Any) -> None:
    script = """async samples => {
      const {toPCM, toWAV} = await import('/page/wav.js');
      const parts = [samples, [2, -2]].map(one => toPCM(Float32Array.from(one)));
      const file = toWAV(parts, 48000, 'a.wav');
      return [...new Uint8Array(await file.arrayBuffer())];
    }"""
    wave = [0, 0.5, -0.5, 0.25]
    samples, rate = soundfile.read(io.BytesIO(bytes(page.evaluate(script, wave))))
    assert rate == 48_000
    assert samples == pytest.approx([*wave, 1, -1], abs=1e-4)
