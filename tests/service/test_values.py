"""A service with models that predict values: timelines, formats and streams."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from builders.encoded_audio import encode
from builders.service_client import RECOGNIZE, Client, small_recognizer
from builders.speech_streams import RATE, Wave, make_speech, rating_recognizer
from builders.websocket_client import Host, host_service, stream_pcm, to_pcm

from serein.inference import formats
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.service.app import create_app
from serein.service.session import segment_to_item

NAMES = ["arousal", "valence"]


def named_recognizer(name: str, *settings: str) -> Recognizer:
    bundle = rating_recognizer(*settings).bundle
    return Recognizer(replace(bundle, card=replace(bundle.card, name=name)))


@pytest.fixture(scope="module")
def mixed() -> Recognizer:
    return named_recognizer("mixed", "tasks.sex={name='gender'}")


@pytest.fixture(scope="module")
def alone() -> Recognizer:
    return named_recognizer("alone")


@pytest.fixture(scope="module")
def host(mixed: Recognizer, alone: Recognizer) -> Iterator[Host]:
    with host_service(others=(mixed, alone)) as made:
        yield made


@pytest.fixture(scope="module")
def call(host: Host) -> Client:
    return Client(create_app(host.engine, None))


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 8.0)


@pytest.fixture(scope="module")
def spoken(wave: Wave) -> bytes:
    return encode("flac", wave)


def post_query(call: Client, content: bytes, query: str) -> Any:
    return call("POST", f"{RECOGNIZE}?{query}", files={"file": ("call.flac", content)})


@pytest.mark.parametrize("name", ["mixed", "alone"])
def test_timeline_equals_recognizer(
    call: Client, spoken: bytes, name: str, request: pytest.FixtureRequest
) -> None:
    answer = post_query(call, spoken, f"model={name}&window=1&hop=0.5").json()
    wanted = request.getfixturevalue(name).timeline(spoken, window=1.0, hop=0.5)
    assert answer["segments"]
    for one, other in zip(answer["segments"], wanted.segments, strict=True):
        assert (one["start"], one["end"]) == pytest.approx((other.start, other.end))
        assert one["values"] == pytest.approx(other.values, abs=1e-4)
        assert list(one["tasks"]) == list(other.tasks)
    assert answer["values"] == pytest.approx(wanted.values, abs=1e-4)


@pytest.mark.parametrize("kind", ["csv", "audformat", "vtt"])
def test_formats_with_values(call: Client, spoken: bytes, alone: Recognizer, kind: str) -> None:
    answer = post_query(call, spoken, f"model=alone&hop=1&format={kind}")
    wanted = replace(alone.timeline(spoken, hop=1.0), source="call.flac")
    assert answer.text == getattr(formats, f"as_{kind}")([wanted])


def test_rttm_needs_classes(call: Client, spoken: bytes) -> None:
    refused = post_query(call, spoken, "model=alone&format=rttm")
    assert refused.status_code == 400
    assert "tasks of this model (arousal, valence) predict numbers" in refused.json()["detail"]
    assert post_query(call, spoken, "model=mixed&format=rttm").text.startswith("SPEAKER call 1 ")


@pytest.mark.parametrize("name", ["mixed", "alone"])
def test_stream_equals_file(
    host: Host, wave: Wave, name: str, request: pytest.FixtureRequest
) -> None:
    pcm = to_pcm(wave)
    answer = stream_pcm(host, pcm.tobytes(), [1600, 4801], model=name)
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


def test_ready_message_describes_the_values(host: Host, wave: Wave) -> None:
    pcm = to_pcm(wave[: 2 * RATE]).tobytes()
    labels = {"mixed": ["female", "male"], "alone": [], "small": ["anger", "neutral", "sadness"]}
    for name, wanted in labels.items():
        ready = stream_pcm(host, pcm, model=name).messages[0]
        assert (ready["type"], ready["labels"]) == ("ready", wanted)
    assert ready["classes"].keys() == small_recognizer().classes.keys()


@pytest.mark.parametrize("name", ["mixed", "alone"])
def test_item_repeats_the_answer_of_the_first_task(
    wave: Wave, name: str, request: pytest.FixtureRequest
) -> None:
    recognizer: Recognizer = request.getfixturevalue(name)
    segment, *_ = recognizer.timeline((wave, RATE)).segments or []
    item = json.loads(json.dumps(segment_to_item(segment)))
    assert list(item["values"]) == NAMES
    if segment.tasks:
        assert (item["label"], item["abstained"]) == (segment.label, False)
    else:
        assert item.keys() == {"start", "end", "tasks", "values", "dimensions"}
