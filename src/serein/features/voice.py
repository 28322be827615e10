"""Loudness-normalized log-mel bands, frame level, pitch and voicing.

First, the mean of the ``MEAN_WINDOW`` seconds around each sample is subtracted, which removes a
sound card's offset and wind, and the recording is divided by its peak, so that rounding and the
power floor lie equally far below every recording.

Then the level of the recording's speech is subtracted: the mean over all mel bands of the frames
within ``speech_range`` dB of the loudest one. One level is subtracted from every band, so that the
distance to the microphone, silence around the speech and the mastering of a corpus have no
effect, while the tilt of the spectrum, which shows vocal effort, stays. No statistics of any corpus
are used.

Pitch is the highest peak of the frame's autocorrelation, divided by that of its window (Boersma
1993: Accurate Short-Term Analysis of the Fundamental Frequency and the Harmonics-to-Noise Ratio of
a Sampled Sound, equations 8 and 9), between 60 and 500 Hz; the
score of a lag falls by ``OCTAVE_COST`` per octave.
The height of the peak is the periodic share of the frame's energy.

Bins: ``bands`` mel bands and the level of the frame, both in units of ``NEPERS_PER_UNIT`` nepers of
power and at least ``LEVEL_FLOOR``; octaves of pitch above 125 Hz, 0 where there is no peak;
voicing, 0 to 1.

B = batch, S = samples, T = frames, E = frames at the edges of a window, M = mel bands, L = lags of
the autocorrelation, P = pitch, voicing (and energy), C = bins of a Fourier transform.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from serein.features import logmel

SOURCES = ("features/logmel.py",)
NEPERS_PER_UNIT = 3.0
"""Nepers of power (13 dB) in one unit of level."""
LEVEL_FLOOR = -4.0
"""Lowest level, in these units: 52 dB below the speech; anything lower is silence."""
DECIBELS_PER_NEPER = 10 / math.log(10)
"""Decibels of a neper of power."""
MIN_PITCH, MAX_PITCH = 60.0, 500.0
"""Range of pitch in Hz."""
REFERENCE_PITCH = 125.0
"""Pitch of 0 octaves, in Hz."""
OCTAVE_COST = 0.03
"""The score of a lag falls by this height of its peak per octave."""
MEAN_WINDOW = 0.05
"""Seconds of the local mean; three periods of the lowest voice."""
MIN_PEAK = 1e-5
"""Lowest peak of a recording that is not silent: a third of the least step of 16 bits."""
MIN_ENERGY = 1e-9
"""Energy of a frame below which nothing in it is periodic."""
FRAMES_PER_BLOCK, SAMPLES_PER_BLOCK = 64, 16_384
"""Frames that are correlated, and samples of a long waveform that are centred, at a time.

More would not fit into the cache of a CPU core.
"""


@dataclass(frozen=True)
class Config:
    """Settings of the front end.

    Attributes:
        rate: sampling rate in Hz.
        window: samples of the Hann window.
        hop: samples from frame to frame.
        bands: mel bands from 0 Hz to ``high``.
        high: upper edge of the highest band in Hz; None is half the rate.
        speech_range: decibels below the loudest frame that still count as speech.
        seconds: longest utterance; the rest is cut. None keeps all.
    """

    rate: Annotated[int, Interval(ge=8000, le=192_000)] = 16_000
    window: Annotated[int, Ge(16)] = 640
    hop: Annotated[int, Ge(1)] = 320
    bands: Annotated[int, Ge(1)] = 64
    high: Annotated[float, Gt(0)] | None = 7000.0
    speech_range: Annotated[float, Gt(0)] = 35.0
    seconds: Annotated[float, Gt(0)] | None = 6.0


class FrontEnd(nn.Module):
    """Waveforms to frames that do not depend on loudness; it has no trainable weights.

    Attributes:
        given: settings of a model that depend on this front end.
    """

    window_s: Tensor
    window_l: Tensor
    cost_l: Tensor
    shares = True

    def __init__(self, config: Config) -> None:
        """Compute windows and filters.

        Raises:
            ConfigError: bands beyond half the rate, or more bands than the FFT can resolve.
        """
        super().__init__()
        self.config = config
        self.rate = config.rate
        self.hop = config.hop / config.rate
        self.max_seconds = config.seconds
        self.width = config.bands + 3
        speech_range = config.speech_range / (DECIBELS_PER_NEPER * NEPERS_PER_UNIT)
        self.given = {"hop": self.hop, "speech_range": speech_range}
        names = ("rate", "window", "hop", "bands", "high", "seconds")
        same = {name: getattr(config, name) for name in names}
        self.mel = logmel.FrontEnd(logmel.Config(**same, deltas=0))
        self.mean_reach = round(MEAN_WINDOW * config.rate / 2)
        self.min_lag = max(2, math.floor(config.rate / MAX_PITCH))
        self.max_lag = min(math.ceil(config.rate / MIN_PITCH), config.window // 2)
        self.fft_size = 1 << (config.window + self.max_lag).bit_length()
        window_s = torch.from_numpy(logmel.hann_window(config.window)).float()
        lag_l = torch.arange(self.min_lag, self.max_lag, device="cpu")  # also under device meta
        self.register_buffer("window_s", window_s, persistent=False)
        self.register_buffer("window_l", self._autocorrelate(window_s)[0], persistent=False)
        cost_l = OCTAVE_COST * torch.log2(lag_l / self.min_lag)
        self.register_buffer("cost_l", cost_l, persistent=False)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        wave_bs, length_b, _ = self.mel.crop_or_pad(wave_bs, length_b)
        wave_bs = self.normalize_peak(wave_bs, length_b)
        mask_bt = self.mel.count_frames(length_b)[1]
        frame_count = mask_bt.shape[1]
        log_btm = self.mel.compute_log_mel(wave_bs)[:, :frame_count]
        pitch_btp = self._track_pitch(wave_bs)[:, :frame_count, :2]
        return self.assemble_frames(log_btm, pitch_btp, mask_bt), mask_bt

    def overlapping(
        self, wave_s: Tensor, start_b: Tensor, length_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the frames of windows of one waveform, each shared frame once.

        Args:
            wave_s: (S,) samples.
            start_b: (B,) first sample of each window: a multiple of the hop.
            length_b: (B,) samples of each, at most ``max_seconds``.

        Returns:
            Frames (B, T, F) and mask (B, T), the same as of each window alone, except for the
            octave of frames that are too faint, next to their window's peak, to be periodic.
        """
        centred_s, window_bs = self._extract_windows(wave_s, start_b, length_b)
        peak_b1 = _peak_amplitude(window_bs)
        # Scaled so that no frame is below the power floor: the peak of each window decides below.
        scaled_1s = centred_s[None] / MIN_PEAK
        log_tm, pitch_tp = self.mel.compute_log_mel(scaled_1s)[0], self._track_pitch(scaled_1s)[0]
        frames_b, mask_bt = self.mel.count_frames(length_b)
        index_bt = self.mel.window_frames(start_b, mask_bt, len(log_tm))
        gain_b11 = (MIN_PEAK / peak_b1)[..., None]
        log_btm = (log_tm[index_bt] + 2 * gain_b11.log()).clamp(min=math.log(logmel.POWER_FLOOR))
        octave_bt, voicing_bt, energy_bt = pitch_tp[index_bt].unbind(dim=2)
        voicing_bt = voicing_bt * (energy_bt * gain_b11[..., 0].square() / MIN_ENERGY).clamp(max=1)
        pitch_btp = torch.stack([octave_bt, voicing_bt], dim=2)
        frame_be = self.mel.edge_frames(frames_b, self.mean_reach)
        edge_bes = self._gather_frames(window_bs, frame_be) / peak_b1[..., None]
        row_b1 = _arange_like(len(start_b), wave_s)[:, None]
        log_btm[row_b1, frame_be] = self.mel.compute_bands(edge_bes.double())
        pitch_btp[row_b1, frame_be] = self._analyze_frames(edge_bes)[..., :2]
        return self.assemble_frames(log_btm, pitch_btp, mask_bt), mask_bt

    def _extract_windows(
        self, wave_s: Tensor, start_b: Tensor, length_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Subtract the local mean of a waveform (S,) and of its windows (B, S).

        The local mean near the ends of a window is that of its own samples alone.
        """
        reach = self.mean_reach
        padded_s, size = F.pad(wave_s, (reach, reach)), SAMPLES_PER_BLOCK + 2 * reach
        starts = range(0, len(wave_s), SAMPLES_PER_BLOCK)
        blocks = [padded_s[None, start : start + size] for start in starts]
        centred = [self._subtract_local_mean(block, torch.tensor([size])) for block in blocks]
        centred_s = torch.cat([block_1s[0, reach:-reach] for block_1s in centred])
        window_bs, edge_b = (
            _cut_windows(centred_s, start_b, length_b),
            length_b.clamp(max=2 * reach),
        )
        head_bs = self._subtract_local_mean(_cut_windows(wave_s, start_b, edge_b), edge_b)
        tail_start_b = start_b + length_b - edge_b
        tail_bs = self._subtract_local_mean(_cut_windows(wave_s, tail_start_b, edge_b), edge_b)
        for row, (length, edge) in enumerate(zip(length_b.tolist(), edge_b.tolist(), strict=True)):
            count = min(reach, edge)
            window_bs[row, :count] = head_bs[row, :count]
            window_bs[row, length - count : length] = tail_bs[row, edge - count : edge]
        return centred_s, window_bs

    def _gather_frames(self, window_bs: Tensor, frame_be: Tensor) -> Tensor:
        """Return the samples of some frames (B, E): (B, E, window)."""
        size, last = self.config.window, window_bs.shape[1] - 1
        centre_be1 = frame_be[..., None] * self.config.hop
        index_bn = (centre_be1 + _arange_like(size, window_bs) - size // 2).flatten(1)
        samples_bn = window_bs.gather(1, index_bn.clamp(0, last))
        samples_bn = samples_bn * ((index_bn >= 0) & (index_bn <= last))
        return samples_bn.view(*frame_be.shape, size)

    def normalize_peak(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """Return waveforms (B, S) without their local mean, with a peak of 1; zeros after ends."""
        # One by one: a batch would not fit into the cache of a CPU core.
        rows = zip(wave_bs[:, None].unbind(), length_b[:, None].unbind(), strict=True)
        centred = [self._subtract_local_mean(wave_1s, length_1) for wave_1s, length_1 in rows]
        wave_bs = torch.cat(centred)
        return wave_bs / _peak_amplitude(wave_bs)

    def _subtract_local_mean(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """Subtract the mean of the ``MEAN_WINDOW`` seconds around each sample; zeros after ends."""
        reach, size, sum_bs = self.mean_reach, wave_bs.shape[1], wave_bs.double().cumsum(dim=1)
        after_bs = torch.cat([sum_bs[:, reach:], sum_bs[:, -1:].expand(-1, reach)], dim=1)
        before_bs = F.pad(sum_bs, (reach + 1, 0))
        step_s = _arange_like(size, wave_bs).double()
        length_b1 = length_b.to(step_s)[:, None]
        end_bs = torch.minimum(step_s + reach + 1, length_b1)
        count_bs = (end_bs - (step_s - reach).clamp(min=0)).clamp(min=1)
        mean_bs = (after_bs[:, :size] - before_bs[:, :size]) / count_bs
        return (wave_bs - mean_bs.to(wave_bs.dtype)).masked_fill(step_s >= length_b1, 0)

    def assemble_frames(self, log_btm: Tensor, pitch_btp: Tensor, mask_bt: Tensor) -> Tensor:
        """Log power (B, T, M), and pitch with voicing (B, T, 2) -> frames (B, T, F)."""
        level_bt1 = log_btm.logsumexp(dim=2, keepdim=True)
        speech_b11 = self._speech_level(log_btm, level_bt1, mask_bt)
        bands_btm = torch.cat([log_btm, level_bt1], dim=2) - speech_b11
        x_btf = torch.cat([(bands_btm / NEPERS_PER_UNIT).clamp(min=LEVEL_FLOOR), pitch_btp], dim=2)
        return x_btf * mask_bt[..., None]

    def _speech_level(self, log_btm: Tensor, level_bt1: Tensor, mask_bt: Tensor) -> Tensor:
        """Return the level of the speech in each recording, (B, 1, 1)."""
        level_bt = level_bt1[..., 0].masked_fill(~mask_bt, -math.inf)
        loudest_b1 = level_bt.amax(dim=1, keepdim=True)
        speech_bt = level_bt > loudest_b1 - self.config.speech_range / DECIBELS_PER_NEPER
        weight_bt = speech_bt / speech_bt.sum(dim=1, keepdim=True)
        return (log_btm.mean(dim=2) * weight_bt).sum(dim=1)[:, None, None]

    def _track_pitch(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> pitch, voicing and energy of each frame, (B, T, 3)."""
        half = self.config.window // 2
        wave_bs = F.pad(wave_bs, (half, self.config.window - half))
        frames_bts = wave_bs.unfold(1, self.config.window, self.config.hop)
        parts = frames_bts.chunk(math.ceil(frames_bts.shape[1] / FRAMES_PER_BLOCK), dim=1)
        return torch.cat([self._analyze_frames(part_bts) for part_bts in parts], dim=1)

    def _analyze_frames(self, frames_bts: Tensor) -> Tensor:
        """Frames of samples (B, T, window) -> pitch, voicing and energy (B, T, 3)."""
        frames_bts = frames_bts - frames_bts.mean(dim=2, keepdim=True)
        correlation_btl, energy_bt1 = self._autocorrelate(frames_bts * self.window_s)
        return torch.cat([self.find_pitch(correlation_btl / self.window_l), energy_bt1], dim=2)

    def find_pitch(self, correlation_btl: Tensor, octave_l: Tensor | None = None) -> Tensor:
        """Return pitch and voicing (..., T, 2).

        Args:
            correlation_btl: autocorrelation (..., T, L + 2).
            octave_l: pitch of each lag (L,), for ONNX: the logarithm of a number depends on its
                place in onnxruntime, and frames whose pitch does not change at all are counted.
        """
        height_btl = correlation_btl[..., 1:-1]
        before_btl, after_btl = correlation_btl[..., :-2], correlation_btl[..., 2:]
        is_peak_btl = (height_btl > before_btl) & (height_btl >= after_btl)
        score_btl = (height_btl - self.cost_l).masked_fill(~is_peak_btl, -math.inf)
        best_bt1 = score_btl.argmax(dim=-1, keepdim=True)
        has_peak_bt1 = is_peak_btl.any(dim=-1, keepdim=True)
        octave_bt1 = self.convert_lags(best_bt1) if octave_l is None else octave_l[best_bt1]
        voicing_bt1 = height_btl.gather(-1, best_bt1).clamp(0, 1)
        return torch.cat([octave_bt1, voicing_bt1], dim=-1) * has_peak_bt1

    def convert_lags(self, index_bt1: Tensor) -> Tensor:
        """Return the pitch, in octaves, of lags by their index among those that are searched."""
        return torch.log2(self.rate / ((index_bt1 + self.min_lag) * REFERENCE_PITCH))

    def _autocorrelate(self, frames_s: Tensor) -> tuple[Tensor, Tensor]:
        """Correlate frames (..., window) with themselves.

        Returns:
            The autocorrelation at each lag and one beyond on each side, (..., L + 2), as a share
            of the energy; and the energy, which is the autocorrelation at lag 0, (..., 1).
        """
        power_c = torch.fft.rfft(frames_s, self.fft_size).abs().square()
        correlation_l = torch.fft.irfft(power_c, self.fft_size)
        energy_1 = correlation_l[..., :1]
        used_l = correlation_l[..., self.min_lag - 1 : self.max_lag + 1]
        return used_l / energy_1.clamp(min=MIN_ENERGY), energy_1

    def to_onnx_module(self) -> "ONNXFrontEnd":
        """Return the front end for export."""
        return ONNXFrontEnd(self)


class ONNXFrontEnd(nn.Module):
    """The same front end for one waveform, with its Fourier transforms as matrix products."""

    inverse_cl: Tensor
    octave_l: Tensor

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.mel = front_end, front_end.mel.to_onnx_module()
        size, points = front_end.config.window, front_end.fft_size
        self.transform = logmel.FourierTransform(size, points, torch.float32)
        lag_l = np.array([0, *range(front_end.min_lag - 1, front_end.max_lag + 1)])
        weight_c = np.full(points // 2 + 1, 2.0)
        weight_c[[0, -1]] = 1.0
        inverse_cl = np.cos(logmel.fourier_angles(lag_l, points)).T * weight_c[:, None] / points
        self.register_buffer("inverse_cl", torch.from_numpy(inverse_cl).float())
        octave_l = front_end.convert_lags(torch.arange(len(front_end.cost_l)))
        self.register_buffer("octave_l", octave_l)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        config, front_end = self.front_end.config, self.front_end
        if front_end.max_seconds is not None:
            wave_bs = wave_bs[:, : round(front_end.max_seconds * front_end.rate)]
        wave_bs = front_end.normalize_peak(wave_bs, length_b.clamp(max=wave_bs.shape[1]))
        log_btm, mask_bt = self.mel(wave_bs, length_b)
        half, frame_count = config.window // 2, log_btm.shape[1]
        wave_s = F.pad(wave_bs[0], (half, config.window - half))
        frames_ts = logmel.cut_frames(wave_s, frame_count, config.window, config.hop)
        frames_ts = (frames_ts - frames_ts.mean(dim=1, keepdim=True)) * front_end.window_s
        real_tc, imaginary_tc = self.transform(frames_ts)
        correlation_tl = (real_tc.square() + imaginary_tc.square()) @ self.inverse_cl
        correlation_tl = correlation_tl[:, 1:] / correlation_tl[:, :1].clamp(min=MIN_ENERGY)
        pitch_tp = front_end.find_pitch(correlation_tl / front_end.window_l, self.octave_l)
        return front_end.assemble_frames(log_btm, pitch_tp[None], mask_bt), mask_bt


def _peak_amplitude(wave_bs: Tensor) -> Tensor:
    """Return the largest magnitude of each waveform, (B, 1)."""
    return wave_bs.abs().amax(dim=1, keepdim=True).clamp(min=MIN_PEAK)


def _cut_windows(wave_s: Tensor, start_b: Tensor, length_b: Tensor) -> Tensor:
    """Return windows (B, S) of a waveform, padded with zeros."""
    ranges = zip(start_b.tolist(), length_b.tolist(), strict=True)
    windows = [wave_s[start : start + length] for start, length in ranges]
    return nn.utils.rnn.pad_sequence(windows, batch_first=True)


def _arange_like(count: int, like: Tensor) -> Tensor:
    """Return the numbers below ``count`` on the device of a tensor."""
    return torch.arange(count, device=like.device)
