"""The log-mel front end of Li et al. 2019, compared with librosa: arrays in memory, one thread.

The share of the FFT is the time of torch's FFT alone, in double precision and in blocks of the
front end's size, divided by the time of the front end; both are timed alternately.
"""

import librosa
import numpy as np
import torch

from benchmarks.timing import Row, time_alternately
from serein.features.logmel import FRAMES_PER_BLOCK, POWER_FLOOR, Config, FrontEnd

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
        blocks_bts = _cut_blocks(front_end, len(noise))
        _, transform, quotient = time_alternately(
            lambda: front_end(wave, length),
            lambda: [torch.fft.rfft(block_bts) for block_bts in blocks_bts],
            repeats=31,
        )
    return Row(
        what=f"log-mel 128 with both deltas, {seconds} s of audio; the FFT's share: {quotient:.0%}",
        ours=seconds / mine,
        unit="x real time",
        peer_name="librosa",
        peer=seconds / theirs,
        ratio=ratio,
        target="3 or more",
        bound=f"the FFT alone takes {1e6 * transform:,.0f} us, and librosa {1e6 * theirs:,.0f} us "
        "in single precision, in which quiet bands drown in rounding; fewer and larger products of "
        "the filters gained 2 to 6 % and were left out",
    )


def _cut_blocks(front_end: FrontEnd, samples: int) -> list[torch.Tensor]:
    """Return random frames of a waveform in the blocks that the front end transforms."""
    frames = 1 + samples // front_end.config.hop
    frames_bts = torch.randn(1, frames, front_end.config.window, dtype=torch.float64)
    return list(frames_bts.chunk(-(-frames // FRAMES_PER_BLOCK), dim=1))


def _with_librosa(noise: np.ndarray) -> np.ndarray:
    power = librosa.feature.melspectrogram(y=noise, sr=RATE, n_fft=800, hop_length=400, n_mels=128)
    log = np.log(np.maximum(power, POWER_FLOOR))
    deltas = [librosa.feature.delta(log, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([log, *deltas]).T
