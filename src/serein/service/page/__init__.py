"""The page at `/`: files as they lie here, and plotly's script; nothing comes from elsewhere."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serein.service.problems import Problem

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Plotly draws heatmaps as data:, and what is played is a blob: of the visitor's own file."""
PLOTLY = "plotly.js"


class File(NamedTuple):
    """What is sent of a file."""

    kind: str
    content: bytes
    packed: bytes
    tag: str


def router() -> APIRouter:
    """The page and its files, for everybody: what they ask the service for may need a key."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def _root(request: Request) -> Response:
        return _sent(request, "index.html")

    @routes.get("/page/{name}")
    def _file(request: Request, name: str) -> Response:
        return _sent(request, name)

    return routes


def _sent(request: Request, name: str) -> Response:
    if name not in names():
        raise Problem(404, "there is no such file; the page at / names those that there are")
    file = _read(name)
    headers = {
        "ETag": file.tag,
        "Cache-Control": "no-cache",  # asked for again each time, sent again when it has changed
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": POLICY,
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    }
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = file.packed
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=file.kind)


@cache
def names() -> frozenset[str]:
    """The files that are served."""
    here = (one.name for one in files(__name__).iterdir())
    return frozenset({PLOTLY, *(name for name in here if name.rpartition(".")[2] in TYPES)})


@cache
def _read(name: str) -> File:
    place = files("plotly") / "package_data" / "plotly.min.js" if name == PLOTLY else None
    content = (place or files(__name__) / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    packed = gzip.compress(content, 6, mtime=0)
    return File(TYPES[name.rpartition(".")[2]], content, packed, tag)
