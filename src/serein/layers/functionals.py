"""Functionals: what describes how a sequence behaved over time, in a fixed count of numbers.

After the idea of openSMILE's (Eyben et al. 2010), on frames of ``features.voice``; only frames in
which somebody speaks count. No weight and no gradient: a network reads them.

B = batch, T = frames, M = mel bands, D = contours, Q = quantiles.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.layers.counted import moments, quantiles
from serein.layers.movements import (
    contour_trends,
    find_span,
    modulation_spectrum,
    pairwise_correlations,
)

CEPSTRA = 24
"""Coefficients of the cosine transform over bands, the first one the mean."""
VOICING_THRESHOLD = 0.5
"""Voicing from which on there is a pitch."""
MAX_VOICING = 0.999
"""Voicing is taken for no more, where its odds would be endless."""
MAX_PITCH_STEP = 0.3
"""Octaves from frame to frame; more is a mistake about the octave and no melody."""
MODULATION_GROUPS, TREND_GROUPS, CORRELATED_CEPSTRA, TREND_CEPSTRA = 8, 4, 12, 6
"""Groups of bands whose modulation is told, and whose course; cepstra likewise."""


class Functionals(nn.Module):
    """Contours of bands, cepstra, level, pitch and voicing -> numbers of the whole utterance."""

    cosine_mc: Tensor

    def __init__(self, bands: int) -> None:
        """Prepare the cosine transform.

        Args:
            bands: M; behind them a frame has its level, its pitch and its voicing.
        """
        super().__init__()
        self.bands = bands
        band_m = torch.arange(bands, device="cpu")  # measured even of a weightless one
        angle_mc = torch.outer(band_m + 0.5, band_m[:CEPSTRA])
        cosine_mc = torch.cos(angle_mc * (math.pi / bands)) * math.sqrt(2 / bands)
        self.register_buffer("cosine_mc", cosine_mc, persistent=False)
        one_bt = torch.ones(1, 1, dtype=torch.bool, device="cpu")
        frame_btf = torch.zeros(1, 1, bands + 3, device="cpu")
        self.width = self(frame_btf, one_bt, one_bt, 1.0).shape[1]

    def forward(self, x_btf: Tensor, mask_bt: Tensor, spoken_bt: Tensor, hop: float) -> Tensor:
        """Utterances in numbers.

        Args:
            x_btf: (B, T, M + 3) frames.
            mask_bt: (B, T), where there are frames.
            spoken_bt: (B, T), in which of them somebody speaks.
            hop: seconds between them.

        Returns:
            (B, width).
        """
        return torch.cat(list(self.compute_groups(x_btf, mask_bt, spoken_bt, hop).values()), dim=1)

    @torch.no_grad()
    def compute_groups(
        self, x_btf: Tensor, mask_bt: Tensor, spoken_bt: Tensor, hop: float
    ) -> dict[str, Tensor]:
        """The same by kind: of each, (B, D)."""
        bands_btm, level_bt1 = x_btf[..., : self.bands], x_btf[..., [self.bands]]
        pitch_bt1, voicing_bt1 = x_btf[..., [self.bands + 1]], x_btf[..., [self.bands + 2]]
        cepstra_btc = bands_btm @ self.cosine_mc
        contours_btd = torch.cat([bands_btm[..., ::2], cepstra_btc, level_bt1], dim=2)
        voiced_bt = spoken_bt & (voicing_bt1[..., 0] > VOICING_THRESHOLD)
        register_b1 = moments(pitch_bt1, voiced_bt)[0]  # of the voice, not of what it does
        melody_bt1 = (pitch_bt1 - register_b1[:, None]) * voiced_bt[..., None]
        tones_bt3 = torch.cat([level_bt1, melody_bt1, voicing_bt1], dim=2)
        sways_btd = torch.cat([_average_bands(bands_btm, MODULATION_GROUPS), tones_bt3], dim=2)
        pairs_btd = torch.cat([cepstra_btc[..., :CORRELATED_CEPSTRA], tones_bt3], dim=2)
        goes = [
            _average_bands(bands_btm, TREND_GROUPS),
            cepstra_btc[..., :TREND_CEPSTRA],
            level_bt1,
        ]
        level_bt = level_bt1[..., 0].masked_fill(~mask_bt, -math.inf)
        told = {
            "lie and step": _contour_statistics(
                contours_btd, 1 + cepstra_btc.shape[2], spoken_bt, mask_bt
            ),
            "rhythm": [_rhythm_features(level_bt, spoken_bt, hop)],
            "melody": _pitch_features(pitch_bt1, voicing_bt1, voiced_bt, spoken_bt),
            "modulation": [modulation_spectrum(sways_btd, spoken_bt, hop)],
            "together": [pairwise_correlations(pairs_btd, spoken_bt)],
            "course": [
                contour_trends(torch.cat(goes, dim=2), spoken_bt, hop),
                contour_trends(pitch_bt1, voiced_bt, hop),
            ],
        }
        return {name: torch.cat(some, dim=1) for name, some in told.items()}


def _contour_statistics(
    x_btd: Tensor, last: int, spoken_bt: Tensor, mask_bt: Tensor
) -> list[Tensor]:
    """How contours lie, and how they step from frame to frame; of the last ones, by quantiles."""
    slope_btd = _delta(x_btd, mask_bt)
    bend_btd = _delta(slope_btd, mask_bt)
    lies = [*moments(x_btd, spoken_bt), quantiles(x_btd, spoken_bt)]
    _, deviation_bd = moments(slope_btd, spoken_bt)
    _, bending_bd = moments(bend_btd, spoken_bt)
    steps = [deviation_bd, *moments(slope_btd.abs(), spoken_bt), bending_bd]
    return [*lies, *steps, quantiles(slope_btd[..., -last:], spoken_bt)]


def _average_bands(bands_btm: Tensor, groups: int) -> Tensor:
    """Means of so many groups of neighbouring bands."""
    parts = bands_btm.tensor_split(min(groups, bands_btm.shape[2]), dim=2)
    return torch.cat([part_btm.mean(dim=2, keepdim=True) for part_btm in parts], dim=2)


def _rhythm_features(level_bt: Tensor, spoken_bt: Tensor, hop: float) -> Tensor:
    """Share of speech, seconds of a stretch, stretches and peaks of the level a second; (B, 6).

    Then how long it is in all, from the first to the last speech: seconds, and their logarithm.
    """
    count_b = spoken_bt.sum(dim=1).clamp(min=1)
    first_b1, span_b1 = find_span(spoken_bt)
    span_b = span_b1[:, 0]
    stretches_b = 1 + (spoken_bt[:, 1:] & ~spoken_bt[:, :-1]).sum(dim=1)
    stretches_b = (stretches_b - (first_b1[:, 0] > 0).int()).clamp(min=1)
    before_bt, here_bt, after_bt = level_bt[:, :-2], level_bt[:, 1:-1], level_bt[:, 2:]
    peak_bt = (here_bt > before_bt) & (here_bt > after_bt) & spoken_bt[:, 1:-1]
    peak_bt &= after_bt > -math.inf  # what lies behind an utterance's end is not below it
    told = (
        count_b / span_b,
        count_b / stretches_b * hop,
        stretches_b / (span_b * hop),
        peak_bt.sum(dim=1) / (span_b * hop),
        span_b * hop,
        torch.log(span_b * hop),
    )
    return torch.stack(told, dim=1)


def _pitch_features(
    pitch_bt1: Tensor, voicing_bt1: Tensor, voiced_bt: Tensor, spoken_bt: Tensor
) -> list[Tensor]:
    """Of pitch: where it lies, its range and its moves; of voicing: how much and how clear."""
    clear_bt1 = voicing_bt1.clamp(max=MAX_VOICING)
    step_bt1 = F.pad(pitch_bt1[:, 1:] - pitch_bt1[:, :-1], (0, 0, 0, 1))
    both_bt = F.pad(voiced_bt[:, 1:] & voiced_bt[:, :-1], (0, 1))
    odds_bt1 = torch.logit(clear_bt1, eps=1 - MAX_VOICING)
    share_b1 = voiced_bt.sum(dim=1, keepdim=True) / spoken_bt.sum(dim=1, keepdim=True).clamp(min=1)
    near_bt = both_bt & (step_bt1[..., 0].abs() < MAX_PITCH_STEP)
    return [
        *moments(pitch_bt1, voiced_bt),
        quantiles(pitch_bt1, voiced_bt),
        *moments(step_bt1.abs(), both_bt),
        share_b1,
        *moments(clear_bt1, spoken_bt),
        quantiles(clear_bt1, spoken_bt)[:, 1:4],
        *moments(odds_bt1, spoken_bt),
        quantiles(step_bt1, near_bt),
        moments((step_bt1 > 0).to(step_bt1.dtype), near_bt)[0],
        *moments(step_bt1.abs(), near_bt),
        moments(step_bt1, near_bt)[1],
    ]


def _delta(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Half of what the next frame differs from the one before; the edge frames repeated."""
    last_b1 = mask_bt.sum(dim=1, keepdim=True) - 1
    step_t = torch.arange(mask_bt.shape[1], device=x_btd.device)
    after_bt = torch.minimum(step_t + 1, last_b1).clamp(min=0)
    before_bt = (step_t - 1).clamp(min=0).expand_as(after_bt)
    wide = -1, -1, x_btd.shape[2]
    after_btd = x_btd.gather(1, after_bt[..., None].expand(wide))
    return (after_btd - x_btd.gather(1, before_bt[..., None].expand(wide))) / 2
