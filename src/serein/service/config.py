"""Limits of the service."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

MEBIBYTE = 2**20
Seconds = Annotated[float, Gt(0), Le(10_000_000)]
Megabytes = Annotated[float, Gt(0), Le(1_000_000)]
Count = Annotated[int, Ge(1), Le(1_000_000)]


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Limits of requests and streams, and the sizes of batches.

    Attributes:
        max_seconds: longest audio of a request.
        max_megabytes: largest body of a request.
        max_requests: requests in progress at a time; further ones get status 429. A quarter more
            is kept for keys and addresses without a request in progress.
        max_window_seconds: longest sum of the windows of an answer by segments: the duration of
            the recording, times window / hop.
        connections: open connections at a time; beyond, those without a request are closed.
        head_seconds: time in which the head of a request must arrive.
        batch: windows in a forward pass; 1 answers one request after the other.
        wait: seconds that the first recording of a batch waits for requests being decoded.
        decoders: decoding processes.
        decode_seconds: time limit for decoding a file.
        decode_megabytes: memory limit for decoding a file, beyond that of an idle process.
        decode_megasamples: most samples of a file, in millions: seconds x rate x channels.
        body_seconds: time in which a client may send nothing of its request.
        answer_seconds: time from the last byte of a request to its answer.
        origins: of web pages whose requests browsers may send; by default only the own page's.
        streams: open streams at a time; further ones are refused.
        stream_seconds: longest audio of a stream, and the time that it may be open.
        stream_idle: seconds in which the client of a stream must send a tenth of a second of audio
            and accept an answer.
        stream_megabytes: largest message of a stream.
    """

    max_seconds: Seconds = 300.0
    max_megabytes: Megabytes = 32.0
    max_requests: Count = 64
    max_window_seconds: Seconds = 10_000.0
    connections: Count = 4096
    head_seconds: Seconds = 15.0
    batch: Count = 16
    wait: Annotated[float, Ge(0), Le(10_000)] = 0.004
    decoders: Annotated[int, Ge(1), Le(256)] = 2
    decode_seconds: Seconds = 20.0
    decode_megabytes: Count = 1024
    decode_megasamples: Annotated[float, Gt(0), Le(1_000_000)] = 128.0
    body_seconds: Seconds = 30.0
    answer_seconds: Seconds = 60.0
    origins: tuple[str, ...] = ()
    streams: Annotated[int, Ge(0), Le(1_000_000)] = 64
    stream_seconds: Seconds = 3600.0
    stream_idle: Seconds = 30.0
    stream_megabytes: Megabytes = 1.0

    @property
    def max_bytes(self) -> int:
        """Largest body of a request."""
        return round(self.max_megabytes * MEBIBYTE)

    @property
    def stream_bytes(self) -> int:
        """Largest message of a stream."""
        return round(self.stream_megabytes * MEBIBYTE)
