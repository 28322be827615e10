"""The endpoint of streams, a WebSocket: who may open one, how it begins, and how it ends."""

import asyncio
import logging
import secrets
from collections.abc import Collection
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from serein.errors import SereinError
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream
from serein.service import schemas
from serein.service.auth import ApiKeys
from serein.service.engine import Engine
from serein.service.observability import LOGGER
from serein.service.schemas import Problem, StartMessage
from serein.service.session import ClientDisconnected, MessageSocket, StreamSession

STREAM_PATH = "/v1/stream"
GOING_AWAY, POLICY_VIOLATION, MESSAGE_TOO_BIG, INTERNAL_ERROR, TRY_AGAIN_LATER, ABNORMAL_CLOSURE = (
    1001,
    1008,
    1009,
    1011,
    1013,
    1006,
)
CLOSE_CODES = {
    413: MESSAGE_TOO_BIG,
    429: TRY_AGAIN_LATER,
    500: INTERNAL_ERROR,
    503: TRY_AGAIN_LATER,
}
"""Of WebSockets (RFC 6455, section 7.4), by the status that HTTP would have."""
EXPECTED_START = 'expected a text message first, such as {"type": "start", "rate": 48000}'


def stream_routes(engine: Engine, keys: ApiKeys | None) -> APIRouter:
    """The endpoint of one engine, for who holds a key, if there are any."""
    routes = APIRouter()

    @routes.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        visit = Connection(socket, engine, keys)
        if is_origin_allowed(socket, engine.config.origins):
            await visit.run()
        else:
            await visit.refuse()

    @routes.get(STREAM_PATH, include_in_schema=False)
    async def upgrade() -> None:
        words = (
            "streams are WebSockets; expected a request to upgrade. docs/service.md has a client"
        )
        raise Problem(426, words, Upgrade="websocket")

    return routes


def is_origin_allowed(socket: WebSocket, origins: Collection[str]) -> bool:
    """Whether it is no page that asks, or one of this host, or one that the owner lets.

    A browser lets pages open WebSockets to anywhere, and leaves it to the server to ask where they
    are from. Schemes are not compared: a proxy may have taken TLS off.
    """
    origin, host = socket.headers.get("origin"), socket.headers.get("host", "").lower()
    if origin is None or origin in origins or "*" in origins:
        return True
    return bool(host) and urlsplit(origin).netloc.lower() == host


class Connection:
    """A client from its arrival to its last word; none of its content is logged."""

    def __init__(self, socket: WebSocket, engine: Engine, keys: ApiKeys | None) -> None:
        """Take who comes."""
        settings = engine.config
        self._socket, self._engine, self._keys = socket, engine, keys
        self._talk = MessageSocket(socket, settings.stream_bytes, settings.stream_idle)
        self._begin, self._id = perf_counter(), secrets.token_hex(8)
        self._session: StreamSession | None = None
        self._log_fields: dict[str, Any] = {}

    async def refuse(self) -> None:
        """Open nothing for a page of another origin."""
        words = "this service takes no streams from pages of other origins; --origin lets one"
        await self._socket.send_denial_response(schemas.to_response(Problem(403, words)))
        self._log(POLICY_VIOLATION)

    async def run(self) -> None:
        """Open, hear, close."""
        try:
            await self._socket.accept()
            code = await self._handle_stream()
            await self._socket.close(code)
        except (
            ClientDisconnected,
            WebSocketDisconnect,
            RuntimeError,
        ):  # who is gone cannot be told
            code = ABNORMAL_CLOSURE
        self._log(code)

    async def _handle_stream(self) -> int:
        """Serve the stream -> how it ended."""
        try:
            return await self._serve_stream()
        except ClientDisconnected:
            raise
        except Problem as problem:
            found = problem
        except Exception:
            LOGGER.exception("failed", extra={"fields": {"request": self._id}})
            found = Problem(500, f"serein failed; the log says how, by {self._id}")
        await self._talk.send("problem", **schemas.to_document(found).model_dump(exclude={"type"}))
        return CLOSE_CODES.get(found.status, POLICY_VIOLATION)

    async def _serve_stream(self) -> int:
        start = await self._receive_start()
        self._authenticate(start)
        stream = self._open_stream(start)
        session = StreamSession(self._talk, self._engine, stream, start)
        self._session = session
        with self._engine.stream_slots.hold_slot(session.end):
            await self._talk.send(
                "ready", id=self._id, **self._describe_stream(start, stream.predictor)
            )
            await session.run()
            await self._talk.send("done", heard=session.processed_seconds, by=session.ended_by)
        return 1000 if session.ended_by == "client" else GOING_AWAY

    async def _receive_start(self) -> StartMessage:
        """The first message.

        Raises:
            Problem: it is not how a stream starts, or does not come.
        """
        seconds = self._engine.config.body_seconds
        try:
            async with asyncio.timeout(seconds):
                text = await self._talk.receive()
        except TimeoutError:
            raise Problem(408, f"nothing came in {seconds:g} s; {EXPECTED_START}") from None
        if isinstance(text, bytes):
            raise Problem(400, f"the stream starts with binary data; {EXPECTED_START}")
        try:
            return StartMessage.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the message"
            raise Problem(400, f"{where}: {first['msg']}; {EXPECTED_START}") from None

    def _authenticate(self, start: StartMessage) -> None:
        if self._keys is None:
            return
        kind, _, given = self._socket.headers.get("authorization", "").partition(" ")
        key = start.key or (given.strip() if kind.lower() == "bearer" else "")
        name = self._keys.holder(key) if key else None
        if name is None:
            raise Problem(
                401,
                f"{'an unknown key' if key else 'no key'}; expected the field key, or the header "
                "`Authorization: Bearer KEY`. Ask who runs this service for a key.",
            )
        self._log_fields["key"] = name

    def _open_stream(self, start: StartMessage) -> Stream:
        known = self._engine.recognizers
        name = start.model or self._engine.recognizer.name
        if name not in known:
            raise Problem(404, f"there is no model {name!r} here; known: {', '.join(known)}")
        try:
            return known[name].stream(start.rate, **start.stream_options())
        except SereinError as error:
            raise Problem(422, str(error)) from None

    def _describe_stream(self, start: StartMessage, recognizer: Recognizer) -> dict[str, Any]:
        settings = self._engine.config
        return {
            "model": recognizer.name,
            "rate": start.rate,
            "channels": start.channels,
            **start.stream_options(),
            "labels": next(filter(None, recognizer.classes.values()), ()),
            "classes": recognizer.classes,
            "thresholds": recognizer.thresholds,
            "max_seconds": settings.stream_seconds,
            "max_bytes": settings.stream_bytes,
            "idle_seconds": settings.stream_idle,
        }

    def _log(self, code: int) -> None:
        metrics, session = self._engine.metrics, self._session
        metrics.streams_ended.labels(code).inc()
        fields = {"request": self._id, "route": STREAM_PATH, "code": code, **self._log_fields}
        fields["ms"] = round(1000 * (perf_counter() - self._begin), 1)
        if session is not None:
            fields |= {"bytes": session.received_bytes, "seconds": session.processed_seconds}
            fields["segments"] = session.segment_count
        level = logging.ERROR if code == INTERNAL_ERROR else logging.INFO
        LOGGER.log(level, "stream", extra={"fields": fields})
