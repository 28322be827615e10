"""How contours move over an utterance: how fast, where to, and which of them together.

B = batch, T = frames, D = contours, H = frequencies, E = ranges of them.
"""

import math

import torch
from torch import Tensor

from serein.layers.counted import moments, uniform_weights

MODULATION_BANDS = (0.4, 1.0, 2.0, 4.0, 8.0, 16.0, 25.0)
"""Hz; syllables come at 4 to 8, sentences' melodies below 1."""
MODULATION_STEP = 0.2
"""Hz from frequency to frequency: fine enough for utterances of up to ten seconds."""
MIN_VARIANCE = 1e-4
"""Of a variance; what moves less hardly does."""
MIN_DEVIATION = 1e-3
"""Of a deviation, likewise."""
MIN_FRAMES = 4
"""Frames that a parabola can be laid through, and not miss one."""


def find_span(counts_bt: Tensor) -> tuple[Tensor, Tensor]:
    """First frame that counts, and frames from there to the last one; (B, 1) each."""
    step_t = torch.arange(counts_bt.shape[1], device=counts_bt.device)
    last_b1 = (step_t * counts_bt).amax(dim=1, keepdim=True)
    first_b1 = counts_bt.int().argmax(dim=1, keepdim=True)
    return first_b1, (last_b1 - first_b1 + 1).clamp(min=1)


def modulation_spectrum(x_btd: Tensor, counts_bt: Tensor, hop: float) -> Tensor:
    """Logarithms of the variance in each range of frequencies, as it is and as a share of all.

    Args:
        x_btd: (B, T, D) contours.
        counts_bt: (B, T); from the first frame that counts to the last one, all are heard through
            a Hann window.
        hop: seconds from frame to frame; nothing sways faster than every second one.

    Returns:
        (B, 2 x E x D).
    """
    window_bt1 = _hann_window(counts_bt)[..., None]
    x_btd = x_btd.masked_fill(window_bt1 == 0, 0)
    mean_b1d = (x_btd * window_bt1).sum(dim=1, keepdim=True)
    x_bdt = ((x_btd - mean_b1d) * window_bt1).transpose(1, 2)
    density_b11 = 2 * hop / window_bt1.square().sum(dim=1, keepdim=True)
    low, high = (
        round(edge / MODULATION_STEP) for edge in (MODULATION_BANDS[0], MODULATION_BANDS[-1])
    )
    hertz_h = MODULATION_STEP * torch.arange(low, high, device=x_btd.device)
    step_t1 = torch.arange(x_btd.shape[1], device=x_btd.device)[:, None]
    angle_th = 2 * math.pi * hop * step_t1 * hertz_h
    power_bdh = (x_bdt @ angle_th.cos()).square() + (x_bdt @ angle_th.sin()).square()
    power_bdh = power_bdh * density_b11 * MODULATION_STEP * (2 * hop * hertz_h <= 1)
    ends = [
        round((high - MODULATION_BANDS[0]) / MODULATION_STEP) for high in MODULATION_BANDS[1:-1]
    ]
    parts = power_bdh.tensor_split(ends, dim=2)
    power_bed = torch.stack([part_bdh.sum(dim=2) for part_bdh in parts], dim=1) + MIN_VARIANCE
    share_bed = power_bed / power_bed.sum(dim=1, keepdim=True)
    return torch.cat([power_bed.log().flatten(1), share_bed.log().flatten(1)], dim=1)


def _hann_window(counts_bt: Tensor) -> Tensor:
    """Hann's over the span, its sum 1; zeros elsewhere; (B, T)."""
    first_b1, size_b1 = find_span(counts_bt)
    step_t = torch.arange(counts_bt.shape[1], device=counts_bt.device)
    inside_bt = (step_t >= first_b1) & (step_t < first_b1 + size_b1)
    angle_bt = 2 * math.pi * (step_t - first_b1 + 1) / (size_b1 + 1)
    window_bt = (0.5 - 0.5 * torch.cos(angle_bt)) * inside_bt
    return window_bt / window_bt.sum(dim=1, keepdim=True)


def contour_trends(x_btd: Tensor, counts_bt: Tensor, hop: float) -> Tensor:
    """Where contours go: slope a second, slope and bend over the utterance, its end less its start.

    Args:
        x_btd: (B, T, D) contours.
        counts_bt: (B, T), the frames that count.
        hop: seconds from frame to frame.

    Returns:
        (B, 4 x D); zeros where fewer than four frames count.
    """
    share_bt1 = uniform_weights(counts_bt)[..., None]
    x_btd = x_btd.masked_fill(~counts_bt[..., None], 0) * share_bt1
    slope_bd, bend_bd = (_project(x_btd, s_bt1, share_bt1) for s_bt1 in _fit_shapes(counts_bt))
    rise_bd = (x_btd * _rise_weights(counts_bt)[..., None]).sum(dim=1)
    seconds_b1 = find_span(counts_bt)[1] * hop
    told_bd = torch.cat([slope_bd / seconds_b1, slope_bd, bend_bd, rise_bd], dim=1)
    return told_bd * (counts_bt.sum(dim=1, keepdim=True) >= MIN_FRAMES)


def _fit_shapes(counts_bt: Tensor) -> tuple[Tensor, Tensor]:
    """A line and a parabola over the span, neither of which has any of the other; (B, T, 1)."""
    first_b1, size_b1 = find_span(counts_bt)
    step_t = torch.arange(counts_bt.shape[1], device=counts_bt.device)
    place_bt1 = ((step_t - first_b1) / size_b1)[..., None]
    mean_b1, deviation_b1 = moments(place_bt1, counts_bt)
    line_bt1, variance_b11 = place_bt1 - mean_b1[:, None], deviation_b1[:, None].square()
    cube_b11 = (line_bt1**3 * uniform_weights(counts_bt)[..., None]).sum(dim=1, keepdim=True)
    tilt_b11 = cube_b11 / variance_b11.clamp(min=MIN_DEVIATION**2)
    return line_bt1, line_bt1.square() - variance_b11 - tilt_b11 * line_bt1


def _project(x_btd: Tensor, shape_bt1: Tensor, share_bt1: Tensor) -> Tensor:
    """How much of a shape there is in contours that carry their shares; (B, D)."""
    size_b1 = (shape_bt1.square() * share_bt1).sum(dim=1)
    return (x_btd * shape_bt1).sum(dim=1) / size_b1.clamp(min=MIN_DEVIATION**2)


def _rise_weights(counts_bt: Tensor) -> Tensor:
    """Weights of shares that give the mean of the last third less that of the first; (B, T)."""
    rank_bt, count_b1 = counts_bt.cumsum(dim=1), counts_bt.sum(dim=1, keepdim=True)
    third_b1 = (count_b1 // 3).clamp(min=1)
    rise_bt = (rank_bt > count_b1 - third_b1).float() - (rank_bt <= third_b1).float()
    return rise_bt * counts_bt * count_b1 / third_b1


def pairwise_correlations(x_btd: Tensor, counts_bt: Tensor) -> Tensor:
    """Correlation of every two contours over the frames that count; (B, D x (D - 1) / 2)."""
    mean_bd, deviation_bd = moments(x_btd, counts_bt)
    x_btd = (x_btd - mean_bd[:, None]).masked_fill(~counts_bt[..., None], 0)
    x_btd = x_btd / (deviation_bd[:, None] + MIN_DEVIATION)
    like_bdd = (x_btd * uniform_weights(counts_bt)[..., None]).transpose(1, 2) @ x_btd
    size = x_btd.shape[2]
    one_p, other_p = torch.triu_indices(size, size, 1, device=x_btd.device)
    return like_bdd[:, one_p, other_p]
