"""What the service answers beside a ``Recognition``, and the words of a stream's client.

What is wrong with a request, as problem+json (RFC 9457).
"""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException


class ProblemDocument(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str = Field("about:blank", description="the status says what kind of problem it is")
    title: str = Field(description="the status in words")
    status: int = Field(description="of HTTP", ge=400, le=599)
    detail: str = Field(description="what was found, what was expected, what to do")


class Model(BaseModel):
    """The model that answers."""

    name: str
    classes: dict[str, list[str]] = Field(
        description="of each task, the main one first, in the order of its probabilities"
    )
    rate: int = Field(description="samples a second that the model hears")
    window: float | None = Field(
        description="seconds that the model hears at a time; longer recordings are cut"
    )
    thresholds: dict[str, float] = Field(
        description="of each task, the lowest probability that is answered with a label"
    )
    max_seconds: float = Field(description="of audio in one request")
    max_bytes: int = Field(description="of one request's body")
    card: str = Field(description="data, licence, scores, limits and use, in Markdown")


class Health(BaseModel):
    """Whether there is somebody."""

    status: str


class StartMessage(BaseModel):
    """How a client starts a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["start"]
    rate: Annotated[int, Field(ge=8_000, le=192_000)]
    channels: Annotated[int, Field(ge=1, le=8)] = 1
    window: Annotated[float, Field(gt=0, le=30)] = 4.0
    hop: Annotated[float, Field(ge=0.25)] = 1.0
    smooth: Annotated[int, Field(ge=1, le=99)] = 1
    speech: bool = True
    merge: bool = True
    key: str | None = None
    model: str | None = None

    def stream_options(self) -> dict[str, Any]:
        """Those of ``inference.stream.Settings``."""
        return self.model_dump(include={"window", "hop", "smooth", "speech", "merge"})


class EndMessage(BaseModel):
    """How a client ends it."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["end"]


CLIENT_CLOSED_REQUEST = 499
"""Of a client that did not wait for its answer; seen in logs and metrics alone."""


class Problem(Exception):
    """A request that cannot be answered as it was asked."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        """Say what was found, what was expected, and what to do.

        Args:
            status: of HTTP.
            detail: one sentence or two.
            headers: of the response; ``_`` stands for ``-``.
        """
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ProblemResponse(JSONResponse):
    """JSON under its own name."""

    media_type = "application/problem+json"


def to_document(problem: Problem) -> ProblemDocument:
    """What is said of it."""
    left = problem.status == CLIENT_CLOSED_REQUEST
    return ProblemDocument(
        title="Client Closed Request" if left else HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
    )


def to_response(problem: Problem) -> ProblemResponse:
    """What the client gets."""
    return ProblemResponse(
        to_document(problem).model_dump(), problem.status, headers=problem.headers
    )


def describe_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These problems, as the OpenAPI document describes them."""
    content = {ProblemResponse.media_type: {"schema": ProblemDocument.model_json_schema()}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def install_handlers(app: FastAPI) -> None:
    """Answer every error of an app as a problem."""

    async def known(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, Problem)
        return to_response(error)

    async def http(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, HTTPException)
        words = {
            404: "there is nothing at this path; /docs lists what there is",
            405: "this path does not take that method; /docs says which it takes",
        }
        problem = Problem(error.status_code, words.get(error.status_code, error.detail))
        problem.headers = dict(error.headers or {})
        return to_response(problem)

    async def invalid(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, RequestValidationError)
        faults = {str(one["loc"][-1]): one["msg"] for one in error.errors()}
        words = "; ".join(f"{name}: {words}" for name, words in faults.items())
        return to_response(Problem(400, f"the request is not as /docs describes it. {words}"))

    async def unexpected(request: Request, error: Exception) -> ProblemResponse:
        return to_response(Problem(500, "serein failed; the log says how, by this X-Request-Id"))

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
