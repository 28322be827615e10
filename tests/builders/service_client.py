"""Services in this process or their own, and clients for them."""

import asyncio
import atexit
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
from typing import Any, Self

import httpx
from builders.encoded_audio import encode, make_sweep
from builders.small_systems import small_system
from starlette.types import ASGIApp

from serein.bundle import Bundle, Card, save
from serein.inference.recognizer import Recognizer
from serein.service.app import create_app
from serein.service.auth import ApiKeys
from serein.service.config import ServiceConfig
from serein.service.engine import Engine

SPEECH = encode("flac", make_sweep(1.0))
RECOGNIZE = "/v1/recognize"
PATIENCE = 300.0
"""Seconds to wait for a process; enough for a busy machine."""


def small_recognizer(name: str = "small", seed: int = 0) -> Recognizer:
    bundle = Bundle(small_system("features.pad=false", seed=seed).eval(), Card(name=name))
    return Recognizer(bundle, answer_nonspeech=True)


@contextmanager
def open_engine(others: Sequence[Recognizer] = (), **settings: Any) -> Iterator[Engine]:
    config = ServiceConfig(**{"decoders": 1, **settings})
    with closing(Engine(small_recognizer(), config, others)) as made:
        yield made


class Client:
    """A client of an app in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, method: str, path: str, **rest: Any) -> httpx.Response:
        return self.send_together([(method, path, rest)])[0]

    def post(self, content: bytes, **rest: Any) -> httpx.Response:
        return self("POST", RECOGNIZE, content=content, **rest)

    def send_together(self, calls: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Send all requests at the same time."""

        async def send_all() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://serein", timeout=None
            ) as client:
                return await asyncio.gather(*(client.request(m, p, **r) for m, p, r in calls))

        return asyncio.run(send_all())


@contextmanager
def open_client(keys: ApiKeys | None = None, **settings: Any) -> Iterator[tuple[Client, Engine]]:
    with open_engine(**settings) as made:
        yield Client(create_app(made, keys)), made


@contextmanager
def pause_decoder(made: Engine) -> Iterator[None]:
    """Pause the decoder, so that requests wait within the ``with`` block."""
    (decoder,) = made.decoders.processes
    decoder.decode(SPEECH)  # waits until it has started, so that only an upload can time out
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if decoder.pid == pid and decoder.is_alive():
            os.kill(pid, signal.SIGCONT)


class ServeProcess:
    """`serein serve` in its own process, which is ended at the latest when the tests end."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.command = [sys.executable, "-m", "serein", "serve", "--port", "0", *options]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, stderr=log, cwd=folder)
        atexit.register(self.kill)
        try:
            self.port = self._port()
        except BaseException:
            self.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process if it still runs, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def read_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def _port(self) -> int:
        while self.process.poll() is None:
            time.sleep(0.05)
            text = self.log.read_text()
            if '"listening"' in text and text.endswith("\n"):
                return next(int(one["port"]) for one in self.read_log() if "port" in one)
        raise AssertionError(self.log.read_text())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def post(self, content: Any, **rest: Any) -> httpx.Response:
        return httpx.post(self.url + RECOGNIZE, content=content, timeout=PATIENCE, **rest)

    def end(self) -> int:
        """Ask the process to end, and return its status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


class SmallModelServer(ServeProcess):
    """`serein serve` with a small model as the first one."""

    def __init__(self, folder: Path, *options: str) -> None:
        model = folder / "small.safetensors"
        save(small_recognizer().bundle, model)
        super().__init__(folder, "--model", str(model), *options)


def request_head(length: int, *more: str) -> bytes:
    """The headers of a request with a body of so many bytes."""
    lines = [f"POST {RECOGNIZE} HTTP/1.1", "Host: serein", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def read_response(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read a response: its status and its JSON document."""
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
