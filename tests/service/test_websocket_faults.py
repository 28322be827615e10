"""Streams that go wrong: a clear word, a code, and nothing lost for the others."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from builders.service_client import client
from builders.speech_streams import RATE
from builders.websocket_client import (
    END,
    PATH,
    START,
    TIMEOUT,
    Host,
    done,
    hosted,
    said,
    streamed,
    told,
    until,
)
from websockets.exceptions import ConnectionClosed

from serein.service.engine import Engine
from serein.service.session import PCMBuffer

OPEN = json.dumps(START)
EVERYTHING = json.dumps({**START, "speech": False})
NOISE = np.random.default_rng(0).integers(-9999, 9999, 2 * RATE, np.int16).tobytes()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosted(stream_megabytes=0.25, stream_seconds=5.0) as made:
        yield made


def start(**fields: Any) -> str:
    return json.dumps({**START, **fields})


FAULTS: dict[str, tuple[list[str | bytes], int, int, str]] = {
    "audio first": ([NOISE], 1008, 400, "starts with binary data"),
    "no JSON": (["hello"], 1008, 400, "Invalid JSON"),
    "no object": (["[]"], 1008, 400, "the message: Input should be"),
    "another type": (
        ['{"type": "begin", "rate": 16000}'],
        1008,
        400,
        "type: Input should be 'start'",
    ),
    "no rate": (['{"type": "start"}'], 1008, 400, "rate: Field required"),
    "a low rate": ([start(rate=4000)], 1008, 400, "rate: Input should be greater"),
    "a high rate": ([start(rate=200_000)], 1008, 400, "rate: Input should be less"),
    "a word for a rate": ([start(rate="16000")], 1008, 400, "rate: Input should be a valid int"),
    "many channels": ([start(channels=9)], 1008, 400, "channels: Input should be less"),
    "a short hop": ([start(hop=0.1)], 1008, 400, "hop: Input should be greater"),
    "no number": ([OPEN.replace("0.25", "NaN")], 1008, 400, "hop: "),
    "an unknown field": ([start(bits=8)], 1008, 400, "bits: Extra inputs"),
    "gaps": ([start(hop=2.0)], 1008, 422, "leaves gaps"),
    "a long window": ([start(window=20.0)], 1008, 422, "takes at most 7.5 s"),
    "an unknown model": ([start(model="large")], 1008, 404, "no model 'large' here; known: small"),
    "text for audio": ([OPEN, "hello"], 1008, 400, 'not {"type": "end"}'),
    "an unknown type": ([OPEN, NOISE, '{"type": "stop"}'], 1008, 400, 'not {"type": "end"}'),
    "two starts": ([OPEN, OPEN], 1008, 400, 'not {"type": "end"}'),
    "half a sample": ([OPEN, NOISE + b"x", END], 1008, 400, "ends within a sample: 1 bytes of 2"),
    "half a frame": ([start(channels=2), bytes(6), END], 1008, 400, "2 bytes of 4"),
    "a large message": ([OPEN, bytes(2**18 + 1)], 1009, 413, "larger than the limit of 0.25 MB"),
    "a large start": ([" " * (2**18 + 1)], 1009, 413, "larger than the limit of 0.25 MB"),
    "a long stream": ([OPEN, *[bytes(RATE)] * 11], 1009, 413, "longer than the limit of 5 s"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_a_client_may_not(host: Host, kind: str) -> None:
    messages, code, status, words = FAULTS[kind]
    answer = said(host, messages)
    assert (answer.code, answer.last["type"], answer.last["status"]) == (code, "problem", status)
    assert words in answer.last["detail"]
    assert answer.last["title"]
    until(lambda: "serein_streams_open 0.0" in host.text())


def test_what_came_before_a_fault_is_answered(host: Host) -> None:
    wanted = streamed(host, NOISE, speech=False).items
    assert wanted[-1]["end"] == 2.0
    for fault in ("text", NOISE * 4):
        answer = said(host, [EVERYTHING, NOISE, fault])
        assert answer.last["type"] == "problem"
        assert answer.items[0]["start"] == 0.0
        assert answer.items[-1]["end"] == (2.0 if fault == "text" else 5.0)


def test_a_message_beyond_all_bounds_is_not_read(host: Host) -> None:
    with host.connect() as one:
        one.send(OPEN)
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            one.send(bytes(2**23))
            one.recv(timeout=TIMEOUT)
            one.recv(timeout=TIMEOUT)
    assert streamed(host, NOISE).code == 1000


def test_too_many_streams_and_one_that_leaves() -> None:
    with hosted(streams=1) as small, small.connect() as first:
        first.send(OPEN)
        assert json.loads(first.recv(timeout=TIMEOUT))["type"] == "ready"
        first.send(NOISE)
        answer = said(small, [OPEN, NOISE])
        assert (answer.code, answer.last["status"]) == (1013, 429)
        assert "1 streams are open" in answer.last["detail"]
        first.socket.shutdown(socket.SHUT_RDWR)  # without a word
        until(lambda: "serein_streams_open 0.0" in small.text())
        assert streamed(small, NOISE).code == 1000


def test_who_says_nothing_is_not_waited_for() -> None:
    with hosted(stream_idle=0.3, body_seconds=0.3) as host:
        silent = said(host, [])
        assert (silent.code, silent.last["status"]) == (1008, 408)
        assert "no message arrived in 0.3 s" in silent.last["detail"]
        answer = said(host, [EVERYTHING, NOISE])
        assert (answer.code, answer.last["status"]) == (1008, 408)
        assert "no message arrived for 0.3 s" in answer.last["detail"]
        assert answer.items[-1]["end"] == 2.0


def test_the_end_of_the_service_answers_what_came() -> None:
    with hosted() as host, host.connect() as first, host.connect() as second:
        clients = [first, second]
        for one in clients:
            one.send(EVERYTHING)
            assert json.loads(one.recv(timeout=TIMEOUT))["type"] == "ready"
            one.send(NOISE)
        until(lambda: "serein_stream_audio_seconds_total 4.0" in host.text())
        host.server.should_exit = True
        for one in clients:
            answer = told(one)
            assert (answer.code, answer.items[-1]["end"]) == (1001, 2.0)
            assert answer.last == done(2.0, "service")


def test_a_fault_of_ours_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with hosted() as host:

        def fails(*_: object) -> None:
            raise RuntimeError("secret")

        with monkeypatch.context() as patched:
            patched.setattr(host.engine.stream_batcher, "submit", fails)
            answer = said(host, [OPEN, NOISE])
        assert (answer.code, answer.last["status"]) == (1011, 500)
        assert answer.messages[0]["id"] in answer.last["detail"]
        assert "secret" not in answer.last["detail"]
        assert streamed(host, NOISE).code == 1000


def visit(engine: Engine, app: Any, messages: list[dict[str, Any]], stuck: str) -> list[str]:
    """A client in this process that takes nothing any more once it was sent such a message."""
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: dict[str, Any]) -> None:
        text = message.get("text", "{}")
        sent.append(json.loads(text).get("type", message["type"]))
        if sent[-1] == stuck:
            await asyncio.Event().wait()

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": PATH,
        "raw_path": b"",
        "root_path": "",
        "headers": [],
    }
    scope |= {"query_string": b"", "scheme": "ws", "subprotocols": [], "client": None}
    asyncio.run(app({**scope, "server": None}, receive, send))
    return sent


def test_who_takes_no_answers_is_not_waited_for() -> None:
    with client(stream_idle=0.3) as (call, engine):
        audio = {"type": "websocket.receive", "bytes": NOISE}
        begin = {"type": "websocket.receive", "text": start(speech=False, merge=False)}
        messages: list[dict[str, Any]] = [{"type": "websocket.connect"}, begin, audio]
        sent = visit(engine, call.app, messages, "segments")
        assert sent == ["websocket.accept", "ready", "segments"]
        text = engine.metrics.render().decode()
        assert "serein_streams_open 0.0" in text
        assert 'serein_streams_total{code="1006"} 1.0' in text


def test_an_inbox_takes_no_more_than_it_holds() -> None:
    async def fill() -> tuple[list[int], int]:
        inbox, sizes = PCMBuffer(frame_bytes=4, max_bytes=10), []
        putting = asyncio.create_task(inbox.put(bytes(21)))
        last = False
        while inbox.buffered_bytes > 8 or not putting.done():
            sizes.append(len((await inbox.take(1)).content))
            await asyncio.sleep(0)
        inbox.end()
        while not last:
            content, _, last = await inbox.take(1)
            sizes.append(len(content))
        return sizes, inbox.buffered_bytes

    assert asyncio.run(fill()) == ([8, 8, 4], 1)


def test_an_inbox_gives_what_is_enough_and_knows_when_it_came() -> None:
    async def filled() -> None:
        inbox, begin = PCMBuffer(frame_bytes=2, max_bytes=100), time.monotonic()
        taking = asyncio.create_task(inbox.take(5))
        for size in (3, 3, 3, 3):
            await inbox.put(bytes(size))
            await asyncio.sleep(0.05)
        content, since, last = await taking
        assert (len(content), inbox.buffered_bytes, last) == (12, 0, False)
        assert 0.15 <= since - begin < time.monotonic() - begin - 0.04
        await inbox.put(b"x")
        inbox.end()
        assert (await inbox.take(5))[::2] == (b"", True)
        assert inbox.buffered_bytes == 1

    asyncio.run(filled())


def test_the_ear_ends_with_all_answered() -> None:
    with client() as (_, engine):
        streams = [engine.recognizer.stream(RATE, speech=False) for _ in range(3)]
        futures = [engine.stream_batcher.submit(stream, NOISE) for stream in streams]
        assert engine.is_ready()
    assert all(future.result(0) == [] for future in futures)
    assert not engine.stream_batcher.is_alive()
    assert not engine.is_ready()
