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
from serein.inference.stream import Stream
from serein.service import problems
from serein.service.engine import Engine
from serein.service.keys import Keys
from serein.service.logs import LOGGER
from serein.service.problems import Problem
from serein.service.schemas import Start
from serein.service.session import Session
from serein.service.talk import Left, Talk

PATH = "/v1/stream"
GOING, POLICY, TOO_BIG, FAULT, LATER, GONE = 1001, 1008, 1009, 1011, 1013, 1006
CODES = {413: TOO_BIG, 429: LATER, 500: FAULT, 503: LATER}
"""Of WebSockets (RFC 6455, section 7.4), by the status that HTTP would have."""
STARTS = 'expected a text message first, such as {"type": "start", "rate": 48000}'


def router(engine: Engine, keys: Keys | None) -> APIRouter:
    """The endpoint of one engine, for who holds a key, if there are any."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def stream(socket: WebSocket) -> None:
        visit = Visit(socket, engine, keys)
        if may_come(socket, engine.settings.origins):
            await visit.run()
        else:
            await visit.refuse()

    @routes.get(PATH, include_in_schema=False)
    async def upgrade() -> None:
        words = (
            "streams are WebSockets; expected a request to upgrade. docs/service.md has a client"
        )
        raise Problem(426, words, Upgrade="websocket")

    return routes


def may_come(socket: WebSocket, origins: Collection[str]) -> bool:
    """Whether it is no page that asks, or one of this host, or one that the owner lets.

    A browser lets pages open WebSockets to anywhere, and leaves it to the server to ask where they
    are from. Schemes are not compared: a proxy may have taken TLS off.
    """
    origin, host = socket.headers.get("origin"), socket.headers.get("host", "").lower()
    if origin is None or origin in origins or "*" in origins:
        return True
    return bool(host) and urlsplit(origin).netloc.lower() == host


class Visit:
    """A client from its arrival to its last word; none of its content is logged."""

    def __init__(self, socket: WebSocket, engine: Engine, keys: Keys | None) -> None:
        """Take who comes."""
        settings = engine.settings
        self._socket, self._engine, self._keys = socket, engine, keys
        self._talk = Talk(socket, settings.stream_bytes, settings.stream_idle)
        self._begin, self._id = perf_counter(), secrets.token_hex(8)
        self._session: Session | None = None
        self._told: dict[str, Any] = {}

    async def refuse(self) -> None:
        """Open nothing for a page of another origin."""
        words = "this service takes no streams from pages of other origins; --origin lets one"
        await self._socket.send_denial_response(problems.response(Problem(403, words)))
        self._log(POLICY)

    async def run(self) -> None:
        """Open, hear, close."""
        try:
            await self._socket.accept()
            code = await self._code()
            await self._socket.close(code)
        except (Left, WebSocketDisconnect, RuntimeError):  # who is gone cannot be told
            code = GONE
        self._log(code)

    async def _code(self) -> int:
        """Serve the stream -> how it ended."""
        try:
            return await self._served()
        except Left:
            raise
        except Problem as problem:
            found = problem
        except Exception:
            LOGGER.exception("failed", extra={"fields": {"request": self._id}})
            found = Problem(500, f"serein failed; the log says how, by {self._id}")
        await self._talk.send("problem", **problems.document(found).model_dump(exclude={"type"}))
        return CODES.get(found.status, POLICY)

    async def _served(self) -> int:
        start = await self._start()
        self._admit(start)
        stream = self._stream(start)
        session = Session(self._talk, self._engine, stream, start)
        self._session = session
        with self._engine.hall.place(session.end):
            await self._talk.send("ready", id=self._id, **self._ready(start, stream.recognizer))
            await session.run()
            await self._talk.send("done", heard=session.heard, by=session.by)
        return 1000 if session.by == "client" else GOING

    async def _start(self) -> Start:
        """The first message.

        Raises:
            Problem: it is not how a stream starts, or does not come.
        """
        seconds = self._engine.settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                text = await self._talk.receive()
        except TimeoutError:
            raise Problem(408, f"nothing came in {seconds:g} s; {STARTS}") from None
        if isinstance(text, bytes):
            raise Problem(400, f"the stream starts with binary data; {STARTS}")
        try:
            return Start.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the message"
            raise Problem(400, f"{where}: {first['msg']}; {STARTS}") from None

    def _admit(self, start: Start) -> None:
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
        self._told["key"] = name

    def _stream(self, start: Start) -> Stream:
        known = self._engine.recognizers
        name = start.model or self._engine.recognizer.name
        if name not in known:
            raise Problem(404, f"there is no model {name!r} here; known: {', '.join(known)}")
        try:
            return known[name].stream(start.rate, **start.settings())
        except SereinError as error:
            raise Problem(422, str(error)) from None

    def _ready(self, start: Start, recognizer: Recognizer) -> dict[str, Any]:
        settings = self._engine.settings
        return {
            "model": recognizer.name,
            "rate": start.rate,
            "channels": start.channels,
            **start.settings(),
            "labels": next(filter(None, recognizer.classes.values()), ()),
            "classes": recognizer.classes,
            "thresholds": recognizer.thresholds,
            "max_seconds": settings.stream_seconds,
            "max_bytes": settings.stream_bytes,
            "idle_seconds": settings.stream_idle,
        }

    def _log(self, code: int) -> None:
        metrics, session = self._engine.metrics, self._session
        metrics.ends.labels(code).inc()
        fields = {"request": self._id, "route": PATH, "code": code, **self._told}
        fields["ms"] = round(1000 * (perf_counter() - self._begin), 1)
        if session is not None:
            fields |= {"bytes": session.bytes, "seconds": session.heard}
            fields["segments"] = session.segments
        level = logging.ERROR if code == FAULT else logging.INFO
        LOGGER.log(level, "stream", extra={"fields": fields})
