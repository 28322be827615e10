"""Limits on connections, origins of web pages, turns of requests, and the log of faults."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, cast

import pytest
from builders.service_client import (
    PATIENCE,
    RECOGNIZE,
    SPEECH,
    Client,
    ServeProcess,
    open_client,
    read_response,
    small_recognizer,
)
from builders.websocket_client import Host, host_service
from hypothesis import given
from hypothesis import strategies as st

from serein.inference.stream_config import StreamConfig
from serein.service import auth, page
from serein.service.app import create_app, serve
from serein.service.config import ServiceConfig
from serein.service.connections import (
    MAX_FRAGMENTS,
    REQUESTS_PER_TURN,
    ConnectionLimits,
    LimitedHTTPProtocol,
    RequestTurns,
)
from serein.service.engine import TimelineLoad
from serein.service.fair_queue import FairQueue
from serein.service.observability import (
    ANSWERS_PER_MINUTE,
    FAULTS_PER_MINUTE,
    LOGGER,
    RateLimit,
)
from serein.service.origins import find_foreign_page
from serein.service.schemas import Problem

UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
START = json.dumps({"type": "start", "rate": 16_000, "speech": False}).encode()
POLICY_VIOLATION = b"\x03\xf0"
"""The close code 1008, as in the frame that closes a WebSocket."""
START_FRAME = b"\x81" + bytes([0x80 | len(START)]) + bytes(4) + START


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with host_service(connections=20, head_seconds=0.5, max_megabytes=0.25) as made:
        yield made


def connect(host: Host) -> socket.socket:
    return socket.create_connection(("127.0.0.1", host.port), timeout=PATIENCE)


@contextmanager
def open_stream(host: Host) -> Iterator[socket.socket]:
    with connect(host) as client:
        client.sendall(UPGRADE)
        assert client.recv(65536).endswith(b"\r\n\r\n")
        client.sendall(START_FRAME)
        assert b'"ready"' in client.recv(65536)
        yield client


def get_health(host: Host) -> int:
    with connect(host) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return read_response(client)[0]


def test_idle_connections_make_room(host: Host) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(host)) for _ in range(50)]
        assert get_health(host) == 200
        assert clients[0].recv(1) == b""  # the oldest was closed


def test_head_that_is_never_complete_times_out(host: Host) -> None:
    with connect(host) as half, connect(host) as idle, connect(host) as used:
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_response(used)[0] == 200
        half.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        status, document = read_response(half)
        assert (status, document["status"]) == (408, 408)
        assert "not complete after 0.5 s" in document["detail"]
        assert idle.recv(1) == used.recv(1) == b""


class Reader:
    """A connection that notes in which turn of the event loop it is read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: list[int]) -> None:
        self.loop, self.turns, self.turn = loop, turns, -1

    def read_queued(self) -> None:
        self.turn = self.turns[0]


def test_few_requests_of_a_burst_are_begun_in_a_turn() -> None:
    async def read_all() -> list[int]:
        loop, turns, queue = asyncio.get_running_loop(), [0], RequestTurns()
        readers = [Reader(loop, turns) for _ in range(5 * REQUESTS_PER_TURN)]
        for one in readers:
            queue.add(cast(LimitedHTTPProtocol, one))
        while readers[-1].turn < 0:
            await asyncio.sleep(0)
            turns[0] += 1
        return [one.turn for one in readers]

    found = asyncio.run(read_all())
    assert found == sorted(found)
    assert max(map(found.count, found)) == REQUESTS_PER_TURN


class BrokenReader(Reader):
    """A connection that raises an error when it is read."""

    def read_queued(self) -> None:
        raise ValueError("broken")


class LongReader(Reader):
    """A connection that has more data after each turn."""

    queue: RequestTurns
    read_turns: list[int]

    def read_queued(self) -> None:
        self.read_turns.append(self.turns[0])
        if len(self.read_turns) < 20:
            self.queue.add(cast(LimitedHTTPProtocol, self))


def test_turns_go_on_after_an_error_and_are_not_doubled() -> None:
    async def read_all() -> list[int]:
        loop, turns, queue = asyncio.get_running_loop(), [0], RequestTurns()
        loop.set_exception_handler(lambda *_: None)
        reader = LongReader(loop, turns)
        reader.queue, reader.read_turns = queue, []
        for one in (BrokenReader(loop, turns), reader):
            queue.add(cast(LimitedHTTPProtocol, one))
        for _ in range(50):
            await asyncio.sleep(0)
            turns[0] += 1
        return reader.read_turns

    found = asyncio.run(read_all())
    assert found == list(range(found[0], found[0] + 20)), "once in each turn"


def test_health_checks_do_not_wait_for_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestTurns, "_run", lambda self: None)
    with ExitStack() as stack:
        with host_service() as waiting:
            client = stack.enter_context(connect(waiting))
            client.sendall(b"GET /page/state.js HTTP/1.1\r\nHost: a\r\n\r\n")
            assert get_health(waiting) == 200
            client.settimeout(0.05)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(PATIENCE)
        received = b""  # what had arrived is answered before the service ends
        while data := client.recv(65536):
            received += data
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_full_service_refuses_with_a_problem() -> None:
    limits = ConnectionLimits(2, 1.0, 0)
    busy = [object(), object()]
    for one in busy:
        assert limits.admit(one)
        limits.set_waiting(one, waiting=False)
    assert not limits.admit(object())
    limits.release(busy[0])
    assert limits.admit(object())


def test_chunked_body_over_the_limit_gets_its_answer(host: Host) -> None:
    with connect(host) as client:
        client.sendall(
            b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(8):
            client.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        status, document = read_response(client)
        assert (status, "larger than the limit" in document["detail"]) == (413, True)


def frame(content: bytes, opcode: int, *, fin: bool) -> bytes:
    return bytes([opcode | 0x80 * fin, 0x80 | len(content)]) + bytes(4) + content


@pytest.mark.parametrize(
    "flood",
    [
        frame(b"", 2, fin=False) + frame(b"", 0, fin=False) * 3 * MAX_FRAGMENTS,
        frame(b"", 9, fin=True) * 3 * MAX_FRAGMENTS,
        frame(b"", 2, fin=True),
        frame(b"x", 2, fin=True) * 1200,
    ],
    ids=["fragments", "pings", "an empty message", "single bytes"],
)
def test_floods_of_frames_end_a_stream(host: Host, flood: bytes) -> None:
    with open_stream(host) as client:
        client.sendall(flood)
        received = b""
        while POLICY_VIOLATION not in received and (data := client.recv(65536)):
            received += data
        assert POLICY_VIOLATION in received
    assert get_health(host) == 200


def test_slow_trickle_of_audio_ends() -> None:
    with host_service(stream_idle=0.4) as host, open_stream(host) as client:
        client.settimeout(0.05)
        received, begin = b"", time.monotonic()
        while POLICY_VIOLATION not in received:
            assert time.monotonic() - begin < PATIENCE
            client.sendall(frame(b"x", 2, fin=True))
            try:
                received += client.recv(65536)
            except TimeoutError:
                continue
        assert b"less than 0.1 s of audio arrived in 0.4 s" in received


LARGEST = "two-voices.mp3"


def test_large_file_of_the_page_is_sent_in_chunks() -> None:
    file = page._load_file(LARGEST)
    content = b"".join(page._iter_decompressed(file.gzipped))
    assert len(content) == file.size > page.CHUNK_BYTES
    assert b"".join(page._iter_chunks(file.gzipped)) == file.gzipped
    assert max(map(len, page._iter_decompressed(file.gzipped))) <= page.CHUNK_BYTES
    with open_client() as (call, _):
        plain = call("GET", f"/page/{LARGEST}", headers={"Accept-Encoding": "identity"})
        assert (plain.content, int(plain.headers["Content-Length"])) == (content, len(content))
        for path in ("/", "/healthz"):
            assert call("HEAD", path).status_code == 200


PAGE = "http://127.0.0.1:8000"
LOCAL = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("headers", "method", "is_refused"),
    [
        ({"host": "serein.example"}, "POST", False),  # not a browser
        ({**LOCAL, "origin": PAGE, "sec-fetch-site": "same-origin"}, "POST", False),
        ({**LOCAL, "sec-fetch-site": "none"}, "GET", False),
        ({**LOCAL, "origin": "https://evil.example"}, "POST", True),
        ({**LOCAL, "origin": "null"}, "POST", True),
        ({**LOCAL, "sec-fetch-site": "cross-site"}, "POST", True),
        ({**LOCAL, "sec-fetch-site": "cross-site"}, "GET", False),  # a link
        ({**LOCAL, "origin": "https://evil.example"}, "WEBSOCKET", True),
        # DNS rebinding: the name of the page has this machine's address
        ({"host": "evil.example:8000", "origin": "http://evil.example:8000"}, "WEBSOCKET", True),
        ({"host": "evil.example:8000", "sec-fetch-site": "same-origin"}, "GET", True),
        ({"host": "page.example", "origin": "https://page.example"}, "POST", False),
        ({"host": "[::1]:80", "origin": "http://[::1]:80"}, "POST", False),
    ],
)
def test_requests_of_foreign_pages(headers: dict[str, str], method: str, is_refused: bool) -> None:
    reason = find_foreign_page(headers, method, ["https://page.example"], loopback=True)
    assert (reason is not None) == is_refused


def test_foreign_form_is_refused_before_anything_is_read() -> None:
    with open_client() as (call, engine):
        form = {"files": {"file": ("a.flac", SPEECH)}}
        answer = call("POST", RECOGNIZE, headers={"Origin": "https://evil.example"}, **form)
        assert answer.status_code == 403
        assert "--origin" in answer.json()["detail"]
        assert "serein_audio_seconds_total 0.0" in engine.metrics.render().decode()


def test_queue_takes_turns_by_cost() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(3):
        queue.put(f"long {number}", "ann", 100)
    for number in range(3):
        queue.put(f"short {number}", "bob", 3)
    queue.put(None)
    found = [queue.get() for _ in range(7)]
    assert found == ["short 0", "short 1", "short 2", "long 0", "long 1", "long 2", None]
    assert queue.get() is None
    with pytest.raises(Empty):
        FairQueue[str]().get_nowait()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=60))
def test_queue_keeps_the_order_of_a_flow_and_shares_between_flows(
    jobs: list[tuple[str, int]],
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, (flow, cost) in enumerate(jobs):
        queue.put((flow, number), flow, cost)
    queue.put(None)
    found = list(iter(queue.get, None))
    costs = [cost for _, cost in jobs]
    served = dict.fromkeys("abc", 0)
    for flow in "abc":
        numbers = [number for one, number in found if one == flow]
        assert numbers == [number for number, (one, _) in enumerate(jobs) if one == flow]
    for position, (flow, number) in enumerate(found):
        served[flow] += costs[number]
        waiting = {one for one, _ in found[position + 1 :]}
        for other in waiting - {flow}:  # nobody is ahead by more than its own and the next job
            assert served[flow] - served[other] <= 2 * max(costs)
    assert len(found) == len(jobs)


def test_queue_wakes_a_waiting_thread() -> None:
    queue: FairQueue[int] = FairQueue()
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.extend([queue.get(), queue.get()]))
    thread.start()
    queue.put(7)
    queue.put(None)
    thread.join(PATIENCE)
    assert found == [7, None]


def test_timelines_are_refused_before_they_are_computed() -> None:
    load = TimelineLoad(ServiceConfig(max_window_seconds=1000.0, answer_seconds=1.0))
    dense = StreamConfig(window=6.0, hop=0.25)
    with pytest.raises(Problem, match="7,200 s of windows, and the limit of this service is 1,000"):
        load.add_timeline(300.0, dense).__enter__()
    load._cost_per_second = 100.0
    with load.add_timeline(30.0, dense) as cost:  # 7.8 s of work
        assert cost == 30 * 26
        with pytest.raises(Problem, match="take 16 s with this one") as caught:
            load.add_timeline(30.0, dense).__enter__()
        assert caught.value.status == 503
    with load.add_timeline(30.0, dense):
        pass


def test_key_or_address_without_requests_has_a_slot_of_its_own() -> None:
    with open_client(max_requests=4) as (_, engine), ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(engine.hold_slot("ann"))
        with pytest.raises(Problem, match="4 requests are in progress"):
            stack.enter_context(engine.hold_slot("ann"))
        stack.enter_context(engine.hold_slot("bob"))
        with pytest.raises(Problem):
            stack.enter_context(engine.hold_slot("bob"))


def test_faults_in_the_log_are_limited() -> None:
    limit = RateLimit()

    def record(name: str, text: str, **fields: object) -> logging.LogRecord:
        made = logging.LogRecord(name, logging.ERROR, "", 1, text, (), None)
        made.fields = fields
        return made

    kept = [limit.filter(record("asyncio", "too many files")) for _ in range(1000)]
    assert sum(kept) == FAULTS_PER_MINUTE
    page = [limit.filter(record(LOGGER.name, "request", status=200)) for _ in range(1500)]
    assert sum(page) == ANSWERS_PER_MINUTE
    audio = {"status": 200, "seconds": 2.5}
    assert all(limit.filter(record(LOGGER.name, "request", **audio)) for _ in range(1500))
    assert limit.filter(record(LOGGER.name, "request", status=401))
    limit._minute_end = 0.0
    first = record("asyncio", "too many files")
    assert limit.filter(first)
    left_out = 1000 - FAULTS_PER_MINUTE + 1500 - ANSWERS_PER_MINUTE
    assert vars(first)["fields"]["left_out"] == left_out


def test_key_file_without_a_final_newline(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first = auth.add_key(path, "ann")
    path.write_text(path.read_text().rstrip("\n"))
    second = auth.add_key(path, "bob")
    known = auth.read_keys(path)
    assert [known.find_holder(key) for key in (first, second)] == ["ann", "bob"]


def test_readiness_looks_at_the_decoders() -> None:
    with open_client() as (call, engine):
        (decoder,) = engine.decoders.processes
        command, decoder._command = decoder._command, [sys.executable, "-c", "pass"]
        decoder.close()
        assert call.post(SPEECH).status_code == 503
        assert call("GET", "/readyz").status_code == 503
        decoder._command = command
        while call("GET", "/readyz").status_code != 200:  # which starts it again
            time.sleep(0.05)
        assert call.post(SPEECH).status_code == 200


def test_paths_behind_a_prefix_and_redirects() -> None:
    with open_client() as (call, engine):
        assert call("GET", "/docs/", headers={"Host": "evil.example"}).status_code == 404
        prefixed = Client(create_app(engine, root_path="/speech/"))
        assert "/speech/openapi.json" in prefixed("GET", "/docs").text
        document = prefixed("GET", "/openapi.json").json()
        assert document["servers"][0] == {"url": "/speech"}
        parameters = document["paths"][RECOGNIZE]["post"]["parameters"]
        (model,) = (one for one in parameters if one["name"] == "model")
        assert model["schema"]["anyOf"][0]["enum"] == ["small"]


def test_signal_between_listening_and_the_loop_ends_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = LOGGER.info

    def info(event: str, **rest: Any) -> None:
        original(event, **rest)
        if event == "listening":  # uvicorn does not handle signals yet
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LOGGER, "info", info)
    monkeypatch.setattr("serein.service.app.raise_file_limit", lambda: 0)
    interval, handler = sys.getswitchinterval(), signal.getsignal(signal.SIGTERM)
    serve(small_recognizer(), ServiceConfig(decoders=1), port=0)
    assert sys.getswitchinterval() == interval
    assert signal.getsignal(signal.SIGTERM) is handler
    assert capsys.readouterr().err.rstrip().endswith('"event": "ended"}')


class Sleeper(ServeProcess):
    """A process that does nothing."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "1000"])


def test_server_process_of_a_test_ends_with_it() -> None:
    with pytest.raises(ZeroDivisionError), Sleeper() as live:
        raise ZeroDivisionError
    assert live.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("query", "words"),
    [("hop=inf", "hop"), ("hop=nan", "hop"), ("window=1e308", "window"), ("smooth=1e99", "smooth")],
)
def test_numbers_that_are_not_finite_over_http(query: str, words: str) -> None:
    with open_client() as (call, _):
        answer = call("POST", f"{RECOGNIZE}?{query}", content=SPEECH)
        assert answer.status_code == 400
        assert words in answer.json()["detail"]


def test_json_with_base64_is_named() -> None:
    with open_client() as (call, _):
        answer = call("POST", RECOGNIZE, json={"audio": "UklGRg=="})
        assert answer.status_code == 400
        assert "without base64" in answer.json()["detail"]
