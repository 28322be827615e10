"""Logarithmic mel spectrogram with deltas and delta-deltas.

Frames are centred: frame i is the Hann window around sample i x hop, zeros beyond both ends.
Power spectrum, Slaney's mel scale with areas of one, natural logarithm with a floor of 1e-10;
deltas are Savitzky-Golay derivatives over nine frames, the edge frames repeated. This is what
``librosa.feature.melspectrogram`` and ``librosa.feature.delta(mode="nearest")`` compute.

Li et al. 2019, section 4.1: 16 kHz, window and FFT of 800 samples, hop 400, cut or padded with
zeros at 7.5 s; 128 bands x 3 = 384, their Table 1.

Fu et al. 2020, section 3.2: the same rate, window and hop, 128 bands alone; cut or padded with -1
at 256 frames. They do not say of what scale. With ``scale = "unit"`` a frame's bands are decibels
below the loudest band of the utterance, 80 of them laid on [-1, 1]: -1 is silence, 80 dB and more
below.

B = batch, S = samples, T = frames, F = bins of all orders together, M = mel bands,
K = frames that a derivative sees, O = orders, P = real and imaginary parts side by side.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval, Le
from torch import Tensor, nn

from serein.errors import ConfigError

POWER_FLOOR = 1e-10
BANDS_PER_PRODUCT = 32
"""Bands that share one matrix product over the bins that any of them sees."""
FRAMES_PER_BLOCK = 64
"""Frames that are transformed together; more would not fit into a core's cache."""
UNIT_RANGE_DECIBELS = 80
"""Below the loudest band of an utterance, from which on all is silence on the unit scale."""
DELTA_CONTEXT = 4
"""Frames on each side that a derivative sees."""


@dataclass(frozen=True)
class Config:
    """What may vary.

    Attributes:
        rate: sampling rate in Hz.
        window: samples of the Hann window and of the FFT.
        hop: samples from frame to frame.
        bands: mel bands from 0 Hz to ``high``.
        high: upper edge of the highest band in Hz; None is half the rate. Codecs cut the top of
            the spectrum: MP3 at 16 kHz leaves nothing above some 7.5 kHz.
        scale: "log" is the natural logarithm of the power; "unit" lays the 80 dB below the
            utterance's loudest band on [-1, 1].
        deltas: derivatives laid beside the bands; 2 is deltas and delta-deltas.
        seconds: where an utterance is cut; None takes it whole.
        pad: whether shorter ones are filled up to ``seconds``, as frames like others: the
            waveform with zeros, or on the unit scale the spectrogram with -1.
    """

    rate: Annotated[int, Interval(ge=1000, le=192_000)] = 16_000
    window: Annotated[int, Ge(16)] = 800
    hop: Annotated[int, Ge(1)] = 400
    bands: Annotated[int, Ge(1)] = 128
    high: Annotated[float, Gt(0)] | None = None
    scale: Literal["log", "unit"] = "log"
    deltas: Annotated[int, Ge(0), Le(2)] = 2
    seconds: Annotated[float, Gt(0)] | None = 7.5
    pad: bool = False


class FrontEnd(nn.Module):
    """Waveforms to log-mel frames; nothing in it is learnt."""

    window_s: Tensor
    slopes_ok: Tensor

    def __init__(self, config: Config) -> None:
        """Prepare window, filters and derivatives.

        Raises:
            ConfigError: padding without a length, bands beyond half the rate, or more of them
                than the FFT can tell apart.
        """
        super().__init__()
        if config.pad and config.seconds is None:
            raise ConfigError("features.pad = true needs features.seconds, the length to pad to")
        self.config = config
        self.rate = config.rate
        self.hop = config.hop / config.rate
        self.max_seconds = config.seconds
        self.width = config.bands * (1 + config.deltas)
        filters_cm = mel_filters(config.rate, config.window, config.bands, config.high)
        filters_pm = filters_cm.repeat(2, axis=0)
        slopes_ok = delta_filters()[: 1 + config.deltas]
        window_s = torch.from_numpy(hann_window(config.window))
        self.register_buffer("window_s", window_s, persistent=False)
        self._spans = []
        for group, start in enumerate(range(0, config.bands, BANDS_PER_PRODUCT)):
            part_pm = torch.from_numpy(filters_pm[:, start : start + BANDS_PER_PRODUCT]).float()
            used_p = part_pm.any(dim=1).nonzero()
            self._spans.append((int(used_p[0]), int(used_p[-1]) + 1))
            part_pm = part_pm[slice(*self._spans[-1])].contiguous()
            self.register_buffer(f"mel_{group}_pm", part_pm, persistent=False)
        self.register_buffer("slopes_ok", torch.from_numpy(slopes_ok).float(), persistent=False)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        wave_bs, heard_b, length_b = self._crop_or_pad(wave_bs, length_b)
        frames_b, mask_bt = self._count_frames(length_b)
        log_btm = self._compute_log_mel(wave_bs)[:, : mask_bt.shape[1]]
        if self.config.scale == "unit":
            heard_bt = self._count_frames(heard_b)[1]
            log_btm = _scale_to_unit(
                log_btm, F.pad(heard_bt, (0, log_btm.shape[1] - heard_bt.shape[1]))
            )
        return self._append_deltas(log_btm, frames_b) * mask_bt[..., None], mask_bt

    @property
    def shares(self) -> bool:
        """Whether windows that overlap have frames in common; `overlapping` is for those alone."""
        return not self.config.pad and self.config.scale == "log"

    def overlapping(
        self, wave_s: Tensor, start_b: Tensor, length_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Windows of one waveform: what they have in common is transformed once.

        Args:
            wave_s: (S,) samples.
            start_b: (B,) where each window begins: a multiple of the hop.
            length_b: (B,) samples of each, no more than the front end takes.

        Returns:
            Frames (B, T, F) and mask (B, T), as for each window by itself.
        """
        hop, size = self.config.hop, self.config.window
        log_tm = self._compute_log_mel(wave_s[None])[0]
        frames_b, mask_bt = self._count_frames(length_b)
        log_btm = log_tm[self._window_frames(start_b, mask_bt, len(log_tm))]
        # Frames that reach beyond their window's ends see zeros there, not their neighbours.
        frame_be = self._edge_frames(frames_b)
        place_bes = frame_be[..., None] * hop + torch.arange(size, device=wave_s.device) - size // 2
        inside_bes = (place_bes >= 0) & (place_bes < length_b[:, None, None])
        place_bes = (place_bes + start_b[:, None, None]).clamp(0, len(wave_s) - 1)
        log_bem = self._compute_bands((wave_s[place_bes] * inside_bes).double())
        log_btm[torch.arange(len(start_b), device=wave_s.device)[:, None], frame_be] = log_bem
        return self._append_deltas(log_btm, frames_b) * mask_bt[..., None], mask_bt

    def _count_frames(self, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths in samples -> in frames (B,), and the mask (B, T) of these."""
        frames_b = 1 + length_b // self.config.hop
        step_t = torch.arange(int(frames_b.max()), device=length_b.device)
        return frames_b, step_t < frames_b[:, None]

    def _window_frames(self, start_b: Tensor, mask_bt: Tensor, most: int) -> Tensor:
        """Which of so many frames of a waveform are those of its windows: (B, T)."""
        step_t = torch.arange(mask_bt.shape[1], device=start_b.device)
        return (start_b[:, None] // self.config.hop + step_t).clamp(max=most - 1)

    def _edge_frames(self, frames_b: Tensor, reach: int = 0) -> Tensor:
        """Frames (B, E) that see beyond a window's ends, or within so many samples of them."""
        half = self.config.window - self.config.window // 2
        edge_e = torch.arange(-(-(half + reach) // self.config.hop), device=frames_b.device)
        last_b1 = frames_b[:, None] - 1
        edges = torch.minimum(edge_e, last_b1), (last_b1 - edge_e).clamp(min=0)
        return torch.cat(edges, dim=1)

    def _crop_or_pad(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut, and pad where the settings say so; zeros from each length on.

        Returns:
            (B, S), and the lengths in samples of what is heard, and of that with its padding.
        """
        if self.max_seconds is not None:
            most = round(self.max_seconds * self.rate)
            wave_bs, length_b = wave_bs[:, :most], length_b.clamp(max=most)
            if self.config.pad:
                wave_bs = F.pad(wave_bs, (0, most - wave_bs.shape[1]))
        if int(length_b.min()) < wave_bs.shape[1]:
            step_s = torch.arange(wave_bs.shape[1], device=wave_bs.device)
            wave_bs = wave_bs * (step_s < length_b[:, None])
        padded_b = torch.full_like(length_b, most) if self.config.pad else length_b
        return wave_bs, length_b, padded_b

    def _compute_log_mel(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> (B, T, M); the FFT in double precision, or quiet bands drown in rounding."""
        half = self.config.window // 2
        wave_bs = F.pad(wave_bs, (half, self.config.window - half)).double()
        frames_bts = wave_bs.unfold(1, self.config.window, self.config.hop)
        rows = len(wave_bs) * frames_bts.shape[1]
        blocks = frames_bts.chunk(math.ceil(rows / FRAMES_PER_BLOCK), dim=1)
        return torch.cat([self._compute_bands(block) for block in blocks], dim=1)

    def _compute_bands(self, frames_bts: Tensor) -> Tensor:
        """(B, T, window) -> (B, T, M)."""
        spectrum_btc = torch.fft.rfft(frames_bts * self.window_s)
        parts_np = torch.view_as_real(spectrum_btc).float().flatten(2).flatten(0, 1)
        power_np = parts_np * parts_np
        groups = [
            power_np[:, low:high] @ self.get_buffer(f"mel_{group}_pm")
            for group, (low, high) in enumerate(self._spans)
        ]
        log_nm = torch.cat(groups, dim=-1).clamp_(min=POWER_FLOOR).log_()
        return log_nm.view(*frames_bts.shape[:2], -1)

    def _append_deltas(self, log_btm: Tensor, frames_b: Tensor) -> Tensor:
        """(B, T, M) -> (B, T, F), the derivatives taken within each sequence."""
        if not self.config.deltas:
            return log_btm
        batch, frames, _ = log_btm.shape
        step_t = torch.arange(-DELTA_CONTEXT, frames + DELTA_CONTEXT, device=log_btm.device).clamp(
            min=0
        )
        index_bt = torch.minimum(step_t, frames_b[:, None] - 1)
        index_bt = index_bt + frames * torch.arange(batch, device=log_btm.device)[:, None]
        near_btkm = log_btm.flatten(0, 1)[index_bt].unfold(1, 2 * DELTA_CONTEXT + 1, 1).mT
        return (self.slopes_ok @ near_btkm).flatten(2)


def _scale_to_unit(log_btm: Tensor, heard_bt: Tensor) -> Tensor:
    """Logarithms of power -> [-1, 1] below each utterance's loudest; -1 where nothing is heard."""
    heard_btm = heard_bt[..., None] & (log_btm > math.log(1.01 * POWER_FLOOR))
    loudest_b11 = log_btm.masked_fill(~heard_btm, -math.inf).amax(dim=(1, 2), keepdim=True)
    decibels_btm = (log_btm - loudest_b11) * (10 / math.log(10))
    unit_btm = (1 + decibels_btm * (2 / UNIT_RANGE_DECIBELS)).clamp(min=-1)
    return unit_btm.masked_fill(~heard_btm, -1)


def hann_window(size: int) -> np.ndarray:
    """Hann's window, periodic: (size,), float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def mel_filters(rate: int, size: int, bands: int, high: float | None = None) -> np.ndarray:
    """Triangles on Slaney's mel scale (linear to 1 kHz, then logarithmic), each of area one.

    Slaney: Auditory Toolbox, technical report 1998-010, Interval Research 1998.

    Args:
        rate: sampling rate in Hz.
        size: samples of the FFT.
        bands: how many.
        high: upper edge of the highest in Hz; None is half the rate.

    Returns:
        (size // 2 + 1, bands), float64.

    Raises:
        ConfigError: ``high`` is beyond half the rate, or some bands would see no bin of the FFT.
    """
    if high is not None and high > rate / 2:
        raise ConfigError(f"features.high = {high} Hz is beyond half of {rate} Hz; set it lower")
    corner_m = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(high or rate / 2), bands + 2))
    bin_c = np.linspace(0.0, rate / 2, size // 2 + 1)
    rise_cm = (bin_c[:, None] - corner_m[:-2]) / np.diff(corner_m[:-1])
    fall_cm = (corner_m[2:] - bin_c[:, None]) / np.diff(corner_m[1:])
    filters_cm = np.maximum(0.0, np.minimum(rise_cm, fall_cm)) * 2 / (corner_m[2:] - corner_m[:-2])
    empty = int((filters_cm.max(axis=0) == 0).sum())
    if empty:
        raise ConfigError(
            f"{empty} of {bands} mel bands see no bin of an FFT of {size} samples at {rate} Hz; "
            "set features.bands lower or features.window higher"
        )
    return filters_cm


HERTZ_PER_MEL = 200 / 3
"""Hz of one mel below 1 kHz."""
LOG_RATIO_PER_MEL = np.log(6.4) / 27
"""Natural logarithm of the ratio of one mel above 1 kHz."""


def _hertz_to_mel(hertz: float) -> float:
    return float(
        hertz / HERTZ_PER_MEL if hertz < 1000 else 15 + np.log(hertz / 1000) / LOG_RATIO_PER_MEL
    )


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * HERTZ_PER_MEL, 1000 * np.exp(LOG_RATIO_PER_MEL * (mel - 15)))


def delta_filters() -> np.ndarray:
    """Savitzky-Golay weights of the frame itself, its first and its second derivative.

    The nine frames are fitted by a line for the first and by a parabola for the second (Savitzky
    and Golay, "Smoothing and differentiation of data", Analytical Chemistry 1964).

    Returns:
        (3, 9), the weight of each frame from the earliest to the latest.
    """
    step_k = np.arange(-DELTA_CONTEXT, DELTA_CONTEXT + 1, dtype=float)
    line = np.linalg.pinv(np.vander(step_k, 2, increasing=True))[1]
    parabola = 2 * np.linalg.pinv(np.vander(step_k, 3, increasing=True))[2]
    return np.stack([step_k == 0, line, parabola])
