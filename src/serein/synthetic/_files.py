"""Recordings on disk."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from serein.errors import StorageError
from serein.synthetic._speech import RATE


def write_wav(path: Path, *samples: npt.NDArray[np.float32]) -> None:
    """One after the other, 16 bits a sample, with the folder that the file lies in.

    A name that ends in .flac is written as FLAC.
    """
    kind = "FLAC" if path.suffix.lower() == ".flac" else "WAV"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Given a path, libsndfile waits for the disk at the end of each file.
        with path.open("wb") as file:
            soundfile.write(file, np.concatenate(samples), RATE, format=kind, subtype="PCM_16")
    except (OSError, soundfile.SoundFileError) as error:
        raise StorageError(f"could not write {path}: {error}; free some space there") from error
