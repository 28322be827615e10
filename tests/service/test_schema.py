"""Responses match the OpenAPI document for all requests that schemathesis generates."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from builders.service_client import RECOGNIZE, open_client
from hypothesis import HealthCheck, given, settings
from schemathesis import BaseSchema, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from serein.service import auth
from serein.service.schemas import ProblemDocument

PATHS = (RECOGNIZE, "/v1/model", "/v1/models", "/healthz", "/readyz", "/metrics")
load_all_checks()
# A schema cannot describe audio, so that the service may reject a body that the schema allows.
CHECKED: Any = [check for check in CHECKS.get_all() if check.__name__ != "positive_data_acceptance"]


@pytest.fixture(scope="module", params=["open", "closed"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BaseSchema, dict[str, str]]]:
    """The OpenAPI document, and headers with a valid key."""
    known, headers = None, {}
    if request.param == "closed":
        path = tmp_path_factory.mktemp("keys") / "keys"
        headers = {"Authorization": f"Bearer {auth.add_key(path, 'ann')}"}
        known = auth.read_keys(path)
    with open_client(known, max_megabytes=1, max_seconds=10, wait=0.0) as (call, _):
        yield schemathesis.openapi.from_asgi("/openapi.json", call.app), headers


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        (RECOGNIZE, GenerationMode.NEGATIVE),
        *((path, GenerationMode.POSITIVE) for path in PATHS),
    ],
)
def test_responses_match_the_openapi_document(
    service: tuple[BaseSchema, dict[str, str]], path: str, mode: GenerationMode
) -> None:
    document, headers = service
    operation = document[path]["POST" if path == RECOGNIZE else "GET"]
    statuses = set()

    @settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKED, headers=dict(headers))
        statuses.add(answer.status_code)

    check()
    named = {400} if path == "/v1/model" else set()  # random names of models do not exist
    assert statuses <= ({400, 401, 413, 422} if path == RECOGNIZE else {200} | named)
    assert statuses


def test_openapi_document_has_every_path(
    service: tuple[BaseSchema, dict[str, str]],
) -> None:
    raw = service[0].raw_schema
    assert set(raw["paths"]) == set(PATHS)
    recognize = raw["paths"][RECOGNIZE]["post"]
    assert set(recognize["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/octet-stream",
    }
    problems = {"400", "408", "413", "422", "429", "503"}
    closed = {"401"} if service[1] else set()
    assert set(recognize["responses"]) == problems | closed | {"200"}
    for status in problems:
        (content,) = recognize["responses"][status]["content"].items()
        assert content == (
            "application/problem+json",
            {"schema": ProblemDocument.model_json_schema()},
        )
    assert set(raw["components"]["schemas"]) >= {"Recognition", "Answer", "Model"}
