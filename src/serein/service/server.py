"""The app on a port, until it is told to end."""

import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from serein.errors import ConfigError
from serein.inference.recognizer import Recognizer
from serein.service import logs
from serein.service.app import create_app
from serein.service.auth import ApiKeys
from serein.service.config import ServiceConfig
from serein.service.engine import Engine
from serein.service.observability import ObservabilityMiddleware

KEEP_ALIVE_SECONDS = 15
"""Seconds after which a connection that asks nothing is closed."""
SEND_TIMEOUT_SECONDS = 60
"""Seconds after which a connection whose client takes nothing is cut (Linux)."""
SWITCH_INTERVAL_SECONDS = 0.0005
"""Seconds that the model's thread may keep the interpreter while requests wait for it."""


class Server(uvicorn.Server):
    """Uvicorn's, which would hang up on streams when it ends."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        """Take what is served, and what is behind it."""
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams with what they sent, then all else."""
        for server in self.servers:
            server.close()
        await self._engine.stream_slots.close(self._engine.config.answer_seconds)
        await super().shutdown(sockets)


def serve(
    recognizer: Recognizer,
    config: ServiceConfig,
    keys: ApiKeys | None = None,
    *,
    others: Sequence[Recognizer] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted by then is finished.

    Args:
        recognizer: answers.
        config: limits.
        keys: who may call; without any, everybody who reaches the port.
        others: answer where they are asked for by name.
        host: address to listen at.
        port: of it; 0 takes one that is free, which the log names.

    Raises:
        ConfigError: the port is taken, the address is not this machine's, or two models have one
            name.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    with logs.log_to(sys.stderr), _open_listener(host, port) as listener:
        with closing(Engine(recognizer, config, others)) as engine, _ignore_raised_signals():
            address = dict(zip(("host", "port"), listener.getsockname(), strict=False))
            logs.LOGGER.info("listening", extra={"fields": {**address, "model": recognizer.name}})
            Server(build_uvicorn_config(create_app(engine, keys), config), engine).run([listener])
        logs.LOGGER.info("ended")


def build_uvicorn_config(app: ObservabilityMiddleware, config: ServiceConfig) -> uvicorn.Config:
    """How uvicorn serves an app: what a browser offers to compress is not worth a bomb."""
    return uvicorn.Config(
        app,
        ws=WebSocketsSansIOProtocol,
        ws_max_size=2 * config.stream_bytes,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(config.body_seconds + config.answer_seconds),
    )


def _open_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error}; choose others with --host and --port"
        ) from error
    # asyncio sets this only where a socket names its protocol, and create_server's do not; without
    # it the body of an answer waits 40 ms for the client's kernel to acknowledge the head.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # else who reads nothing could stay connected
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SEND_TIMEOUT_SECONDS)
    return made


@contextmanager
def _ignore_raised_signals() -> Iterator[None]:
    """Uvicorn ends gracefully and then raises the signal anew, which is to end nothing more."""

    def nothing(number: int, frame: FrameType | None) -> None:
        return

    signals = (signal.SIGINT, signal.SIGTERM)
    before: list[Callable[[int, FrameType | None], object] | int | None]
    before = [signal.signal(number, nothing) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
