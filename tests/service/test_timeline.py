"""Timelines, formats and several models over HTTP."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from builders.encoded_audio import encode, make_sweep
from builders.service_client import RECOGNIZE, SPEECH, Client, open_client, small_recognizer
from builders.speech_streams import RATE, assert_same_segments, make_speech
from service.test_service import is_close

from serein.bundle import save
from serein.errors import AudioError, ConfigError
from serein.inference import formats, long_form
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.vad import CHUNK_SECONDS
from serein.records import Corpus
from serein.service.batching import RequestBatcher
from serein.service.config import ServiceConfig
from serein.service.engine import Engine
from serein.service.schemas import Model

Run = Callable[..., tuple[int, str, str]]
OTHER = small_recognizer("other", seed=1)


@pytest.fixture(scope="module")
def call() -> Iterator[Client]:
    with open_client(others=[OTHER]) as (made, _):
        yield made


@pytest.fixture(scope="module")
def spoken(corpus: Corpus) -> bytes:
    return encode("flac", make_speech(corpus, 40.0))


def post_query(call: Client, content: bytes, query: str) -> httpx.Response:
    return call("POST", f"{RECOGNIZE}?{query}", files={"file": ("call.flac", content)})


def test_timeline_equals_command(call: Client, spoken: bytes, run: Run, tmp_path: Path) -> None:
    (tmp_path / "call.flac").write_bytes(spoken)
    save(small_recognizer().bundle, tmp_path / "small.safetensors")
    words = ["--model", tmp_path / "small.safetensors", "--window", "3", "--hop", "0.5"]
    for more, query in (([], ""), (["--smooth", "3"], "&smooth=3"), (["--no-speech"], "&speech=0")):
        command = ["recognize", tmp_path / "call.flac", *words, *more, "--format", "json"]
        status, out, _ = run(*command)
        assert status == 0
        (wanted,) = json.loads(out)["recognized"]
        answer = post_query(call, spoken, f"window=3&hop=0.5{query}")
        assert answer.status_code == 200, answer.text
        assert wanted["segments"]
        assert is_close(answer.json(), {**wanted, "source": "call.flac"})


def test_unmerged_hops_merge_to_the_segments(call: Client, spoken: bytes) -> None:
    hops, segments = (
        post_query(call, spoken, f"hop=0.5&merge={merge}").json()["segments"]
        for merge in ("false", "true")
    )
    assert len(hops) > len(segments) > 0
    starts = {round(one["start"], 4) for one in hops}
    assert {round(one["start"], 4) for one in segments} <= starts


@pytest.mark.parametrize("name", ["csv", "audformat", "rttm", "vtt"])
def test_segment_formats(call: Client, spoken: bytes, name: str) -> None:
    answer = post_query(call, spoken, f"format={name}&hop=1")
    wanted = small_recognizer().timeline(spoken, hop=1.0)
    text = getattr(formats, f"as_{name}")([replace(wanted, source="call.flac")])
    assert answer.text == text
    kind = {"vtt": "text/vtt", "rttm": "text/plain"}.get(name, "text/csv")
    assert answer.headers["Content-Type"].startswith(kind)


def test_csv_has_one_row_unless_segments_are_requested(call: Client) -> None:
    assert len(post_query(call, SPEECH, "format=csv").text.splitlines()) == 2
    assert post_query(call, SPEECH, "format=vtt").text == "WEBVTT\n"  # no speech


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("window=0", "window"),
        ("hop=0.1", "hop"),
        ("hop=often", "hop"),
        ("smooth=2", "odd"),
        ("window=30", "7.5"),
        ("window=2&hop=3", "hop"),
        ("format=mp3", "format"),
        ("widow=4", "widow"),
        ("model=smal", "did you mean 'small'"),
    ],
)
def test_invalid_queries(call: Client, query: str, words: str) -> None:
    answer = post_query(call, SPEECH, query)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_timeline_of_unreadable_audio(call: Client) -> None:
    for content, status in ((b"dear sir or madam", 422), (b"", 400)):
        assert post_query(call, content, "hop=1").status_code == status


def test_models_are_selected_by_name(call: Client) -> None:
    every = [Model.model_validate(one) for one in call("GET", "/v1/models").json()]
    assert [one.name for one in every] == ["small", "other"]
    assert call("GET", "/v1/model").json()["name"] == "small"
    assert call("GET", "/v1/model?model=other").json()["name"] == "other"
    assert call("GET", "/v1/model?model=no").status_code == 400
    for name in ("small", "other"):
        wanted = small_recognizer(name, int(name == "other"))(SPEECH).to_dict()
        answer = post_query(call, SPEECH, f"model={name}").json()
        assert is_close(answer, {**wanted, "source": "call.flac"})


def test_concurrent_requests_use_their_own_models(call: Client) -> None:
    names = ["small", "other"] * 4
    paths = [f"{RECOGNIZE}?model={name}" for name in names]
    answers = call.send_together([("POST", path, {"content": SPEECH}) for path in paths])
    assert [one.json()["model"] for one in answers] == names
    every = [json.dumps(one.json()["tasks"]) for one in answers]
    assert len(set(every[::2]) & set(every[1::2])) == 0


def test_two_models_of_one_name_are_an_error() -> None:
    with pytest.raises(ConfigError, match="found small, small; rename"):
        Engine(small_recognizer(), ServiceConfig(), [small_recognizer()])


def test_serve_with_several_models(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[list[str]] = []

    def serve(first: object, *_: object, others: list[object], **__: object) -> None:
        served.append([getattr(one, "name", "") for one in (first, *others)])

    monkeypatch.setattr("serein.service.app.serve", serve)
    save(OTHER.bundle, tmp_path / "other.safetensors")
    assert run("serve")[0] == 0
    assert (
        run("serve", "--model", "li2019-emodb", "--model", tmp_path / "other.safetensors")[0] == 0
    )
    assert served == [["serein-base"], ["li2019-emodb", "other"]]


def test_iter_timeline_equals_timeline(corpus: Corpus) -> None:
    recognizer, source = small_recognizer(), (make_speech(corpus, 2.5 * CHUNK_SECONDS), RATE)
    *waits, answer = long_form.iter_timeline(recognizer, source, chunks_at_a_time=1)
    assert len(waits) >= 2
    assert set(waits) == {None}
    assert isinstance(answer, Recognition)
    assert_same_segments(answer.segments or [], recognizer.timeline(source).segments or [])


def test_submitted_call_runs_between_batches() -> None:
    took: list[int] = []
    made = RequestBatcher(small_recognizer(), 16, 1000.0, lambda: 99, took.append)
    waits = made.submit("one", make_sweep(0.5))
    turn = made.submit_call(threading.current_thread)  # no request waits for it
    assert turn.result(60).name == "batch"
    assert waits.result(60).source == "one"
    fails = made.submit_call(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        fails.result(60)
    assert made.submit("two", make_sweep(0.5)).cancel() or made.is_alive()
    made.close()
    assert not made.is_alive()


def test_long_timeline_does_not_block_other_requests(spoken: bytes) -> None:
    with open_client(max_seconds=RATE) as (call, _):
        long = ("POST", f"{RECOGNIZE}?hop=0.25&speech=0", {"content": spoken})
        short = ("POST", RECOGNIZE, {"content": SPEECH})
        answers = call.send_together([long, short, short])
    assert [one.status_code for one in answers] == [200] * 3
    assert answers[0].json()["segments"]


@pytest.mark.parametrize(("error", "status"), [(ConfigError, 400), (AudioError, 422)])
def test_errors_of_a_timeline_are_problems(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int
) -> None:
    def broken(*_: object, **__: object) -> Iterator[None]:
        yield None
        raise error("it broke off")

    monkeypatch.setattr("serein.service.engine.iter_timeline", broken)
    with open_client() as (call, _):
        answer = post_query(call, SPEECH, "hop=1")
    assert (answer.status_code, answer.json()["detail"]) == (status, "it broke off")


def test_models_with_different_sampling_rates() -> None:
    bundle = small_recognizer("slow").bundle
    bundle.system.front_end.rate = 8_000
    slow = Recognizer(bundle, answer_nonspeech=True)
    with open_client(others=[slow]) as (call, made):
        answer = post_query(call, SPEECH, "model=slow").json()
        assert answer["end"] == pytest.approx(1.0)
        assert len(made.decoders.processes) == 1
        assert answer["tasks"] != post_query(call, SPEECH, "model=small").json()["tasks"]
