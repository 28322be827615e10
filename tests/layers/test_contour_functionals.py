"""Functionals of contours against NumPy, frame by frame, over the valid frames."""

import numpy as np
import pytest
import torch
from torch import Tensor

from serein.layers.functionals import (
    MIN_VARIANCE,
    MODULATION_BANDS,
    MODULATION_STEP,
    Functionals,
    contour_trends,
    find_span,
    modulation_spectrum,
    pairwise_correlations,
)

HOP = 0.02


def sequences(lengths: list[int], width: int = 3) -> tuple[Tensor, Tensor]:
    """Random walks, and a mask of valid frames with gaps at the ends and inside."""
    torch.manual_seed(0)
    x_btd = torch.randn(len(lengths), max(lengths), width).cumsum(dim=1) / 5
    inside_bt = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None] - 2
    counts_bt = inside_bt & (torch.rand(inside_bt.shape) < 0.7)
    counts_bt[:, 0] = False
    return x_btd, counts_bt


def test_find_span_covers_first_to_last_valid_frame() -> None:
    counts_bt = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]) > 0
    first_b1, size_b1 = find_span(counts_bt)
    assert first_b1.flatten().tolist() == [1, 0, 4]
    assert size_b1.flatten().tolist() == [3, 1, 1]


def test_modulation_spectrum_matches_a_direct_transform() -> None:
    """Compare with sums over bands of a Hann-windowed periodogram, scaled as in scipy.signal."""
    x_btd, counts_bt = sequences([60, 200, 9])
    found_b = modulation_spectrum(x_btd, counts_bt, HOP).view(3, 2, len(MODULATION_BANDS) - 1, 3)
    for x_td, counts_t, found in zip(x_btd.numpy(), counts_bt.numpy(), found_b, strict=True):
        frames = np.flatnonzero(counts_t)
        part_td = x_td[frames[0] : frames[-1] + 1]
        window_t = np.hanning(len(part_td) + 2)[1:-1]
        part_td = part_td - np.average(part_td, axis=0, weights=window_t)
        time_t = HOP * np.arange(len(part_td))
        power_ed = np.full((len(MODULATION_BANDS) - 1, 3), MIN_VARIANCE)
        for number in range(
            round(MODULATION_BANDS[0] / MODULATION_STEP),
            round(MODULATION_BANDS[-1] / MODULATION_STEP),
        ):
            wave_t = np.exp(-2j * np.pi * number * MODULATION_STEP * time_t)
            density_d = np.abs((wave_t * window_t) @ part_td) ** 2 * 2 * HOP / (window_t**2).sum()
            part = np.searchsorted(MODULATION_BANDS, number * MODULATION_STEP + 1e-6) - 1
            power_ed[part] += MODULATION_STEP * density_d
        np.testing.assert_allclose(found[0], np.log(power_ed), atol=1e-3)
        np.testing.assert_allclose(found[1], np.log(power_ed / power_ed.sum(axis=0)), atol=1e-3)


@pytest.mark.parametrize(("hertz", "where"), [(0.7, 0), (5.0, 3), (12.0, 4)])
@pytest.mark.parametrize(("frames", "hop"), [(200, 0.02), (350, 0.02), (500, 0.01)])
def test_modulation_of_a_sine_is_in_its_band(
    hertz: float, where: int, frames: int, hop: float
) -> None:
    """For different lengths and frame rates."""
    time_t = hop * torch.arange(frames)
    x_btd = 3 + torch.sin(2 * torch.pi * hertz * time_t)[None, :, None]
    told = modulation_spectrum(x_btd, torch.ones(1, frames) > 0, hop).view(2, -1)
    assert told.argmax(dim=1).tolist() == [where, where]
    assert told[0, where].exp().item() == pytest.approx(0.5, rel=0.2)


def test_modulation_above_half_the_frame_rate_is_zero() -> None:
    x_btd = torch.randn(1, 100, 1)
    told = modulation_spectrum(x_btd, torch.ones(1, 100) > 0, hop=0.05).view(2, -1)
    assert told[0, 5:].exp().item() == pytest.approx(MIN_VARIANCE, rel=1e-3)


def test_contour_trends_are_polynomial_fits() -> None:
    x_btd, counts_bt = sequences([60, 200, 12])
    found_b = contour_trends(x_btd, counts_bt, HOP).view(3, 4, 3).numpy()
    for x_td, counts_t, found in zip(x_btd.numpy(), counts_bt.numpy(), found_b, strict=True):
        frames = np.flatnonzero(counts_t)
        size = frames[-1] - frames[0] + 1
        heard_nd, place_n = x_td[frames], (frames - frames[0]) / size
        slope_d = np.polyfit(place_n, heard_nd, 1)[0]
        np.testing.assert_allclose(found[0], slope_d / (size * HOP), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found[1], slope_d, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            found[2], np.polyfit(place_n, heard_nd, 2)[0], rtol=1e-3, atol=1e-3
        )
        third = len(frames) // 3
        rise_d = heard_nd[-third:].mean(axis=0) - heard_nd[:third].mean(axis=0)
        np.testing.assert_allclose(found[3], rise_d, rtol=1e-3, atol=1e-3)


def test_contour_trends_need_four_frames() -> None:
    counts_bt = torch.zeros(2, 30) > 0
    counts_bt[0, [3, 9, 20]] = True
    assert not contour_trends(torch.randn(2, 30, 2), counts_bt, HOP).any()


def test_pairwise_correlations_match_numpy() -> None:
    x_btd, counts_bt = sequences([60, 200, 12], width=4)
    found_b = pairwise_correlations(x_btd, counts_bt)
    for x_td, counts_t, found_p in zip(x_btd.numpy(), counts_bt.numpy(), found_b, strict=True):
        wanted_dd = np.corrcoef(x_td[counts_t].T)
        np.testing.assert_allclose(found_p, wanted_dd[np.triu_indices(4, 1)], atol=0.02)


@pytest.mark.parametrize("bands", [3, 20, 64])
def test_functionals_have_their_width_and_ignore_padding(bands: int) -> None:
    torch.manual_seed(0)
    functionals = Functionals(bands)
    x_btf = torch.randn(2, 70, bands + 3)
    x_btf[..., -1] = x_btf[..., -1].sigmoid()
    mask_bt = torch.arange(70) < torch.tensor([[70], [41]])
    spoken_bt = mask_bt & (x_btf[..., -3] > -0.5)
    both_bf = functionals(x_btf.masked_fill(~mask_bt[..., None], 3.0), mask_bt, spoken_bt, HOP)
    alone_bf = functionals(x_btf[1:, :41], mask_bt[1:, :41], spoken_bt[1:, :41], HOP)
    assert both_bf.shape == (2, functionals.width)
    torch.testing.assert_close(both_bf[1:], alone_bf, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_functionals_are_finite_with_little_or_no_speech(frames: int) -> None:
    mask_bt = torch.ones(1, frames) > 0
    for counts_bt in (mask_bt, ~mask_bt):
        told = Functionals(16)(torch.randn(1, frames, 19).abs(), mask_bt, counts_bt, HOP)
        assert torch.isfinite(told).all()


def test_pitch_register_changes_only_the_pitch_group() -> None:
    torch.manual_seed(0)
    x_btf = torch.randn(1, 90, 19)
    x_btf[..., -1] = (torch.rand(1, 90) < 0.6) * 0.8
    higher_btf = x_btf.clone()
    higher_btf[..., -2] += 1.0
    mask_bt = torch.ones(1, 90) > 0
    one, other = (
        Functionals(16).compute_groups(x, mask_bt, mask_bt, HOP) for x in (x_btf, higher_btf)
    )
    for kind in ("modulation", "correlation", "trend"):
        torch.testing.assert_close(one[kind], other[kind], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one["pitch"], other["pitch"], atol=0.1)
