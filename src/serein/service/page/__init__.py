"""The web page at `/`: the files of this folder."""

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from serein.service.schemas import Problem

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "mp3": "audio/mpeg",
}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Spectrograms are data: URLs, and the player plays a blob: URL of the user's file."""
CHUNK_BYTES = 2**14
"""Bytes of a file that are sent at a time: what a client that reads nothing holds in memory."""
CHUNKS_PER_TURN = 4
"""Chunks, of all clients, that are sent before other requests have a turn."""
LOADING = Lock()


class PageFile(NamedTuple):
    """A file of the page, stored compressed."""

    media_type: str
    size: int
    gzipped: bytes
    etag: str


LOADED: dict[str, PageFile] = {}
"""Files that were requested before, by name."""


def page_routes() -> APIRouter:
    """Build the routes of the page. They need no key; the requests of the page may need one."""
    router = APIRouter(include_in_schema=False)
    turns = asyncio.Semaphore(CHUNKS_PER_TURN)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def get_root(request: Request) -> Response:
        return await _respond(request, "index.html", turns)

    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def get_file(request: Request, name: str) -> Response:
        return await _respond(request, name, turns)

    return router


async def _respond(request: Request, name: str, turns: asyncio.Semaphore) -> Response:
    if name not in list_files():
        raise Problem(404, "there is no such file; the page at / uses those that exist")
    file = LOADED.get(name)
    if file is None:
        file = await run_in_threadpool(_load_file, name)
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",  # browsers check the ETag, and reload what has changed
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    is_gzipped = "gzip" in request.headers.get("accept-encoding", "")
    if is_gzipped:
        headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(file.gzipped) if is_gzipped else file.size)
    chunks = _iter_chunks(file.gzipped) if is_gzipped else _iter_decompressed(file.gzipped)
    return ChunkedResponse(chunks, turns, headers, file.media_type)


class ChunkedResponse(Response):
    """A file in chunks, each of which waits until the client has accepted those before.

    Starlette's ``StreamingResponse`` would start two tasks for each file.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        turns: asyncio.Semaphore,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        """Create the response.

        Args:
            chunks: of the file.
            turns: is acquired for each chunk, so that other requests have a turn.
            headers: with the length.
            media_type: of the file.
        """
        self.chunks, self.turns = chunks, turns
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for chunk in () if scope["method"] == "HEAD" else self.chunks:
            async with self.turns:
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _iter_chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _iter_decompressed(gzipped: bytes) -> Iterator[bytes]:
    """Decompress a file in chunks, for the few clients that do not accept gzip."""
    decompressor = zlib.decompressobj(wbits=31)
    for chunk in _iter_chunks(gzipped):
        while chunk:
            yield decompressor.decompress(chunk, CHUNK_BYTES)
            chunk = decompressor.unconsumed_tail
    while rest := decompressor.decompress(b"", CHUNK_BYTES):
        yield rest


@cache
def list_files() -> frozenset[str]:
    """Return the names of the files of the page."""
    names = (file.name for file in files(__name__).iterdir())
    return frozenset(name for name in names if _suffix(name) in MEDIA_TYPES)


def _load_file(name: str) -> PageFile:
    with LOADING:  # many clients at once must not compress the same file
        if name not in LOADED:
            LOADED[name] = _compress_file(name)
        return LOADED[name]


def _compress_file(name: str) -> PageFile:
    content = (files(__name__) / name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    gzipped = gzip.compress(content, 6, mtime=0)
    return PageFile(MEDIA_TYPES[_suffix(name)], len(content), gzipped, etag)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
