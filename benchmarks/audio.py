"""Reading and resampling: how many seconds of audio in a second, one thread.

python benchmarks/audio.py
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from timing import paired

from serein.audio import load

SECONDS = 60
FILE_RATE = 48_000
RATE = 16_000


def main() -> list[dict[str, object]]:
    """One row for each peer; a ratio above 1 says that we are faster."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        noise = np.random.default_rng(0).normal(0, 0.1, SECONDS * FILE_RATE)
        soundfile.write(path, noise, FILE_RATE, subtype="PCM_16")
        rows = [_row(path, "soundfile + soxr", _with_soxr)]
        try:
            rows.append(_row(path, "soundfile + scipy.signal.resample_poly", _with_scipy))
        except ImportError:
            rows.append({"what": "read and resample", "peer_name": "scipy is not installed"})
    return rows


def _row(path: Path, peer_name: str, peer: Any) -> dict[str, object]:
    mine, theirs, ratio = paired(lambda: load(path, RATE), lambda: peer(path), repeats=15)
    return {
        "what": "read a 48 kHz 16-bit WAV of 60 s at 16 kHz",
        "ours": SECONDS / mine,
        "peer": SECONDS / theirs,
        "peer_name": peer_name,
        "unit": "x real time",
        "ratio": ratio,
    }


def _with_soxr(path: Path) -> npt.NDArray[np.float32]:
    samples, rate = soundfile.read(path, dtype="float32")
    return soxr.resample(samples, rate, RATE)


def _with_scipy(path: Path) -> npt.NDArray[np.float32]:
    from scipy.signal import resample_poly  # type: ignore[import-untyped, unused-ignore]

    samples, rate = soundfile.read(path, dtype="float32")
    return resample_poly(samples, 1, rate // RATE)


if __name__ == "__main__":
    for row in main():
        print(*(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()), sep="  |  ")
