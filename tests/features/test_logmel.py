import warnings
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serein import config
from serein.errors import ConfigError
from serein.features.logmel import (
    POWER_FLOOR,
    Config,
    FourierTransform,
    FrontEnd,
    cut_frames,
    delta_filters,
    mel_filters,
)
from serein.synthetic import Voice, synthesize
from serein.training.dataset import compute_frames

Wave = npt.NDArray[np.float32]
RATE = 16_000


def speech() -> Wave:
    return synthesize(
        ["fosira", "xuri", "kapeti"],
        Voice.for_speaker("a", "female"),
        "anger",
        np.random.default_rng(0),
    )


def noise() -> Wave:
    return np.random.default_rng(1).normal(0, 0.1, 20_001).astype(np.float32)


def chirp() -> Wave:
    time = np.arange(24_000) / RATE
    return (0.8 * np.sin(2 * np.pi * (50 + 2500 * time) * time)).astype(np.float32)


def silence() -> Wave:
    return np.zeros(16_000, np.float32)


def pause() -> Wave:
    """Speech between two stretches of digital silence."""
    return np.concatenate([np.zeros(5000, np.float32), speech()[:9000], np.zeros(4000, np.float32)])


WAVES: list[Callable[[], Wave]] = [speech, noise, chirp, silence, pause]
SIZES: list[dict[str, Any]] = [
    {},
    {"window": 400, "hop": 160, "bands": 40},
    {"window": 512, "hop": 128, "bands": 64, "deltas": 1},
    {"window": 1024, "hop": 1000, "bands": 100, "deltas": 0},
    {"window": 800, "hop": 400, "bands": 33, "deltas": 0},
    {"high": 7000.0},
    {"rate": 8000, "window": 200, "hop": 80, "bands": 23},
]


def front_end(**settings: Any) -> FrontEnd:
    return FrontEnd(config.build_config(Config, {"seconds": None, **settings}, "features"))


def reference(wave_s: Wave, settings: Config) -> npt.NDArray[np.float64]:
    """Return the features of librosa: (T, F)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=.* is too large for input signal")
        power = librosa.feature.melspectrogram(
            y=wave_s.astype(np.float64),
            sr=settings.rate,
            n_fft=settings.window,
            hop_length=settings.hop,
            n_mels=settings.bands,
            fmax=settings.high,
            pad_mode="constant",
        )
    log_mt = np.log(np.maximum(power, POWER_FLOOR))
    orders = [librosa.feature.delta(log_mt, order=o, mode="nearest") for o in (1, 2)]
    return np.concatenate([log_mt, *orders[: settings.deltas]]).T


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("wave", WAVES, ids=lambda wave: wave.__name__)
def test_frames_match_librosa(wave: Callable[[], Wave], sizes: dict[str, Any]) -> None:
    made = front_end(**sizes)
    found, wanted = compute_frames(wave(), made), reference(wave(), made.config)
    assert found.shape == wanted.shape == (1 + len(wave()) // made.config.hop, made.width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


def test_speech_is_above_the_floor() -> None:
    bands = compute_frames(speech(), front_end(deltas=0))
    assert bands.max() > np.log(1e-2)
    assert (compute_frames(silence(), front_end(deltas=0)) == np.float32(np.log(POWER_FLOOR))).all()


def test_filters_and_deltas_match_librosa() -> None:
    wanted = librosa.filters.mel(sr=RATE, n_fft=800, n_mels=128, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(RATE, 800, 128), wanted.T, atol=1e-15)
    impulse = np.zeros((1, 41))
    impulse[0, 20] = 1
    for order in (1, 2):
        response = librosa.feature.delta(impulse, order=order, mode="nearest")[0]
        np.testing.assert_allclose(delta_filters()[order], response[16:25][::-1], atol=1e-15)


# Batches


def batch(waves: list[Wave], rubbish: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    length_b = torch.tensor([len(wave) for wave in waves])
    wave_bs = torch.full((len(waves), int(length_b.max()) + 700), rubbish)
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    return wave_bs, length_b


@pytest.mark.parametrize("sizes", [{}, {"deltas": 0}, {"seconds": 0.5}, {"window": 401}], ids=str)
@pytest.mark.parametrize("rubbish", [0.0, 0.7])
def test_logmel_batch_equals_single_waveforms(sizes: dict[str, Any], rubbish: float) -> None:
    made = front_end(**sizes)
    waves = [speech(), noise()[:401], chirp()[:8000], noise()[:400], silence()[:999]]
    x_btf, mask_bt = made(*batch(waves, rubbish))
    assert x_btf.shape[:2] == mask_bt.shape
    for b, wave in enumerate(waves):
        alone = compute_frames(wave, made)
        count = int(mask_bt[b].sum())
        assert mask_bt[b].tolist() == [t < count for t in range(mask_bt.shape[1])]
        assert count == len(alone)
        np.testing.assert_allclose(x_btf[b, :count], alone, atol=1e-5)
        assert (x_btf[b, count:] == 0).all()


def test_batch_is_as_long_as_its_longest_waveform() -> None:
    x_btf, mask_bt = front_end()(*batch([chirp(), noise()]))
    assert mask_bt.shape == (2, 1 + 24_000 // 400)
    assert x_btf.shape[1] == mask_bt.shape[1]
    assert mask_bt.all(dim=1).tolist() == [True, False]


@settings(max_examples=30)
@given(st.integers(400, 5000), st.sampled_from([80, 160, 400, 777]))
def test_one_frame_at_every_hop(samples: int, hop: int) -> None:
    made = front_end(hop=hop, bands=20, deltas=0, window=400)
    assert len(compute_frames(np.zeros(samples, np.float32), made)) == 1 + samples // hop
    assert made.hop == hop / RATE


def test_frame_i_is_centred_at_i_hops() -> None:
    click = np.zeros(16_000, np.float32)
    click[4000] = 1
    bands = compute_frames(click, front_end(deltas=0)).sum(axis=1)
    assert int(bands.argmax()) == 4000 // 400


def test_logmel_of_the_shortest_audio() -> None:
    shortest = noise()[: round(0.025 * RATE)]
    made = front_end()
    found = compute_frames(shortest, made)
    assert found.shape == (2, 384)
    np.testing.assert_allclose(found, reference(shortest, made.config), atol=1e-4)
    assert np.isfinite(compute_frames(np.zeros(1, np.float32), made)).all()


# Cut and padded


@pytest.mark.parametrize("deltas", [0, 2])
def test_pad_equals_zeros_after_the_waveform(deltas: int) -> None:
    padding = front_end(seconds=2.0, pad=True, deltas=deltas)
    plain = front_end(deltas=deltas)
    waves = [speech()[:9999], noise()[:400], chirp()]
    x_btf, mask_bt = padding(*batch(waves, rubbish=0.3))
    assert mask_bt.all()
    assert x_btf.shape == (3, 1 + 32_000 // 400, padding.width)
    for b, wave in enumerate(waves):
        filled = np.concatenate([wave, np.zeros(32_000 - len(wave), np.float32)])
        np.testing.assert_allclose(x_btf[b], compute_frames(filled, plain), atol=1e-5)
        np.testing.assert_allclose(
            compute_frames(wave, padding), compute_frames(filled, plain), atol=1e-5
        )


@pytest.mark.parametrize("pad", [False, True])
def test_logmel_cuts_at_seconds(pad: bool) -> None:
    made = front_end(seconds=0.6, pad=pad)
    assert made.max_seconds == 0.6
    wanted = compute_frames(chirp()[:9600], front_end())
    np.testing.assert_allclose(compute_frames(chirp(), made), wanted, atol=1e-5)
    x_btf, mask_bt = made(*batch([chirp(), noise()[:1000]]))
    assert mask_bt.sum(dim=1).tolist() == [25, 25 if pad else 3]
    np.testing.assert_allclose(x_btf[0], wanted, atol=1e-5)


def test_frames_of_padded_silence_are_bit_equal() -> None:
    """`layers.packed` stores a constant tail once: frames of digital silence are exactly equal."""
    found = compute_frames(speech()[:8000], front_end(seconds=3.0, pad=True))
    tail = found[22 + 8 :]  # after the last window with sound, and nine frames more
    assert len(tail) > 80
    assert (tail == tail[0]).all()


def test_li2019_has_384_bins_and_301_frames() -> None:
    made = front_end(seconds=7.5, pad=True)
    assert (made.width, made.rate, made.hop) == (384, 16_000, 0.025)
    assert compute_frames(speech(), made).shape == (301, 384)


def test_logmel_has_no_weights() -> None:
    made = front_end()
    assert list(made.parameters()) == []
    assert made.state_dict() == {}


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"window": 200},
            r"\d+ of 128 mel bands cover no bin of an FFT of 200 samples at 16000 Hz",
        ),
        ({"pad": True}, "needs features.seconds"),
        ({"deltas": 3}, r"features\.deltas = 3"),
        ({"hop": 0}, r"features\.hop = 0"),
        ({"window": 8}, r"features\.window = 8"),
        ({"rate": 500}, r"features\.rate = 500"),
        ({"seconds": 0.0}, r"features\.seconds"),
        ({"high": 8001.0}, "beyond half of 16000 Hz"),
        ({"bands": "many"}, r"features\.bands = 'many'"),
        ({"band": 3}, "did you mean 'bands'"),
    ],
)
def test_logmel_impossible_settings_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        front_end(**changes)


# The unit scale (Fu et al. 2020, section 3.2)


def unit(wave_s: Wave, **settings: Any) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = compute_frames(
        wave_s, front_end(scale="unit", deltas=0, **settings)
    )
    return found


@pytest.mark.parametrize("make", [speech, noise, chirp, pause])
def test_unit_scale_matches_librosa_decibels(make: Callable[[], Wave]) -> None:
    settings = config.build_config(Config, {"seconds": None, "deltas": 0}, "features")
    power = np.exp(reference(make(), settings))
    decibels = librosa.power_to_db(power, ref=np.max, amin=1.01 * POWER_FLOOR, top_db=80)
    wanted = np.where(power > 1.01 * POWER_FLOOR, 1 + decibels / 40, -1)
    np.testing.assert_allclose(unit(make()), wanted, atol=2e-4)
    assert unit(make()).max() == 1
    assert unit(make()).min() >= -1


def test_silence_is_minus_one_on_the_unit_scale() -> None:
    assert (unit(silence()) == -1).all()
    assert (unit(pause())[:5] == -1).all()
    assert (unit(np.zeros(1, np.float32)) == -1).all()


def test_unit_scale_ignores_loudness() -> None:
    np.testing.assert_allclose(unit(speech()), unit(0.1 * speech()), atol=1e-3)


def test_unit_scale_pads_with_minus_one() -> None:
    wave = noise()
    padded, alone = unit(wave, seconds=6.375, pad=True), unit(wave)
    assert padded.shape == (256, 128)
    np.testing.assert_array_equal(padded[: len(alone)], alone)
    assert (padded[len(alone) :] == -1).all()


def test_fu2020_has_at_most_256_frames() -> None:
    wave = np.tile(noise(), 48)  # 60 s
    assert unit(wave, seconds=6.375, pad=True).shape == (256, 128)
    assert unit(wave, seconds=6.375).shape == (256, 128)


@pytest.mark.parametrize("pad", [True, False])
def test_unit_scale_is_independent_of_the_batch(pad: bool) -> None:
    waves = [noise(), 0.01 * noise()[:3200], silence()[:8000]]
    wave_bs = torch.zeros(3, max(map(len, waves)))
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    make = front_end(scale="unit", deltas=1, seconds=6.375, pad=pad)
    x_btf, mask_bt = make(wave_bs, torch.tensor(list(map(len, waves))))
    for x_tf, mask_t, wave in zip(x_btf, mask_bt, waves, strict=True):
        alone = compute_frames(wave, make)
        np.testing.assert_allclose(x_tf[mask_t].numpy(), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "points"), [(640, 1024), (800, 800), (400, 400), (7, 7), (16, 24)]
)
def test_fourier_transform_for_export(size: int, points: int) -> None:
    transform = FourierTransform(size, points, torch.float64)
    frames_ts = torch.from_numpy(np.random.default_rng(size).normal(size=(5, size)))
    expected = np.fft.rfft(frames_ts.numpy(), points)
    real, imaginary = transform(frames_ts)
    np.testing.assert_allclose(real.numpy(), expected.real, atol=1e-12)
    np.testing.assert_allclose(imaginary.numpy(), expected.imag, atol=1e-12)


@pytest.mark.parametrize(("size", "hop"), [(6, 3), (6, 2), (7, 3), (5, 5)])
def test_frames_for_export(size: int, hop: int) -> None:
    wave_s = torch.arange(100.0)
    frames = (100 - size) // hop + 1
    assert torch.equal(cut_frames(wave_s, frames, size, hop), wave_s.unfold(0, size, hop))
