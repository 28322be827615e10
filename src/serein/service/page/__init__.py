"""The web page at `/`: the files of this folder, and the script of the plotly package."""

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
"""Plotly draws heatmaps as data: URLs, and the player plays a blob: URL of the user's file."""
PLOTLY = "plotly.js"


class PageFile(NamedTuple):
    """A file of the page, ready to be sent."""

    media_type: str
    content: bytes
    gzipped: bytes
    etag: str


def page_routes() -> APIRouter:
    """Build the routes of the page. They need no key; the requests of the page may need one."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def get_root(request: Request) -> Response:
        return _respond(request, "index.html")

    @router.get("/page/{name}")
    def get_file(request: Request, name: str) -> Response:
        return _respond(request, name)

    return router


def _respond(request: Request, name: str) -> Response:
    if name not in list_files():
        raise Problem(404, "there is no such file; the page at / uses those that exist")
    file = _load_file(name)
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",  # browsers check the ETag, and reload what has changed
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
    """Return the names of the files of the page."""
    names = (file.name for file in files(__name__).iterdir())
    return frozenset({PLOTLY, *(name for name in names if _suffix(name) in MEDIA_TYPES)})


@cache
def _load_file(name: str) -> PageFile:
    if name == PLOTLY:
        content = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    else:
        content = (files(__name__) / name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return PageFile(MEDIA_TYPES[_suffix(name)], content, gzip.compress(content, 6, mtime=0), etag)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
