"""Where a recording comes from: what names it, and how its bytes are opened."""

import io
import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy.typing as npt

from serein.errors import AudioError

Source = str | os.PathLike[str] | bytes | BinaryIO | tuple[npt.NDArray[Any], float]
"""A path, the bytes of a file, a file opened for reading bytes, or (samples, rate) with samples
of shape (n,) or (n, channels)."""


def open_binary(source: Any) -> Any:
    """A context that gives a seekable binary file and closes it only if it is ours."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    if not hasattr(source, "read") or not isinstance(source.read(0), bytes):
        raise AudioError(
            f"a recording was given as {type(source).__name__}; expected a path, bytes, a file "
            "opened in binary mode, or (samples, rate)."
        )
    if not (hasattr(source, "seekable") and source.seekable()):
        return io.BytesIO(source.read())
    source.seek(0)
    return nullcontext(source)


def _open_path(path: Path) -> BinaryIO:
    name = source_name(path)
    try:
        if path.is_file():
            return cast(BinaryIO, path.open("rb", buffering=0))
    except OSError as error:
        raise AudioError(f"{name} cannot be opened: {error.strerror}. Check its rights.") from error
    if path.is_dir():
        raise AudioError(f"{name} is a folder; expected an audio file. Name a file in it.")
    if path.exists():
        raise AudioError(f"{name} is a device or pipe; expected an audio file. Save it to a file.")
    raise AudioError(f"{name} does not exist; expected an audio file. Check the path.")


def source_name(source: object) -> str:
    """What errors call a source."""
    if isinstance(source, tuple):
        return "the given array"
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes"
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    text = str(path) if isinstance(path, str | os.PathLike) else "the given file"
    return text if text.isprintable() and text else repr(text)


class UnnamedFile:
    """A file without a name: libraries take ``x.raw`` or ``x.g722`` for headerless samples."""

    def __init__(self, file: Any) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> None:
        with suppress(ValueError, OSError):  # C calls this, and no exception gets through C
            self.file.seek(offset, whence)
