"""Time of each waveform augmentation, for 4 s at 16 kHz, and of masking a batch."""

from typing import Any

import librosa
import numpy as np
import torch

from benchmarks.timing import Row, time_alternately
from serein.augment.config import AugmentConfig
from serein.augment.offline import build_offline_augmentations
from serein.augment.specaugment import build_spec_augment
from serein.training.dataset import pad_frames

RATE = 16_000
WAVE = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "speed": {"speed": (1.1,)},
    "pitch": {"pitch": (2.0, 2.0)},
    "whisper": {"whisper": 1.0},
    "generated room": {"room": 1.0},
    "generated noise": {"noise": 1.0},
    "bandwidth": {"bandwidth": 1.0},
    "telephone": {"telephone": 1.0},
}


def main() -> list[Row]:
    torch.set_num_threads(1)
    rows = [_row(f"copy 4 s of audio: {name}", change) for name, change in AUGMENTATIONS.items()]
    every = {name: value for change in AUGMENTATIONS.values() for name, value in change.items()}
    return [*rows, _row("copy 4 s of audio: all of these effects", every), _masked()]


def _row(what: str, change: dict[str, Any]) -> Row:
    copy = build_offline_augmentations(AugmentConfig(**change), RATE)[0]
    if "pitch" not in change or len(change) > 1:
        mine, _, _ = time_alternately(lambda: copy(WAVE, "a"), lambda: None, repeats=31)
        return Row(what=what, ours=mine * 1e3, unit="ms")
    mine, peer, ratio = time_alternately(
        lambda: copy(WAVE, "a"),
        lambda: librosa.effects.pitch_shift(WAVE, sr=RATE, n_steps=2),
        repeats=15,
    )
    return Row(
        what=what,
        ours=mine * 1e3,
        unit="ms",
        peer_name="librosa, phase vocoder",
        peer=peer * 1e3,
        ratio=ratio,
    )


def _masked() -> Row:
    """Two masks of each kind in 40 utterances of 2.8 s, compared with building the batch."""
    frames = [np.random.default_rng(i).normal(size=(112, 384)).astype("f4") for i in range(40)]
    spec_augment = build_spec_augment(
        AugmentConfig(time_masks=2, band_masks=2), hop=0.025, width=384, bands=128
    )
    assert spec_augment is not None
    x_btf, mask_bt = pad_frames(frames)
    draw_bm = torch.rand(40, spec_augment.draws_per_utterance, dtype=torch.float64)
    mine, peer, ratio = time_alternately(
        lambda: spec_augment(x_btf, mask_bt, draw_bm), lambda: pad_frames(frames), repeats=31
    )
    return Row(
        what="masking a batch of 40 utterances",
        ours=mine * 1e3,
        unit="ms",
        peer_name="building that batch",
        peer=peer * 1e3,
        ratio=ratio,
    )
