"""Limits of the service."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Limits of requests and streams, and the sizes of batches.

    Attributes:
        max_seconds: longest audio of a request.
        max_megabytes: largest body of a request.
        max_requests: requests in progress at a time; further ones get status 429.
        batch: windows in a forward pass; 1 answers one request after the other.
        wait: seconds that the first recording of a batch waits for requests being decoded.
        decoders: decoding processes.
        decode_seconds: time limit for decoding a file.
        decode_megabytes: memory limit for decoding a file, beyond that of an idle process.
        body_seconds: time in which a client must have sent its request.
        answer_seconds: time from the last byte of a request to its answer.
        origins: of web pages whose requests browsers may send; by default only the own page's.
        streams: open streams at a time; further ones are refused.
        stream_seconds: longest audio of a stream.
        stream_idle: seconds in which the client of a stream must send something and accept an
            answer.
        stream_megabytes: largest message of a stream.
    """

    max_seconds: Annotated[float, Gt(0)] = 300.0
    max_megabytes: Annotated[float, Gt(0)] = 32.0
    max_requests: Annotated[int, Ge(1)] = 64
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
        """Largest body of a request."""
        return round(self.max_megabytes * MEBIBYTE)

    @property
    def stream_bytes(self) -> int:
        """Largest message of a stream."""
        return round(self.stream_megabytes * MEBIBYTE)
