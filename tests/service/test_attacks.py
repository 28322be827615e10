"""Attacks on a service from this machine: slow, bounded, and with the default model.

Each test prints the latency of other clients and the load (``-s`` shows them). It asserts what does
not depend on other jobs of the machine: that clients are answered, how much processor time the
service uses from a request to its answer, and the size of memory and log.
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
MAX_HEALTH_SECONDS = 0.2
"""Processor time from a health check to its answer, 95th percentile."""
MAX_SHORT_SECONDS = 0.5
"""Processor time from a short file to its answer, 95th percentile."""
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


def processor_seconds(live: ServeProcess) -> float:
    fields = Path(f"/proc/{live.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def probe(live: ServeProcess, what: str, send: Callable[[], int], count: int = 60) -> float:
    """Send requests one after the other.

    Returns:
        The 95th percentile of the service's processor time from a request to its answer.
    """
    seconds, used = [], []
    for _ in range(count):
        begin, used_before = time.perf_counter(), processor_seconds(live)
        assert send() == 200
        seconds.append(time.perf_counter() - begin)
        used.append(processor_seconds(live) - used_before)
        time.sleep(0.02)
    p95, p95_used = (float(np.quantile(values, 0.95)) for values in (seconds, used))
    print(
        f"{what}: p95 {p95:.3f} s, longest {max(seconds):.3f} s; processor time p95 "
        f"{p95_used:.2f} s; load {os.getloadavg()[0]:.1f}"
    )
    return p95_used


def get_health(live: ServeProcess) -> int:
    with closing(live.connect()) as client:
        client.settimeout(PATIENCE)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return read_response(client)[0]


def check_service(live: ServeProcess, what: str, log_bytes: int) -> None:
    assert probe(live, what, lambda: get_health(live)) <= MAX_HEALTH_SECONDS
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
    "requests for the page": lambda number: (
        b"GET /page/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4
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
    head = (
        f"POST {RECOGNIZE}?window=6&hop=0.25 HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(long_file)}\r\n\r\n"
    )
    client = httpx.Client(timeout=PATIENCE)

    def post_short() -> int:
        return client.post(f"{live.url}{RECOGNIZE}", content=short_file).status_code

    alone = probe(live, "a short file alone", post_short, 20)
    with ExitStack() as stack:
        stack.callback(client.close)
        timelines = [stack.enter_context(closing(live.connect())) for _ in range(4)]
        for one in timelines:
            one.sendall(head.encode() + long_file)
        while (
            f"serein_in_progress {len(timelines)}.0" not in client.get(f"{live.url}/metrics").text
        ):
            time.sleep(0.1)
        used = probe(live, "a short file beside four timelines", post_short, 40)
        assert used <= max(MAX_SHORT_SECONDS, 10 * alone)  # the latter on slower processors
        for one in timelines:  # none was refused; they end with their connections
            one.setblocking(False)
            with suppress(BlockingIOError):
                assert one.recv(65536).startswith(b"HTTP/1.1 200")


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
