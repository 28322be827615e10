"""The log-mel front end of Li et al. 2019, compared with librosa: arrays in memory, one thread."""

import librosa
import numpy as np
import torch

from benchmarks.timing import Row, time_alternately
from serein.features.logmel import POWER_FLOOR, Config, FrontEnd

RATE = 16_000
SECONDS = (2.8, 4.0, 7.5)


def main() -> list[Row]:
    torch.set_num_threads(1)
    return [_row(seconds) for seconds in SECONDS]


def _row(seconds: float) -> Row:
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    front_end, length = FrontEnd(Config()), torch.tensor([len(noise)])
    wave = torch.from_numpy(noise)[None]
    with torch.inference_mode():
        mine, theirs, ratio = time_alternately(
            lambda: front_end(wave, length), lambda: _with_librosa(noise), repeats=31
        )
    return Row(
        what=f"log-mel 128 with both deltas, {seconds} s of audio",
        ours=seconds / mine,
        unit="x real time",
        peer_name="librosa",
        peer=seconds / theirs,
        ratio=ratio,
        target="3 or more",
    )


def _with_librosa(noise: np.ndarray) -> np.ndarray:
    power = librosa.feature.melspectrogram(y=noise, sr=RATE, n_fft=800, hop_length=400, n_mels=128)
    log = np.log(np.maximum(power, POWER_FLOOR))
    deltas = [librosa.feature.delta(log, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([log, *deltas]).T
