"""Reading what a client sends, no more and no longer than is allowed; nothing touches a disk."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath

from fastapi import Request

from serein.service.form import Form
from serein.service.problems import Problem
from serein.service.settings import MEGA, Settings

UNNAMED = "upload"
LONGEST_NAME = 200


async def received(request: Request, settings: Settings) -> tuple[str, bytes]:
    """The one recording of a request: its name and its bytes.

    Raises:
        Problem: it is empty, too big, too slow, or a form without one file.
        ClientDisconnect: the client is gone.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > settings.max_bytes:
        raise _too_big(settings)
    form = request.headers.get("content-type", "").lower().startswith("multipart/")
    try:
        async with asyncio.timeout(settings.body_seconds):
            chunks = _limited(request, settings)
            if form:
                name, body = await _form(request, chunks)
            else:
                name, body = UNNAMED, b"".join([chunk async for chunk in chunks])
    except TimeoutError:
        raise Problem(
            408,
            f"the request was not complete after {settings.body_seconds:g} s; send it faster, "
            "or less of it (FLAC, or parts)",
            Connection="close",
        ) from None
    if not body:
        raise Problem(400, "the upload is empty (0 bytes); expected the bytes of an audio file")
    return name, body


def safe(name: str) -> str:
    """The last part of a file's name, of printable characters; it is never used as a path."""
    last = PurePosixPath(name.replace("\\", "/")).name
    kept = "".join(c for c in last if c.isprintable())[:LONGEST_NAME]
    return kept if kept.strip(". ") else UNNAMED


async def _limited(request: Request, settings: Settings) -> AsyncGenerator[bytes, None]:
    """The body as it comes, up to the limit, whatever its head declares."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > settings.max_bytes:
            raise _too_big(settings)
        yield chunk


async def _form(request: Request, chunks: AsyncGenerator[bytes, None]) -> tuple[str, bytes]:
    try:
        form = Form(request.headers["content-type"])
        async for chunk in chunks:
            form.write(chunk)
        name, body = form.file()
    except ValueError as error:
        raise _no_form(str(error)) from error
    return safe(name), body


def _no_form(reason: str) -> Problem:
    return Problem(
        400,
        f"the form cannot be used: {reason} Expected multipart/form-data with one file, such as "
        "`curl -F file=@speech.wav`; or send the file's bytes as they are.",
        Connection="close",
    )


def _too_big(settings: Settings) -> Problem:
    return Problem(
        413,
        f"the request is larger than {settings.max_bytes / MEGA:g} MB, the most that is taken at "
        "once. Send it in parts, or as FLAC.",
        Connection="close",
    )
