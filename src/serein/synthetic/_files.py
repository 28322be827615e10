"""Recordings on disk."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from serein.errors import StorageError
from serein.synthetic.speech import RATE


def write_wav(path: Path, *samples: npt.NDArray[np.float32]) -> None:
    """One after the other, 16 bits a sample, with the folder that the file lies in.

    A name that ends in .flac is written as FLAC.
    """
    kind = "FLAC" if path.suffix.lower() == ".flac" else "WAV"
    # Given a path, libsndfile waits for the disk at the end of each file; given a Python file on a
    # disk that is full, it goes on.
    content = io.BytesIO()
    soundfile.write(content, np.concatenate(samples), RATE, format=kind, subtype="PCM_16")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getbuffer())
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StorageError(f"could not write {path}: {reason}; free some space there") from error
