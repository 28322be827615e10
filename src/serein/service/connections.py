"""Connections of clients: limits on their number, on slow heads, unread answers and fragments.

Uvicorn's protocols close none of these: a connection that never completes the head of a request, a
client that reads no answer, and a WebSocket message of endless fragments.
"""

import asyncio
import json
import resource
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from serein.service.schemas import Problem, ProblemResponse, to_document

SEND_TIMEOUT_SECONDS = 60
"""Seconds after which a connection is cut if its client accepts no data."""
LINGER_SECONDS = 10
"""Seconds in which a refused request is still read, so that its client sees the answer."""
REFUSED_SECONDS = 1
"""As ``LINGER_SECONDS``, for connections beyond the limit."""
RESERVED_FILES = 256
"""Files that are not for connections: models, decoders, and those that are being closed."""
MAX_OPEN_FILES = 65_536
"""Files to which the limit is raised; some systems have no hard limit."""
WRITE_BUFFER_BYTES = 2**15
"""Bytes of answers in memory that a client has not accepted, before its answer waits."""
HEAD_BYTES = 2**15
"""Largest head of a request."""
MAX_FRAGMENTS = 1024
"""Fragments of a WebSocket message, and control frames between two messages."""
SLICE_BYTES = 4096
"""Bytes that a WebSocket parses before it checks its limits."""
SLICES_PER_TURN = 4
"""Slices of all WebSockets that are parsed in a turn of the event loop."""
READ_BYTES = 2**16
"""Bytes that are read from a connection at a time."""
PARTIAL_BYTES = 32 * 2**20
"""Bytes of incomplete WebSocket messages of all clients."""
REQUESTS_PER_TURN = 8
"""Requests of all clients that are begun in a turn of the event loop."""
HEALTH_CHECKS = (b"GET /healthz ", b"HEAD /healthz ", b"GET /readyz ")
"""Beginnings of the requests that are begun at once."""


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    with suppress(OSError, ValueError):  # the system may allow less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class ConnectionLimits:
    """The open connections of a server, and their limits.

    At the limit, the connection that has waited longest without a request makes room; if every
    connection has a request, the new one is refused.

    Attributes:
        max_connections: connections at a time.
        head_seconds: time in which the head of a request must arrive.
        discard_bytes: bytes of a refused request that are read and discarded.
        partial_bytes: bytes of incomplete WebSocket messages.
    """

    def __init__(self, max_connections: int, head_seconds: float, discard_bytes: int) -> None:
        self.max_connections, self.head_seconds = max_connections, head_seconds
        self.discard_bytes, self.partial_bytes = discard_bytes, 0
        self._open: set[Any] = set()
        self._waiting: dict[Any, None] = {}

    @property
    def count(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def admit(self, transport: Any) -> bool:
        """Count a connection, and return whether there is room for it."""
        if len(self._open) >= self.max_connections:
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                return False
            oldest.abort()
            self.release(oldest)
        self._open.add(transport)
        self._waiting[transport] = None
        return True

    def set_waiting(self, transport: Any, *, waiting: bool) -> None:
        """Note whether a connection waits for the head of a request."""
        if waiting and transport in self._open:
            self._waiting.setdefault(transport)
        else:
            self._waiting.pop(transport, None)

    def release(self, transport: Any) -> None:
        """Count a connection no more."""
        self._open.discard(transport)
        self._waiting.pop(transport, None)


class RequestTurns:
    """Connections whose data has arrived, of which a few are read in a turn of the event loop.

    Uvicorn begins all requests that have arrived in one turn, and the next client waits for as long
    as a burst of requests takes.
    """

    def __init__(self, limit: int = REQUESTS_PER_TURN) -> None:
        """Create an empty queue.

        Args:
            limit: connections that are read in a turn.
        """
        self._limit, self._is_scheduled = limit, False
        self._waiting: deque[LimitedHTTPProtocol | LimitedWebSocketProtocol] = deque()

    def add(self, protocol: "LimitedHTTPProtocol | LimitedWebSocketProtocol") -> None:
        """Queue a connection."""
        self._waiting.append(protocol)
        if not self._is_scheduled:
            self._is_scheduled = True
            protocol.loop.call_soon(self._run)

    def _run(self) -> None:
        """Read some connections, and schedule the next turn, also if one raises an error."""
        try:
            for _ in range(min(self._limit, len(self._waiting))):
                self._waiting.popleft().read_queued()  # which may queue the connection again
        finally:
            self._is_scheduled = bool(self._waiting)
            if self._waiting:
                self._waiting[0].loop.call_soon(self._run)


class ServerConfig(uvicorn.Config):
    """Uvicorn's configuration, with the limits on connections."""

    def __init__(self, app: Any, limits: ConnectionLimits, **options: Any) -> None:
        """Use the protocols of this module."""
        self.limits, self.turns = limits, RequestTurns()
        self.slice_turns = RequestTurns(SLICES_PER_TURN)
        super().__init__(
            app,
            # uvloop accepts one connection in a turn, and a burst of requests would come first.
            loop="asyncio",
            http=LimitedHTTPProtocol,
            ws=LimitedWebSocketProtocol,
            ws_per_message_deflate=False,  # a small message could expand beyond any limit
            h11_max_incomplete_event_size=HEAD_BYTES,
            **options,
        )


class LingeringTransport:
    """A transport that reads the rest of a refused request before it closes.

    A close with unread data resets the connection, and the client may lose the answer. Clients
    that send all of a request before they read need this most.
    """

    def __init__(self, transport: asyncio.Transport, protocol: "LimitedHTTPProtocol") -> None:
        """Wrap a transport."""
        self.transport, self._protocol, self._closing = transport, protocol, False

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on."""
        return getattr(self.transport, name)

    def is_closing(self) -> bool:
        """Return whether the connection is closed or lingers."""
        return self._closing or self.transport.is_closing()

    def close(self) -> None:
        """Close the connection, after the rest of an unfinished request."""
        if self.is_closing():
            return
        self._closing = True
        if not self._protocol.linger():
            self.transport.close()


class LimitedHTTPProtocol(H11Protocol):
    """HTTP/1.1 with a time limit for heads, and for clients that accept no data."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        """Create the protocol of a connection."""
        super().__init__(config, *args, **kwargs)
        self._limits, self._turns = (
            cast(ServerConfig, config).limits,
            cast(ServerConfig, config).turns,
        )
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._discarded: int | None = None
        self._has_partial_head = False
        self._queued = bytearray()

    def connection_made(self, transport: Any) -> None:
        """Admit a connection, or refuse it."""
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if hasattr(transport, "max_size"):  # asyncio reads four times as much
            transport.max_size = READ_BYTES
        super().connection_made(cast(asyncio.Transport, LingeringTransport(transport, self)))
        if self._limits.admit(transport):
            self._expect_head()
        else:
            self._discarded = 0
            self._refuse(503, "too many connections are open; try again later")
            self.loop.call_later(REFUSED_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._limits.release(self._raw)
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Queue the data of a new request, parse that of its body, or discard what was refused."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > self._limits.discard_bytes:
                self.transport.abort()
        elif self._queued or (self._is_idle and not data.startswith(HEALTH_CHECKS)):
            if not self._queued:
                self._turns.add(self)
            self._queued += data
            if len(self._queued) > HEAD_BYTES:
                self._raw.pause_reading()
        else:
            super().data_received(data)

    def read_queued(self) -> None:
        """Parse the data that was queued, if it was not parsed before."""
        data, self._queued = bytes(self._queued), bytearray()
        if not data or self._discarded is not None or self.transport.is_closing():
            return
        self._raw.resume_reading()
        super().data_received(data)

    def handle_events(self) -> None:
        """Handle events; a complete head ends its time limit."""
        self._has_partial_head = True
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_deadline()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Pass the connection on to the protocol of WebSockets."""
        self._stop_deadline()
        self.transport = self._raw
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Expect the head of the next request."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the time limit of the head replaces it
        if self._is_idle and not self.transport.is_closing():
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._raw.abort()
                return
        self._discarded = 0
        self._refuse(400, "this is not a request of HTTP/1.1; expected one, as described at /docs")

    def pause_writing(self) -> None:
        """Start the time limit for a client that accepts no data."""
        super().pause_writing()
        self._stall = self.loop.call_later(SEND_TIMEOUT_SECONDS, self._raw.abort)

    def resume_writing(self) -> None:
        """End that time limit."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def shutdown(self) -> None:
        """Finish the current request, and close the connection."""
        self.read_queued()
        if self._discarded is None:
            super().shutdown()
        else:
            self._raw.abort()

    def linger(self) -> bool:
        """Read and discard the rest of a request; return whether there may be one."""
        is_unfinished = self._discarded is not None or self.conn.their_state is h11.SEND_BODY
        if not is_unfinished or not self._raw.can_write_eof() or self._raw.is_closing():
            return False
        self._discarded = self._discarded or 0
        self._stop_deadline()
        self._limits.set_waiting(self._raw, waiting=True)  # so that it makes room for others
        self._raw.write_eof()
        with suppress(RuntimeError):
            self._raw.resume_reading()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self._raw.abort)
        return True

    @property
    def _is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _raw(self) -> Any:
        """The transport itself."""
        transport: Any = self.transport
        return transport.transport if isinstance(transport, LingeringTransport) else transport

    def _expect_head(self) -> None:
        self._stop_deadline()
        self._has_partial_head = False
        self._limits.set_waiting(self._raw, waiting=True)
        self._deadline = self.loop.call_later(self._limits.head_seconds, self._on_deadline)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._limits.set_waiting(self._raw, waiting=False)

    def _on_deadline(self) -> None:
        """Close a connection without a request; say so if it has begun to send one."""
        self.read_queued()
        is_upgraded = not isinstance(self.transport, LingeringTransport)
        if not self._is_idle or self._discarded is not None or is_upgraded:
            return
        if self._has_partial_head and self.conn.our_state is h11.IDLE:
            seconds = self._limits.head_seconds
            self._discarded = 0
            self._refuse(408, f"the head of the request was not complete after {seconds:g} s")
        else:
            self._raw.abort()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem document, and close the connection."""
        body = json.dumps(to_document(Problem(status, detail)).model_dump()).encode()
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Content-Type: {ProblemResponse.media_type}",
            f"Content-Length: {len(body)}",
            *(["Retry-After: 1"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
            "Connection: close",
        ]
        self._raw.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()


class LimitedWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets with limits on fragments, control frames, and incomplete messages."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        """Create the protocol of a connection."""
        super().__init__(config, *args, **kwargs)
        self._limits = cast(ServerConfig, config).limits
        self._turns = cast(ServerConfig, config).slice_turns
        self._partial = self._control_frames = 0
        self._queued = bytearray()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._limits.release(self.transport)
        self._set_partial(0)
        self._queued.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Queue data after the handshake; no more is read until it was parsed."""
        if not self.handshake_initiated:
            super().data_received(data)
            return
        if not self._queued:
            self._turns.add(self)
        self._queued += data
        self.transport.pause_reading()

    def read_queued(self) -> None:
        """Parse a slice of the data that was queued, so that a violation ends the connection."""
        piece = bytes(self._queued[:SLICE_BYTES])
        del self._queued[:SLICE_BYTES]
        if not piece or self.transport.is_closing():
            self._queued.clear()
            return
        self._set_partial(self._partial + len(piece))
        super().data_received(piece)
        if self.close_sent and self._partial > READ_BYTES:
            self.transport.abort()  # the client goes on with a large message after its refusal
        elif len(self.frames) > MAX_FRAGMENTS:
            self._fail(1008, f"more than {MAX_FRAGMENTS} fragments of a message")
        elif self._control_frames > MAX_FRAGMENTS:
            self._fail(1008, "too many control frames")
        elif self._limits.partial_bytes > PARTIAL_BYTES and self._partial > SLICE_BYTES:
            self._fail(1013, "too many incomplete messages of all clients")
        if self._queued:
            self._turns.add(self)
        elif not self.read_paused:
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        """Pass a complete message on."""
        self._set_partial(0)
        self._control_frames = 0
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read the answers."""
        self._control_frames += 1
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        """Count pongs."""
        self._control_frames += 1
        super().handle_pong(event)

    def _set_partial(self, size: int) -> None:
        self._limits.partial_bytes += size - self._partial
        self._partial = size

    def _fail(self, code: int, reason: str) -> None:
        """Close the connection with a code."""
        self.frames = []
        self._set_partial(0)
        if not self.close_sent:
            self.conn.send_close(code, reason)
            self.handle_parser_exception()
