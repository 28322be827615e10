"""A service in this process, or in one of its own, and what is sent to it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from builders.encoded_audio import encoded, sweep
from builders.small_systems import small_system
from starlette.types import ASGIApp

from serein.bundle import Bundle, Card, save
from serein.inference.recognizer import Recognizer
from serein.service.app import create_app
from serein.service.auth import ApiKeys
from serein.service.config import ServiceConfig
from serein.service.engine import Engine

SPEECH = encoded("flac", sweep(1.0))
RECOGNIZE = "/v1/recognize"


def small_recognizer(name: str = "small", seed: int = 0) -> Recognizer:
    bundle = Bundle(small_system("features.pad=false", seed=seed).eval(), Card(name=name))
    return Recognizer(bundle, answer_nonspeech=True)


@contextmanager
def engine(others: Sequence[Recognizer] = (), **settings: Any) -> Iterator[Engine]:
    with closing(Engine(small_recognizer(), ServiceConfig(**settings), others)) as made:
        yield made


class Client:
    """Calls an app in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, method: str, path: str, **rest: Any) -> httpx.Response:
        return self.together([(method, path, rest)])[0]

    def post(self, content: bytes, **rest: Any) -> httpx.Response:
        return self("POST", RECOGNIZE, content=content, **rest)

    def together(self, calls: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """All at the same time."""

        async def gathered() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://serein", timeout=None
            ) as client:
                return await asyncio.gather(*(client.request(m, p, **r) for m, p, r in calls))

        return asyncio.run(gathered())


@contextmanager
def client(keys: ApiKeys | None = None, **settings: Any) -> Iterator[tuple[Client, Engine]]:
    with engine(**settings) as made:
        yield Client(create_app(made, keys)), made


@contextmanager
def stopped(made: Engine) -> Iterator[None]:
    """While the decoder does not go on; what is sent waits."""
    (decoder,) = made.decoders.processes
    decoder.decode(SPEECH)  # it has started, so that only an upload can be late
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if decoder.pid == pid and decoder.is_alive():
            os.kill(pid, signal.SIGCONT)


class Served:
    """`serein serve` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.command = [sys.executable, "-m", "serein", "serve", "--port", "0", *options]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, stderr=log, cwd=folder)
        self.port = self._port()
        self.url = f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def _port(self) -> int:
        while self.process.poll() is None:
            time.sleep(0.05)
            text = self.log.read_text()
            if '"listening"' in text and text.endswith("\n"):
                return next(int(one["port"]) for one in self.lines() if "port" in one)
        raise AssertionError(self.log.read_text())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def post(self, content: Any, **rest: Any) -> httpx.Response:
        return httpx.post(self.url + RECOGNIZE, content=content, timeout=60, **rest)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Live(Served):
    """One that serves a small model first."""

    def __init__(self, folder: Path, *options: str) -> None:
        model = folder / "small.safetensors"
        save(small_recognizer().bundle, model)
        super().__init__(folder, "--model", str(model), *options)


def head(length: int, *more: str) -> bytes:
    """Of a request with so long a body."""
    lines = [f"POST {RECOGNIZE} HTTP/1.1", "Host: serein", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def response(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """What comes back until the other side closes, or has sent all that it promised."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    top, _, body = got.partition(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in top.lower().split(b"\r\n") if b"content-length" in line
    )
    while len(body) < length:
        body += connection.recv(65536)
    return int(top.split()[1]), json.loads(body)
