"""`serein serve` in its own process, with slow, broken and disconnecting clients."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from builders.service_client import (
    PATIENCE,
    RECOGNIZE,
    SPEECH,
    SmallModelServer,
    read_response,
    request_head,
)
from builders.websocket_client import done_message
from websockets.sync.client import connect

from serein.service import auth
from serein.service.app import _open_listener

Run = Callable[..., tuple[int, str, str]]
LIMITS = ("--body-seconds", "2", "--max-megabytes", "1", "--max-seconds", "20")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallModelServer]:
    with SmallModelServer(tmp_path_factory.mktemp("live"), *LIMITS) as made:
        yield made
        assert made.end() == 0


def is_answering(live: SmallModelServer) -> bool:
    return live.post(SPEECH).status_code == 200


def logged_statuses(live: SmallModelServer) -> list[int]:
    return [int(line["status"]) for line in live.read_log() if line.get("route") == RECOGNIZE]


def test_server_answers_without_a_server_header(live: SmallModelServer) -> None:
    answer = live.post(SPEECH)
    assert answer.json()["tasks"]["emotion"]["probabilities"]
    assert "server" not in answer.headers


def test_tcp_nodelay_is_set() -> None:
    with _open_listener("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()):
        accepted, _ = door.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_declared_size_beyond_the_limit_is_refused_unread(live: SmallModelServer) -> None:
    with live.connect() as connection:
        connection.sendall(request_head(2**31))
        status, document = read_response(connection)
        assert status == 413
        assert "larger than the limit of 1 MB" in document["detail"]
        assert connection.recv(1) == b""  # the server has closed the connection
    assert is_answering(live)


def test_chunked_body_is_cut_at_the_limit(live: SmallModelServer) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    answer = live.post(endless())
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert is_answering(live)


def test_slow_clients_time_out(live: SmallModelServer) -> None:
    with live.connect() as connection:
        connection.sendall(request_head(1000))
        begin = time.monotonic()
        while time.monotonic() - begin < 1:
            connection.sendall(b"x")
            time.sleep(0.2)
        assert is_answering(live)  # meanwhile
        status, document = read_response(connection)
    assert status == 408
    assert "stalled for 2 s" in document["detail"]


def test_disconnected_clients(live: SmallModelServer) -> None:
    before = logged_statuses(live).count(499)
    for content in (b"", SPEECH[:100]):
        connection = live.connect()
        connection.sendall(request_head(len(SPEECH)) + content)
        connection.close()
    leaving = live.connect()
    leaving.sendall(request_head(len(SPEECH)) + SPEECH)
    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    leaving.close()  # with a reset
    assert is_answering(live)
    deadline = time.monotonic() + 30
    while logged_statuses(live).count(499) < before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert logged_statuses(live).count(499) >= before + 2


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00 as if it were TLS\r\n\r\n",
        request_head(5, "Content-Length: 6") + b"hello",
        b"GET / HTTP/1.1\r\nHost: serein\r\nX: " + b"x" * 70_000,
    ],
    ids=["no HTTP", "two lengths", "a head without end"],
)
def test_invalid_http_is_refused(live: SmallModelServer, sent: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(sent)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert is_answering(live)


def test_shutdown_finishes_accepted_requests(tmp_path: Path) -> None:
    live = SmallModelServer(tmp_path)
    with live.connect() as connection:
        connection.sendall(request_head(len(SPEECH)) + SPEECH[:100])
        while httpx.get(f"{live.url}/healthz").status_code != 200:
            time.sleep(0.1)
        live.process.terminate()
        while '"Shutting down"' not in live.log.read_text():
            time.sleep(0.1)
        with pytest.raises(OSError, match="refused"):
            live.connect()
        connection.sendall(SPEECH[100:])
        status, document = read_response(connection)
    assert status == 200
    assert document["tasks"]
    assert live.process.wait(PATIENCE) == 0
    assert live.read_log()[-1]["event"] == "ended"


def test_shutdown_ends_streams_with_their_segments(tmp_path: Path) -> None:
    live = SmallModelServer(tmp_path)
    url = f"ws://127.0.0.1:{live.port}/v1/stream?secret=1"
    with connect(url, compression=None, proxy=None, open_timeout=60) as stream:
        stream.send(json.dumps({"type": "start", "rate": 8000, "speech": False}))
        assert json.loads(stream.recv(timeout=60))["type"] == "ready"
        stream.send(bytes(8000 * 2))
        stream.ping().wait(60)  # by then, the server has read the samples
        live.process.terminate()
        told = [json.loads(message) for message in stream]
        assert stream.close_code == 1001
    assert told[0]["items"][0]["end"] == 1.0
    assert told[1:] == [done_message(1.0, "service")]
    assert live.process.wait(PATIENCE) == 0
    assert "secret" not in live.log.read_text()
    (line,) = [one for one in live.read_log() if one["event"] == "stream"]
    assert (line["code"], line["seconds"]) == (1001, 1.0)


def test_key_file_and_ctrl_c(tmp_path: Path, run: Run) -> None:
    status, out, _ = run("serve", "--new-key", "ann", "--key-file", tmp_path / "keys")
    assert status == 0
    live, key = SmallModelServer(tmp_path, "--key-file", str(tmp_path / "keys")), out.strip()
    assert live.post(SPEECH).status_code == 401
    assert live.post(SPEECH, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    children = Path(f"/proc/{live.process.pid}/task/{live.process.pid}/children").read_text()
    assert children
    for child in map(int, children.split()):
        assert os.getpgid(child) == child  # so that the terminal's Ctrl-C does not reach it
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(PATIENCE) == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children.split())
    assert key not in live.log.read_text()
    assert auth.hash_key(key) in (tmp_path / "keys").read_text()


def test_port_in_use_is_an_error(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, err = run("serve", "--port", taken.getsockname()[1])
    assert status == 2
    assert "choose others with --host and --port" in err
