"""Around every request: an id, headers that keep browsers careful, a line of log, and metrics."""

import logging
from random import Random
from time import perf_counter
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serein.service.logs import LOGGER
from serein.service.metrics import Metrics

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
