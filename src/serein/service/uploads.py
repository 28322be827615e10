"""Reading what a client sends, no more and no longer than is allowed; nothing touches a disk."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath

from fastapi import Request

from serein.service.config import MEBIBYTE, ServiceConfig
from serein.service.form import FormParser
from serein.service.problems import Problem

DEFAULT_NAME = "upload"
MAX_NAME_LENGTH = 200


async def read_upload(request: Request, config: ServiceConfig) -> tuple[str, bytes]:
    """The one recording of a request: its name and its bytes.

    Raises:
        Problem: it is empty, too big, too slow, or a form without one file.
        ClientDisconnect: the client is gone.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > config.max_bytes:
        raise _too_large_problem(config)
    form = request.headers.get("content-type", "").lower().startswith("multipart/")
    try:
        async with asyncio.timeout(config.body_seconds):
            chunks = _iter_limited(request, config)
            if form:
                name, body = await _read_form(request, chunks)
            else:
                name, body = DEFAULT_NAME, b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise Problem(
            408,
            f"the request was not complete after {config.body_seconds:g} s; send it faster, "
            "or less of it (FLAC, or parts)",
            Connection="close",
        ) from None
    if not body:
        raise Problem(400, "the upload is empty (0 bytes); expected the bytes of an audio file")
    return name, body


def sanitize_name(name: str) -> str:
    """The last part of a file's name, of printable characters; it is never used as a path."""
    last = PurePosixPath(name.replace("\\", "/")).name
    kept = "".join(c for c in last if c.isprintable())[:MAX_NAME_LENGTH]
    return kept if kept.strip(". ") else DEFAULT_NAME


async def _iter_limited(request: Request, config: ServiceConfig) -> AsyncGenerator[bytes, None]:
    """The body as it comes, up to the limit, whatever its head declares."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > config.max_bytes:
            raise _too_large_problem(config)
        yield chunk


async def _read_form(request: Request, chunks: AsyncGenerator[bytes, None]) -> tuple[str, bytes]:
    try:
        form = FormParser(request.headers["content-type"])
        async for chunk in chunks:
            form.write(chunk)
        name, body = form.get_file()
    except ValueError as error:
        raise _form_problem(str(error)) from error
    return sanitize_name(name), body


def _form_problem(reason: str) -> Problem:
    return Problem(
        400,
        f"the form cannot be used: {reason} Expected multipart/form-data with one file, such as "
        "`curl -F file=@speech.wav`; or send the file's bytes as they are.",
        Connection="close",
    )


def _too_large_problem(config: ServiceConfig) -> Problem:
    return Problem(
        413,
        f"the request is larger than {config.max_bytes / MEBIBYTE:g} MB, the most that is taken at "
        "once. Send it in parts, or as FLAC.",
        Connection="close",
    )
