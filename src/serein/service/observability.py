"""Around every request: an id, headers that keep browsers careful, a line of log, and metrics.

Logs as lines of JSON: what was asked of the service and how it went, never what was in it.

What Prometheus may know: how many, how long, how full; nothing of who or what.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from time import perf_counter
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger("serein.service")
LOGGER_NAMES = (LOGGER.name, "uvicorn.error")


class JsonLines(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level and event; the fields of a request; how it failed, if it did."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _is_logged(record: logging.LogRecord) -> bool:
    """Uvicorn tells of each WebSocket its client's address and all of its query."""
    return not str(record.msg).startswith('%s - "WebSocket')


@contextmanager
def log_to(stream: TextIO) -> Iterator[None]:
    """Write the service's log to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(_is_logged)
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


LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One service's own registry, so that two in one process are told apart."""

    def __init__(self) -> None:
        self.registry = held = CollectorRegistry()
        self.requests = Counter(
            "serein_requests", "Requests answered", ["route", "status"], registry=held
        )
        self.request_seconds = Histogram(
            "serein_request_seconds",
            "Head to answer",
            ["route"],
            registry=held,
            buckets=LATENCY_BUCKETS,
        )
        self.batch_sizes = Histogram(
            "serein_batch_recordings", "Answered at once", registry=held, buckets=SIZE_BUCKETS
        )
        self.in_progress = Gauge("serein_in_progress", "Recordings in work", registry=held)
        self.audio_seconds = Counter("serein_audio_seconds", "Audio recognised", registry=held)
        self.decoder_deaths = Counter("serein_decoder_deaths", "Ended by an upload", registry=held)
        self.open_streams = Gauge("serein_streams_open", "Streams that are open", registry=held)
        self.streams_ended = Counter("serein_streams", "Streams ended", ["code"], registry=held)
        self.streamed_seconds = Counter(
            "serein_stream_audio_seconds", "Heard in streams", registry=held
        )
        self.stream_latency = Histogram(
            "serein_stream_latency_seconds",
            "Block to segment",
            registry=held,
            buckets=LATENCY_BUCKETS,
        )
        self.stream_batch_sizes = Histogram(
            "serein_stream_batch_blocks", "Of streams, at once", registry=held, buckets=SIZE_BUCKETS
        )

    def render(self) -> bytes:
        """In Prometheus's own format, version 0.0.4."""
        return generate_latest(self.registry)


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
"""FastAPI's own page at /docs loads Swagger UI from there."""

REQUEST_IDS = Random()
"""Of requests: unlike each other, and no secret; the system's own would be asked each time."""

LOGGED_STATE = ("request", "key", "bytes", "seconds")
"""What the log takes of a request's state."""


class ObservabilityMiddleware:
    """An app, and what is seen of its requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Stand around an app."""
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, number = perf_counter(), f"{REQUEST_IDS.getrandbits(64):016x}"
        seen: dict[str, Any] = scope.setdefault("state", {})
        status = 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                policy = SWAGGER_POLICY if scope["path"] == "/docs" else DENY_ALL_POLICY
                for name, value in {**SECURITY_HEADERS, "Content-Security-Policy": policy}.items():
                    headers.setdefault(name, value)  # the page has its own
                headers["X-Request-Id"] = number
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception:  # FastAPI has answered 500 by now
            LOGGER.exception("failed", extra={"fields": {"request": number}})
        finally:
            self._record_request(scope, status, perf_counter() - begin, {"request": number, **seen})

    def _record_request(
        self, scope: Scope, status: int, seconds: float, state: dict[str, Any]
    ) -> None:
        route = getattr(scope.get("route"), "path", "none")  # never the path that was asked for
        self.metrics.requests.labels(route, status).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        fields: dict[str, Any] = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            **{key: state[key] for key in LOGGED_STATE if key in state},
        }
        level = logging.INFO if status < 500 else logging.ERROR
        LOGGER.log(level, "request", extra={"fields": fields})
