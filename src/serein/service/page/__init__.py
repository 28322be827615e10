"""The page at `/`: files as they lie here, and plotly's script; nothing comes from elsewhere."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serein.service.schemas import Problem

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Plotly draws heatmaps as data:, and what is played is a blob: of the visitor's own file."""
PLOTLY = "plotly.js"


class PageFile(NamedTuple):
    """What is sent of a file."""

    media_type: str
    content: bytes
    gzipped: bytes
    etag: str


def page_routes() -> APIRouter:
    """The page and its files, for everybody: what they ask the service for may need a key."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def _root(request: Request) -> Response:
        return _respond(request, "index.html")

    @routes.get("/page/{name}")
    def _file(request: Request, name: str) -> Response:
        return _respond(request, name)

    return routes


def _respond(request: Request, name: str) -> Response:
    if name not in list_files():
        raise Problem(404, "there is no such file; the page at / names those that there are")
    file = _load_file(name)
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",  # asked for again each time, sent again when it has changed
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = file.gzipped
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=file.media_type)


@cache
def list_files() -> frozenset[str]:
    """The files that are served."""
    here = (one.name for one in files(__name__).iterdir())
    return frozenset({PLOTLY, *(name for name in here if name.rpartition(".")[2] in MEDIA_TYPES)})


@cache
def _load_file(name: str) -> PageFile:
    place = files("plotly") / "package_data" / "plotly.min.js" if name == PLOTLY else None
    content = (place or files(__name__) / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    packed = gzip.compress(content, 6, mtime=0)
    return PageFile(MEDIA_TYPES[name.rpartition(".")[2]], content, packed, tag)
