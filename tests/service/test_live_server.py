"""`serein serve` in a process of its own, and clients that behave badly on the wire."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from builders.service_client import RECOGNIZE, SPEECH, Live, head, response
from builders.websocket_client import done
from websockets.sync.client import connect

from serein.service import auth
from serein.service.app import _open_listener

Run = Callable[..., tuple[int, str, str]]
LIMITS = ("--body-seconds", "2", "--max-megabytes", "1", "--max-seconds", "20")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("live"), *LIMITS)
    yield made
    assert made.end() == 0


def answers(live: Live) -> bool:
    return live.post(SPEECH).status_code == 200


def statuses(live: Live) -> list[int]:
    return [int(line["status"]) for line in live.lines() if line.get("route") == RECOGNIZE]


def test_it_answers_and_says_nothing_of_its_maker(live: Live) -> None:
    answer = live.post(SPEECH)
    assert answer.json()["tasks"]["emotion"]["probabilities"]
    assert "server" not in answer.headers


def test_no_part_of_an_answer_waits_for_another_to_be_acknowledged() -> None:
    with _open_listener("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()):
        accepted, _ = door.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_two_gigabytes_are_refused_unread(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(head(2**31))
        status, document = response(connection)
        assert status == 413
        assert "larger than the limit of 1 MB" in document["detail"]
        assert connection.recv(1) == b""  # it hung up
    assert answers(live)


def test_what_does_not_say_how_large_it_is_is_cut_off(live: Live) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    answer = live.post(endless())
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answers(live)


def test_a_slow_client_is_not_waited_for(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(head(1000))
        begin = time.monotonic()
        while time.monotonic() - begin < 1:
            connection.sendall(b"x")
            time.sleep(0.2)
        assert answers(live)  # meanwhile
        status, document = response(connection)
    assert status == 408
    assert "not complete after 2 s" in document["detail"]


def test_clients_that_leave(live: Live) -> None:
    before = statuses(live).count(499)
    for content in (b"", SPEECH[:100]):
        connection = live.connect()
        connection.sendall(head(len(SPEECH)) + content)
        connection.close()
    leaving = live.connect()
    leaving.sendall(head(len(SPEECH)) + SPEECH)
    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    leaving.close()  # with a reset
    assert answers(live)
    deadline = time.monotonic() + 30
    while statuses(live).count(499) < before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert statuses(live).count(499) >= before + 2


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00 as if it were TLS\r\n\r\n",
        head(5, "Content-Length: 6") + b"hello",
        b"GET / HTTP/1.1\r\nHost: serein\r\nX: " + b"x" * 70_000,
    ],
    ids=["no HTTP", "two lengths", "a head without end"],
)
def test_what_is_no_http_is_refused(live: Live, sent: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(sent)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert answers(live)


def test_what_was_accepted_is_finished(tmp_path: Path) -> None:
    live = Live(tmp_path)
    with live.connect() as connection:
        connection.sendall(head(len(SPEECH)) + SPEECH[:100])
        while httpx.get(f"{live.url}/healthz").status_code != 200:
            time.sleep(0.1)
        live.process.terminate()
        while '"Shutting down"' not in live.log.read_text():
            time.sleep(0.1)
        with pytest.raises(OSError, match="refused"):
            live.connect()
        connection.sendall(SPEECH[100:])
        status, document = response(connection)
    assert status == 200
    assert document["tasks"]
    assert live.process.wait(60) == 0
    assert live.lines()[-1]["event"] == "ended"


def test_a_stream_is_ended_with_what_came(tmp_path: Path) -> None:
    live = Live(tmp_path)
    url = f"ws://127.0.0.1:{live.port}/v1/stream?secret=1"
    with connect(url, compression=None, proxy=None, open_timeout=60) as stream:
        stream.send(json.dumps({"type": "start", "rate": 8000, "speech": False}))
        assert json.loads(stream.recv(timeout=60))["type"] == "ready"
        stream.send(bytes(8000 * 2))
        stream.ping().wait(60)  # it has read the samples
        live.process.terminate()
        told = [json.loads(message) for message in stream]
        assert stream.close_code == 1001
    assert told[0]["items"][0]["end"] == 1.0
    assert told[1:] == [done(1.0, "service")]
    assert live.process.wait(60) == 0
    assert "secret" not in live.log.read_text()
    (line,) = [one for one in live.lines() if one["event"] == "stream"]
    assert (line["code"], line["seconds"]) == (1001, 1.0)


def test_keys_of_a_file_and_an_end_by_ctrl_c(tmp_path: Path, run: Run) -> None:
    status, out, _ = run("serve", "--new-key", "ann", "--key-file", tmp_path / "keys")
    assert status == 0
    live, key = Live(tmp_path, "--key-file", str(tmp_path / "keys")), out.strip()
    assert live.post(SPEECH).status_code == 401
    assert live.post(SPEECH, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    children = Path(f"/proc/{live.process.pid}/task/{live.process.pid}/children").read_text()
    assert children
    for child in map(int, children.split()):
        assert os.getpgid(child) == child  # so that the terminal's Ctrl-C does not reach it
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(60) == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children.split())
    assert key not in live.log.read_text()
    assert auth.hash_key(key) in (tmp_path / "keys").read_text()


def test_a_port_that_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, err = run("serve", "--port", taken.getsockname()[1])
    assert status == 2
    assert "choose others with --host and --port" in err
