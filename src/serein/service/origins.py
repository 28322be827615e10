"""Requests of web pages of other origins: browsers send them, and this service refuses them.

A page of any site can make a browser send a form, or open a WebSocket; with DNS rebinding, its host
name can even become this machine's. Browsers name the page in ``Origin`` and ``Sec-Fetch-Site``.
Clients that are not browsers send neither, and are not affected.
"""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from serein.service import schemas
from serein.service.schemas import Problem

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OTHER_SITES = ("cross-site", "same-site")
"""Values of ``Sec-Fetch-Site`` for pages of other origins."""
FOREIGN_ORIGIN = (
    "this service accepts no requests from pages of other origins; see the option --origin"
)


def find_foreign_page(
    headers: Mapping[str, str], method: str, origins: Collection[str], *, loopback: bool
) -> str | None:
    """Return why a request is refused that a browser sends for a page of another origin.

    Schemes are not compared, since a proxy may have removed TLS.

    Args:
        headers: of the request, with names in lower case.
        method: of the request; "WEBSOCKET" for one.
        origins: of pages whose requests are accepted; "*" stands for all.
        loopback: whether only this machine can reach the service.

    Returns:
        The reason; None for a request that is accepted.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if (origin is None and site is None) or "*" in origins or origin in origins:
        return None
    host = headers.get("host", "").lower()
    allowed_hosts = {urlsplit(one).netloc.lower() for one in origins}
    if loopback and urlsplit(f"//{host}").hostname not in LOCAL_NAMES and host not in allowed_hosts:
        return (
            f"this service is only for this machine, and the address of the page has the host "
            f"{host or 'without a name'}; expected localhost or 127.0.0.1. Behind a proxy, name "
            "its address with --origin"
        )
    if method in SAFE_METHODS:
        return None
    is_foreign = origin is not None and (not host or urlsplit(origin).netloc.lower() != host)
    return FOREIGN_ORIGIN if is_foreign or site in OTHER_SITES else None


class OriginMiddleware:
    """ASGI middleware that refuses requests of foreign pages before anything is computed."""

    def __init__(self, app: ASGIApp, origins: Collection[str], *, loopback: bool) -> None:
        """Wrap an app; the arguments are those of ``find_foreign_page``."""
        self.app, self.origins, self.loopback = app, origins, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the app, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        is_socket = scope["type"] == "websocket"
        method = "WEBSOCKET" if is_socket else scope["method"]
        headers = Headers(scope=scope)
        reason = find_foreign_page(headers, method, self.origins, loopback=self.loopback)
        if reason is None:
            await self.app(scope, receive, send)
            return
        response = schemas.to_response(Problem(403, reason, Connection="close"))
        if is_socket:
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)
