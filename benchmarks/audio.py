"""Reading and resampling: seconds of audio per second, one thread."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from benchmarks.timing import Row, time_alternately
from serein.audio import load

SECONDS = 60
FILE_RATE = 48_000
RATE = 16_000


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        noise = np.random.default_rng(0).normal(0, 0.1, SECONDS * FILE_RATE)
        soundfile.write(path, noise, FILE_RATE, subtype="PCM_16")
        return [
            _row(path, "soundfile + soxr", _with_soxr, "0.9 or more"),
            _row(path, "soundfile + scipy.signal.resample_poly", _with_scipy, ""),
        ]


def _row(path: Path, peer_name: str, peer: Callable[[Path], object], target: str) -> Row:
    mine, theirs, ratio = time_alternately(lambda: load(path, RATE), lambda: peer(path), repeats=15)
    return Row(
        what="read a 48 kHz 16-bit WAV of 60 s at 16 kHz",
        ours=SECONDS / mine,
        unit="x real time",
        peer_name=peer_name,
        peer=SECONDS / theirs,
        ratio=ratio,
        target=target,
    )


def _with_soxr(path: Path) -> npt.NDArray[np.float32]:
    samples, rate = soundfile.read(path, dtype="float32")
    return soxr.resample(samples, rate, RATE)


def _with_scipy(path: Path) -> npt.NDArray[np.float32]:
    from scipy.signal import resample_poly

    samples, rate = soundfile.read(path, dtype="float32")
    return resample_poly(samples, 1, rate // RATE)
