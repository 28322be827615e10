"""Functionals: what describes how a sequence behaved over time, in a fixed count of numbers.

After the idea of openSMILE's (Eyben et al. 2010), on frames of ``features.voice``; only frames in
which somebody speaks count. No weight and no gradient: a network reads them.

B = batch, T = frames, M = mel bands, D = contours, Q = quantiles.
"""

import math

import torch
from torch import Tensor, nn

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CEPSTRA = 24
"""Coefficients of the cosine transform over bands, the first one the mean."""
VOICED = 0.5
"""Voicing from which on there is a pitch."""
SURE = 0.999
"""Voicing is taken for no more, where its odds would be endless."""
RHYTHM = 4
PITCH = 17


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
        angle_mc = torch.outer(torch.arange(bands) + 0.5, torch.arange(min(CEPSTRA, bands)))
        cosine_mc = torch.cos(angle_mc * (math.pi / bands)) * math.sqrt(2 / bands)
        self.register_buffer("cosine_mc", cosine_mc, persistent=False)
        contours = len(range(0, bands, 2)) + cosine_mc.shape[1] + 1
        self.width = contours * (2 + len(QUANTILES) + 4) + RHYTHM + PITCH

    @torch.no_grad()
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
        bands_btm, level_bt = x_btf[..., : self.bands], x_btf[..., self.bands]
        level_bt = level_bt.masked_fill(~mask_bt, -math.inf)
        x_btd = [bands_btm[..., ::2], bands_btm @ self.cosine_mc, x_btf[..., [self.bands]]]
        told = [
            *_course(torch.cat(x_btd, dim=2), spoken_bt, mask_bt),
            _rhythm(level_bt, spoken_bt, hop),
            *_melody(x_btf[..., self.bands + 1], x_btf[..., self.bands + 2], spoken_bt, mask_bt),
        ]
        return torch.cat(told, dim=1)


def spoken(level_bt: Tensor, mask_bt: Tensor, within: float) -> Tensor:
    """In which frames (B, T) somebody speaks: no farther than that below the loudest one."""
    level_bt = level_bt.masked_fill(~mask_bt, -math.inf)
    return (level_bt >= level_bt.amax(dim=1, keepdim=True) - within) & mask_bt


def _course(x_btd: Tensor, spoken_bt: Tensor, mask_bt: Tensor) -> list[Tensor]:
    """How contours lie, and how they move from frame to frame."""
    slope_btd = _slope(x_btd, mask_bt)
    bend_btd = _slope(slope_btd, mask_bt)
    lies = [*moments(x_btd, spoken_bt), quantiles(x_btd, spoken_bt)]
    _, deviation_bd = moments(slope_btd, spoken_bt)
    _, bending_bd = moments(bend_btd, spoken_bt)
    return [*lies, deviation_bd, *moments(slope_btd.abs(), spoken_bt), bending_bd]


def _rhythm(level_bt: Tensor, spoken_bt: Tensor, hop: float) -> Tensor:
    """Share of speech, seconds of a stretch, stretches and peaks of the level a second; (B, 4)."""
    count_b = spoken_bt.sum(dim=1).clamp(min=1)
    step_t = torch.arange(spoken_bt.shape[1], device=spoken_bt.device)
    last_b = (step_t * spoken_bt).amax(dim=1)
    first_b = spoken_bt.int().argmax(dim=1)
    span_b = (last_b - first_b + 1).clamp(min=1)
    stretches_b = 1 + (spoken_bt[:, 1:] & ~spoken_bt[:, :-1]).sum(dim=1) - (first_b > 0).int()
    stretches_b = stretches_b.clamp(min=1)
    before_bt, here_bt, after_bt = level_bt[:, :-2], level_bt[:, 1:-1], level_bt[:, 2:]
    peak_bt = (here_bt > before_bt) & (here_bt > after_bt) & spoken_bt[:, 1:-1]
    told = (
        count_b / span_b,
        count_b / stretches_b * hop,
        stretches_b / (span_b * hop),
        peak_bt.sum(dim=1) / (span_b * hop),
    )
    return torch.stack(told, dim=1)


def _melody(
    pitch_bt: Tensor, voicing_bt: Tensor, spoken_bt: Tensor, mask_bt: Tensor
) -> list[Tensor]:
    """Of pitch: where it lies, its range and its moves; of voicing: how much and how clear."""
    voiced_bt = spoken_bt & (voicing_bt > VOICED)
    pitch_bt1, clear_bt1 = pitch_bt[..., None], voicing_bt[..., None].clamp(max=SURE)
    moved_bt1 = (pitch_bt1[:, 1:] - pitch_bt1[:, :-1]).abs()
    both_bt = voiced_bt[:, 1:] & voiced_bt[:, :-1]
    odds_bt1 = torch.logit(clear_bt1, eps=1 - SURE)
    share_b1 = voiced_bt.sum(dim=1, keepdim=True) / spoken_bt.sum(dim=1, keepdim=True).clamp(min=1)
    return [
        *moments(pitch_bt1, voiced_bt),
        quantiles(pitch_bt1, voiced_bt),
        *moments(moved_bt1, both_bt),
        share_b1,
        *moments(clear_bt1, spoken_bt),
        quantiles(clear_bt1, spoken_bt)[:, 1:4],
        *moments(odds_bt1, spoken_bt),
    ]


def _slope(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Half of what the next frame differs from the one before; the edge frames repeated."""
    last_b1 = mask_bt.sum(dim=1, keepdim=True) - 1
    step_t = torch.arange(mask_bt.shape[1], device=x_btd.device)
    after_bt = torch.minimum(step_t + 1, last_b1).clamp(min=0)
    before_bt = (step_t - 1).clamp(min=0).expand_as(after_bt)
    wide = -1, -1, x_btd.shape[2]
    after_btd = x_btd.gather(1, after_bt[..., None].expand(wide))
    return (after_btd - x_btd.gather(1, before_bt[..., None].expand(wide))) / 2


def moments(x_btd: Tensor, counts_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, D) over the frames that count; zeros where none does."""
    share_bt1 = (counts_bt / counts_bt.sum(dim=1, keepdim=True).clamp(min=1))[..., None]
    x_btd = x_btd.masked_fill(~counts_bt[..., None], 0)
    mean_bd = (x_btd * share_bt1).sum(dim=1)
    square_bd = ((x_btd - mean_bd[:, None]).square() * share_bt1).sum(dim=1)
    return mean_bd, square_bd.sqrt()


def quantiles(x_btd: Tensor, counts_bt: Tensor) -> Tensor:
    """(B, Q x D) over the frames that count, between two of them in proportion; else zeros."""
    count_b = counts_bt.sum(dim=1)
    sorted_btd = x_btd.masked_fill(~counts_bt[..., None], math.inf).sort(dim=1).values
    place_bq = (count_b[:, None] - 1).clamp(min=0) * torch.tensor(QUANTILES, device=x_btd.device)
    low_bq = place_bq.floor().long()
    high_bq = torch.minimum(low_bq + 1, (count_b[:, None] - 1).clamp(min=0))
    wide = -1, -1, x_btd.shape[2]
    low_bqd = sorted_btd.gather(1, low_bq[..., None].expand(wide))
    high_bqd = sorted_btd.gather(1, high_bq[..., None].expand(wide))
    found_bqd = low_bqd.lerp(high_bqd, (place_bq - low_bq)[..., None])
    return found_bqd.masked_fill((count_b == 0)[:, None, None], 0).flatten(1)
