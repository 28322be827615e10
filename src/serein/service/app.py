"""The service as one ASGI app; a new endpoint is a file with a router, and a line here.

The app on a port, until it is told to end.
"""

import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Request, params
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from serein.errors import ConfigError
from serein.inference.recognizer import Recognizer
from serein.service import observability, page, routes, schemas, websocket
from serein.service.auth import ApiKeys
from serein.service.config import ServiceConfig
from serein.service.engine import Engine
from serein.service.observability import ObservabilityMiddleware
from serein.service.schemas import Problem, describe_responses

DESCRIPTION = """Speech emotion recognition. Nothing that is sent is stored.

An answer is what listeners would likely call the sound of a voice, not what a person feels. Do not
use it to decide about people. The European Union's AI Act forbids inferring emotions at work and in
education, and holds other uses to strict rules."""


def create_app(engine: Engine, keys: ApiKeys | None = None) -> ObservabilityMiddleware:
    """Make the app.

    Args:
        engine: answers; not closed as long as the app is used.
        keys: who may call; without any, everybody who reaches it.
    """
    app = FastAPI(
        title="serein", version=version("serein"), description=DESCRIPTION, redoc_url=None
    )
    schemas.install_handlers(app)
    closed: dict[str, Any] = {}
    if keys is not None:
        closed = {"dependencies": [_require_key(keys)], "responses": describe_responses(401)}
    app.include_router(routes.recognize_routes(engine), **closed)
    app.include_router(websocket.stream_routes(engine, keys))
    app.include_router(routes.model_routes(engine), **closed)
    app.include_router(routes.metrics_routes(engine), **closed)
    app.include_router(routes.health_routes(engine))
    app.include_router(page.page_routes())
    if engine.config.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(engine.config.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return ObservabilityMiddleware(app, engine.metrics)


def _require_key(keys: ApiKeys) -> params.Depends:
    bearer = HTTPBearer(auto_error=False, description="A key that `serein serve --new-key` made.")

    async def holder(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> None:
        name = keys.holder(given.credentials) if given else None
        if name is None:
            found = "an unknown key" if given else "no key"
            raise Problem(
                401,
                f"{found}; expected the header `Authorization: Bearer KEY`. Ask who runs this "
                "service for a key.",
                WWW_Authenticate="Bearer",
                Connection="close",
            )
        request.state.key = name

    needed: params.Depends = Depends(holder)
    return needed


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
    with observability.log_to(sys.stderr), _open_listener(host, port) as listener:
        with closing(Engine(recognizer, config, others)) as engine, _ignore_raised_signals():
            address = dict(zip(("host", "port"), listener.getsockname(), strict=False))
            observability.LOGGER.info(
                "listening", extra={"fields": {**address, "model": recognizer.name}}
            )
            Server(build_uvicorn_config(create_app(engine, keys), config), engine).run([listener])
        observability.LOGGER.info("ended")


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
