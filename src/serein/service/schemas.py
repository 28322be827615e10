"""What the service answers beside a ``Recognition``, whose own class is its schema."""

from pydantic import BaseModel, Field


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
