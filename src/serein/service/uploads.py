"""Reading the recording of a request, within limits of size and time, and in memory only."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath
from typing import NamedTuple

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serein.service.config import MEBIBYTE, ServiceConfig
from serein.service.schemas import Problem

DEFAULT_NAME = "upload"
MAX_NAME_LENGTH = 200
MIN_BYTES_PER_SECOND = 16_000
"""Bytes that extend the time of a request by a second; slower requests are refused."""
MAX_FIELDS = 15
"""Fields of a form in addition to the file."""


class Upload(NamedTuple):
    """The content of a request.

    Attributes:
        name: name of the recording.
        body: bytes of its audio file.
        words: the form's field ``words``, for a model that reads words; None without one.
    """

    name: str
    body: bytes
    words: str | None = None


async def read_upload(request: Request, config: ServiceConfig) -> Upload:
    """Read the recording of a request.

    Raises:
        Problem: it is empty, too large, too slow, or a form without exactly one file.
        ClientDisconnect: the client has disconnected.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > config.max_bytes:
        raise _too_large_problem(config)
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("application/json"):
        raise Problem(
            400,
            "the request is JSON; expected the bytes of an audio file, without base64: "
            "`curl --data-binary @speech.wav`, or a form as of `curl -F file=@speech.wav`",
            Connection="close",
        )
    is_form = kind.startswith("multipart/")
    try:
        async with asyncio.timeout(config.body_seconds) as timeout:
            chunks = _iter_limited(request, config, timeout)
            if is_form:
                upload = await _read_form(request, chunks, config)
            else:
                upload = Upload(DEFAULT_NAME, b"".join([chunk async for chunk in chunks]))
    except TimeoutError:
        raise Problem(
            408,
            f"the request stalled for {config.body_seconds:g} s, or less than "
            f"{MIN_BYTES_PER_SECOND // 1000} kB a second arrived; send it faster, or send less "
            "(FLAC, or parts)",
            Connection="close",
        ) from None
    if not upload.body:
        raise Problem(400, "the upload is empty (0 bytes); expected the bytes of an audio file")
    return upload


def sanitize_name(name: str) -> str:
    """Return the last part of a file name, without unprintable characters; it is only displayed."""
    last = PurePosixPath(name.replace("\\", "/")).name
    printable = "".join(c for c in last if c.isprintable())[:MAX_NAME_LENGTH]
    return printable if printable.strip(". ") else DEFAULT_NAME


async def _iter_limited(
    request: Request, config: ServiceConfig, timeout: asyncio.Timeout
) -> AsyncGenerator[bytes, None]:
    """Yield the body in chunks up to the limit, whatever size its headers declare.

    The time limit counts stalls: each chunk starts it again, unless the request is too slow as a
    whole.
    """
    size, now = 0, asyncio.get_running_loop().time
    begin = now()
    async for chunk in request.stream():
        size += len(chunk)
        if size > config.max_bytes:
            raise _too_large_problem(config)
        slowest = begin + size / MIN_BYTES_PER_SECOND
        timeout.reschedule(min(now(), slowest) + config.body_seconds)
        yield chunk


async def _read_form(
    request: Request, chunks: AsyncGenerator[bytes, None], config: ServiceConfig
) -> Upload:
    """Parse multipart/form-data."""
    parser = _FormParser(
        request.headers,
        chunks,
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=config.max_bytes,
    )
    parser.spool_max_size = config.max_bytes  # so that no file is written to a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _form_problem(str(error.__cause__ or error).rstrip(".")) from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise _form_problem("it has no file")
        if len(files[0].headers.getlist("content-disposition")) > 1:
            raise _form_problem("a part has two Content-Disposition headers")
        texts = [value for value in form.getlist("words") if isinstance(value, str)]
        if len(texts) > 1:
            raise _form_problem(f"it has {len(texts)} fields words")
        name = sanitize_name(files[0].filename or "")
        return Upload(name, await files[0].read(), texts[0] if texts else None)
    finally:
        await form.close()


class _FormParser(MultiPartParser):
    """Starlette's parser, with a check that the form is complete."""

    is_complete = False

    async def parse(self) -> FormData:
        self.stream = self._check_end(self.stream)
        return await super().parse()

    def on_end(self) -> None:
        self.is_complete = True

    async def _check_end(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not self.is_complete:
            raise MultiPartException("it ends too early")


def _form_problem(reason: str) -> Problem:
    return Problem(
        400,
        f"the form is not valid: {reason}. Expected multipart/form-data with one file, such as "
        "`curl -F file=@speech.wav`; or send the bytes of the file as the request body.",
        Connection="close",
    )


def _too_large_problem(config: ServiceConfig) -> Problem:
    return Problem(
        413,
        f"the request is larger than the limit of {config.max_bytes / MEBIBYTE:g} MB. "
        "Send it in parts, or as FLAC.",
        Connection="close",
    )
