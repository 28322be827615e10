"""Metrics, logs, request ids and security headers. They contain nothing that clients send."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from time import monotonic, perf_counter
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

LOGGER = logging.getLogger("serein.service")
LOGGER_NAMES = (LOGGER.name, "uvicorn.error", "asyncio")
FAULTS_PER_MINUTE = 60
"""Lines of log about one kind of fault in a minute; further ones are counted."""
ANSWERS_PER_MINUTE = 1000
"""The same of answers to requests without audio, such as for files of the page."""
MAX_TRACEBACK_LENGTH = 8_000
"""Most characters of an error in the log."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DENY_ALL_POLICY = "default-src 'none'; frame-ancestors 'none'"
SWAGGER_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; connect-src 'self'; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; img-src data: https://fastapi.tiangolo.com"
)
"""FastAPI's page at /docs loads Swagger UI from these hosts."""

REQUEST_IDS = Random()
"""Request ids must differ, but need not be secret; this is faster than ``secrets``."""

LOGGED_STATE = ("request", "key", "bytes", "seconds")
"""Fields of a request's state that are logged."""


class Metrics:
    """Metrics for Prometheus, with a registry per service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "serein_requests", "Answered requests", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "serein_request_seconds",
            "Seconds from the headers of a request to the end of its answer",
            ["route"],
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        self.batch_sizes = Histogram(
            "serein_batch_recordings",
            "Recordings per batch",
            registry=registry,
            buckets=SIZE_BUCKETS,
        )
        self.in_progress = Gauge("serein_in_progress", "Requests in progress", registry=registry)
        self.audio_seconds = Counter(
            "serein_audio_seconds", "Seconds of audio in requests", registry=registry
        )
        self.decoder_deaths = Counter(
            "serein_decoder_deaths", "Decoding processes ended by an upload", registry=registry
        )
        self.open_streams = Gauge("serein_streams_open", "Open streams", registry=registry)
        self.streams_ended = Counter("serein_streams", "Ended streams", ["code"], registry=registry)
        self.streamed_seconds = Counter(
            "serein_stream_audio_seconds", "Seconds of audio in streams", registry=registry
        )
        self.stream_latency = Histogram(
            "serein_stream_latency_seconds",
            "Seconds from the arrival of a block to the segments it completes",
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        self.stream_batch_sizes = Histogram(
            "serein_stream_batch_blocks",
            "Blocks of streams per batch",
            registry=registry,
            buckets=SIZE_BUCKETS,
        )

    def render(self) -> bytes:
        """Return the metrics in the text format of Prometheus, version 0.0.4."""
        return generate_latest(self.registry)


@contextmanager
def log_to(stream: TextIO) -> Iterator[None]:
    """Write the log of the service to a stream, as lines of JSON, within the ``with`` block."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(_is_logged)
    handler.addFilter(RateLimit())
    loggers = [logging.getLogger(name) for name in LOGGER_NAMES]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


class JsonLines(logging.Formatter):
    """Formats a log record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, event, the fields of the request, and the error if there is one."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)[-MAX_TRACEBACK_LENGTH:]
        return json.dumps(line)


def _is_logged(record: logging.LogRecord) -> bool:
    """Drop uvicorn's lines about WebSockets, which hold the client's address and query."""
    return not str(record.msg).startswith('%s - "WebSocket')


class RateLimit(logging.Filter):
    """Limits the lines about one kind of event, so that no client can fill a disk.

    Streams and answers to audio are all logged. The first line of the next minute has the number of
    lines that were left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[tuple[object, ...], int] = {}
        self._minute_end, self._left_out = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        fields = getattr(record, "fields", {})
        status, code = fields.get("status", 0), fields.get("code", 0)
        is_fault = record.name != LOGGER.name or status >= 400 or code not in (0, 1000, 1001)
        if not is_fault and ("seconds" in fields or record.msg == "stream"):
            return True
        now = monotonic()
        if now >= self._minute_end:
            left_out, self._left_out = self._left_out, 0
            self._counts, self._minute_end = {}, now + 60
            if left_out:
                record.fields = {**fields, "left_out": left_out}
        kind = record.name, str(record.msg), fields.get("route"), status, code
        self._counts[kind] = self._counts.get(kind, 0) + 1
        is_logged = self._counts[kind] <= (FAULTS_PER_MINUTE if is_fault else ANSWERS_PER_MINUTE)
        self._left_out += not is_logged
        return is_logged


class ObservabilityMiddleware:
    """ASGI middleware: adds request id and security headers, and records each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics, root_path: str = "") -> None:
        """Wrap an app.

        Args:
            app: to wrap.
            metrics: of its requests.
            root_path: path of the app behind a proxy that removes it.
        """
        self.app, self.metrics, self.root_path = app, metrics, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the app, and its answer back."""
        if self.root_path:
            scope["root_path"] = self.root_path
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, request_id = perf_counter(), f"{REQUEST_IDS.getrandbits(64):016x}"
        state: dict[str, Any] = scope.setdefault("state", {})
        status, is_docs = 500, scope["path"].removeprefix(self.root_path) == "/docs"

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                policy = SWAGGER_POLICY if is_docs else DENY_ALL_POLICY
                for name, value in {**SECURITY_HEADERS, "Content-Security-Policy": policy}.items():
                    headers.setdefault(name, value)  # the web page sets its own
                headers["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:  # FastAPI has already answered with status 500
            LOGGER.exception("failed", extra={"fields": {"request": request_id}})
        finally:
            seconds = perf_counter() - begin
            self._record_request(scope, status, seconds, {"request": request_id, **state})

    def _record_request(
        self, scope: Scope, status: int, seconds: float, state: dict[str, Any]
    ) -> None:
        route = getattr(scope.get("route"), "path", "none")  # the path itself may be confidential
        self.metrics.requests.labels(route, status).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        fields: dict[str, Any] = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            **{name: state[name] for name in LOGGED_STATE if name in state},
        }
        level = logging.INFO if status < 500 else logging.ERROR
        LOGGER.log(level, "request", extra={"fields": fields})
