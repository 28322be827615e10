"""Loudness-normalized frames, their functionals, and the ensemble of models/base.py."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from serein import recipes
from serein.config import build_config
from serein.errors import ConfigError
from serein.features import logmel, voice
from serein.layers.functionals import (
    QUANTILES,
    RUNNING_CLIP,
    Functionals,
    RunningStandardizer,
    moments,
    quantiles,
    speech_mask,
)
from serein.models import base
from serein.synthetic import Voice, synthesize
from serein.system import System

RATE = 16_000


def speech(gender: str = "female") -> Tensor:
    said = ["fosira", "xuri", "kapeti"]
    wave = synthesize(said, Voice.for_speaker("a", gender), "anger", np.random.default_rng(0))
    return torch.from_numpy(wave)[None]


def compute_frames(wave_bs: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    front_end = voice.FrontEnd(build_config(voice.Config, settings, "features"))
    frames: tuple[Tensor, Tensor] = front_end(wave_bs, torch.tensor([wave_bs.shape[1]]))
    return frames


def with_level(wave_s: np.ndarray) -> Tensor:
    """Subtract the mean of the 50 ms around each sample, and divide by the peak."""
    wide_s = wave_s.astype(np.float64)
    means = [wide_s[max(0, s - 400) : s + 401].mean() for s in range(len(wave_s))]
    less_s = wave_s - np.array(means, np.float32)
    return torch.from_numpy(less_s / np.abs(less_s).max())[None]


def test_bands_are_logmel_less_the_speech_level() -> None:
    wave_bs = speech()
    same = logmel.Config(window=640, hop=320, bands=64, high=7000.0, deltas=0, seconds=6.0)
    fair_bs = with_level(wave_bs[0].numpy())
    (log_tm,), _ = logmel.FrontEnd(same)(fair_bs, torch.tensor([wave_bs.shape[1]]))
    level_t = np.logaddexp.reduce(log_tm.numpy(), axis=1)
    spoken_t = level_t > level_t.max() - 35 * math.log(10) / 10
    wanted_tm = (log_tm.numpy() - log_tm.numpy()[spoken_t].mean()) / 3
    found_tf = compute_frames(wave_bs)[0][0].numpy()
    np.testing.assert_allclose(found_tf[:, :64], wanted_tm.clip(min=-4), atol=1e-5)
    own = (level_t - log_tm.numpy()[spoken_t].mean()) / 3
    np.testing.assert_allclose(found_tf[:, 64], own.clip(min=-4), atol=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(0.01, 0.0), (3.0, 0.0), (1.0, 0.2), (0.5, -0.2)])
def test_frames_ignore_loudness_and_offset(gain: float, offset: float) -> None:
    silence_bs = torch.zeros(1, 320 * 50)
    said_bs = torch.cat([silence_bs, speech()[:, : 320 * 60], silence_bs], dim=1)
    changed, _ = compute_frames(gain * said_bs + offset)
    torch.testing.assert_close(changed, compute_frames(said_bs)[0], atol=2e-3, rtol=0)


def test_frames_ignore_silence_around_speech() -> None:
    wave_bs = speech()[:, : 320 * 60]
    silence_bs = torch.zeros(1, 320 * 50)
    around, _ = compute_frames(torch.cat([silence_bs, wave_bs, silence_bs], dim=1))
    torch.testing.assert_close(
        around[:, 52:108], compute_frames(wave_bs)[0][:, 2:58], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("hertz", [80.0, 125.0, 221.0, 440.0])
def test_pitch_is_in_octaves_above_125_hertz(hertz: float) -> None:
    place_s = torch.arange(RATE) / RATE
    tones = [torch.sin(2 * math.pi * hertz * n * place_s) / n for n in range(1, 6)]
    frames, _ = compute_frames(0.1 * torch.stack(tones).sum(dim=0)[None])
    middle_tp = frames[0, 5:-5, 65:]
    assert middle_tp[:, 0].median().item() == pytest.approx(math.log2(hertz / 125), abs=0.03)
    assert middle_tp[:, 1].min() > 0.95


def test_noise_is_unvoiced_and_silence_has_no_pitch() -> None:
    torch.manual_seed(0)
    noise, _ = compute_frames(0.1 * torch.randn(1, RATE))
    assert noise[0, :, 66].median() < 0.4
    silence, mask = compute_frames(torch.zeros(1, RATE))
    assert silence[..., 65:].abs().sum() == 0
    assert torch.isfinite(silence).all()
    assert mask.all()


def test_frames_ignore_padding_and_the_batch() -> None:
    one, other = speech(), speech("male")[:, :9000]
    both = torch.full((2, one.shape[1]), 0.3)
    both[0], both[1, :9000] = one[0], other[0]
    front_end = voice.FrontEnd(voice.Config())
    frames, mask = front_end(both, torch.tensor([one.shape[1], 9000]))
    alone, _ = compute_frames(other)
    torch.testing.assert_close(frames[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
    assert not frames[1, alone.shape[1] :].any()
    assert mask.sum(dim=1).tolist() == [1 + one.shape[1] // 320, 1 + 9000 // 320]


def test_overlapping_equals_single_windows() -> None:
    once_s = speech()[0]
    wave_s = torch.cat([once_s, torch.zeros(RATE), 0.01 * once_s + 0.1, once_s])
    front_end = voice.FrontEnd(voice.Config())
    start_b = 320 * torch.tensor([0, 3, 40, 77, 140])
    length_b = torch.tensor([3 * RATE, 30_001, 400, 1234, 2 * RATE])
    x_btf, mask_bt = front_end.overlapping(wave_s, start_b, length_b)
    for x_tf, mask_t, start, length in zip(x_btf, mask_bt, start_b, length_b, strict=True):
        alone, _ = compute_frames(wave_s[start : start + length][None])
        torch.testing.assert_close(x_tf[mask_t], alone[0], rtol=0, atol=1e-4)
        assert not x_tf[~mask_t].any()


def test_overlapping_uses_the_peak_of_each_window() -> None:
    hum_s = 1e-8 * torch.sin(2 * math.pi * 125 * torch.arange(2 * RATE) / RATE)
    wave_s = torch.cat([hum_s, speech()[0]])
    front_end = voice.FrontEnd(voice.Config())
    start_b, length_b = 320 * torch.tensor([0, 20]), torch.tensor([RATE, 3 * RATE])
    x_btf, _ = front_end.overlapping(wave_s, start_b, length_b)
    for x_tf, start, length in zip(x_btf, start_b, length_b, strict=True):
        alone, _ = compute_frames(wave_s[start : start + length][None])
        same_f = [*range(65), 66]  # the octave of frames that are not periodic is undefined
        found_tf, wanted_tf = x_tf[: alone.shape[1]], alone[0]
        torch.testing.assert_close(found_tf[:, same_f], wanted_tf[:, same_f], rtol=0, atol=2e-3)


def test_bands_beyond_half_the_rate_are_an_error() -> None:
    with pytest.raises(ConfigError, match="high"):
        voice.FrontEnd(voice.Config(rate=8000, window=320, hop=160))


def random_contours(lengths: list[int], width: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask_bt = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), width), mask_bt


def test_moments_and_quantiles_match_numpy_over_valid_frames() -> None:
    x_btd, mask_bt = random_contours([9, 30, 1], 3)
    counts_bt = mask_bt & (torch.rand(mask_bt.shape) < 0.7)
    counts_bt[2, 0] = True
    mean_bd, deviation_bd = moments(x_btd, counts_bt)
    found_bqd = quantiles(x_btd, counts_bt).view(len(x_btd), len(QUANTILES), 3)
    for b, own_t in enumerate(counts_bt):
        own_td = x_btd[b, own_t].numpy()
        np.testing.assert_allclose(mean_bd[b], own_td.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(deviation_bd[b], own_td.std(axis=0), atol=1e-6)
        np.testing.assert_allclose(found_bqd[b], np.quantile(own_td, QUANTILES, axis=0), atol=1e-6)


def test_moments_without_valid_frames_are_zero() -> None:
    x_btd, mask_bt = random_contours([9], 3)
    assert not quantiles(x_btd, mask_bt & False).any()
    assert not torch.cat(moments(x_btd, mask_bt & False)).any()


def test_functionals_use_speech_only() -> None:
    """Soft frames around the speech change only the deltas at its edges."""
    x_btf, mask_bt = random_contours([40], 67)
    x_btf[..., 64] = x_btf[..., 64].clamp(min=-0.5, max=0.5)
    still_btf = torch.full((1, 10, 67), -4.0)
    around_btf = torch.cat([still_btf, x_btf, still_btf], dim=1)
    functionals = Functionals(64)
    around_bt = torch.ones(1, 60, dtype=torch.bool)
    found = functionals(
        around_btf, around_bt, speech_mask(around_btf[..., 64], around_bt, 2.7), 0.02
    )
    wanted = functionals(x_btf, mask_bt, speech_mask(x_btf[..., 64], mask_bt, 2.7), 0.02)
    assert found.shape == wanted.shape == (1, functionals.width)
    contours = 32 + 24 + 1
    lying = slice(0, 7 * contours)
    torch.testing.assert_close(found[:, lying], wanted[:, lying])


def parts(x_btf: Tensor, within: float = 2.7) -> dict[str, Tensor]:
    mask_bt = torch.ones(x_btf.shape[:2], dtype=torch.bool)
    return Functionals(64).compute_groups(
        x_btf, mask_bt, speech_mask(x_btf[..., 64], mask_bt, within), 0.02
    )


def test_rhythm_functionals() -> None:
    x_btf = torch.zeros(1, 100, 67)
    x_btf[0, :, 64] = -4.0
    x_btf[0, 10:30, 64], x_btf[0, 50:90, 64] = 0.0, 0.0
    x_btf[0, 20, 64], x_btf[0, 60, 64], x_btf[0, 80, 64] = 0.5, 0.5, 0.5
    rhythm = parts(x_btf)["rhythm"][0].tolist()
    wanted = [60 / 80, 30 * 0.02, 2 / 1.6, 3 / 1.6, 1.6, math.log(1.6)]
    assert rhythm == pytest.approx(wanted)


def test_the_last_frame_is_no_level_peak() -> None:
    x_btf = torch.zeros(1, 50, 67)
    x_btf[0, :, 64] = torch.linspace(-1, 1, 50)
    mask_bt = torch.arange(50)[None] < 40
    told = Functionals(64).compute_groups(x_btf, mask_bt, mask_bt, 0.02)["rhythm"]
    assert told[0, 3] == 0


def test_pitch_functionals_match_numpy() -> None:
    torch.manual_seed(0)
    x_btf = torch.zeros(1, 80, 67)
    x_btf[..., 66] = 0.3 + 0.6 * (torch.rand(1, 80) < 0.7)
    x_btf[..., 65] = torch.randn(1, 80).cumsum(dim=1) / 10 + (torch.rand(1, 80) < 0.1)
    found = parts(x_btf)["pitch"][0].numpy()
    pitch_t, voiced_t = x_btf[0, :, 65].numpy(), x_btf[0, :, 66].numpy() > 0.5
    step_t = np.diff(pitch_t)
    both_t = voiced_t[1:] & voiced_t[:-1]
    near_n = step_t[both_t & (np.abs(step_t) < 0.3)]
    assert 20 < len(near_n) < both_t.sum()
    said_n = pitch_t[voiced_t]
    wanted = [
        *(said_n.mean(), said_n.std(), *np.quantile(said_n, QUANTILES)),
        *(np.abs(step_t[both_t]).mean(), np.abs(step_t[both_t]).std(), voiced_t.mean()),
    ]
    np.testing.assert_allclose(found[:10], wanted, atol=1e-5)
    steps = np.quantile(near_n, QUANTILES), [(near_n > 0).mean()]
    moves = np.abs(near_n).mean(), np.abs(near_n).std(), near_n.std()
    np.testing.assert_allclose(found[-9:], np.concatenate([*steps, moves]), atol=1e-5)


def test_running_standardizer_uses_all_batches() -> None:
    torch.manual_seed(0)
    x_bf = 5 + 3 * torch.randn(640, 4)
    running = RunningStandardizer(4)
    for part_bf in x_bf.chunk(10):
        running(part_bf)
    running.eval()
    wanted = (x_bf - x_bf.mean(dim=0)) / x_bf.std(dim=0, correction=0)
    torch.testing.assert_close(
        running(x_bf), wanted.clamp(-RUNNING_CLIP, RUNNING_CLIP), atol=2e-3, rtol=1e-3
    )
    before = running.mean_f.clone()
    running(x_bf + 100)
    assert torch.equal(running.mean_f, before)


def model(**settings: Any) -> base.Model:
    small = {"filters": 2, "channels": 8, "hidden": 4, "functionals_dropout": 0.0, "dropout": 0.0}
    return base.Model(build_config(base.Config, {**small, **settings}, "model"), 67, ["emotion"])


def test_ensemble_logits_are_the_mean_of_members() -> None:
    torch.manual_seed(0)
    several, frames = model(members=3).eval(), random_contours([40, 25], 67)
    weight_kd = torch.randn(5, several.width)
    together = several(frames).vectors["emotion"] @ weight_kd.T
    alone = []
    x_btf, mask_bt = masked(frames)
    spoken_bt = speech_mask(x_btf[..., -3], mask_bt, 2.7)
    told_bf = several.running(several.functionals(x_btf, mask_bt, spoken_bt, 0.02))
    x_btm = base._subtract_mean(x_btf[..., :-3], mask_bt, spoken_bt)
    for member in range(3):
        z_bd, _ = several._encode_member(member, x_btm, mask_bt, told_bf)
        alone.append(3 * z_bd @ weight_kd.chunk(3, dim=1)[member].T)
    torch.testing.assert_close(together, torch.stack(alone).mean(dim=0))


def masked(frames: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x_btf, mask_bt = frames
    return x_btf.masked_fill(~mask_bt[..., None], 0), mask_bt


def test_training_assigns_each_utterance_to_one_member() -> None:
    torch.manual_seed(0)
    several = model(members=3).train()
    z_bkd = several(random_contours([30] * 6, 67)).vectors["emotion"].unflatten(1, (3, -1))
    heard_bk = z_bkd.abs().sum(dim=2) > 0
    assert heard_bk.sum(dim=1).tolist() == [1] * 6
    assert heard_bk.sum(dim=0).tolist() == [2, 2, 2]


def test_front_end_sets_hop_and_speech_range_of_the_model() -> None:
    recipe = recipes.load("serein-light", ["features.hop=160", "features.speech_range=30"])
    built = System(recipe, {"emotion": ["anger", "neutral"], "gender": ["female", "male"]})
    assert isinstance(built.model, base.Model)
    assert built.model.config.hop == 0.01
    assert built.model.config.speech_range == pytest.approx(30 * math.log(10) / 10 / 3)


def test_model_without_views_is_an_error() -> None:
    with pytest.raises(ConfigError, match="both false"):
        model(functionals=False, convolutions=False)
    with pytest.raises(ConfigError, match=r"not divisible by model\.heads = 3"):
        model(heads=3)
