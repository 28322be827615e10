"""How a recording is to be recognised, as a request says it."""

from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serein.errors import ConfigError
from serein.inference.formats import SEGMENT_FORMATS, check_format
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream, StreamConfig
from serein.service.problems import Problem

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
