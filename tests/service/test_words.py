"""Models that read words, over HTTP and as streams."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from builders.service_client import RECOGNIZE, Client, open_client
from builders.websocket_client import host_service, stream_pcm, to_pcm
from builders.word_systems import RATE, noise, small_asr, small_text_model
from service.test_service import is_close

from serein.inference.recognizer import Recognizer
from serein.service.engine import Engine

READER, GIVEN, AUDIO = "reader", "given", "audio"


def recognizers() -> list[Recognizer]:
    """A model with a recogniser, one that needs words, and one that uses none."""
    models = (
        small_text_model("combined", asr=small_asr(), name=READER),
        small_text_model("combined", name=GIVEN),
        small_text_model("audio", name=AUDIO),
    )
    return [Recognizer(model, answer_nonspeech=True) for model in models]


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Client, Engine]]:
    with open_client(others=recognizers(), wait=0.3) as made:
        yield made


@pytest.fixture(scope="module")
def call(service: tuple[Client, Engine]) -> Client:
    return service[0]


def make_wav(seconds: float = 1.0, seed: int = 0) -> bytes:
    file = BytesIO()
    soundfile.write(file, *noise(seconds, seed), format="WAV", subtype="FLOAT")
    return file.getvalue()


def post(call: Client, query: str = "", **fields: Any) -> httpx.Response:
    files = {"file": ("a.wav", make_wav())}
    return call("POST", f"{RECOGNIZE}?{query}", files=files, data=fields)


def get_problem(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


def list_words(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [word["word"] for word in response.json()["words"]]


def test_models_say_where_their_words_come_from(call: Client) -> None:
    sources = {model["name"]: model["words"] for model in call("GET", "/v1/models").json()}
    assert sources == {"small": "none", READER: "recognised", GIVEN: "given", AUDIO: "none"}
    card = call("GET", f"/v1/model?model={READER}").json()["card"]
    assert "by the speech recogniser ear" in card


def test_recognised_words_are_in_the_answer(call: Client) -> None:
    answer = post(call, f"model={READER}").json()
    expected = recognizers()[0](BytesIO(make_wav())).to_dict()
    assert is_close(answer, {**expected, "source": "a.wav"})
    assert answer["words"][0]["time"] is not None
    assert answer["attention"]["recogniser"]["words"]


@pytest.mark.parametrize("model", [GIVEN, READER])
def test_words_are_given_as_a_field_or_in_the_query(call: Client, model: str) -> None:
    field = post(call, f"model={model}", words="So LEFT!")
    query = post(call, f"model={model}&words=so+left")
    body = call("POST", f"{RECOGNIZE}?model={model}&words=so%20left", content=make_wav())
    for response in (field, query, body):
        assert list_words(response) == ["so", "left"]
        assert is_close(response.json()["tasks"], field.json()["tasks"])
    assert list_words(post(call, f"model={model}&words=")) == ["</s>"]


def test_requests_with_and_without_words_share_a_batch(call: Client) -> None:
    forms: list[dict[str, Any]] = [{}, {"words": "up"}, {}, {"words": "left left left"}]
    files = [{"file": (f"{index}.wav", make_wav(1 + index / 4, index))} for index in range(4)]
    path = f"{RECOGNIZE}?model={READER}"
    together = call.send_together(
        [
            ("POST", path, {"files": file, "data": form})
            for file, form in zip(files, forms, strict=True)
        ]
    )
    for response, file, form in zip(together, files, forms, strict=True):
        alone = call("POST", path, files=file, data=form)
        assert is_close(response.json(), alone.json())


def test_missing_words_are_a_problem(call: Client) -> None:
    detail = get_problem(post(call, f"model={GIVEN}"))
    assert "given (feng2020-combined) reads words and has no recogniser" in detail
    assert "the field words in HTTP" in detail
    for query in ("window=0.5&hop=0.5", "format=vtt", "format=csv&speech=false"):
        detail = get_problem(post(call, f"model={GIVEN}&{query}"))
        assert "segments, streams and folders have no words" in detail


def test_words_that_cannot_be_read_are_a_problem(call: Client) -> None:
    assert "does not read words" in get_problem(post(call, f"model={AUDIO}&words=left"))
    assert "does not read words" in get_problem(post(call, words="left"))
    both = get_problem(post(call, f"model={GIVEN}&words=left", words="right"))
    assert "in the query and in the form" in both
    twice = get_problem(post(call, f"model={GIVEN}", words=["left", "right"]))
    assert "2 fields words" in twice
    long = get_problem(post(call, f"model={GIVEN}", words="left " * 2001))
    assert "more than 10,000 characters of words" in long
    assert "10000 characters" in get_problem(post(call, f"model={GIVEN}&words={'a' * 10_001}"))
    segments = get_problem(post(call, f"model={READER}&window=0.5&hop=0.5", words="left"))
    assert "words are of a whole recording" in segments


def test_timeline_reads_recognised_words(call: Client) -> None:
    query = f"model={READER}&window=0.5&hop=0.25&speech=false&merge=false"
    answer = post(call, query).json()
    how: dict[str, Any] = {"window": 0.5, "hop": 0.25, "speech": False, "merge": False}
    expected = recognizers()[0].timeline(BytesIO(make_wav()), **how).to_dict()
    assert answer["segments"]
    assert is_close(answer["segments"], expected["segments"])


def test_stream_reads_recognised_words_or_is_refused() -> None:
    pcm = to_pcm(np.concatenate([noise(1.0, seed)[0] for seed in range(3)]))
    settings: dict[str, Any] = {"window": 1.0, "hop": 0.5, "speech": False, "merge": False}
    with host_service(others=recognizers()) as host:
        received = stream_pcm(host, pcm.tobytes(), rate=RATE, model=READER, **settings)
        assert received.last["type"] == "done"
        expected = recognizers()[0].timeline((pcm, RATE), **settings).to_dict()["segments"]
        found = [
            {name: item[name] for name in ("start", "end", "tasks")} for item in received.items
        ]
        assert is_close(
            found, [{name: one[name] for name in ("start", "end", "tasks")} for one in expected]
        )
        refused = stream_pcm(host, pcm.tobytes(), rate=RATE, model=GIVEN, **settings)
        assert refused.last["type"] == "problem"
        assert "segments, streams and folders have no words" in refused.last["detail"]
