"""A service whose models answer with numbers: timelines, formats and streams."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from builders.encoded_audio import encoded
from builders.service_client import RECOGNIZE, Client, small_recognizer
from builders.speech_streams import RATE, Wave, rating, talk
from builders.websocket_client import Host, hosted, pcm_of, streamed

from serein.inference import formats
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.service.app import create_app
from serein.service.session import segment_to_item

NAMES = ["arousal", "valence"]


def named(name: str, *settings: str) -> Recognizer:
    bundle = rating(*settings).bundle
    return Recognizer(replace(bundle, card=replace(bundle.card, name=name)))


@pytest.fixture(scope="module")
def mixed() -> Recognizer:
    return named("mixed", "tasks.sex={name='gender'}")


@pytest.fixture(scope="module")
def alone() -> Recognizer:
    return named("alone")


@pytest.fixture(scope="module")
def host(mixed: Recognizer, alone: Recognizer) -> Iterator[Host]:
    with hosted(others=(mixed, alone)) as made:
        yield made


@pytest.fixture(scope="module")
def call(host: Host) -> Client:
    return Client(create_app(host.engine, None))


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return talk(corpus, 8.0)


@pytest.fixture(scope="module")
def spoken(wave: Wave) -> bytes:
    return encoded("flac", wave)


def sent(call: Client, content: bytes, query: str) -> Any:
    return call("POST", f"{RECOGNIZE}?{query}", files={"file": ("call.flac", content)})


@pytest.mark.parametrize("name", ["mixed", "alone"])
def test_a_timeline_is_that_of_the_recogniser(
    call: Client, spoken: bytes, name: str, request: pytest.FixtureRequest
) -> None:
    answer = sent(call, spoken, f"model={name}&window=1&hop=0.5").json()
    wanted = request.getfixturevalue(name).timeline(spoken, window=1.0, hop=0.5)
    assert answer["segments"]
    for one, other in zip(answer["segments"], wanted.segments, strict=True):
        assert (one["start"], one["end"]) == pytest.approx((other.start, other.end))
        assert one["values"] == pytest.approx(other.values, abs=1e-4)
        assert list(one["tasks"]) == list(other.tasks)
    assert answer["values"] == pytest.approx(wanted.values, abs=1e-4)


@pytest.mark.parametrize("kind", ["csv", "audformat", "vtt"])
def test_formats(call: Client, spoken: bytes, alone: Recognizer, kind: str) -> None:
    answer = sent(call, spoken, f"model=alone&hop=1&format={kind}")
    wanted = replace(alone.timeline(spoken, hop=1.0), source="call.flac")
    assert answer.text == getattr(formats, f"as_{kind}")([wanted])


def test_rttm_is_for_names(call: Client, spoken: bytes) -> None:
    refused = sent(call, spoken, "model=alone&format=rttm")
    assert refused.status_code == 400
    assert "tasks of this model (arousal, valence) predict numbers" in refused.json()["detail"]
    assert sent(call, spoken, "model=mixed&format=rttm").text.startswith("SPEAKER call 1 ")


@pytest.mark.parametrize("name", ["mixed", "alone"])
def test_stream_is_file(host: Host, wave: Wave, name: str, request: pytest.FixtureRequest) -> None:
    pcm = pcm_of(wave)
    answer = streamed(host, pcm.tobytes(), [1600, 4801], model=name)
    recognizer: Recognizer = request.getfixturevalue(name)
    whole = recognizer.timeline((pcm, RATE), window=1.0, hop=0.25).segments or []
    wanted = [segment_to_item(segment) for segment in whole]
    assert wanted
    assert [one["start"] for one in answer.items] == [one["start"] for one in wanted]
    for one, other in zip(answer.items, wanted, strict=True):
        assert one.keys() == other.keys()
        assert list(one["values"]) == NAMES
        assert one["values"] == pytest.approx(other["values"], abs=1e-4)
        assert one.get("label") == other.get("label")


def test_a_stream_tells_what_it_will_answer(host: Host, wave: Wave) -> None:
    pcm = pcm_of(wave[: 2 * RATE]).tobytes()
    labels = {"mixed": ["female", "male"], "alone": [], "small": ["anger", "neutral", "sadness"]}
    for name, wanted in labels.items():
        ready = streamed(host, pcm, model=name).messages[0]
        assert (ready["type"], ready["labels"]) == ("ready", wanted)
    assert ready["classes"].keys() == small_recognizer().classes.keys()


@pytest.mark.parametrize("name", ["mixed", "alone"])
def test_an_item_says_the_main_tasks_answer_again(
    wave: Wave, name: str, request: pytest.FixtureRequest
) -> None:
    recognizer: Recognizer = request.getfixturevalue(name)
    segment, *_ = recognizer.timeline((wave, RATE)).segments or []
    item = json.loads(json.dumps(segment_to_item(segment)))
    assert list(item["values"]) == NAMES
    if segment.tasks:
        assert (item["label"], item["abstained"]) == (segment.label, False)
    else:
        assert item.keys() == {"start", "end", "tasks", "values"}
