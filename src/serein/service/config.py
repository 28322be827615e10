"""What the service allows and how it works, in one object."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Limits that hold for each request, and how requests are put together.

    Attributes:
        max_seconds: of audio in one request.
        max_megabytes: of one request's body.
        queue: requests in progress at a time; the next one is answered 429.
        batch: windows that one forward pass hears; 1 answers one request after the other.
        wait: seconds that the first recording of a batch waits for others that are on their way.
        decoders: worker processes that decode.
        decode_seconds: that decoding one file may take.
        decode_megabytes: that decoding one file may take beyond an idle worker's memory.
        body_seconds: in which a client must have sent its request.
        answer_seconds: from the last byte of a request to its answer.
        origins: of pages in other places that browsers may let call; none by default.
        streams: that may be open at a time; the next one is told to come later.
        stream_seconds: of audio in one stream.
        stream_idle: seconds in which a stream's client must send something, and take an answer.
        stream_megabytes: of one message of a stream.
    """

    max_seconds: Annotated[float, Gt(0)] = 300.0
    max_megabytes: Annotated[float, Gt(0)] = 32.0
    queue: Annotated[int, Ge(1)] = 64
    batch: Annotated[int, Ge(1)] = 16
    wait: Annotated[float, Ge(0)] = 0.004
    decoders: Annotated[int, Ge(1)] = 1
    decode_seconds: Annotated[float, Gt(0)] = 20.0
    decode_megabytes: Annotated[int, Ge(1)] = 1024
    body_seconds: Annotated[float, Gt(0)] = 30.0
    answer_seconds: Annotated[float, Gt(0)] = 60.0
    origins: tuple[str, ...] = ()
    streams: Annotated[int, Ge(0)] = 64
    stream_seconds: Annotated[float, Gt(0)] = 3600.0
    stream_idle: Annotated[float, Gt(0)] = 30.0
    stream_megabytes: Annotated[float, Gt(0)] = 1.0

    @property
    def max_bytes(self) -> int:
        """Of one request's body."""
        return round(self.max_megabytes * MEBIBYTE)

    @property
    def stream_bytes(self) -> int:
        """Of one message of a stream."""
        return round(self.stream_megabytes * MEBIBYTE)
