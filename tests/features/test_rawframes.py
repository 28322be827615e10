from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from serein import config
from serein.errors import ConfigError
from serein.features.rawframes import Config, FrontEnd
from serein.training.dataset import compute_frames

Wave = npt.NDArray[np.float32]


def front_end(**settings: Any) -> FrontEnd:
    return FrontEnd(config.build_config(Config, settings, "features"))


def noise(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 640, 64_000, 64_001])
def test_frames_are_the_samples(samples: int) -> None:
    wave = noise(samples)
    found = compute_frames(wave, front_end())
    assert found.shape == (-(-samples // 160), 160)
    assert found.dtype == np.float32
    assert np.array_equal(found.flatten()[:samples], wave)
    assert (found.flatten()[samples:] == 0).all()


def test_four_frames_are_a_segment_of_zhang2019() -> None:
    wave, made = noise(3_000), front_end()
    found = torch.from_numpy(compute_frames(wave, made))
    segments = found.flatten().unfold(0, 640, 160)
    assert len(segments) == len(found) - 3
    for t in (0, 1, 14):
        assert np.array_equal(segments[t], wave[160 * t : 160 * t + 640])
    assert (made.width, made.rate, made.hop, made.max_seconds) == (160, 16_000, 0.01, None)


@pytest.mark.parametrize("seconds", [None, 0.05])
def test_rawframes_batch_equals_single_waveforms(seconds: float | None) -> None:
    made = front_end(seconds=seconds)
    waves = [noise(1000), noise(161, 1), noise(7, 2)]
    wave_bs = torch.full((3, 1700), 0.7)  # not zero on padding
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    x_btf, mask_bt = made(wave_bs, torch.tensor([len(wave) for wave in waves]))
    assert mask_bt.sum(dim=1).tolist() == [7 if seconds is None else 5, 2, 1]
    for b, wave in enumerate(waves):
        alone = compute_frames(wave, made)
        assert np.array_equal(x_btf[b, : len(alone)], alone)
        assert (x_btf[b, len(alone) :] == 0).all()
        assert (mask_bt[b] == (torch.arange(mask_bt.shape[1]) < len(alone))).all()


def test_rawframes_cuts_at_seconds() -> None:
    wave, made = noise(16_000), front_end(seconds=0.5)
    assert made.max_seconds == 0.5
    assert np.array_equal(compute_frames(wave, made).flatten(), wave[:8000])


def test_empty_audio_is_one_frame_of_silence() -> None:
    assert compute_frames(np.zeros(0, np.float32), front_end()).tolist() == [[0.0] * 160]


def test_rawframes_has_no_weights() -> None:
    assert list(front_end().parameters()) == []
    assert front_end().state_dict() == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop": 1}, r"features\.hop = 1"),
        ({"rate": 500}, r"features\.rate = 500"),
        ({"seconds": 0.0}, r"features\.seconds"),
        ({"pad": True}, "pad"),
    ],
)
def test_rawframes_impossible_settings_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        front_end(**changes)
