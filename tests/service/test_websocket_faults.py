"""Streams with errors: each gets a problem and a close code, and others are not affected."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from builders.service_client import open_client
from builders.speech_streams import RATE
from builders.websocket_client import (
    END,
    PATH,
    START,
    TIMEOUT,
    Host,
    done_message,
    host_service,
    receive_all,
    send_and_receive,
    stream_pcm,
    wait_until,
)
from websockets.exceptions import ConnectionClosed

from serein.service.engine import Engine
from serein.service.session import PCMBuffer

OPEN = json.dumps(START)
EVERYTHING = json.dumps({**START, "speech": False})
NOISE = np.random.default_rng(0).integers(-9999, 9999, 2 * RATE, np.int16).tobytes()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with host_service(stream_megabytes=0.25, stream_seconds=5.0) as made:
        yield made


def start_message(**fields: Any) -> str:
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
    "a low rate": ([start_message(rate=4000)], 1008, 400, "rate: Input should be greater"),
    "a high rate": ([start_message(rate=200_000)], 1008, 400, "rate: Input should be less"),
    "a word for a rate": (
        [start_message(rate="16000")],
        1008,
        400,
        "rate: Input should be a valid int",
    ),
    "many channels": ([start_message(channels=9)], 1008, 400, "channels: Input should be less"),
    "a short hop": ([start_message(hop=0.1)], 1008, 400, "hop: Input should be greater"),
    "no number": ([OPEN.replace("0.25", "NaN")], 1008, 400, "hop: "),
    "an unknown field": ([start_message(bits=8)], 1008, 400, "bits: Extra inputs"),
    "gaps": ([start_message(hop=2.0)], 1008, 400, "leaves gaps"),
    "a long window": ([start_message(window=20.0)], 1008, 400, "takes at most 7.5 s"),
    "an unknown model": (
        [start_message(model="large")],
        1008,
        400,
        "no model 'large' here; known: small",
    ),
    "text for audio": ([OPEN, "hello"], 1008, 400, 'not {"type": "end"}'),
    "an unknown type": ([OPEN, NOISE, '{"type": "stop"}'], 1008, 400, 'not {"type": "end"}'),
    "two starts": ([OPEN, OPEN], 1008, 400, 'not {"type": "end"}'),
    "half a sample": ([OPEN, NOISE + b"x", END], 1008, 400, "ends within a sample: 1 bytes of 2"),
    "half a frame": ([start_message(channels=2), bytes(6), END], 1008, 400, "2 bytes of 4"),
    "a large message": ([OPEN, bytes(2**18 + 1)], 1009, 413, "larger than the limit of 0.25 MB"),
    "a large start": ([" " * (2**18 + 1)], 1009, 413, "larger than the limit of 0.25 MB"),
    "a long stream": ([OPEN, *[bytes(RATE)] * 11], 1009, 413, "longer than the limit of 5 s"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_protocol_violations_are_problems(host: Host, kind: str) -> None:
    messages, code, status, words = FAULTS[kind]
    answer = send_and_receive(host, messages)
    assert (answer.code, answer.last["type"], answer.last["status"]) == (code, "problem", status)
    assert words in answer.last["detail"]
    assert answer.last["title"]
    wait_until(lambda: "serein_streams_open 0.0" in host.metrics_text())


def test_audio_before_a_problem_is_answered(host: Host) -> None:
    wanted = stream_pcm(host, NOISE, speech=False).items
    assert wanted[-1]["end"] == 2.0
    for fault in ("text", NOISE * 4):
        answer = send_and_receive(host, [EVERYTHING, NOISE, fault])
        assert answer.last["type"] == "problem"
        assert answer.items[0]["start"] == 0.0
        assert answer.items[-1]["end"] == (2.0 if fault == "text" else 5.0)


def test_huge_message_is_not_read(host: Host) -> None:
    with host.connect() as one:
        one.send(OPEN)
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            one.send(bytes(2**23))
            one.recv(timeout=TIMEOUT)
            one.recv(timeout=TIMEOUT)
    assert stream_pcm(host, NOISE).code == 1000


def test_stream_limit_and_disconnect() -> None:
    with host_service(streams=1) as small, small.connect() as first:
        first.send(OPEN)
        assert json.loads(first.recv(timeout=TIMEOUT))["type"] == "ready"
        first.send(NOISE)
        answer = send_and_receive(small, [OPEN, NOISE])
        assert (answer.code, answer.last["status"]) == (1013, 429)
        assert "1 streams are open" in answer.last["detail"]
        first.socket.shutdown(socket.SHUT_RDWR)  # without a closing handshake
        wait_until(lambda: "serein_streams_open 0.0" in small.metrics_text())
        assert stream_pcm(small, NOISE).code == 1000


def test_idle_clients_time_out() -> None:
    with host_service(stream_idle=0.3, body_seconds=0.3) as host:
        silent = send_and_receive(host, [])
        assert (silent.code, silent.last["status"]) == (1008, 408)
        assert "no message arrived in 0.3 s" in silent.last["detail"]
        answer = send_and_receive(host, [EVERYTHING, NOISE])
        assert (answer.code, answer.last["status"]) == (1008, 408)
        assert "no message arrived for 0.3 s" in answer.last["detail"]
        assert answer.items[-1]["end"] == 2.0


def test_shutdown_answers_received_audio() -> None:
    with host_service() as host, host.connect() as first, host.connect() as second:
        clients = [first, second]
        for one in clients:
            one.send(EVERYTHING)
            assert json.loads(one.recv(timeout=TIMEOUT))["type"] == "ready"
            one.send(NOISE)
        wait_until(lambda: "serein_stream_audio_seconds_total 4.0" in host.metrics_text())
        host.server.should_exit = True
        for one in clients:
            answer = receive_all(one)
            assert (answer.code, answer.items[-1]["end"]) == (1001, 2.0)
            assert answer.last == done_message(2.0, "service")


def test_internal_errors_are_reported_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    with host_service() as host:

        def fails(*_: object) -> None:
            raise RuntimeError("secret")

        with monkeypatch.context() as patched:
            patched.setattr(host.engine.stream_batcher, "submit", fails)
            answer = send_and_receive(host, [OPEN, NOISE])
        assert (answer.code, answer.last["status"]) == (1011, 500)
        assert answer.messages[0]["id"] in answer.last["detail"]
        assert "secret" not in answer.last["detail"]
        assert stream_pcm(host, NOISE).code == 1000


def run_unresponsive_client(
    engine: Engine, app: Any, messages: list[dict[str, Any]], stuck: str
) -> list[str]:
    """Run a client that accepts no more messages after one of the type ``stuck``."""
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


def test_clients_that_accept_no_messages_time_out() -> None:
    with open_client(stream_idle=0.3) as (call, engine):
        audio = {"type": "websocket.receive", "bytes": NOISE}
        begin = {"type": "websocket.receive", "text": start_message(speech=False, merge=False)}
        messages: list[dict[str, Any]] = [{"type": "websocket.connect"}, begin, audio]
        sent = run_unresponsive_client(engine, call.app, messages, "segments")
        assert sent == ["websocket.accept", "ready", "segments"]
        text = engine.metrics.render().decode()
        assert "serein_streams_open 0.0" in text
        assert 'serein_streams_total{code="1006"} 1.0' in text


def test_pcm_buffer_put_waits_while_full() -> None:
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


def test_pcm_buffer_take_waits_and_returns_arrival_time() -> None:
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


def test_stream_batcher_close_answers_queued_blocks() -> None:
    with open_client() as (_, engine):
        streams = [engine.recognizer.stream(RATE, speech=False) for _ in range(3)]
        futures = [engine.stream_batcher.submit(stream, NOISE) for stream in streams]
        assert engine.is_ready()
    assert all(future.result(0) == [] for future in futures)
    assert not engine.stream_batcher.is_alive()
    assert not engine.is_ready()
