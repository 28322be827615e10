"""The web page at `/`: the files of this folder."""

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

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
CHUNKS_PER_TURN = 16
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
    return StreamingResponse(_iterate(chunks, turns), headers=headers, media_type=file.media_type)


async def _iterate(chunks: Iterator[bytes], turns: asyncio.Semaphore) -> AsyncIterator[bytes]:
    """Pass chunks on; each waits until the client has accepted those before."""
    for chunk in chunks:
        async with turns:
            await asyncio.sleep(0)
        yield chunk


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
