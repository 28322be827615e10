"""The service: an ASGI app with all routes, and a uvicorn server for it.

A new endpoint needs a function with a router, and a line in ``create_app``.
"""

import ipaddress
import resource
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

from serein.errors import ConfigError
from serein.inference.recognizer import Recognizer
from serein.service import overview, page, routes, schemas, websocket
from serein.service.auth import ApiKeys
from serein.service.config import ServiceConfig
from serein.service.connections import (
    RESERVED_FILES,
    SEND_TIMEOUT_SECONDS,
    ConnectionLimits,
    ServerConfig,
    raise_file_limit,
)
from serein.service.engine import MAX_WAIT_FACTOR, Engine
from serein.service.observability import LOGGER, ObservabilityMiddleware, log_to
from serein.service.origins import OriginMiddleware
from serein.service.schemas import Problem, describe_responses

DESCRIPTION = """Speech emotion recognition. Nothing that is sent is stored.

An answer estimates what listeners would call the sound of a voice, not what a person feels. Do not
use it to decide about people. The European Union's AI Act forbids inferring emotions at work and in
education, and has strict rules for other uses."""
DISCARDED_BODIES = 4
"""Bodies of the largest size that a client may send after it was refused; they are discarded."""
SOCKET_BUFFER_BYTES = 2**16
"""Bytes of an answer that the system stores for a client."""
SWITCH_INTERVAL_SECONDS = 0.0005
"""Interval for ``sys.setswitchinterval``: the longest time that the model's thread holds the
interpreter while requests wait for it."""


def serve(
    recognizer: Recognizer,
    config: ServiceConfig,
    keys: ApiKeys | None = None,
    *,
    others: Sequence[Recognizer] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    root_path: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT; finish the accepted requests, then return.

    Args:
        recognizer: the default model.
        config: limits.
        keys: API keys; None admits everyone who can reach the port.
        others: further models, selected by name.
        host: address to listen at.
        port: port to listen at; 0 selects a free one, which is logged.
        root_path: path of the service behind a proxy that removes it, such as "/speech".

    Raises:
        ConfigError: the port is in use, the address does not belong to this machine, or two models
            have the same name.
    """
    with _set_process_limits(), log_to(sys.stderr), _open_listener(host, port) as listener:
        with closing(Engine(recognizer, config, others)) as engine:
            app = create_app(engine, keys, root_path=root_path, loopback=is_loopback(host))
            server = Server(build_uvicorn_config(app, config), engine)
            with _end_on_signals(server):
                address = dict(zip(("host", "port"), listener.getsockname(), strict=False))
                LOGGER.info("listening", extra={"fields": {**address, "model": recognizer.name}})
                server.run([listener])
        LOGGER.info("ended")


@contextmanager
def _set_process_limits() -> Iterator[None]:
    """Set the interpreter's switch interval and the limit on open files; restore both at the end.

    Both hold for the whole process.
    """
    interval, limits = sys.getswitchinterval(), resource.getrlimit(resource.RLIMIT_NOFILE)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    raise_file_limit()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def is_loopback(host: str) -> bool:
    """Return whether an address can only be reached from this machine.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "a.example")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def create_app(
    engine: Engine,
    keys: ApiKeys | None = None,
    *,
    root_path: str = "",
    loopback: bool = False,
) -> ObservabilityMiddleware:
    """Build the app.

    Args:
        engine: computes the answers; the caller closes it after the last request.
        keys: API keys; None admits everyone.
        root_path: path of the service behind a proxy that removes it.
        loopback: whether only this machine can reach the service, so that pages with another
            host name in their address are not from here.
    """
    app = FastAPI(
        title="serein",
        version=version("serein"),
        description=DESCRIPTION,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # a redirect would follow the Host that the client names
    )
    schemas.install_handlers(app)
    protected: dict[str, Any] = {}
    if keys is not None:
        protected = {"dependencies": [_require_key(keys)], "responses": describe_responses(401)}
    app.include_router(routes.recognize_routes(engine), **protected)
    app.include_router(overview.overview_routes(engine), **protected)
    app.include_router(websocket.stream_routes(engine, keys))
    app.include_router(routes.model_routes(engine), **protected)
    app.include_router(routes.metrics_routes(engine), **protected)
    app.include_router(routes.health_routes(engine))
    app.include_router(page.page_routes())
    if engine.config.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(engine.config.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    guarded = OriginMiddleware(app, engine.config.origins, loopback=loopback)
    return ObservabilityMiddleware(guarded, engine.metrics, root_path.rstrip("/"))


def _require_key(keys: ApiKeys) -> params.Depends:
    """Build the dependency that checks the key of a request and stores the name of its holder."""
    bearer = HTTPBearer(auto_error=False, description="A key from `serein serve --new-key`.")

    async def check_key(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        holder = keys.find_holder(credentials.credentials) if credentials else None
        if holder is None:
            found = "an unknown key" if credentials else "no key"
            raise Problem(
                401,
                f"{found}; expected the header `Authorization: Bearer KEY`. Ask the operator of "
                "this service for a key.",
                WWW_Authenticate="Bearer",
                Connection="close",
            )
        request.state.key = holder

    dependency: params.Depends = Depends(check_key)
    return dependency


class Server(uvicorn.Server):
    """Uvicorn's server, which on its own would drop open streams at shutdown."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        """Create a server.

        Args:
            config: the app and how uvicorn serves it.
            engine: of the app.
        """
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what open streams have sent, and end them; then shut down as uvicorn does."""
        for server in self.servers:
            server.close()
        await self._engine.stream_slots.close(self._engine.config.answer_seconds)
        await super().shutdown(sockets)


def build_uvicorn_config(app: ObservabilityMiddleware, config: ServiceConfig) -> ServerConfig:
    """Build the configuration of uvicorn, with as many connections as open files are allowed."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(config.connections if open_files < 0 else open_files - RESERVED_FILES, 16)
    discarded = DISCARDED_BODIES * config.max_bytes
    return ServerConfig(
        app,
        ConnectionLimits(min(config.connections, room), config.head_seconds, discarded),
        ws_max_size=2 * config.stream_bytes,
        # The pong of a client that sends faster than the model answers waits behind its audio. The
        # stream's own limits end one that is idle or gone.
        ws_ping_interval=None,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=round(
            config.body_seconds + MAX_WAIT_FACTOR * config.answer_seconds
        ),
    )


def _open_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error}; choose others with --host and --port"
        ) from error
    # asyncio sets TCP_NODELAY only on sockets with a protocol number, and create_server sets none.
    # Without it, the body of an answer waits 40 ms until the client has acknowledged the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A client that reads nothing gets little of an answer, and leaves time for others.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # else a client that reads nothing stays connected
        timeout_ms = 1000 * SEND_TIMEOUT_SECONDS
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    return listener


@contextmanager
def _end_on_signals(server: Server) -> Iterator[None]:
    """End the server on SIGINT and SIGTERM, also before and after uvicorn handles them.

    Uvicorn handles signals while its loop runs, and raises them again afterwards.
    """

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    signals = (signal.SIGINT, signal.SIGTERM)
    previous: list[Callable[[int, FrameType | None], object] | int | None]
    previous = [signal.signal(number, end) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
