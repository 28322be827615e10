"""What is wrong with a request, as problem+json (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serein.service.schemas import ProblemDocument

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
