"""Functionals: what describes how a sequence behaved over time, in a fixed count of numbers.

After the idea of openSMILE's (Eyben et al. 2010), on frames of ``features.voice``; only frames in
which somebody speaks count. No weight and no gradient: a network reads them.

B = batch, T = frames, M = mel bands, D = contours, Q = quantiles.

How contours move over an utterance: how fast, where to, and which of them together.

B = batch, T = frames, D = contours, H = frequencies, E = ranges of them.

Moments and quantiles over those frames of a sequence that count.

B = batch, T = frames, D = contours, Q = quantiles.

Standardisation by statistics that run along with a training.

B = batch, F = numbers of an utterance.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def speech_mask(level_bt: Tensor, mask_bt: Tensor, within: float) -> Tensor:
    """In which frames (B, T) somebody speaks: no farther than that below the loudest one."""
    level_bt = level_bt.masked_fill(~mask_bt, -math.inf)
    return (level_bt >= level_bt.amax(dim=1, keepdim=True) - within) & mask_bt


def uniform_weights(counts_bt: Tensor) -> Tensor:
    """Of each frame that counts, the same share of one; (B, T). Zeros where none does."""
    return counts_bt / counts_bt.sum(dim=1, keepdim=True).clamp(min=1)


def moments(x_btd: Tensor, counts_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, D) over the frames that count; zeros where none does."""
    share_bt1 = uniform_weights(counts_bt)[..., None]
    x_btd = x_btd.masked_fill(~counts_bt[..., None], 0)
    mean_bd = (x_btd * share_bt1).sum(dim=1)
    square_bd = ((x_btd - mean_bd[:, None]).square() * share_bt1).sum(dim=1)
    return mean_bd, square_bd.sqrt()


def quantiles(x_btd: Tensor, counts_bt: Tensor) -> Tensor:
    """(B, Q x D) over the frames that count, between two of them in proportion; else zeros."""
    count_b = counts_bt.sum(dim=1)
    sorted_btd = _sort_frames(x_btd.masked_fill(~counts_bt[..., None], math.inf))
    place_bq = (count_b[:, None] - 1).clamp(min=0) * torch.tensor(QUANTILES, device=x_btd.device)
    low_bq = place_bq.floor().long()
    high_bq = torch.minimum(low_bq + 1, (count_b[:, None] - 1).clamp(min=0))
    wide = -1, -1, x_btd.shape[2]
    low_bqd = sorted_btd.gather(1, low_bq[..., None].expand(wide))
    high_bqd = sorted_btd.gather(1, high_bq[..., None].expand(wide))
    found_bqd = low_bqd.lerp(high_bqd, (place_bq - low_bq)[..., None])
    return found_bqd.masked_fill((count_b == 0)[:, None, None], 0).flatten(1)


def _sort_frames(x_btd: Tensor) -> Tensor:
    """Each contour in order. NumPy sorts on a processor in a tenth of torch's time."""
    if not x_btd.is_cpu or torch.compiler.is_exporting():
        return x_btd.sort(dim=1).values
    return torch.from_numpy(np.sort(x_btd.mT.contiguous().numpy(), axis=2)).mT


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


MIN_MOMENTUM = 0.01
"""Share of a batch in what is known of all before it, once there have been a hundred."""
RUNNING_EPSILON = 1e-3
"""Of a deviation; what varies less is hardly there."""
RUNNING_CLIP = 5.0
"""Deviations from the mean; what lies farther off is taken for that."""


class RunningStandardizer(nn.Module):
    """(x - mean) / deviation of each number, by the batches seen so far: never by its own alone.

    Unlike batch normalisation, an utterance does not depend on who trains beside it.
    """

    mean_f: Tensor
    square_f: Tensor
    steps_1: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_f", torch.zeros(width))
        self.register_buffer("square_f", torch.ones(width))
        self.register_buffer("steps_1", torch.zeros(1))

    def forward(self, x_bf: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        if self.training:
            self._update(x_bf.detach())
        deviation_f = (self.square_f - self.mean_f.square()).clamp(min=0).sqrt() + RUNNING_EPSILON
        return ((x_bf - self.mean_f) / deviation_f).clamp(-RUNNING_CLIP, RUNNING_CLIP)

    def _update(self, x_bf: Tensor) -> None:
        self.steps_1 += 1
        gain_1 = (1 / self.steps_1).clamp(min=MIN_MOMENTUM)
        self.mean_f.lerp_(x_bf.mean(dim=0), float(gain_1))
        self.square_f.lerp_(x_bf.square().mean(dim=0), float(gain_1))
