"""The endpoint that recognises one recording.

Endpoints that tell of the service: its model, its health, its numbers.

How a recording is to be recognised, as a request says it.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from serein.errors import ConfigError
from serein.inference import formats
from serein.inference.formats import SEGMENT_FORMATS, as_card, check_format
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream, StreamConfig
from serein.service.engine import Engine
from serein.service.schemas import CLIENT_CLOSED_REQUEST, Health, Model, Problem, describe_responses
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


class PrometheusResponse(PlainTextResponse):
    """Prometheus's text."""

    media_type = "text/plain; version=0.0.4"


def model_routes(engine: Engine) -> APIRouter:
    """What can be known of the models."""
    routes = APIRouter(tags=["model"])
    known = {name: _describe_model(one, engine) for name, one in engine.recognizers.items()}

    @routes.get("/v1/model", summary="What answers", responses=describe_responses(400))
    async def _model(
        model: Annotated[str | None, Query(description="its name; the first if not given")] = None,
    ) -> Model:
        """Labels, limits, and the card: data, licence, scores, use and misuse."""
        return known[engine.select_recognizer(model).name]

    @routes.get("/v1/models", summary="All that answer")
    async def _models() -> list[Model]:
        """The first is asked where a request names none."""
        return list(known.values())

    return routes


def _describe_model(recognizer: Recognizer, engine: Engine) -> Model:
    settings = engine.config
    return Model(
        name=recognizer.name,
        classes={task: list(names) for task, names in recognizer.classes.items()},
        rate=recognizer.rate,
        window=recognizer.window,
        thresholds=recognizer.thresholds,
        max_seconds=settings.max_seconds,
        max_bytes=settings.max_bytes,
        card=as_card(recognizer.bundle),
    )


def metrics_routes(engine: Engine) -> APIRouter:
    """What a monitor reads."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/metrics", summary="For Prometheus", response_class=PrometheusResponse)
    async def _metrics() -> PrometheusResponse:
        return PrometheusResponse(engine.metrics.render())

    return routes


def health_routes(engine: Engine) -> APIRouter:
    """What a supervisor asks, without a key."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz", summary="Is the process there?")
    async def _healthz() -> Health:
        return Health(status="ok")

    @routes.get(
        "/readyz", summary="Would a request be answered?", responses=describe_responses(503)
    )
    async def _readyz() -> Health:
        if not engine.is_ready():
            raise Problem(503, "not ready: it is ending, or the model is gone")
        return Health(status="ready")

    return routes


MEDIA_TYPES = {
    "csv": "text/csv",
    "audformat": "text/csv",
    "rttm": "text/plain",
    "vtt": "text/vtt",
}
"""Of the formats that are not JSON."""


class RecognizeQuery(BaseModel):
    """The query of a request."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="its name; the first of /v1/models if not given")
    window: Annotated[float | None, Field(gt=0, le=60)] = Field(
        None, description="seconds that the model hears at a time; 4 if not given"
    )
    hop: Annotated[float | None, Field(ge=0.25, le=60)] = Field(
        None, description="seconds from one window to the next; 1 if not given"
    )
    smooth: Annotated[int | None, Field(ge=1, le=99)] = Field(
        None, description="average so many hops, an odd number; 1 if not given"
    )
    speech: bool | None = Field(None, description="whether speech alone is heard; true")
    merge: bool | None = Field(
        None, description="whether neighbouring hops of one label are one segment; true"
    )
    format: Literal["json", "csv", "audformat", "rttm", "vtt"] = "json"

    def to_stream_config(self) -> StreamConfig | None:
        """How a timeline is made; None where none is asked for."""
        names = ("window", "hop", "smooth", "speech", "merge")
        given = {name: one for name in names if (one := getattr(self, name)) is not None}
        return StreamConfig(**given) if given or self.format in SEGMENT_FORMATS else None

    def check_compatible(self, recognizer: Recognizer, stream_config: StreamConfig) -> None:
        """See to it that the settings fit each other and the model, and the format both.

        Raises:
            Problem: they do not.
        """
        try:
            Stream(recognizer, recognizer.rate, stream_config)
            check_format(self.format, recognizer.classes)
        except ConfigError as error:
            raise Problem(400, str(error)) from None


async def parse_query(request: Request) -> RecognizeQuery:
    """The query of a request; FastAPI's own way looks at the type of every field each time.

    Raises:
        RequestValidationError: it is not as described.
    """
    try:
        return RecognizeQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def describe_parameters() -> list[dict[str, Any]]:
    """The query, as the OpenAPI document describes it."""
    fields = RecognizeQuery.model_json_schema()["properties"]
    about = {"in": "query", "required": False}
    return [
        {"name": name, **about, "schema": one, **_description(one)} for name, one in fields.items()
    ]


def _description(field: dict[str, Any]) -> dict[str, str]:
    return {key: one for key, one in field.items() if key == "description"}
