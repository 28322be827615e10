"""Reading what a client sends, no more and no longer than is allowed; nothing touches a disk.

A form with one file, parsed as it comes; its bytes never touch a disk.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

from serein.service.config import MEBIBYTE, ServiceConfig
from serein.service.schemas import Problem

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


MAX_PARTS = 16
"""More than these are no form of ours."""


class FormParser:
    """What has come of multipart/form-data so far."""

    def __init__(self, content_type: str) -> None:
        """Begin.

        Raises:
            ValueError: the type names no boundary.
        """
        _, options = parse_options_header(content_type)
        if not options.get(b"boundary"):
            raise ValueError("its Content-Type names no boundary.")
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )
        self._parts, self._whole, self._in_file = 0, False, False
        self._name = self._content = b""
        self._file_name: bytes | None = None
        self._pieces: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        """Take what came.

        Raises:
            ValueError: it is no form, or holds two files or too many parts.
        """
        self._parser.write(chunk)

    def get_file(self) -> tuple[str, bytes]:
        """The one file: its name, and its bytes.

        Raises:
            ValueError: there is none, or the form breaks off.
        """
        if not self._whole:
            raise ValueError("it breaks off.")
        if self._file_name is None:
            raise ValueError("it holds no file.")
        return self._file_name.decode(errors="replace"), b"".join(self._pieces)

    def _on_part_begin(self) -> None:
        self._parts += 1
        self._in_file = False
        if self._parts > MAX_PARTS:
            raise ValueError(f"it holds more than {MAX_PARTS} parts.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._set_file_name(parse_options_header(self._content)[1].get(b"filename"))
        self._name = self._content = b""

    def _set_file_name(self, name: bytes | None) -> None:
        if name is None:
            return
        if self._file_name is not None:
            raise ValueError("it holds two files.")
        self._file_name, self._in_file = name, True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])

    def _on_end(self) -> None:
        self._whole = True
