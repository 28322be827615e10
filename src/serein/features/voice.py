"""What of a voice is left once its loudness is gone: mel bands, level, pitch and voicing.

First, from each sample the mean of the ``AROUND`` seconds about it is taken, which is a card's
offset or the wind and nobody's voice, and the recording is divided by its peak, so that rounding
and the least power that is told apart lie equally far below all of them.

A recording's own level is then that of its speech: the mean over all mel bands of the frames that
lie within ``within`` dB of the loudest one. It is taken from every band, so that the distance to
the microphone, silence around the speech and how loud a corpus was mastered leave nothing, while
the tilt of the spectrum, which tells effort, stays. No statistics of any corpus take part.

Pitch is the highest peak of the frame's autocorrelation, divided by that of its window (Boersma
1993: Accurate Short-Term Analysis of the Fundamental Frequency and the Harmonics-to-Noise Ratio of
a Sampled Sound, equations 8 and 9), between 60 and 500 Hz; an octave lower costs ``OCTAVE``. The
height of the peak is the share of the frame's energy that is periodic.

Bins: ``bands`` mel bands and the level of the frame, both in units of ``UNIT`` nepers of power and
no lower than ``FLOOR``; octaves of pitch above 125 Hz, 0 where there is no peak; voicing, 0 to 1.

B = batch, S = samples, T = frames, M = mel bands, L = lags of the autocorrelation.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from serein.features import logmel

SOURCES = ("features/logmel.py",)
NEPERS_PER_UNIT = 3.0
"""Nepers of power, 13 dB, that are laid on 1."""
LEVEL_FLOOR = -4.0
"""In these units: 52 dB below the speech, from which on all is silence."""
DECIBELS_PER_NEPER = 10 / math.log(10)
"""Of a neper of power."""
MIN_PITCH, MAX_PITCH = 60.0, 500.0
"""Hz, of a voice."""
REFERENCE_PITCH = 125.0
"""Hz that pitch counts its octaves from."""
OCTAVE_COST = 0.03
"""What a peak an octave lower must be higher by."""
MEAN_WINDOW = 0.05
"""Seconds; three periods of the lowest voice."""
MIN_PEAK = 1e-5
"""A peak below which there is nothing: a third of the least step of 16 bits."""
MIN_ENERGY = 1e-9
"""Energy of a frame, below which nothing in it is periodic."""
FRAMES_PER_BLOCK, SAMPLES_PER_BLOCK = 64, 16_384
"""Frames that are correlated, and samples of a long waveform that are levelled together.

More would not fit into a core's cache.
"""


@dataclass(frozen=True)
class Config:
    """What may vary.

    Attributes:
        rate: sampling rate in Hz.
        window: samples of the Hann window.
        hop: samples from frame to frame.
        bands: mel bands from 0 Hz to ``high``.
        high: upper edge of the highest band in Hz; None is half the rate.
        within: decibels below the loudest frame in which speech lies.
        seconds: where an utterance is cut; None takes it whole.
    """

    rate: Annotated[int, Interval(ge=8000, le=192_000)] = 16_000
    window: Annotated[int, Ge(16)] = 640
    hop: Annotated[int, Ge(1)] = 320
    bands: Annotated[int, Ge(1)] = 64
    high: Annotated[float, Gt(0)] | None = 7000.0
    speech_range: Annotated[float, Gt(0)] = 35.0
    seconds: Annotated[float, Gt(0)] | None = 6.0


class FrontEnd(nn.Module):
    """Waveforms to frames that no loudness changes; nothing in it is learnt."""

    window_s: Tensor
    window_l: Tensor
    cost_l: Tensor
    shares = True

    def __init__(self, config: Config) -> None:
        """Prepare windows and filters.

        Raises:
            ConfigError: bands beyond half the rate, or more than the FFT can tell apart.
        """
        super().__init__()
        self.config = config
        self.rate = config.rate
        self.hop = config.hop / config.rate
        self.max_seconds = config.seconds
        self.width = config.bands + 3
        self.given = {
            "hop": self.hop,
            "speech_range": config.speech_range / (DECIBELS_PER_NEPER * NEPERS_PER_UNIT),
        }
        names = ("rate", "window", "hop", "bands", "high", "seconds")
        same = {name: getattr(config, name) for name in names}
        self.mel = logmel.FrontEnd(logmel.Config(**same, deltas=0))
        self.mean_reach = round(MEAN_WINDOW * config.rate / 2)
        self.min_lag = max(2, math.floor(config.rate / MAX_PITCH))
        self.max_lag = min(math.ceil(config.rate / MIN_PITCH), config.window // 2)
        self.fft_size = 1 << (config.window + self.max_lag).bit_length()
        window_s = torch.from_numpy(logmel.hann_window(config.window)).float()
        lag_l = torch.arange(self.min_lag, self.max_lag, device="cpu")  # even of a weightless one
        self.register_buffer("window_s", window_s, persistent=False)
        self.register_buffer("window_l", self._autocorrelate(window_s)[0], persistent=False)
        cost_l = OCTAVE_COST * torch.log2(lag_l / self.min_lag)
        self.register_buffer("cost_l", cost_l, persistent=False)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        wave_bs, length_b, _ = self.mel._crop_or_pad(wave_bs, length_b)
        wave_bs = self.normalize_peak(wave_bs, length_b)
        mask_bt = self.mel._count_frames(length_b)[1]
        log_btm, pitch_btp = self.mel._compute_log_mel(wave_bs), self._track_pitch(wave_bs)
        frames = mask_bt.shape[1]
        return self.assemble_frames(
            log_btm[:, :frames], pitch_btp[:, :frames, :2], mask_bt
        ), mask_bt

    def overlapping(
        self, wave_s: Tensor, start_b: Tensor, length_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Windows of one waveform: what they have in common is transformed once.

        Args:
            wave_s: (S,) samples.
            start_b: (B,) where each window begins: a multiple of the hop.
            length_b: (B,) samples of each, no more than the front end takes.

        Returns:
            Frames (B, T, F) and mask (B, T), as for each window by itself; but for the octave of
            frames that are too faint, beside their window's peak, to be periodic at all.
        """
        level_s, window_bs = self._extract_windows(wave_s, start_b, length_b)
        loudest_b1 = _peak_amplitude(window_bs)
        # So loud that nothing in it is too faint: what is, each window's own peak tells.
        loud_1s = level_s[None] / MIN_PEAK
        log_tm, pitch_tp = self.mel._compute_log_mel(loud_1s)[0], self._track_pitch(loud_1s)[0]
        frames_b, mask_bt = self.mel._count_frames(length_b)
        row_bt = self.mel._window_frames(start_b, mask_bt, len(log_tm))
        gain_b11 = (MIN_PEAK / loudest_b1)[..., None]
        log_btm = (log_tm[row_bt] + 2 * gain_b11.log()).clamp(min=math.log(logmel.POWER_FLOOR))
        octave_bt, voicing_bt, energy_bt = pitch_tp[row_bt].unbind(dim=2)
        voicing_bt = voicing_bt * (energy_bt * gain_b11[..., 0].square() / MIN_ENERGY).clamp(max=1)
        pitch_btp = torch.stack([octave_bt, voicing_bt], dim=2)
        frame_be = self.mel._edge_frames(frames_b, self.mean_reach)
        edge_bes = self._gather_frames(window_bs, frame_be) / loudest_b1[..., None]
        row_b1 = _arange_like(len(start_b), wave_s)[:, None]
        log_btm[row_b1, frame_be] = self.mel._compute_bands(edge_bes.double())
        pitch_btp[row_b1, frame_be] = self._analyze_frames(edge_bes)[..., :2]
        return self.assemble_frames(log_btm, pitch_btp, mask_bt), mask_bt

    def _extract_windows(
        self, wave_s: Tensor, start_b: Tensor, length_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A waveform (S,) around 0, and windows (B, S) of it, whose ends know no neighbours."""
        wide_s, size = (
            F.pad(wave_s, (self.mean_reach, self.mean_reach)),
            SAMPLES_PER_BLOCK + 2 * self.mean_reach,
        )
        blocks = [wide_s[None, at : at + size] for at in range(0, len(wave_s), SAMPLES_PER_BLOCK)]
        levels = [self._subtract_local_mean(one_1s, torch.tensor([size])) for one_1s in blocks]
        level_s = torch.cat([one_1s[0, self.mean_reach : -self.mean_reach] for one_1s in levels])
        window_bs, near = (
            _cut_windows(level_s, start_b, length_b),
            length_b.clamp(max=2 * self.mean_reach),
        )
        head_bs = self._subtract_local_mean(_cut_windows(wave_s, start_b, near), near)
        tail_bs = self._subtract_local_mean(
            _cut_windows(wave_s, start_b + length_b - near, near), near
        )
        for row, (length, few) in enumerate(zip(length_b.tolist(), near.tolist(), strict=True)):
            edge = min(self.mean_reach, few)
            window_bs[row, :edge] = head_bs[row, :edge]
            window_bs[row, length - edge : length] = tail_bs[row, few - edge : few]
        return level_s, window_bs

    def _gather_frames(self, window_bs: Tensor, frame_be: Tensor) -> Tensor:
        """Those of some frames (B, E): (B, E, window)."""
        size, last = self.config.window, window_bs.shape[1] - 1
        middle_be1 = frame_be[..., None] * self.config.hop
        place_bn = (middle_be1 + _arange_like(size, window_bs) - size // 2).flatten(1)
        samples_bn = window_bs.gather(1, place_bn.clamp(0, last))
        samples_bn = samples_bn * ((place_bn >= 0) & (place_bn <= last))
        return samples_bn.view(*frame_be.shape, size)

    def normalize_peak(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """Waveforms (B, S) around 0, with a peak of 1; zeros from their lengths on."""
        wave_bs = self._center_each(wave_bs, length_b)
        return wave_bs / _peak_amplitude(wave_bs)

    def _center_each(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """Waveforms around 0; one by one, for a batch would not fit into a core's cache."""
        rows = zip(wave_bs[:, None].unbind(), length_b[:, None].unbind(), strict=True)
        return torch.cat(
            [self._subtract_local_mean(wave_1s, length_1) for wave_1s, length_1 in rows]
        )

    def _subtract_local_mean(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """Waveforms less the mean of the ``AROUND`` seconds about each sample; zeros behind."""
        reach, size, sum_bs = self.mean_reach, wave_bs.shape[1], wave_bs.double().cumsum(dim=1)
        after_bs = torch.cat([sum_bs[:, reach:], sum_bs[:, -1:].expand(-1, reach)], dim=1)
        before_bs = F.pad(sum_bs, (reach + 1, 0))
        step_s = _arange_like(size, wave_bs).double()
        length_b1 = length_b.to(step_s)[:, None]
        to_bs = torch.minimum(step_s + reach + 1, length_b1)
        count_bs = (to_bs - (step_s - reach).clamp(min=0)).clamp(min=1)
        mean_bs = (after_bs[:, :size] - before_bs[:, :size]) / count_bs
        return (wave_bs - mean_bs.to(wave_bs.dtype)).masked_fill(step_s >= length_b1, 0)

    def assemble_frames(self, log_btm: Tensor, pitch_btp: Tensor, mask_bt: Tensor) -> Tensor:
        """Logarithms of power, and pitch with voicing (B, T, 2) -> frames (B, T, F)."""
        level_bt1 = log_btm.logsumexp(dim=2, keepdim=True)
        bands_btm = torch.cat([log_btm, level_bt1], dim=2) - self._speech_level(
            log_btm, level_bt1, mask_bt
        )
        x_btf = torch.cat([(bands_btm / NEPERS_PER_UNIT).clamp(min=LEVEL_FLOOR), pitch_btp], dim=2)
        return x_btf * mask_bt[..., None]

    def _speech_level(self, log_btm: Tensor, level_bt1: Tensor, mask_bt: Tensor) -> Tensor:
        """The level of each recording's speech, (B, 1, 1)."""
        level_bt = level_bt1[..., 0].masked_fill(~mask_bt, -math.inf)
        loudest_b1 = level_bt.amax(dim=1, keepdim=True)
        spoken_bt = level_bt > loudest_b1 - self.config.speech_range / DECIBELS_PER_NEPER
        share_bt = spoken_bt / spoken_bt.sum(dim=1, keepdim=True)
        return (log_btm.mean(dim=2) * share_bt).sum(dim=1)[:, None, None]

    def _track_pitch(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> pitch, voicing and energy of each frame, (B, T, 3)."""
        half = self.config.window // 2
        wave_bs = F.pad(wave_bs, (half, self.config.window - half))
        frames_bts = wave_bs.unfold(1, self.config.window, self.config.hop)
        parts = frames_bts.chunk(math.ceil(frames_bts.shape[1] / FRAMES_PER_BLOCK), dim=1)
        return torch.cat([self._analyze_frames(part_bts) for part_bts in parts], dim=1)

    def _analyze_frames(self, frames_bts: Tensor) -> Tensor:
        """(B, T, window) -> (B, T, 3)."""
        frames_bts = frames_bts - frames_bts.mean(dim=2, keepdim=True)
        like_btl, energy_bt1 = self._autocorrelate(frames_bts * self.window_s)
        return torch.cat([self.find_pitch(like_btl / self.window_l), energy_bt1], dim=2)

    def find_pitch(self, like_btl: Tensor) -> Tensor:
        """Autocorrelation (..., T, L + 2) -> pitch and voicing (..., T, 2)."""
        near_btl, before_btl, after_btl = like_btl[..., 1:-1], like_btl[..., :-2], like_btl[..., 2:]
        is_peak_btl = (near_btl > before_btl) & (near_btl >= after_btl)
        score_btl = (near_btl - self.cost_l).masked_fill(~is_peak_btl, -math.inf)
        best_bt1 = score_btl.argmax(dim=-1, keepdim=True)
        found_bt1 = is_peak_btl.any(dim=-1, keepdim=True)
        octave_bt1 = torch.log2(self.rate / ((best_bt1 + self.min_lag) * REFERENCE_PITCH))
        voicing_bt1 = near_btl.gather(-1, best_bt1).clamp(0, 1)
        return torch.cat([octave_bt1, voicing_bt1], dim=-1) * found_bt1

    def _autocorrelate(self, frames_s: Tensor) -> tuple[Tensor, Tensor]:
        """(..., window) -> (..., L + 2) and (..., 1): with itself at each lag and one beyond.

        The first is a share of the second, which it is at lag 0.
        """
        power_c = torch.fft.rfft(frames_s, self.fft_size).abs().square()
        like_l = torch.fft.irfft(power_c, self.fft_size)
        energy_1 = like_l[..., :1]
        return like_l[..., self.min_lag - 1 : self.max_lag + 1] / energy_1.clamp(
            min=MIN_ENERGY
        ), energy_1


def _peak_amplitude(wave_bs: Tensor) -> Tensor:
    """The highest sample of each waveform, (B, 1)."""
    return wave_bs.abs().amax(dim=1, keepdim=True).clamp(min=MIN_PEAK)


def _cut_windows(wave_s: Tensor, start_b: Tensor, length_b: Tensor) -> Tensor:
    """Windows (B, S) of a waveform, zeros behind each one's end."""
    places = zip(start_b.tolist(), length_b.tolist(), strict=True)
    cut = [wave_s[start : start + length] for start, length in places]
    return nn.utils.rnn.pad_sequence(cut, batch_first=True)


def _arange_like(count: int, like: Tensor) -> Tensor:
    """Numbers from 0 on, where a tensor is."""
    return torch.arange(count, device=like.device)
