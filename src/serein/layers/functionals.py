"""Functionals: statistics that describe an utterance in a fixed number of values.

After the idea of openSMILE's (Eyben et al. 2010), on frames of ``features.voice``; only frames of
speech count. They have no weights and no gradient: a network reads them.

B = batch, T = frames, M = mel bands, C = cepstral coefficients, D = contours (of bands, cepstra,
level, pitch, voicing), Q = quantiles, H = modulation frequencies, E = bands of them, F =
functionals. ``valid_bt`` selects the frames that count.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CEPSTRA = 24
"""Coefficients of the cosine transform over bands, the first one the mean."""
VOICING_THRESHOLD = 0.5
"""Least voicing of a frame that has a pitch."""
MAX_VOICING = 0.999
"""Voicing is clipped here, as its log-odds would be infinite at 1."""
MAX_PITCH_STEP = 0.3
"""Octaves from frame to frame; a larger step is an octave error of the pitch, not melody."""
MODULATION_GROUPS, TREND_GROUPS = 8, 4
"""Groups of bands whose modulation spectrum, and whose trend, are computed."""
CORRELATED_CEPSTRA, TREND_CEPSTRA = 12, 6
"""Cepstral coefficients whose correlations, and whose trends, are computed."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MODULATION_BANDS = (0.4, 1.0, 2.0, 4.0, 8.0, 16.0, 25.0)
"""Edges in Hz; syllables are at 4 to 8, the melody of sentences below 1."""
MODULATION_STEP = 0.2
"""Hz from frequency to frequency: fine enough for utterances of up to ten seconds."""
MIN_VARIANCE = 1e-4
"""Added to the variance in a modulation band before its logarithm."""
MIN_DEVIATION = 1e-3
"""Least deviation that something is divided by."""
MIN_FRAMES = 4
"""Least frames that a parabola is fitted to, so that it does not pass through all of them."""


class Functionals(nn.Module):
    """Frames of bands, level, pitch and voicing -> functionals of the whole utterance."""

    cosine_mc: Tensor

    def __init__(self, bands: int) -> None:
        """Compute the cosine transform.

        Args:
            bands: M; after them a frame has its level, its pitch and its voicing.
        """
        super().__init__()
        self.bands = bands
        band_m = torch.arange(bands, device="cpu")  # also under device meta, to measure the width
        angle_mc = torch.outer(band_m + 0.5, band_m[:CEPSTRA])
        cosine_mc = torch.cos(angle_mc * (math.pi / bands)) * math.sqrt(2 / bands)
        self.register_buffer("cosine_mc", cosine_mc, persistent=False)
        mask_bt = torch.ones(1, 1, dtype=torch.bool, device="cpu")
        frame_btf = torch.zeros(1, 1, bands + 3, device="cpu")
        self.width = self(frame_btf, mask_bt, mask_bt, 1.0).shape[1]

    def forward(self, x_btf: Tensor, mask_bt: Tensor, speech_bt: Tensor, hop: float) -> Tensor:
        """Compute all functionals.

        Args:
            x_btf: (B, T, M + 3) frames.
            mask_bt: (B, T), False on padding.
            speech_bt: (B, T), True for frames of speech.
            hop: seconds between frames.

        Returns:
            (B, width).
        """
        return torch.cat(list(self.compute_groups(x_btf, mask_bt, speech_bt, hop).values()), dim=1)

    @torch.no_grad()
    def compute_groups(
        self, x_btf: Tensor, mask_bt: Tensor, speech_bt: Tensor, hop: float
    ) -> dict[str, Tensor]:
        """Compute the functionals by group; each (B, F)."""
        bands_btm, level_bt1 = x_btf[..., : self.bands], x_btf[..., [self.bands]]
        pitch_bt1, voicing_bt1 = x_btf[..., [self.bands + 1]], x_btf[..., [self.bands + 2]]
        cepstra_btc = bands_btm @ self.cosine_mc
        contour_btd = torch.cat([bands_btm[..., ::2], cepstra_btc, level_bt1], dim=2)
        voiced_bt = speech_bt & (voicing_bt1[..., 0] > VOICING_THRESHOLD)
        register_b1 = moments(pitch_bt1, voiced_bt)[0]  # of the voice, not of the utterance
        melody_bt1 = (pitch_bt1 - register_b1[:, None]) * voiced_bt[..., None]
        prosody_btd = torch.cat([level_bt1, melody_bt1, voicing_bt1], dim=2)
        modulated_btd = torch.cat([_average_bands(bands_btm, MODULATION_GROUPS), prosody_btd], 2)
        correlated_btd = torch.cat([cepstra_btc[..., :CORRELATED_CEPSTRA], prosody_btd], dim=2)
        trend_bands_btd = _average_bands(bands_btm, TREND_GROUPS)
        trend_btd = torch.cat([trend_bands_btd, cepstra_btc[..., :TREND_CEPSTRA], level_bt1], 2)
        level_bt = level_bt1[..., 0].masked_fill(~mask_bt, -math.inf)
        with_delta_quantiles = 1 + cepstra_btc.shape[2]
        groups = {
            "contours": _contour_statistics(contour_btd, with_delta_quantiles, speech_bt, mask_bt),
            "rhythm": [_rhythm_features(level_bt, speech_bt, hop)],
            "pitch": _pitch_features(pitch_bt1, voicing_bt1, voiced_bt, speech_bt),
            "modulation": [modulation_spectrum(modulated_btd, speech_bt, hop)],
            "correlation": [pairwise_correlations(correlated_btd, speech_bt)],
            "trend": [
                contour_trends(trend_btd, speech_bt, hop),
                contour_trends(pitch_bt1, voiced_bt, hop),
            ],
        }
        return {name: torch.cat(parts, dim=1) for name, parts in groups.items()}


def _contour_statistics(
    x_btd: Tensor, last: int, speech_bt: Tensor, mask_bt: Tensor
) -> list[Tensor]:
    """Return moments and quantiles of contours and their deltas; quantiles of ``last`` deltas."""
    delta_btd = _delta(x_btd, mask_bt)
    _, delta_deviation_bd = moments(delta_btd, speech_bt)
    _, delta2_deviation_bd = moments(_delta(delta_btd, mask_bt), speech_bt)
    return [
        *moments(x_btd, speech_bt),
        quantiles(x_btd, speech_bt),
        delta_deviation_bd,
        *moments(delta_btd.abs(), speech_bt),
        delta2_deviation_bd,
        quantiles(delta_btd[..., -last:], speech_bt),
    ]


def _average_bands(bands_btm: Tensor, groups: int) -> Tensor:
    """Return the means of ``groups`` groups of neighbouring bands."""
    parts = bands_btm.tensor_split(min(groups, bands_btm.shape[2]), dim=2)
    return torch.cat([part_btm.mean(dim=2, keepdim=True) for part_btm in parts], dim=2)


def _rhythm_features(level_bt: Tensor, speech_bt: Tensor, hop: float) -> Tensor:
    """Describe the distribution of speech over time.

    Returns:
        (B, 6): the share of speech; seconds of a speech segment; segments a second; peaks of the
        level a second; the seconds from the first to the last speech, and their logarithm.
    """
    count_b = speech_bt.sum(dim=1).clamp(min=1)
    first_b1, span_b1 = find_span(speech_bt)
    span_b = span_b1[:, 0]
    segments_b = 1 + (speech_bt[:, 1:] & ~speech_bt[:, :-1]).sum(dim=1)
    segments_b = (segments_b - (first_b1[:, 0] > 0).int()).clamp(min=1)
    before_bt, here_bt, after_bt = level_bt[:, :-2], level_bt[:, 1:-1], level_bt[:, 2:]
    peak_bt = (here_bt > before_bt) & (here_bt > after_bt) & speech_bt[:, 1:-1]
    peak_bt &= after_bt > -math.inf  # the last frame of an utterance is no peak
    features = (
        count_b / span_b,
        count_b / segments_b * hop,
        segments_b / (span_b * hop),
        peak_bt.sum(dim=1) / (span_b * hop),
        span_b * hop,
        torch.log(span_b * hop),
    )
    return torch.stack(features, dim=1)


def _pitch_features(
    pitch_bt1: Tensor, voicing_bt1: Tensor, voiced_bt: Tensor, speech_bt: Tensor
) -> list[Tensor]:
    """Return statistics of pitch and of its steps, and of voicing: its share and its degree."""
    voicing_bt1 = voicing_bt1.clamp(max=MAX_VOICING)
    step_bt1 = F.pad(pitch_bt1[:, 1:] - pitch_bt1[:, :-1], (0, 0, 0, 1))
    both_voiced_bt = F.pad(voiced_bt[:, 1:] & voiced_bt[:, :-1], (0, 1))
    odds_bt1 = torch.logit(voicing_bt1, eps=1 - MAX_VOICING)
    speech_b1 = speech_bt.sum(dim=1, keepdim=True).clamp(min=1)
    voiced_share_b1 = voiced_bt.sum(dim=1, keepdim=True) / speech_b1
    small_step_bt = both_voiced_bt & (step_bt1[..., 0].abs() < MAX_PITCH_STEP)
    return [
        *moments(pitch_bt1, voiced_bt),
        quantiles(pitch_bt1, voiced_bt),
        *moments(step_bt1.abs(), both_voiced_bt),
        voiced_share_b1,
        *moments(voicing_bt1, speech_bt),
        quantiles(voicing_bt1, speech_bt)[:, 1:4],
        *moments(odds_bt1, speech_bt),
        quantiles(step_bt1, small_step_bt),
        moments((step_bt1 > 0).to(step_bt1.dtype), small_step_bt)[0],
        *moments(step_bt1.abs(), small_step_bt),
        moments(step_bt1, small_step_bt)[1],
    ]


def _delta(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Return half the difference of the next and the previous frame; edge frames are repeated."""
    last_b1 = mask_bt.sum(dim=1, keepdim=True) - 1
    step_t = torch.arange(mask_bt.shape[1], device=x_btd.device)
    after_bt = torch.minimum(step_t + 1, last_b1).clamp(min=0)
    before_bt = (step_t - 1).clamp(min=0).expand_as(after_bt)
    shape = -1, -1, x_btd.shape[2]
    after_btd = x_btd.gather(1, after_bt[..., None].expand(shape))
    return (after_btd - x_btd.gather(1, before_bt[..., None].expand(shape))) / 2


def speech_mask(level_bt: Tensor, mask_bt: Tensor, speech_range: float) -> Tensor:
    """Return the mask (B, T) of frames at most ``speech_range`` below the loudest one."""
    level_bt = level_bt.masked_fill(~mask_bt, -math.inf)
    return (level_bt >= level_bt.amax(dim=1, keepdim=True) - speech_range) & mask_bt


def uniform_weights(valid_bt: Tensor) -> Tensor:
    """Return equal weights (B, T) of the valid frames, of sum 1; zeros where there are none."""
    return valid_bt / valid_bt.sum(dim=1, keepdim=True).clamp(min=1)


def moments(x_btd: Tensor, valid_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (B, D) over the valid frames; zeros where there are none."""
    weight_bt1 = uniform_weights(valid_bt)[..., None]
    x_btd = x_btd.masked_fill(~valid_bt[..., None], 0)
    mean_bd = (x_btd * weight_bt1).sum(dim=1)
    variance_bd = ((x_btd - mean_bd[:, None]).square() * weight_bt1).sum(dim=1)
    return mean_bd, variance_bd.sqrt()


def quantiles(x_btd: Tensor, valid_bt: Tensor) -> Tensor:
    """Return interpolated quantiles (B, Q x D) over the valid frames; zeros without any."""
    count_b = valid_bt.sum(dim=1)
    sorted_btd = _sort_frames(x_btd.masked_fill(~valid_bt[..., None], math.inf))
    rank_bq = (count_b[:, None] - 1).clamp(min=0) * torch.tensor(QUANTILES, device=x_btd.device)
    low_bq = rank_bq.floor().long()
    high_bq = torch.minimum(low_bq + 1, (count_b[:, None] - 1).clamp(min=0))
    shape = -1, -1, x_btd.shape[2]
    low_bqd = sorted_btd.gather(1, low_bq[..., None].expand(shape))
    high_bqd = sorted_btd.gather(1, high_bq[..., None].expand(shape))
    quantile_bqd = low_bqd.lerp(high_bqd, (rank_bq - low_bq)[..., None])
    return quantile_bqd.masked_fill((count_b == 0)[:, None, None], 0).flatten(1)


def _sort_frames(x_btd: Tensor) -> Tensor:
    """Sort each contour. On a CPU NumPy takes a tenth of torch's time."""
    if not x_btd.is_cpu or torch.compiler.is_exporting():
        return x_btd.sort(dim=1).values
    return torch.from_numpy(np.sort(x_btd.mT.contiguous().numpy(), axis=2)).mT


def find_span(valid_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first valid frame, and the frames from it to the last one; (B, 1) each."""
    step_t = torch.arange(valid_bt.shape[1], device=valid_bt.device)
    last_b1 = (step_t * valid_bt).amax(dim=1, keepdim=True)
    first_b1 = valid_bt.int().argmax(dim=1, keepdim=True)
    return first_b1, (last_b1 - first_b1 + 1).clamp(min=1)


def modulation_spectrum(x_btd: Tensor, valid_bt: Tensor, hop: float) -> Tensor:
    """Return log variances of contours in bands of modulation frequency, absolute and relative.

    Args:
        x_btd: (B, T, D) contours.
        valid_bt: (B, T); all frames from the first valid one to the last one are used, through a
            Hann window.
        hop: seconds from frame to frame; frequencies above half the frame rate have no power.

    Returns:
        (B, 2 x E x D): logarithms of the variance, and of its share in the sum over bands.
    """
    window_bt1 = _hann_window(valid_bt)[..., None]
    x_btd = x_btd.masked_fill(window_bt1 == 0, 0)
    mean_b1d = (x_btd * window_bt1).sum(dim=1, keepdim=True)
    x_bdt = ((x_btd - mean_b1d) * window_bt1).transpose(1, 2)
    density_b11 = 2 * hop / window_bt1.square().sum(dim=1, keepdim=True)
    lowest, highest = MODULATION_BANDS[0], MODULATION_BANDS[-1]
    low, high = (round(edge / MODULATION_STEP) for edge in (lowest, highest))
    hertz_h = MODULATION_STEP * torch.arange(low, high, device=x_btd.device)
    step_t1 = torch.arange(x_btd.shape[1], device=x_btd.device)[:, None]
    angle_th = 2 * math.pi * hop * step_t1 * hertz_h
    power_bdh = (x_bdt @ angle_th.cos()).square() + (x_bdt @ angle_th.sin()).square()
    power_bdh = power_bdh * density_b11 * MODULATION_STEP * (2 * hop * hertz_h <= 1)
    ends = [round((edge - lowest) / MODULATION_STEP) for edge in MODULATION_BANDS[1:-1]]
    parts = power_bdh.tensor_split(ends, dim=2)
    power_bed = torch.stack([part_bdh.sum(dim=2) for part_bdh in parts], dim=1) + MIN_VARIANCE
    share_bed = power_bed / power_bed.sum(dim=1, keepdim=True)
    return torch.cat([power_bed.log().flatten(1), share_bed.log().flatten(1)], dim=1)


def _hann_window(valid_bt: Tensor) -> Tensor:
    """Return a Hann window over the span of the valid frames, of sum 1; (B, T)."""
    first_b1, size_b1 = find_span(valid_bt)
    step_t = torch.arange(valid_bt.shape[1], device=valid_bt.device)
    inside_bt = (step_t >= first_b1) & (step_t < first_b1 + size_b1)
    angle_bt = 2 * math.pi * (step_t - first_b1 + 1) / (size_b1 + 1)
    window_bt = (0.5 - 0.5 * torch.cos(angle_bt)) * inside_bt
    return window_bt / window_bt.sum(dim=1, keepdim=True)


def contour_trends(x_btd: Tensor, valid_bt: Tensor, hop: float) -> Tensor:
    """Return the trend of contours over the utterance.

    Args:
        x_btd: (B, T, D) contours.
        valid_bt: (B, T), the frames that count.
        hop: seconds from frame to frame.

    Returns:
        (B, 4 x D): slope a second, slope and curvature over the utterance, and the mean of its last
        third less that of its first; zeros where fewer than four frames are valid.
    """
    weight_bt1 = uniform_weights(valid_bt)[..., None]
    x_btd = x_btd.masked_fill(~valid_bt[..., None], 0) * weight_bt1
    slope_bd, curvature_bd = (
        _project(x_btd, shape_bt1, weight_bt1) for shape_bt1 in _orthogonal_shapes(valid_bt)
    )
    rise_bd = (x_btd * _rise_weights(valid_bt)[..., None]).sum(dim=1)
    seconds_b1 = find_span(valid_bt)[1] * hop
    trend_bd = torch.cat([slope_bd / seconds_b1, slope_bd, curvature_bd, rise_bd], dim=1)
    return trend_bd * (valid_bt.sum(dim=1, keepdim=True) >= MIN_FRAMES)


def _orthogonal_shapes(valid_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Return a line and a parabola over the span, orthogonal to each other; (B, T, 1)."""
    first_b1, size_b1 = find_span(valid_bt)
    step_t = torch.arange(valid_bt.shape[1], device=valid_bt.device)
    position_bt1 = ((step_t - first_b1) / size_b1)[..., None]
    mean_b1, deviation_b1 = moments(position_bt1, valid_bt)
    line_bt1, variance_b11 = position_bt1 - mean_b1[:, None], deviation_b1[:, None].square()
    cube_b11 = (line_bt1**3 * uniform_weights(valid_bt)[..., None]).sum(dim=1, keepdim=True)
    tilt_b11 = cube_b11 / variance_b11.clamp(min=MIN_DEVIATION**2)
    return line_bt1, line_bt1.square() - variance_b11 - tilt_b11 * line_bt1


def _project(x_btd: Tensor, shape_bt1: Tensor, weight_bt1: Tensor) -> Tensor:
    """Return the coefficient (B, D) of a shape in contours that are multiplied by their weights."""
    norm_b1 = (shape_bt1.square() * weight_bt1).sum(dim=1)
    return (x_btd * shape_bt1).sum(dim=1) / norm_b1.clamp(min=MIN_DEVIATION**2)


def _rise_weights(valid_bt: Tensor) -> Tensor:
    """Return the weights (B, T) of the mean of the last third less that of the first third."""
    rank_bt, count_b1 = valid_bt.cumsum(dim=1), valid_bt.sum(dim=1, keepdim=True)
    third_b1 = (count_b1 // 3).clamp(min=1)
    rise_bt = (rank_bt > count_b1 - third_b1).float() - (rank_bt <= third_b1).float()
    return rise_bt * valid_bt * count_b1 / third_b1


def pairwise_correlations(x_btd: Tensor, valid_bt: Tensor) -> Tensor:
    """Return the correlation (B, D x (D - 1) / 2) of every two contours over the valid frames."""
    mean_bd, deviation_bd = moments(x_btd, valid_bt)
    x_btd = (x_btd - mean_bd[:, None]).masked_fill(~valid_bt[..., None], 0)
    x_btd = x_btd / (deviation_bd[:, None] + MIN_DEVIATION)
    correlation_bdd = (x_btd * uniform_weights(valid_bt)[..., None]).transpose(1, 2) @ x_btd
    size = x_btd.shape[2]
    row_p, column_p = torch.triu_indices(size, size, 1, device=x_btd.device)
    return correlation_bdd[:, row_p, column_p]


MIN_MOMENTUM = 0.01
"""Weight of a batch in the running statistics, from the hundredth batch on."""
RUNNING_EPSILON = 1e-3
"""Added to a deviation before the division."""
RUNNING_CLIP = 5.0
"""Largest standardized value; deviations from the mean."""


class RunningStandardizer(nn.Module):
    """(x - mean) / deviation of each value, by running statistics of the training batches.

    Unlike batch normalization, the output of an utterance does not depend on the others in its
    batch, except through the running statistics.
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
        """(B, F) -> (B, F); in training, update the statistics first."""
        if self.training:
            self._update(x_bf.detach())
        deviation_f = (self.square_f - self.mean_f.square()).clamp(min=0).sqrt() + RUNNING_EPSILON
        return ((x_bf - self.mean_f) / deviation_f).clamp(-RUNNING_CLIP, RUNNING_CLIP)

    def _update(self, x_bf: Tensor) -> None:
        self.steps_1 += 1
        momentum_1 = (1 / self.steps_1).clamp(min=MIN_MOMENTUM)
        self.mean_f.lerp_(x_bf.mean(dim=0), float(momentum_1))
        self.square_f.lerp_(x_bf.square().mean(dim=0), float(momentum_1))
