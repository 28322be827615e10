"""JSON of the API: answers other than ``Recognition``, messages of streams, and errors.

Errors are problem documents (application/problem+json, RFC 9457).
"""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from serein.inference.stream_config import (
    STREAM_FIELDS,
    HopSeconds,
    SmoothHops,
    StreamConfig,
    WindowSeconds,
)

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client has disconnected; it appears only in logs and metrics."""


class Model(BaseModel):
    """A model and its limits."""

    name: str
    classes: dict[str, list[str]] = Field(
        description="classes by task, the first task first, in the order of the probabilities"
    )
    rate: int = Field(description="sampling rate of the model in Hz")
    window: float | None = Field(
        description="seconds of the model's window; longer recordings are cut into windows"
    )
    thresholds: dict[str, float] = Field(
        description="by task, the lowest confidence that is answered with a label"
    )
    words: Literal["none", "recognised", "given"] = Field(
        description="the words that the model uses: none; those that it recognises; or those that "
        "must be given with each recording"
    )
    max_seconds: float = Field(description="longest audio of a request")
    max_bytes: int = Field(description="largest body of a request")
    max_stream_seconds: float = Field(description="longest audio of a stream; 0: no streams")
    backend: Literal["torch", "onnx"] = Field(description="what computes the model")
    precision: Literal["fp32", "bf16", "fp16", "int8"] = Field(
        description="precision that it is computed in, or that its exported weights have"
    )
    card: str = Field(description="data, licence, scores, limits and use, in Markdown")


class Health(BaseModel):
    """State of the service."""

    status: str


class StartMessage(BaseModel):
    """First message of a stream's client."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["start"]
    rate: Annotated[int, Field(ge=8_000, le=192_000)]
    channels: Annotated[int, Field(ge=1, le=8)] = 1
    window: WindowSeconds = StreamConfig.window
    hop: HopSeconds = StreamConfig.hop
    smooth: SmoothHops = StreamConfig.smooth
    speech: bool = StreamConfig.speech
    merge: bool = StreamConfig.merge
    key: str | None = None
    model: str | None = None
    classes: list[str] | None = None
    provisional: bool = False
    summary: Annotated[str, Field(max_length=1000)] | None = None

    def stream_options(self) -> dict[str, Any]:
        """Return the fields of ``StreamConfig``."""
        return self.model_dump(include=set(STREAM_FIELDS))


class EndMessage(BaseModel):
    """Last message of a stream's client."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["end"]


class ProblemDocument(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str = Field("about:blank", description="always about:blank; see the status")
    title: str = Field(description="name of the status")
    status: int = Field(description="HTTP status", ge=400, le=599)
    detail: str = Field(description="what was found, what was expected, what to do")


class Problem(Exception):
    """A request that cannot be answered."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        """Create a problem.

        Args:
            status: HTTP status.
            detail: what was found, what was expected, and what to do; one or two sentences.
            headers: of the response, with ``_`` for ``-``.
        """
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ProblemResponse(JSONResponse):
    """JSON with the media type of problem documents."""

    media_type = "application/problem+json"


def to_document(problem: Problem) -> ProblemDocument:
    """Return the problem document of a problem."""
    if problem.status == CLIENT_CLOSED_REQUEST:  # not among the statuses of the standard library
        title = "Client Closed Request"
    else:
        title = HTTPStatus(problem.status).phrase
    return ProblemDocument(title=title, status=problem.status, detail=problem.detail)


def to_response(problem: Problem) -> ProblemResponse:
    """Return the response to a request with a problem."""
    return ProblemResponse(
        to_document(problem).model_dump(), problem.status, headers=problem.headers
    )


def describe_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problem responses of these statuses for OpenAPI."""
    content = {ProblemResponse.media_type: {"schema": ProblemDocument.model_json_schema()}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def install_handlers(app: FastAPI) -> None:
    """Make an app answer every exception with a problem document."""

    async def handle_problem(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, Problem)
        return to_response(error)

    async def handle_http(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, HTTPException)
        details = {
            404: "there is nothing at this path; /docs lists the paths",
            405: "this path does not support that method; /docs lists the methods",
        }
        problem = Problem(error.status_code, details.get(error.status_code, error.detail))
        problem.headers = dict(error.headers or {})
        return to_response(problem)

    async def handle_validation(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, RequestValidationError)
        faults = {str(fault["loc"][-1]): fault["msg"] for fault in error.errors()}
        detail = "; ".join(f"{name}: {message}" for name, message in faults.items())
        return to_response(Problem(400, f"the request is not as described at /docs. {detail}"))

    async def handle_unexpected(request: Request, error: Exception) -> ProblemResponse:
        return to_response(
            Problem(500, "internal error; look for this X-Request-Id in the log of the service")
        )

    app.add_exception_handler(Problem, handle_problem)
    app.add_exception_handler(HTTPException, handle_http)
    app.add_exception_handler(RequestValidationError, handle_validation)
    app.add_exception_handler(Exception, handle_unexpected)
