"""HTTP routes: recognition of one recording, models, metrics, health."""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from serein.errors import ConfigError
from serein.inference.formats import SEGMENT_FORMATS, as_card, check_format, format_answers
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.stream_config import (
    STREAM_FIELDS,
    HopSeconds,
    SmoothHops,
    StreamConfig,
    WindowSeconds,
)
from serein.inference.streaming import Stream
from serein.service.engine import Engine
from serein.service.schemas import CLIENT_CLOSED_REQUEST, Health, Model, Problem, describe_responses
from serein.service.uploads import read_upload

T = TypeVar("T")

MEDIA_TYPES = {
    "csv": "text/csv",
    "audformat": "text/csv",
    "rttm": "text/plain",
    "vtt": "text/vtt",
}
"""Media types of the formats other than JSON."""
MAX_WORDS_LENGTH = 10_000
"""Most characters of the words of a recording."""
MAX_CLASSES_LENGTH = 1_000
"""Most characters of the names of classes."""
BINARY_SCHEMA = {"type": "string", "format": "binary"}
REQUEST_BODY = {
    "required": True,
    "description": "An audio file. Its format is detected from the content, not from name or type.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": BINARY_SCHEMA,
                    "words": {"type": "string", "maxLength": MAX_WORDS_LENGTH},
                },
            }
        },
        "application/octet-stream": {"schema": BINARY_SCHEMA},
    },
}


def _stream_field(name: str) -> Any:
    return Field(None, description=StreamConfig.help(name))


class RecognizeQuery(BaseModel):
    """Query parameters of ``/v1/recognize``."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="name; default: the first of /v1/models")
    window: WindowSeconds | None = _stream_field("window")
    hop: HopSeconds | None = _stream_field("hop")
    smooth: SmoothHops | None = _stream_field("smooth")
    speech: bool | None = _stream_field("speech")
    merge: bool | None = _stream_field("merge")
    format: Literal["json", "csv", "audformat", "rttm", "vtt"] = "json"
    classes: str | None = Field(
        None,
        max_length=MAX_CLASSES_LENGTH,
        description="the only classes of the model's first task to answer, with commas between "
        "them; their probabilities sum to 1",
    )
    words: str | None = Field(
        None,
        max_length=MAX_WORDS_LENGTH,
        description="what is said, for a model that reads words; or a field of the form",
    )

    def to_stream_config(self) -> StreamConfig | None:
        """Return how to answer by segments, or None for one answer for the recording."""
        config = StreamConfig.from_options({name: getattr(self, name) for name in STREAM_FIELDS})
        if config is None and self.format in SEGMENT_FORMATS:
            return StreamConfig()
        return config

    def select_recognizer(self, engine: Engine) -> Recognizer:
        """Return the requested model, within the requested classes.

        Raises:
            Problem: there is no such model, or it has no such classes.
        """
        recognizer = engine.select_recognizer(self.model)
        try:
            return engine.restrict_classes(recognizer, self.classes)
        except ConfigError as error:
            raise Problem(400, str(error)) from None

    def check_compatible(self, recognizer: Recognizer, stream_config: StreamConfig) -> None:
        """Check that settings, format and model fit each other.

        Raises:
            Problem: they do not.
        """
        try:
            Stream(recognizer, recognizer.rate, stream_config)
            check_format(self.format, recognizer.classes)
        except ConfigError as error:
            raise Problem(400, str(error)) from None

    def select_words(self, in_form: str | None, recognizer: Recognizer) -> str | None:
        """Return the words of the request, and check that the model can use them.

        Args:
            in_form: the words in the request's form.
            recognizer: the model.

        Raises:
            Problem: they are missing, given twice, too long, or of no use.
        """
        words = self.words if in_form is None else in_form
        if None not in (self.words, in_form):
            raise Problem(400, "words are in the query and in the form; give them once")
        if len(words or "") > MAX_WORDS_LENGTH:
            raise Problem(400, f"more than {MAX_WORDS_LENGTH:,} characters of words; shorten them")
        if self.to_stream_config() is not None:
            if words is not None:
                raise Problem(400, "words are of a whole recording, and segments have none")
            return None
        try:
            recognizer.check_words(words)
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        return words


async def parse_query(request: Request) -> RecognizeQuery:
    """Parse the query of a request; FastAPI's own way analyses all types for each request.

    Raises:
        RequestValidationError: it is not valid.
    """
    try:
        return RecognizeQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def describe_parameters(models: Iterable[str]) -> list[dict[str, Any]]:
    """Describe the query parameters for OpenAPI; ``model`` is one of those that are served."""
    parameters = []
    properties = RecognizeQuery.model_json_schema()["properties"]
    properties["model"] |= {"anyOf": [{"type": "string", "enum": [*models]}, {"type": "null"}]}
    for name, schema in properties.items():
        parameter = {"name": name, "in": "query", "required": False, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema["description"]
        parameters.append(parameter)
    return parameters


def recognize_routes(engine: Engine) -> APIRouter:
    """Build the route that recognizes a recording."""
    router = APIRouter(tags=["recognition"])

    @router.post(
        "/v1/recognize",
        summary="Recognize one recording",
        responses={
            200: {
                "model": Recognition,
                "description": "As the output of `serein recognize`, in the requested format",
                "content": {
                    name: {"schema": {"type": "string"}} for name in set(MEDIA_TYPES.values())
                },
            },
            **describe_responses(400, 408, 413, 422, 429, 503),
        },
        openapi_extra={
            "parameters": describe_parameters(engine.recognizers),
            "requestBody": REQUEST_BODY,
        },
    )
    async def recognize(
        request: Request, query: Annotated[RecognizeQuery, Depends(parse_query)]
    ) -> Response:
        """WAV, FLAC, Ogg, Opus, MP3, AIFF, m4a, webm or mp4, at any rate; channels are averaged.

        The answer is for the whole recording. With any of window, hop, smooth, speech and merge, or
        a format made of segments, there is one answer for each segment of speech. A model whose
        `words` are "given" needs the words of the recording, and has no answers by segments.
        """
        recognizer, stream_config = query.select_recognizer(engine), query.to_stream_config()
        if stream_config is not None:
            query.check_compatible(recognizer, stream_config)
        owner = find_owner(request)
        with engine.hold_slot(owner):
            try:
                name, body, in_form = await read_upload(request, engine.config)
                request.state.bytes = len(body)
                words = query.select_words(in_form, recognizer)
                answer = await wait_unless_disconnected(
                    request,
                    engine.recognize(name, body, recognizer, stream_config, words, owner),
                )
            except ClientDisconnect:
                raise disconnected_problem() from None
            request.state.seconds = round(answer.end - answer.start, 3)
            if query.format == "json":
                return JSONResponse(answer.to_dict())
            text = format_answers(query.format, [answer], {})
            return Response(text, media_type=MEDIA_TYPES[query.format])

    return router


def find_owner(request: Request) -> str:
    """Return whose request it is: the name of the key, or the address; it is not logged."""
    key = getattr(request.state, "key", None)
    return f"key {key}" if key else f"address {request.client.host if request.client else ''}"


async def wait_unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Wait for the answer while the client is connected.

    Raises:
        Problem: the client has disconnected; its work is cancelled.
    """
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise disconnected_problem()
        return working.result()
    finally:
        for task in (working, disconnecting):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await disconnecting


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def disconnected_problem() -> Problem:
    """Return the problem of a client that has disconnected; only the log has it."""
    return Problem(
        CLIENT_CLOSED_REQUEST,
        "the client disconnected before the answer was ready",
        Connection="close",
    )


def model_routes(engine: Engine) -> APIRouter:
    """Build the routes that describe the models."""
    router = APIRouter(tags=["model"])
    models = {
        name: _describe_model(recognizer, engine) for name, recognizer in engine.recognizers.items()
    }

    @router.get("/v1/model", summary="One model", responses=describe_responses(400))
    async def get_model(
        model: Annotated[str | None, Query(description="name; default: the first model")] = None,
    ) -> Model:
        """Labels, limits, and the card: data, licence, scores, use and misuse."""
        return models[engine.select_recognizer(model).name]

    @router.get("/v1/models", summary="All models")
    async def get_models() -> list[Model]:
        """The first model answers requests that name none."""
        return list(models.values())

    return router


def _describe_model(recognizer: Recognizer, engine: Engine) -> Model:
    return Model(
        name=recognizer.name,
        classes={task: list(names) for task, names in recognizer.classes.items()},
        rate=recognizer.rate,
        window=recognizer.window,
        thresholds=recognizer.thresholds,
        words=recognizer.word_source,
        max_seconds=engine.config.max_seconds,
        max_bytes=engine.config.max_bytes,
        max_stream_seconds=engine.config.stream_seconds if engine.config.streams else 0.0,
        backend=recognizer.backend.name,
        precision=recognizer.precision,
        card=as_card(recognizer.description),
    )


class PrometheusResponse(PlainTextResponse):
    """Text in the format of Prometheus."""

    media_type = "text/plain; version=0.0.4"


def metrics_routes(engine: Engine) -> APIRouter:
    """Build the route of the metrics."""
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=PrometheusResponse)
    async def get_metrics() -> PrometheusResponse:
        return PrometheusResponse(engine.metrics.render())

    return router


def health_routes(engine: Engine) -> APIRouter:
    """Build the routes for health checks, which need no key."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Is the process alive?")
    @router.head("/healthz", include_in_schema=False)
    async def get_health() -> Health:
        return Health(status="ok")

    @router.get(
        "/readyz", summary="Is it ready to answer requests?", responses=describe_responses(503)
    )
    async def get_readiness() -> Health:
        if not engine.is_ready():
            detail = "not ready: the service shuts down, or a thread or all decoders have died"
            raise Problem(503, detail, Retry_After="5")
        return Health(status="ready")

    return router
