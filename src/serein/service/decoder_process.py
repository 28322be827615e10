"""A process that decodes uploads: bytes in, samples out, within limits of time and memory.

``decoding`` starts it. It holds one upload at a time, so that a hostile file can harm only this
process. A message is one byte for its kind, eight for its length, and the content.
"""

import io
import math
import os
import resource
import struct
import sys
from typing import IO

from serein import audio
from serein.audio.decoding import open_audio, translate_decoding_errors
from serein.errors import AudioError

HEADER = struct.Struct(">cQ")
READY, UPLOAD, SAMPLES, UNREADABLE = b"R", b"U", b"S", b"A"
TOO_LONG, OUT_OF_MEMORY, TOO_MANY_SAMPLES = b"L", b"M", b"N"


class Upload(io.BytesIO):
    """Bytes that error messages call by the name of what the client sent."""

    name = "the upload"


def decode_upload(
    body: bytes, rate: int, max_seconds: float, max_samples: float = math.inf
) -> tuple[bytes, bytes]:
    """Decode one upload.

    Args:
        body: bytes of an audio file.
        rate: sampling rate of the result in Hz.
        max_seconds: longest audio; decoding stops one second later.
        max_samples: most samples of all channels in the file; decoding stops there, too.

    Returns:
        The kind of the reply, and its content: float32 samples, or a reason.
    """
    try:
        name = Upload.name
        with translate_decoding_errors(name), open_audio(Upload(body), name) as reader:
            affordable = max_samples / (reader.rate * reader.channels)
        end = min(max_seconds, affordable) + 1
        wave_s = audio.load(Upload(body), rate, end=end)
    except AudioError as error:
        if isinstance(error.__cause__, MemoryError):
            return OUT_OF_MEMORY, b""
        return UNREADABLE, str(error).replace("that part of the", "the").encode()
    except MemoryError:
        return OUT_OF_MEMORY, b""
    if len(wave_s) > math.ceil(max_seconds * rate):
        return TOO_LONG, b""
    if len(wave_s) > affordable * rate + 1:
        return TOO_MANY_SAMPLES, f"{reader.channels} channels at {reader.rate:g} Hz".encode()
    return SAMPLES, wave_s.tobytes()


def send_message(pipe: IO[bytes], kind: bytes, content: bytes) -> None:
    """Write one message."""
    pipe.write(HEADER.pack(kind, len(content)))
    pipe.write(content)
    pipe.flush()


def receive_message(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    """Read one message.

    Raises:
        EOFError: the other process has closed the pipe.
    """
    header = pipe.read(HEADER.size)
    if len(header) == HEADER.size:
        kind, length = HEADER.unpack(header)
        content = pipe.read(length)
        if len(content) == length:
            return kind, content
    raise EOFError


def main(rate: int, max_seconds: float, megabytes: int, seconds: float, megasamples: float) -> None:
    """Decode uploads from standard input until it is closed.

    Args:
        rate: sampling rate of the results in Hz.
        max_seconds: longest audio of an upload.
        megabytes: memory limit, beyond what the process needs when idle.
        seconds: limit of processor time per upload.
        megasamples: most samples of an upload, in millions, over all channels.
    """
    # A library that prints must not write into the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import av
    import soxr

    assert av
    assert soxr
    _limit_resources(megabytes)
    send_message(replies, READY, b"")
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
        send_message(replies, *decode_upload(body, rate, max_seconds, 1e6 * megasamples))


def _limit_resources(megabytes: int) -> None:
    """Limit further memory to so many megabytes; forbid to write files and core dumps."""
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        limit = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:6]))
