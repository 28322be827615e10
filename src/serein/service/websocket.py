"""The WebSocket route of streams: origin, key, first message, close code."""

import asyncio
import logging
import secrets
from time import perf_counter
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from serein.errors import SereinError
from serein.inference.predictor import Predictor
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.service import overview, schemas
from serein.service.auth import ApiKeys
from serein.service.engine import Engine
from serein.service.observability import LOGGER
from serein.service.schemas import Problem, StartMessage
from serein.service.session import ClientDisconnected, MessageSocket, StreamSession
from serein.service.uploads import sanitize_name

STREAM_PATH = "/v1/stream"

# Close codes of WebSockets (RFC 6455, section 7.4, and IANA's registry).
NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
ABNORMAL_CLOSURE = 1006
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
CLOSE_CODES = {
    413: MESSAGE_TOO_BIG,
    429: TRY_AGAIN_LATER,
    500: INTERNAL_ERROR,
    503: TRY_AGAIN_LATER,
}
"""Close code by HTTP status; all others are policy violations."""
EXPECTED_START = 'expected a text message first, such as {"type": "start", "rate": 48000}'


def stream_routes(engine: Engine, keys: ApiKeys | None) -> APIRouter:
    """Build the route of streams.

    Args:
        engine: processes the audio.
        keys: API keys; None admits everyone.
    """
    router = APIRouter()

    @router.websocket(STREAM_PATH)
    async def stream(websocket: WebSocket) -> None:
        connection = Connection(websocket, engine, keys)
        await connection.run()

    @router.get(STREAM_PATH, include_in_schema=False)
    async def require_upgrade() -> None:
        detail = "streams are WebSockets; expected an upgrade request. docs/service.md has a client"
        raise Problem(426, detail, Upgrade="websocket")

    return router


class Connection:
    """A connected client; nothing that it sends is logged."""

    def __init__(self, websocket: WebSocket, engine: Engine, keys: ApiKeys | None) -> None:
        """Create from a WebSocket that is not yet accepted; arguments as ``stream_routes``."""
        self._websocket, self._engine, self._keys = websocket, engine, keys
        self._socket = MessageSocket(
            websocket, engine.config.stream_bytes, engine.config.stream_idle
        )
        self._begin, self._id = perf_counter(), secrets.token_hex(8)
        self._session: StreamSession | None = None
        self._log_fields: dict[str, Any] = {}

    async def run(self) -> None:
        """Accept the connection, handle the stream, and close the connection."""
        try:
            await self._websocket.accept()
            code = await self._handle_stream()
            await self._websocket.close(code)
        except (ClientDisconnected, WebSocketDisconnect, RuntimeError):
            code = ABNORMAL_CLOSURE
        self._log(code)

    async def _handle_stream(self) -> int:
        """Serve the stream, send a problem if there is one, and return the close code."""
        try:
            return await self._serve_stream()
        except ClientDisconnected:
            raise
        except Problem as error:
            problem = error
        except Exception:
            LOGGER.exception("failed", extra={"fields": {"request": self._id}})
            problem = Problem(500, f"internal error; look for {self._id} in the log of the service")
        document = schemas.to_document(problem).model_dump(exclude={"type"})
        await self._socket.send("problem", **document)
        return CLOSE_CODES.get(problem.status, POLICY_VIOLATION)

    async def _serve_stream(self) -> int:
        start = await self._receive_start()
        self._authenticate(start)
        stream = self._open_stream(start)
        self._session = session = StreamSession(self._socket, self._engine, stream, start)
        with self._engine.stream_slots.hold_slot(session.end):
            description = self._describe_stream(start, stream.predictor)
            await self._socket.send("ready", id=self._id, **description)
            await session.run()
            summary = {}
            if start.summary is not None:
                name, seconds = sanitize_name(start.summary), session.processed_seconds
                summary = await asyncio.to_thread(overview.summarize_stream, stream, name, seconds)
            await self._socket.send(
                "done",
                **summary,
                processed_seconds=session.processed_seconds,
                ended_by=session.ended_by,
                heard=session.processed_seconds,  # old names, for one release
                by=session.ended_by,
            )
        return NORMAL_CLOSURE if session.ended_by == "client" else GOING_AWAY

    async def _receive_start(self) -> StartMessage:
        """Receive and parse the first message.

        Raises:
            Problem: it is not valid, or does not arrive in time.
        """
        seconds = min(self._engine.config.body_seconds, self._engine.config.head_seconds)
        try:
            async with asyncio.timeout(seconds):
                text = await self._socket.receive()
        except TimeoutError:
            detail = f"no message arrived in {seconds:g} s; {EXPECTED_START}"
            raise Problem(408, detail) from None
        if isinstance(text, bytes):
            raise Problem(400, f"the stream starts with binary data; {EXPECTED_START}")
        try:
            return StartMessage.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the message"
            raise Problem(400, f"{field}: {first['msg']}; {EXPECTED_START}") from None

    def _authenticate(self, start: StartMessage) -> None:
        """Check the key.

        Raises:
            Problem: there is no valid one.
        """
        if self._keys is None:
            return
        scheme, _, token = self._websocket.headers.get("authorization", "").partition(" ")
        key = start.key or (token.strip() if scheme.lower() == "bearer" else "")
        holder = self._keys.find_holder(key) if key else None
        if holder is None:
            raise Problem(
                401,
                f"{'an unknown key' if key else 'no key'}; expected the field key, or the header "
                "`Authorization: Bearer KEY`. Ask the operator of this service for a key.",
            )
        self._log_fields["key"] = holder

    def _open_stream(self, start: StartMessage) -> Stream:
        """Open a stream of the requested model.

        Raises:
            Problem: there is no such model, or the settings or classes do not fit it.
        """
        models = self._engine.recognizers
        name = start.model or self._engine.recognizer.name
        if name not in models:
            raise Problem(400, f"there is no model {name!r} here; known: {', '.join(models)}")
        try:
            recognizer = self._engine.restrict_classes(models[name], start.classes)
            return Stream(
                recognizer,
                start.rate,
                StreamConfig(**start.stream_options()),
                provisional=start.provisional,
                keep_spans=start.summary is not None,
            )
        except SereinError as error:
            raise Problem(400, str(error)) from None

    def _describe_stream(self, start: StartMessage, recognizer: Predictor) -> dict[str, Any]:
        """Return the fields of the message ``ready``."""
        config = self._engine.config
        return {
            "model": recognizer.name,
            "rate": start.rate,
            "channels": start.channels,
            **start.stream_options(),
            "labels": next(filter(None, recognizer.classes.values()), ()),
            "classes": recognizer.classes,
            "thresholds": recognizer.thresholds,
            "max_seconds": config.stream_seconds,
            "max_bytes": config.stream_bytes,
            "idle_seconds": config.stream_idle,
        }

    def _log(self, code: int) -> None:
        """Count the stream and write its line of log."""
        self._engine.metrics.streams_ended.labels(code).inc()
        fields = {"request": self._id, "route": STREAM_PATH, "code": code, **self._log_fields}
        fields["ms"] = round(1000 * (perf_counter() - self._begin), 1)
        if (session := self._session) is not None:
            fields |= {
                "bytes": session.received_bytes,
                "seconds": session.processed_seconds,
                "segments": session.segment_count,
            }
        level = logging.ERROR if code == INTERNAL_ERROR else logging.INFO
        LOGGER.log(level, "stream", extra={"fields": fields})
