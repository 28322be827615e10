"""What a container promises of itself, where decoders would not tell that it is broken off."""

import os
import struct
from typing import BinaryIO

from serein.errors import AudioError


def data_chunk_sizes(file: BinaryIO) -> tuple[int, int]:
    """Bytes of audio that a WAV or AIFF promises, and the bytes there; (0, 0) for all others."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    order = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}.get(head[:4])
    while order and len(chunk := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", chunk)
        there = size - file.tell()
        if name in (b"data", b"SSND"):
            closed = struct.unpack(f"{order}I", head[4:8])[0] == size - 8
            return (0, 0) if length == 0 and closed else (length, there)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0, 0


def check_ogg_complete(file: BinaryIO, name: str) -> None:
    """Raises AudioError if the last page of an Ogg file is cut: decoders would not say so."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65_307))  # the longest page that there can be
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 255
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise AudioError(
            f"{name} breaks off inside its last Ogg page, {size} bytes from its start; expected a "
            "whole file. Get it again."
        )
