"""What the service answers beside a ``Recognition``, and the words of a stream's client."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


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
