"""Bad requests: each gets a problem document, and other requests are not affected."""

import asyncio
import io
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from builders.encoded_audio import encode, make_sweep
from builders.service_client import RECOGNIZE, SPEECH, Client, open_client, pause_decoder

from serein.service.engine import Engine

WAV = encode("wav", make_sweep(1.0))


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Client, Engine]]:
    with open_client(max_seconds=20, max_megabytes=4, max_requests=4) as made:
        yield made


@pytest.fixture(scope="module")
def call(service: tuple[Client, Engine]) -> Client:
    return service[0]


def parse_problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and detail of a response, which must be a problem document."""
    document = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert document["title"]
    return answer.status_code, document["detail"]


def flac_of_silence(hours: float = 2.0, *, tells: bool = True) -> bytes:
    """FLAC of silence, with or without its length in the header."""
    buffer, second = io.BytesIO(), np.zeros(8_000 * 60, np.int16)
    with soundfile.SoundFile(buffer, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(60 * hours)):
            file.write(second)
    content = bytearray(buffer.getvalue())
    if not tells:
        content[21] &= 0xF0  # the 36 bits of STREAMINFO with the number of samples
        content[22:26] = bytes(4)
    return bytes(content)


def wav_with_declared_size(size: int) -> bytes:
    """A WAV file of one second whose header declares another size."""
    return WAV[:40] + struct.pack("<I", size) + WAV[44:]


UNREADABLE = {
    "nothing": (b"", 400, "is empty"),
    "text": (b"dear sir or madam", 422, "not audio"),
    "a page": (b"<html><audio src=x.wav></html>", 422, "not audio"),
    "a playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 422, "audio"),
    "half a FLAC": (SPEECH[: len(SPEECH) // 2], 422, "is truncated"),
    "a head alone": (WAV[:44], 422, "expected"),
    "a WAV that lies": (wav_with_declared_size(0x10000000), 422, "is truncated"),
    "noise": (np.random.default_rng(0).bytes(5000), 422, "not audio"),
    "10 ms": (encode("wav", make_sweep(0.01)), 422, "has 10 ms"),
    "NaN": (encode("wav", np.full(16_000, np.nan), subtype="FLOAT"), 422, "NaN"),
    "too long": (
        encode("flac", make_sweep(21.0, 8_000), rate=8_000),
        413,
        "longer than the limit of 20 s",
    ),
    "too big": (bytes(4 * 2**20 + 1), 413, "larger than the limit of 4 MB"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_uploads_that_are_no_audio(call: Client, kind: str) -> None:
    content, status, words = UNREADABLE[kind]
    for answer in (
        call.post(content),
        call("POST", RECOGNIZE, files={"file": ("speech.wav", content)}),
    ):
        found, reason = parse_problem(answer)
        assert found == status, reason
        assert words in reason
        assert "given" not in reason
    assert call.post(SPEECH).status_code == 200


@pytest.mark.parametrize("tells", [True, False])
def test_small_flac_that_decodes_to_hours(call: Client, tells: bool) -> None:
    content = flac_of_silence(tells=tells)
    assert len(content) < 1e6
    assert parse_problem(call.post(content)) == (413, parse_problem(call.post(content))[1])
    assert call.post(SPEECH).status_code == 200


def build_form(*parts: str, end: str = "--x--\r\n") -> dict[str, Any]:
    content = "".join(f"--x\r\n{part}\r\n" for part in parts) + end
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return {"content": content.encode(), "headers": headers}


FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\ncontent'
FIELD = 'Content-Disposition: form-data; name="file"\r\n\r\ncontent'
FORMS = {
    "two files": (build_form(FILE, FILE), "Too many files. Maximum number of files is 1"),
    "two names in a part": (
        build_form(FILE.replace("\r\n\r\n", "\r\n" + FILE)),
        "two Content-Disposition",
    ),
    "no file": (build_form(FIELD), "has no file"),
    "nothing": (build_form(), "has no file"),
    "broken off": (build_form(FILE, end=""), "ends too early"),
    "broken off after a part": (build_form(FILE, end="--x\r\n"), "ends too early"),
    "no boundary": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        "Missing boundary",
    ),
    "no parts": ({**build_form(), "content": b"text"}, "boundary"),
    "many parts": (build_form(*[FIELD] * 16), "Maximum number of fields is 15"),
    "a long head": (build_form(f"X: {'x' * 9999}\r\n\r\n"), "header"),
}


@pytest.mark.parametrize("kind", FORMS)
def test_invalid_forms(call: Client, kind: str) -> None:
    rest, words = FORMS[kind]
    status, reason = parse_problem(call("POST", RECOGNIZE, **rest))
    assert status == 400
    assert words in reason
    assert "one file" in reason


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", RECOGNIZE, 405),
        ("PUT", RECOGNIZE, 405),
        ("POST", "/v1/model", 405),
        ("DELETE", "/healthz", 405),
    ],
)
def test_unknown_paths_and_methods(call: Client, method: str, path: str, status: int) -> None:
    answer = call(method, path)
    assert parse_problem(answer)[0] == status
    assert ("Allow" in answer.headers) == (status == 405)


def run_later(action: Any, seconds: float = 0.5) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_full_queue_is_a_429_with_retry_after(service: tuple[Client, Engine]) -> None:
    call, engine = service
    with pause_decoder(engine):
        run_later(lambda: os.kill(engine.decoders.processes[0].pid, signal.SIGCONT), 1.0)
        answers = call.send_together([("POST", RECOGNIZE, {"content": SPEECH})] * 7)
    assert [one.status_code for one in answers] == [200] * 4 + [429] * 3
    assert {one.headers["Retry-After"] for one in answers[4:]} == {"1"}
    assert "4 requests are in progress" in parse_problem(answers[-1])[1]


def test_decoder_that_the_system_kills_decodes_again(
    service: tuple[Client, Engine],
) -> None:
    call, engine = service
    with pause_decoder(engine):
        run_later(lambda: os.kill(engine.decoders.processes[0].pid, signal.SIGKILL))
        answers = call.send_together([("POST", RECOGNIZE, {"content": SPEECH})] * 4)
    assert [one.status_code for one in answers] == [200] * 4
    assert "serein_decoder_deaths_total 1.0" in call("GET", "/metrics").text


def kill_paused(pid: int) -> None:
    """Kill a process that was paused: it must continue to be killed."""
    os.kill(pid, signal.SIGSEGV)
    os.kill(pid, signal.SIGCONT)


def test_file_that_crashes_the_decoder_fails_alone(service: tuple[Client, Engine]) -> None:
    call, engine = service
    with pause_decoder(engine):
        pid = engine.decoders.processes[0].pid
        run_later(partial(kill_paused, pid))
        first, *others = call.send_together([("POST", RECOGNIZE, {"content": SPEECH})] * 4)
    assert parse_problem(first)[0] == 422
    assert "decoder fail" in parse_problem(first)[1]
    assert [one.status_code for one in others] == [200] * 3


def test_idle_decoder_that_was_killed_is_restarted() -> None:
    with open_client() as (call, engine):
        (decoder,) = engine.decoders.processes
        os.kill(decoder.pid, signal.SIGKILL)
        while decoder.is_alive():
            time.sleep(0.01)
        assert call("GET", "/readyz").status_code == 200
        assert call.post(SPEECH).status_code == 200
        assert "serein_decoder_deaths_total 0.0" in call("GET", "/metrics").text


BUSY_DECODER = """
import sys
from serein.service import decoder_process as one
one.send_message(sys.stdout.buffer, one.READY, b"")
one.receive_message(sys.stdin.buffer)
while True: pass
"""


@pytest.mark.parametrize(
    ("is_busy", "status", "words"),
    [
        (False, 503, "too little processor time in 0.5 s; try again"),
        (True, 422, "longer than the limit of 0.5 s"),
    ],
)
def test_slow_decoding_is_killed(
    is_busy: bool, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is at fault for the processor time that it takes, and not for that of others."""
    with open_client(decode_seconds=0.5) as (call, engine):
        (decoder,) = engine.decoders.processes
        decoder.decode(SPEECH)
        if is_busy:
            command, decoder._command = decoder._command, [sys.executable, "-c", BUSY_DECODER]
            decoder.close()
            monkeypatch.setattr(decoder, "_processor_seconds", time.monotonic)
            first = call.post(SPEECH)
            decoder._command = command
            decoder.close()
        else:
            with pause_decoder(engine):
                first = call.post(SPEECH)
        assert parse_problem(first)[0] == status
        assert words in parse_problem(first)[1]
        assert len(decoder.decode(SPEECH)) == 16_000


def test_decoding_beyond_the_memory_limit() -> None:
    large = encode("flac", np.zeros(48_000 * 200, np.int16), rate=48_000)
    with open_client(decode_megabytes=32) as (call, _):
        first, other = call.send_together(
            [("POST", RECOGNIZE, {"content": c}) for c in (large, SPEECH)]
        )
        assert first.status_code in (413, 422)
        assert parse_problem(first)[1]
        assert other.status_code == 200


def test_answer_timeout_is_a_503() -> None:
    with open_client(answer_seconds=0.5) as (call, engine), pause_decoder(engine):
        answer = call.post(SPEECH)
    assert parse_problem(answer)[0] == 503
    assert answer.headers["Retry-After"] == "5"


def test_failing_recording_does_not_fail_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_client(wait=0.3) as (call, engine):
        together = engine.recognizer.predict_many

        def fragile(recordings: Any, words: Any) -> Any:
            if any(name == "bad.wav" for name, _ in recordings):
                raise RuntimeError("no")
            return together(recordings, words=words)

        monkeypatch.setattr(engine.recognizer, "predict_many", fragile)
        names = ["a.wav", "bad.wav", "b.wav"]
        forms = [{"files": {"file": (name, SPEECH)}} for name in names]
        answers = call.send_together([("POST", RECOGNIZE, rest) for rest in forms])
        assert [one.status_code for one in answers] == [200, 500, 200]
        assert "X-Request-Id" in answers[1].headers
        assert "internal error" in parse_problem(answers[1])[1]


def test_disconnect_frees_a_slot_and_drops_queued_work(
    service: tuple[Client, Engine],
) -> None:
    call, engine = service
    sent: list[Any] = []

    async def leave() -> None:
        messages = [{"type": "http.request", "body": SPEECH}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            if len(messages) == 1:
                await asyncio.sleep(0.2)
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": RECOGNIZE}
        scope |= {"raw_path": b"", "root_path": "", "query_string": b"", "headers": []}
        scope |= {"server": ("serein", 80), "client": None, "scheme": "http", "http_version": "1.1"}
        await call.app(scope, receive, send)

    with pause_decoder(engine):
        asyncio.run(leave())
    assert sent[0]["status"] == 499
    answers = call.send_together([("POST", RECOGNIZE, {"content": SPEECH})] * 4)
    assert [one.status_code for one in answers] == [200] * 4
