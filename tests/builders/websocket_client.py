"""A service on a port in this process, and clients of its streams."""

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from builders.service_client import open_engine
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from serein.service.app import Server, build_uvicorn_config, create_app
from serein.service.auth import ApiKeys
from serein.service.engine import Engine

PATH = "/v1/stream"
START = {"type": "start", "rate": 16_000, "window": 1.0, "hop": 0.25}
END = json.dumps({"type": "end"})
TIMEOUT = 120.0


class Host(NamedTuple):
    """A service and its port."""

    port: int
    engine: Engine
    server: Server

    def connect(self, **rest: Any) -> ClientConnection:
        url = f"ws://127.0.0.1:{self.port}{PATH}"
        how: dict[str, Any] = {"compression": None, "proxy": None, "max_queue": None, **rest}
        return connect(url, open_timeout=TIMEOUT, **how)

    def metrics_text(self) -> str:
        return self.engine.metrics.render().decode()


@contextmanager
def host_service(keys: ApiKeys | None = None, **settings: Any) -> Iterator[Host]:
    with open_engine(**settings) as made, socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(build_uvicorn_config(create_app(made, keys), made.config), made)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield Host(listener.getsockname()[1], made, server)
        finally:
            server.should_exit = True
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def wait_until(true: Any) -> None:
    end = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Received(NamedTuple):
    """Messages that a client received, and the close code."""

    messages: list[dict[str, Any]]
    code: int

    @property
    def items(self) -> list[dict[str, Any]]:
        return [item for one in self.messages for item in one.get("items", [])]

    @property
    def last(self) -> dict[str, Any]:
        return self.messages[-1]


def receive_all(client: ClientConnection) -> Received:
    """Receive messages until the service closes the stream."""
    messages: list[dict[str, Any]] = []
    try:
        while True:
            messages.append(json.loads(client.recv(timeout=TIMEOUT)))
    except ConnectionClosed as closed:
        return Received(messages, closed.rcvd.code if closed.rcvd else 0)


def send_and_receive(host: Host, messages: Iterable[str | bytes], **rest: Any) -> Received:
    """Send messages, and receive until the service closes the stream."""
    with host.connect(**rest) as client:
        try:
            for message in messages:
                client.send(message)
        except ConnectionClosed:
            pass
        return receive_all(client)


def stream_pcm(host: Host, pcm: bytes, sizes: Sequence[int] = (3200,), **start: Any) -> Received:
    """Send a stream in blocks of these sizes in bytes, in turns, and receive its messages."""
    return send_and_receive(host, [json.dumps({**START, **start}), *iter_blocks(pcm, sizes), END])


def done_message(seconds: float, ended_by: str) -> dict[str, Any]:
    """The last message of a stream; its old fields stay for one release."""
    return {
        "type": "done",
        "processed_seconds": seconds,
        "ended_by": ended_by,
        "heard": seconds,
        "by": ended_by,
    }


def iter_blocks(pcm: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = number = 0
    while at < len(pcm):
        size = sizes[number % len(sizes)]
        yield pcm[at : at + size]
        at, number = at + size, number + 1


def to_pcm(wave: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    return (np.clip(wave, -1, 1) * 32767).astype("<i2")
