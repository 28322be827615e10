"""The process that decodes what strangers send: bytes in, samples out, within limits.

It is started by ``decode`` and holds nothing but one upload at a time; whatever a hostile file does
to it, it does to this process alone. Each message is a kind of one byte, a length of eight, and so
many bytes.
"""

import io
import math
import os
import resource
import struct
import sys
from typing import IO

from serein import audio
from serein.errors import AudioError

HEADER = struct.Struct(">cQ")
READY, UPLOAD, SAMPLES, UNREADABLE, TOO_LONG, OUT_OF_MEMORY = b"R", b"U", b"S", b"A", b"L", b"M"


class Upload(io.BytesIO):
    """Bytes that errors call by what they are to their sender."""

    name = "the upload"


def decode_upload(body: bytes, rate: int, max_seconds: float) -> tuple[bytes, bytes]:
    """Decode one upload.

    Args:
        body: the bytes of a file.
        rate: wanted sampling rate in Hz.
        max_seconds: most seconds; of more, one second beyond is decoded at most.

    Returns:
        A kind, and what belongs to it: float32 samples, or a reason.
    """
    try:
        wave_s = audio.load(Upload(body), rate, end=max_seconds + 1)
    except AudioError as error:
        if isinstance(error.__cause__, MemoryError):
            return OUT_OF_MEMORY, b""
        return UNREADABLE, str(error).replace("that part of the", "the").encode()
    except MemoryError:
        return OUT_OF_MEMORY, b""
    if len(wave_s) > math.ceil(max_seconds * rate):
        return TOO_LONG, b""
    return SAMPLES, wave_s.tobytes()


def send_message(pipe: IO[bytes], kind: bytes, content: bytes) -> None:
    """Write one message."""
    pipe.write(HEADER.pack(kind, len(content)))
    pipe.write(content)
    pipe.flush()


def receive_message(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
    """
    head = pipe.read(HEADER.size)
    if len(head) == HEADER.size:
        kind, length = HEADER.unpack(head)
        content = pipe.read(length)
        if len(content) == length:
            return kind, content
    raise EOFError


def main(rate: int, max_seconds: float, megabytes: int, seconds: float) -> None:
    """Answer uploads until there are no more."""
    # What a decoder prints must not be taken for its answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import av
    import soxr

    assert av
    assert soxr
    _limit_resources(megabytes)
    send_message(answers, READY, b"")
    while True:
        try:
            _, body = receive_message(sys.stdin.buffer)
        except EOFError:
            return
        except MemoryError:
            os._exit(1)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds), hard))
        send_message(answers, *decode_upload(body, rate, max_seconds))


def _limit_resources(megabytes: int) -> None:
    """So much more memory than now; no file is written, no core is left behind."""
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
