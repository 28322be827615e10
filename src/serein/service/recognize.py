"""The endpoint that recognises one recording."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from serein.inference import formats
from serein.inference.recognition import Recognition
from serein.service.body import received
from serein.service.engine import Engine
from serein.service.how import TYPES, How, asked, described
from serein.service.problems import LEFT, Problem, documented

T = TypeVar("T")

BINARY = {"type": "string", "format": "binary"}
BODY = {
    "required": True,
    "description": "An audio file. What it holds decides, not how it or its type is named.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": BINARY}}
        },
        "application/octet-stream": {"schema": BINARY},
    },
}


def router(engine: Engine) -> APIRouter:
    """The endpoint of one engine."""
    routes = APIRouter(tags=["recognition"])

    @routes.post(
        "/v1/recognize",
        summary="Recognise one recording",
        responses={
            200: {
                "model": Recognition,
                "description": "As `serein recognize`, in the format that was asked for",
                "content": {name: {"schema": {"type": "string"}} for name in set(TYPES.values())},
            },
            **documented(400, 408, 413, 422, 429, 503),
        },
        openapi_extra={"parameters": described(), "requestBody": BODY},
    )
    async def recognize(request: Request, how: Annotated[How, Depends(asked)]) -> Response:
        """WAV, FLAC, Ogg, Opus, MP3, AIFF, m4a, webm, mp4, of any rate, all channels as one.

        One answer for all of it; or, with any of window, hop, smooth, speech, merge, or a format
        that is made of segments, one for each segment of speech.
        """
        recognizer, hearing = engine.chosen(how.model), how.hearing()
        if hearing is not None:
            how.check(recognizer, hearing)
        with engine.place():
            try:
                name, body = await received(request, engine.settings)
                request.state.bytes = len(body)
                answer = await _unless_left(request, engine.answer(name, body, recognizer, hearing))
            except ClientDisconnect:
                raise _left() from None
            request.state.seconds = round(answer.end - answer.start, 3)
            if how.format == "json":
                return JSONResponse(answer.plain())
            text = formats.written(how.format, [answer], {})
            return Response(text, media_type=TYPES[how.format])

    return routes


async def _unless_left(request: Request, work: Awaitable[T]) -> T:
    """Wait for the answer as long as the client does.

    Raises:
        Problem: the client is gone; its work was dropped.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise _left()
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _left() -> Problem:
    return Problem(LEFT, "the client left before its answer was there", Connection="close")
