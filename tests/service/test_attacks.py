"""Attacks on a service from this machine: slow, bounded, and with the default model.

Each test prints the latency of other clients (``-s`` shows it), and asserts what does not depend on
the speed of the machine: that they are answered, and the size of memory and log.
"""

import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from builders.encoded_audio import encode
from builders.service_client import RECOGNIZE, ServeProcess, read_response
from builders.speech_streams import make_speech

from serein.records import Corpus

pytestmark = pytest.mark.slow

CLIENTS = 2000
MAX_MEGABYTES = 700
MAX_LOG_BYTES = 1_000_000
PATIENCE = 120.0


@pytest.fixture
def live(tmp_path: Path) -> Iterator[ServeProcess]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ServeProcess(tmp_path) as made:
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def peak_megabytes(live: ServeProcess) -> float:
    status = Path(f"/proc/{live.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line)


def probe(what: str, send: Callable[[], int], count: int = 60) -> float:
    """Send requests one after the other, and return the 95th percentile of their seconds."""
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        assert send() == 200
        seconds.append(time.perf_counter() - begin)
        time.sleep(0.02)
    p95 = float(np.quantile(seconds, 0.95))
    print(f"{what}: p95 {p95:.3f} s, longest {max(seconds):.3f} s")
    return p95


def check_service(live: ServeProcess, what: str, log_bytes: int) -> None:
    probe(what, lambda: httpx.get(f"{live.url}/healthz", timeout=PATIENCE).status_code)
    megabytes, logged = peak_megabytes(live), live.log.stat().st_size - log_bytes
    print(f"{what}: {megabytes:.0f} MB at most, {logged:,} bytes of log")
    assert megabytes < MAX_MEGABYTES
    assert logged < MAX_LOG_BYTES


@contextmanager
def open_clients(live: ServeProcess, sent: Callable[[int], bytes], count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for number in range(count):
            client = stack.enter_context(closing(live.connect()))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.sendall(sent(number))
        yield


LARGEST_FILE = b"GET /page/two-voices.mp3 HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
HEADS: dict[str, Callable[[int], bytes]] = {
    "idle connections": lambda number: b"",
    "half heads": lambda number: b"GET /healthz HTTP/1.1\r\nX-Slow: ",
    "clients that read nothing": lambda number: (
        8 * (LARGEST_FILE % (b"Accept-Encoding: gzip\r\n" if number % 2 else b""))
    ),
    "no HTTP": lambda number: b"\x16\x03\x01\x02\x00\r\n\r\n",
}


@pytest.mark.parametrize("kind", HEADS)
def test_many_connections(live: ServeProcess, kind: str) -> None:
    before = live.log.stat().st_size
    with open_clients(live, HEADS[kind], CLIENTS):
        check_service(live, f"{CLIENTS} {kind}", before)


UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
START = json.dumps({"type": "start", "rate": 16_000}).encode()
START_FRAME = b"\x81" + bytes([0x80 | len(START)]) + bytes(4) + START
HALF_MESSAGE = b"\x82\xff" + (1_500_000).to_bytes(8, "big") + bytes(4) + bytes(1_400_000)
EMPTY_FRAGMENTS = b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 200_000
EMPTY_MESSAGES = b"\x82\x80\0\0\0\0" * 200_000
PINGS = b"\x89\x80\0\0\0\0" * 200_000


@pytest.mark.parametrize(
    ("kind", "frames", "count"),
    [
        ("half messages", HALF_MESSAGE, 300),
        ("empty fragments", EMPTY_FRAGMENTS, 50),
        ("empty messages", EMPTY_MESSAGES, 50),
        ("pings", PINGS, 50),
    ],
)
def test_websocket_floods(live: ServeProcess, kind: str, frames: bytes, count: int) -> None:
    before, threads = live.log.stat().st_size, []

    def attack() -> None:
        with closing(live.connect()) as client:
            try:
                client.sendall(UPGRADE)
                client.recv(65536)
                client.sendall(START_FRAME)
                client.sendall(frames)
                time.sleep(3)
            except OSError:
                pass  # the service has closed the connection

    for _ in range(count):
        threads.append(threading.Thread(target=attack))
        threads[-1].start()
    check_service(live, f"{count} WebSockets with {kind}", before)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_short_requests_beside_long_timelines(live: ServeProcess, corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    long = make_speech(corpus, 300.0) + 0.001 * rng.normal(size=300 * 16_000)
    long_file, short_file = encode("flac", long), encode("flac", long[: 3 * 16_000])
    url = f"{live.url}{RECOGNIZE}"
    answers: list[httpx.Response] = []

    def post_long() -> None:
        query = "?window=6&hop=0.25"
        answers.append(httpx.post(url + query, content=long_file, timeout=10 * PATIENCE))

    threads = [threading.Thread(target=post_long) for _ in range(4)]

    def post_short() -> int:
        return httpx.post(url, content=short_file, timeout=PATIENCE).status_code

    probe("a short file alone", post_short, 20)
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    probe("a short file beside four timelines", post_short)
    for thread in threads:
        thread.join()
    assert [one.status_code for one in answers] == [200] * 4
    assert all(one.json()["segments"] for one in answers)


def test_streams_of_single_bytes_end(tmp_path: Path) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with ServeProcess(tmp_path, "--stream-idle", "2", "--streams", "4") as live:
        url = f"ws://127.0.0.1:{live.port}/v1/stream"
        with ExitStack() as stack:
            sockets = [stack.enter_context(connect(url, proxy=None)) for _ in range(4)]
            for one in sockets:
                one.send(json.dumps({"type": "start", "rate": 16_000}))
                assert json.loads(one.recv(timeout=PATIENCE))["type"] == "ready"
            for one in sockets:
                with pytest.raises(ConnectionClosed):  # noqa: PT012
                    while True:
                        one.send(b"x")
                        time.sleep(0.5)
                assert one.close_code == 1008


def test_end_while_connections_are_idle(live: ServeProcess) -> None:
    with open_clients(live, HEADS["half heads"], 100):
        assert live.end() == 0
    assert not os.path.exists(f"/proc/{live.process.pid}")


def test_refusal_reaches_a_client_that_sends_first(tmp_path: Path) -> None:
    with ServeProcess(tmp_path, "--max-megabytes", "1") as live, live.connect() as client:
        client.sendall(
            b"POST /v1/recognize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(24):  # three times the limit
            client.sendall(b"20000\r\n" + bytes(0x20000) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        client.settimeout(PATIENCE)
        status, document = read_response(client)
        assert (status, "larger than the limit" in document["detail"]) == (413, True)
        assert client.recv(1) == b""
