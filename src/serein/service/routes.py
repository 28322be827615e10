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
from serein.service.engine import Engine
from serein.service.how import MEDIA_TYPES, RecognizeQuery, describe_parameters, parse_query
from serein.service.problems import CLIENT_CLOSED_REQUEST, Problem, describe_responses
from serein.service.uploads import read_upload

T = TypeVar("T")

BINARY_SCHEMA = {"type": "string", "format": "binary"}
REQUEST_BODY = {
    "required": True,
    "description": "An audio file. What it holds decides, not how it or its type is named.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": BINARY_SCHEMA},
            }
        },
        "application/octet-stream": {"schema": BINARY_SCHEMA},
    },
}


def recognize_routes(engine: Engine) -> APIRouter:
    """The endpoint of one engine."""
    routes = APIRouter(tags=["recognition"])

    @routes.post(
        "/v1/recognize",
        summary="Recognise one recording",
        responses={
            200: {
                "model": Recognition,
                "description": "As `serein recognize`, in the format that was asked for",
                "content": {
                    name: {"schema": {"type": "string"}} for name in set(MEDIA_TYPES.values())
                },
            },
            **describe_responses(400, 408, 413, 422, 429, 503),
        },
        openapi_extra={"parameters": describe_parameters(), "requestBody": REQUEST_BODY},
    )
    async def recognize(
        request: Request, how: Annotated[RecognizeQuery, Depends(parse_query)]
    ) -> Response:
        """WAV, FLAC, Ogg, Opus, MP3, AIFF, m4a, webm, mp4, of any rate, all channels as one.

        One answer for all of it; or, with any of window, hop, smooth, speech, merge, or a format
        that is made of segments, one for each segment of speech.
        """
        recognizer, hearing = engine.select_recognizer(how.model), how.to_stream_config()
        if hearing is not None:
            how.check_compatible(recognizer, hearing)
        with engine.hold_slot():
            try:
                name, body = await read_upload(request, engine.config)
                request.state.bytes = len(body)
                answer = await _wait_unless_disconnected(
                    request, engine.recognize(name, body, recognizer, hearing)
                )
            except ClientDisconnect:
                raise _disconnected_problem() from None
            request.state.seconds = round(answer.end - answer.start, 3)
            if how.format == "json":
                return JSONResponse(answer.to_dict())
            text = formats.format_answers(how.format, [answer], {})
            return Response(text, media_type=MEDIA_TYPES[how.format])

    return routes


async def _wait_unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Wait for the answer as long as the client does.

    Raises:
        Problem: the client is gone; its work was dropped.
    """
    doing, leaving = (
        asyncio.ensure_future(work),
        asyncio.ensure_future(_wait_for_disconnect(request)),
    )
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise _disconnected_problem()
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _disconnected_problem() -> Problem:
    return Problem(
        CLIENT_CLOSED_REQUEST, "the client left before its answer was there", Connection="close"
    )
