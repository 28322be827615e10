"""Streams of valid clients."""

import json
import re
import runpy
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from builders.service_client import small_recognizer
from builders.speech_streams import RATE, Wave, make_speech
from builders.websocket_client import (
    END,
    PATH,
    START,
    Host,
    done_message,
    host_service,
    iter_blocks,
    receive_all,
    send_and_receive,
    stream_pcm,
    to_pcm,
    wait_until,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from service.test_service import is_close
from websockets.exceptions import InvalidStatus

from serein.inference.recognition import describe_shares
from serein.records import Corpus
from serein.service import auth, observability
from serein.service.session import segment_to_item

Pcm = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with host_service() as made:
        yield made


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 8.0)


@pytest.fixture(scope="module")
def pcm(wave: Wave) -> Pcm:
    return to_pcm(wave)


def recognize_file(host: Host, pcm: Pcm, rate: int = RATE, **how: Any) -> list[dict[str, Any]]:
    """Items of the timeline of a file with the same samples."""
    how = {"window": 1.0, "hop": 0.25, **how}
    answer = host.engine.recognizer.timeline((pcm, rate), **how)
    assert answer.segments
    return [segment_to_item(segment) for segment in answer.segments]


def assert_same_items(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [(one["start"], one["end"], one["label"]) for one in found] == [
        (one["start"], one["end"], one["label"]) for one in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        for task, answer in one["tasks"].items():
            expected = other["tasks"][task]["probabilities"]
            assert answer["probabilities"] == pytest.approx(expected, abs=1e-5)


@settings(max_examples=4)
@given(
    sizes=st.lists(st.integers(1, 60_001), min_size=1, max_size=3),
    how=st.sampled_from([{}, {"speech": False}, {"merge": False}, {"smooth": 3}]),
)
def test_stream_equals_file_for_any_block_sizes(
    host: Host, pcm: Pcm, sizes: list[int], how: dict[str, Any]
) -> None:
    answer = stream_pcm(host, pcm.tobytes(), [max(8_001, *sizes), *sizes], **how)
    assert_same_items(answer.items, recognize_file(host, pcm, **how))
    assert (answer.code, answer.last) == (1000, done_message(8.0, "client"))


def test_messages_of_a_stream(host: Host, pcm: Pcm) -> None:
    answer = stream_pcm(host, pcm.tobytes())
    ready, *middle, _ = answer.messages
    assert (ready["type"], ready["model"], ready["window"]) == ("ready", "small", 1.0)
    assert ready["labels"] == ["anger", "neutral", "sadness"]
    assert ready["max_seconds"] == 3600
    assert {one["type"] for one in middle} == {"segments"}
    assert all(one["latency_ms"] >= 0 for one in middle)
    heard = [one["processed_seconds"] for one in middle]
    assert heard == sorted(heard)
    for item in answer.items:
        main = item["tasks"]["emotion"]
        assert (
            item["label"]
            == main["label"]
            == max(main["probabilities"], key=main["probabilities"].get)
        )
        assert (item["confidence"], item["abstained"]) == (main["confidence"], False)


def test_stream_of_a_selected_model(pcm: Pcm) -> None:
    other = small_recognizer("other", seed=1)
    with host_service(others=(other,)) as both:
        first, second = (stream_pcm(both, pcm.tobytes(), model=name) for name in ("small", "other"))
        answer = other.timeline((pcm, RATE), window=1.0, hop=0.25)
        assert_same_items(first.items, recognize_file(both, pcm))
    assert [one.messages[0]["model"] for one in (first, second)] == ["small", "other"]
    assert answer.segments
    assert_same_items(second.items, [segment_to_item(segment) for segment in answer.segments])


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (8_000, 1), (44_100, 2)])
def test_stream_rates_and_channels(host: Host, wave: Wave, rate: int, channels: int) -> None:
    other = to_pcm(soxr.resample(wave, RATE, rate))
    if channels == 2:
        other = np.stack([other, other // 2], axis=1)
    answer = stream_pcm(host, other.tobytes(), [rate // 25 + 1], rate=rate, channels=channels)
    assert_same_items(answer.items, recognize_file(host, other, rate))
    assert answer.last["processed_seconds"] == pytest.approx(8.0, abs=1e-4)


@pytest.mark.parametrize("seconds", [0, 3])
def test_silence_has_no_segments(host: Host, seconds: int) -> None:
    answer = stream_pcm(host, bytes(2 * RATE * seconds), [640])
    assert (answer.code, answer.items, answer.last["processed_seconds"]) == (1000, [], seconds)


def test_segments_are_sent_before_the_end(host: Host, pcm: Pcm) -> None:
    with host.connect() as client:
        client.send(json.dumps({**START, "speech": False, "merge": False}))
        assert json.loads(client.recv(timeout=60))["type"] == "ready"
        client.send(pcm[: 3 * RATE].tobytes())
        assert json.loads(client.recv(timeout=60))["items"][0]["start"] == 0.0
        client.send(END)
        assert receive_all(client).last["processed_seconds"] == 3.0


def test_labels_below_the_threshold_are_withheld(host: Host, pcm: Pcm) -> None:
    recognizer = host.engine.recognizer
    before, recognizer.thresholds = recognizer.thresholds, {"emotion": 1.0, "gender": 0.0}
    try:
        items = stream_pcm(host, pcm.tobytes()).items
    finally:
        recognizer.thresholds = before
    assert items
    assert all(one["label"] is None and one["abstained"] for one in items)


def test_concurrent_streams_are_batched(host: Host, pcm: Pcm) -> None:
    wanted = recognize_file(host, pcm)
    with ExitStack() as stack:
        clients = [stack.enter_context(host.connect()) for _ in range(6)]
        messages: list[str | bytes] = [
            json.dumps(START),
            *iter_blocks(pcm.tobytes(), [16_000]),
            END,
        ]
        for message in messages:
            for client in clients:
                client.send(message)
        for client in clients:
            assert_same_items(receive_all(client).items, wanted)
    counts = re.findall(r"serein_stream_batch_blocks_(?:sum|count) (\d+)", host.metrics_text())
    batches, parts = sorted(map(int, counts))
    assert batches < parts


def test_key_in_start_message_or_header(tmp_path: Path) -> None:
    key = auth.add_key(tmp_path / "keys", "ann")
    stream = StringIO()
    with observability.log_to(stream), host_service(auth.read_keys(tmp_path / "keys")) as host:
        for given_key, header in (
            (None, ""),
            ("wrong", ""),
            (None, "Bearer wrong"),
            (None, f"Basic {key}"),
        ):
            answer = send_and_receive(
                host,
                [json.dumps({**START, "key": given_key}), bytes(320)],
                additional_headers={"Authorization": header} if header else {},
            )
            assert (answer.code, answer.last["status"], len(answer.messages)) == (1008, 401, 1)
        bearer = {"Authorization": f"Bearer {key}"}
        assert (
            send_and_receive(host, [json.dumps(START), END], additional_headers=bearer).code == 1000
        )
        assert send_and_receive(host, [json.dumps({**START, "key": key}), END]).code == 1000
    assert key not in stream.getvalue()


def test_pages_of_other_origins_are_refused(host: Host) -> None:
    ours = f"http://127.0.0.1:{host.port}"
    assert send_and_receive(host, [json.dumps(START), END], origin=ours).code == 1000
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{host.port}.evil.example"):
        with pytest.raises(InvalidStatus) as caught, host.connect(origin=origin):
            pass
        response = caught.value.response
        assert response.status_code == 403
        assert "other origins" in json.loads(response.body or b"")["detail"]
    with host_service(origins=("https://page.example",)) as other:
        start = [json.dumps(START), END]
        assert send_and_receive(other, start, origin="https://page.example").code == 1000


def test_metrics_and_logs_contain_no_content(pcm: Pcm) -> None:
    stream = StringIO()
    with observability.log_to(stream), host_service() as host:
        stream_pcm(host, pcm.tobytes())
        wait_until(lambda: "serein_streams_open 0.0" in host.metrics_text())
        wait_until(lambda: '"stream"' in stream.getvalue())
        text = host.metrics_text()
    assert 'serein_streams_total{code="1000"} 1.0' in text
    assert "serein_stream_audio_seconds_total 8.0" in text
    assert re.search(r"serein_stream_latency_seconds_count [1-9]", text)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [one for one in lines if one["event"] == "stream"]
    assert (line["route"], line["code"], line["seconds"]) == (PATH, 1000, 8.0)
    assert line["bytes"] == pcm.nbytes
    assert line["segments"] > 0
    assert "127.0.0.1" not in stream.getvalue()
    for word in ("anger", "neutral", "sadness"):
        assert word not in stream.getvalue()


def test_plain_request_requires_an_upgrade(host: Host) -> None:
    answer = httpx.get(f"http://127.0.0.1:{host.port}{PATH}")
    assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")
    assert "WebSocket" in answer.json()["detail"]


def test_client_of_the_docs(
    host: Host, wave: Wave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    soundfile.write(tmp_path / "speech.wav", wave, RATE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "client.py").write_text(code.replace(":8000", f":{host.port}"))
    runpy.run_path(str(tmp_path / "client.py"))
    wanted = recognize_file(host, to_pcm(wave), window=4.0, hop=1.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == [str(one["label"]) for one in wanted]


def test_provisional_answers_and_a_summary_on_request(host: Host, wave: Wave, pcm: Pcm) -> None:
    plain = stream_pcm(host, pcm.tobytes(), window=3.0, hop=1.0, merge=False)
    asked: dict[str, Any] = {
        "window": 3.0,
        "hop": 1.0,
        "merge": False,
        "provisional": True,
        "summary": "a/call.wav",
    }
    found = stream_pcm(host, pcm.tobytes(), **asked)
    assert [one["start"] for one in found.items] == [one["start"] for one in plain.items]
    assert {one["type"] for one in plain.messages} == {"ready", "segments", "done"}
    # How many messages carry the items depends on how much audio waited; the items do not.
    kinds = [one["type"] for one in found.messages if one["type"] != "provisional"]
    assert kinds == ["ready", *["segments"] * (len(kinds) - 2), "done"]
    assert len(kinds) > 2
    timeline = small_recognizer().timeline((pcm, RATE), window=3.0, hop=1.0)
    done = found.last
    assert done["type"] == "done"
    assert is_close(done["timeline"]["shares"], timeline.to_dict()["shares"])
    assert is_close(done["timeline"]["segments"], timeline.to_dict()["segments"])
    assert done["headlines"]["emotion"] == describe_shares(timeline.shares["emotion"])
    assert done["timeline"]["source"] == "call.wav"
    assert done["files"]["csv"].splitlines()[1].startswith("call.wav,")


def test_provisional_answers_of_one_client_that_speaks(host: Host, pcm: Pcm) -> None:
    with host.connect() as client:
        start = {**START, "window": 4.0, "hop": 1.0, "provisional": True, "speech": False}
        client.send(json.dumps(start))
        assert json.loads(client.recv())["type"] == "ready"
        client.send(pcm[: 2 * RATE].tobytes())
        message = json.loads(client.recv())  # long before a window of 4 s is complete
        assert message["type"] == "provisional"
        assert message["item"]["start"] == 0.0
        assert 0 < message["item"]["end"] <= 2.0
        assert message["item"]["tasks"]["emotion"]["probabilities"]
