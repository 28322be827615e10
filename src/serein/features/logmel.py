"""Logarithmic mel spectrogram with deltas and delta-deltas.

Frames are centred: frame i is the Hann window around sample i x hop, with zeros beyond both ends.
Power spectrum, Slaney's mel scale with areas of one, natural logarithm with a floor of 1e-10;
deltas are Savitzky-Golay derivatives over nine frames, the edge frames repeated. This is what
``librosa.feature.melspectrogram`` and ``librosa.feature.delta(mode="nearest")`` compute.

Li et al. 2019, section 4.1: 16 kHz, window and FFT of 800 samples, hop 400, cut or padded with
zeros at 7.5 s; 128 bands x 3 = 384, their Table 1.

Fu et al. 2020, section 3.2: the same rate, window and hop, 128 bands alone; cut or padded with -1
at 256 frames. The paper does not state the scale. With ``scale = "unit"`` a frame's bands are
decibels below the loudest band of the utterance, 80 dB mapped to [-1, 1]: -1 is silence, 80 dB or
more below.

B = batch, S = samples, T = frames, F = bins of all orders together, M = mel bands,
K = frames in the window of a derivative, O = orders, E = frames at the edges of a window, P = real
and imaginary parts in turns.
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
"""Bands that share one matrix product, over the FFT bins that any of them covers."""
FRAMES_PER_BLOCK = 64
"""Frames that are transformed together; more would not fit into the cache of a CPU core."""
UNIT_RANGE_DECIBELS = 80
"""Range of the unit scale: lower than this below the loudest band of an utterance is silence."""
DELTA_CONTEXT = 4
"""Frames on each side in the window of a derivative."""


@dataclass(frozen=True)
class Config:
    """Settings of the front end.

    Attributes:
        rate: sampling rate in Hz.
        window: samples of the Hann window and of the FFT.
        hop: samples from frame to frame.
        bands: mel bands from 0 Hz to ``high``.
        high: upper edge of the highest band in Hz; None is half the rate. Codecs cut the top of
            the spectrum: MP3 at 16 kHz leaves nothing above some 7.5 kHz.
        scale: "log" is the natural logarithm of the power; "unit" maps the 80 dB below the
            utterance's loudest band to [-1, 1].
        deltas: derivatives appended to the bands; 2 is deltas and delta-deltas.
        seconds: longest utterance; the rest is cut. None keeps all.
        pad: whether shorter ones are padded to ``seconds`` with unmasked frames: the waveform with
            zeros, or on the unit scale the spectrogram with -1.
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
    """Waveforms to log-mel frames; it has no trainable weights."""

    window_s: Tensor
    slopes_ok: Tensor

    def __init__(self, config: Config) -> None:
        """Compute window, filters and derivatives.

        Raises:
            ConfigError: padding without a length, bands beyond half the rate, or more bands than
                the FFT can resolve.
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
        self._bin_ranges = []
        for group, start in enumerate(range(0, config.bands, BANDS_PER_PRODUCT)):
            part_pm = torch.from_numpy(filters_pm[:, start : start + BANDS_PER_PRODUCT]).float()
            used_p = part_pm.any(dim=1).nonzero()
            self._bin_ranges.append((int(used_p[0]), int(used_p[-1]) + 1))
            part_pm = part_pm[slice(*self._bin_ranges[-1])].contiguous()
            self.register_buffer(f"mel_{group}_pm", part_pm, persistent=False)
        self.register_buffer("slopes_ok", torch.from_numpy(slopes_ok).float(), persistent=False)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        wave_bs, length_b, padded_b = self.crop_or_pad(wave_bs, length_b)
        frames_b, mask_bt = self.count_frames(padded_b)
        log_btm = self.compute_log_mel(wave_bs)[:, : mask_bt.shape[1]]
        if self.config.scale == "unit":
            unpadded_bt = self.count_frames(length_b)[1]
            missing = log_btm.shape[1] - unpadded_bt.shape[1]
            log_btm = _scale_to_unit(log_btm, F.pad(unpadded_bt, (0, missing)))
        return self._append_deltas(log_btm, frames_b) * mask_bt[..., None], mask_bt

    @property
    def shares(self) -> bool:
        """Whether overlapping windows have frames in common; only then is `overlapping` used."""
        return not self.config.pad and self.config.scale == "log"

    def overlapping(
        self, wave_s: Tensor, start_b: Tensor, length_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the frames of windows of one waveform, each shared frame once.

        Args:
            wave_s: (S,) samples.
            start_b: (B,) first sample of each window: a multiple of the hop.
            length_b: (B,) samples of each, at most ``max_seconds``.

        Returns:
            Frames (B, T, F) and mask (B, T), the same as of each window alone.
        """
        hop, size = self.config.hop, self.config.window
        log_tm = self.compute_log_mel(wave_s[None])[0]
        frames_b, mask_bt = self.count_frames(length_b)
        log_btm = log_tm[self.window_frames(start_b, mask_bt, len(log_tm))]
        # Frames that extend beyond the ends of their window cover zeros there, not its neighbours.
        frame_be = self.edge_frames(frames_b)
        sample_bes = frame_be[..., None] * hop + torch.arange(size, device=wave_s.device)
        sample_bes = sample_bes - size // 2
        inside_bes = (sample_bes >= 0) & (sample_bes < length_b[:, None, None])
        sample_bes = (sample_bes + start_b[:, None, None]).clamp(0, len(wave_s) - 1)
        log_bem = self.compute_bands((wave_s[sample_bes] * inside_bes).double())
        log_btm[torch.arange(len(start_b), device=wave_s.device)[:, None], frame_be] = log_bem
        return self._append_deltas(log_btm, frames_b) * mask_bt[..., None], mask_bt

    def count_frames(self, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths in samples -> lengths in frames (B,) and the mask of frames (B, T)."""
        frames_b = 1 + length_b // self.config.hop
        step_t = torch.arange(int(frames_b.max()), device=length_b.device)
        return frames_b, step_t < frames_b[:, None]

    def window_frames(self, start_b: Tensor, mask_bt: Tensor, count: int) -> Tensor:
        """Return the indices (B, T), among ``count`` frames of a waveform, of its windows."""
        step_t = torch.arange(mask_bt.shape[1], device=start_b.device)
        return (start_b[:, None] // self.config.hop + step_t).clamp(max=count - 1)

    def edge_frames(self, frames_b: Tensor, margin: int = 0) -> Tensor:
        """Return the frames (B, E) that cover samples within a margin of the ends or beyond."""
        half = self.config.window - self.config.window // 2
        edge_e = torch.arange(-(-(half + margin) // self.config.hop), device=frames_b.device)
        last_b1 = frames_b[:, None] - 1
        edges = torch.minimum(edge_e, last_b1), (last_b1 - edge_e).clamp(min=0)
        return torch.cat(edges, dim=1)

    def crop_or_pad(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut to ``max_seconds``, pad if the settings say so, and zero the samples after each end.

        Returns:
            (B, S), the lengths in samples without padding, and those with it.
        """
        if self.max_seconds is not None:
            max_samples = round(self.max_seconds * self.rate)
            wave_bs, length_b = wave_bs[:, :max_samples], length_b.clamp(max=max_samples)
            if self.config.pad:
                wave_bs = F.pad(wave_bs, (0, max_samples - wave_bs.shape[1]))
        if int(length_b.min()) < wave_bs.shape[1]:
            step_s = torch.arange(wave_bs.shape[1], device=wave_bs.device)
            wave_bs = wave_bs * (step_s < length_b[:, None])
        padded_b = torch.full_like(length_b, max_samples) if self.config.pad else length_b
        return wave_bs, length_b, padded_b

    def compute_log_mel(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> (B, T, M); the FFT is in double precision, or quiet bands drown in rounding."""
        half = self.config.window // 2
        wave_bs = F.pad(wave_bs, (half, self.config.window - half)).double()
        frames_bts = wave_bs.unfold(1, self.config.window, self.config.hop)
        count = len(wave_bs) * frames_bts.shape[1]
        blocks = frames_bts.chunk(math.ceil(count / FRAMES_PER_BLOCK), dim=1)
        return torch.cat([self.compute_bands(block) for block in blocks], dim=1)

    def compute_bands(self, frames_bts: Tensor) -> Tensor:
        """Frames of samples (B, T, window) -> (B, T, M)."""
        spectrum_btc = torch.fft.rfft(frames_bts * self.window_s)
        parts_np = torch.view_as_real(spectrum_btc).float().flatten(2).flatten(0, 1)
        power_nm = self.apply_filters(parts_np * parts_np)
        return power_nm.clamp_(min=POWER_FLOOR).log_().view(*frames_bts.shape[:2], -1)

    def apply_filters(self, power_np: Tensor) -> Tensor:
        """Squares of real and imaginary parts (N, P) -> power of mel bands (N, M)."""
        groups = [
            power_np[:, low:high] @ self.get_buffer(f"mel_{group}_pm")
            for group, (low, high) in enumerate(self._bin_ranges)
        ]
        return torch.cat(groups, dim=-1)

    def _append_deltas(self, log_btm: Tensor, frames_b: Tensor) -> Tensor:
        """(B, T, M) -> (B, T, F), with the derivatives within each sequence."""
        if not self.config.deltas:
            return log_btm
        batch, frames, _ = log_btm.shape
        step_t = torch.arange(-DELTA_CONTEXT, frames + DELTA_CONTEXT, device=log_btm.device)
        index_bt = torch.minimum(step_t.clamp(min=0), frames_b[:, None] - 1)
        index_bt = index_bt + frames * torch.arange(batch, device=log_btm.device)[:, None]
        context_btkm = log_btm.flatten(0, 1)[index_bt].unfold(1, 2 * DELTA_CONTEXT + 1, 1).mT
        return (self.slopes_ok @ context_btkm).flatten(2)

    def to_onnx_module(self) -> "ONNXFrontEnd":
        """Return the front end for export."""
        return ONNXFrontEnd(self)


class ONNXFrontEnd(nn.Module):
    """The same front end for one waveform, with its Fourier transform as matrix products.

    The products are in double precision, which ONNX's own transform does not have everywhere.
    """

    window_s: Tensor

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.config = front_end, front_end.config
        self.transform = FourierTransform(self.config.window, self.config.window, torch.float64)
        window_s = front_end.window_s.cpu().double()
        self.register_buffer("window_s", window_s)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        config, unpadded = self.config, wave_bs.shape[1]
        if self.front_end.max_seconds is not None:
            max_samples = round(self.front_end.max_seconds * self.front_end.rate)
            unpadded = wave_bs[:, :max_samples].shape[1]
            wave_bs = F.pad(wave_bs, (0, max_samples if config.pad else 0))[:, :max_samples]
        frames, half = 1 + wave_bs.shape[1] // config.hop, config.window // 2
        wave_s = F.pad(wave_bs[0], (half, config.window - half)).double()
        step_t = torch.arange(frames)[:, None]
        frames_ts = cut_frames(wave_s, frames, config.window, config.hop)
        parts = self.transform(frames_ts * self.window_s)
        parts_tp = torch.stack(parts, dim=2).flatten(1).float()
        power_tm = self.front_end.apply_filters(parts_tp * parts_tp)
        log_tm = power_tm.clamp(min=POWER_FLOOR).log()
        if config.scale == "unit":
            unpadded_t = step_t[:, 0] <= unpadded // config.hop
            log_tm = _scale_to_unit(log_tm[None], unpadded_t[None])[0]
        if config.deltas:
            context_tk = step_t + torch.arange(-DELTA_CONTEXT, DELTA_CONTEXT + 1)
            context_tkm = log_tm[context_tk.clamp(0, frames - 1)]
            log_tm = (self.front_end.slopes_ok @ context_tkm).flatten(1)
        return log_tm[None], torch.ones(1, frames, dtype=torch.bool)


class FourierTransform(nn.Module):
    """The discrete Fourier transform of real frames as matrix products, for ONNX.

    One product with the matrix of the whole transform takes several times as many operations. Here
    N = P Q points are transformed in two steps (Cooley and Tukey 1965): with the sample n = Q a + b
    and the bin k = c + P d,

        X[c + P d] = sum_b exp(-2 pi i b (c + P d) / N) sum_a x[Q a + b] exp(-2 pi i a c / P).

    A, B, C and D below are the numbers of a, b, c and d.
    """

    inner_ca: Tensor
    outer_cbd: Tensor

    def __init__(self, size: int, points: int, dtype: torch.dtype) -> None:
        """Compute the matrices.

        Args:
            size: samples of a frame; zeros follow up to ``points``.
            points: N, at least the samples.
            dtype: of frames and bins.
        """
        super().__init__()
        self.bins = points // 2 + 1
        self.q = _choose_factor(size, points)
        self.p = points // self.q
        inner_ca = -fourier_phase(np.outer(np.arange(self.p), np.arange(size // self.q)), self.p)
        bin_cd = np.arange(self.p)[:, None] + self.p * np.arange(-(-self.bins // self.p))
        outer_cbd = -fourier_phase(np.arange(self.q)[:, None] * bin_cd[:, None], points)
        real, imaginary = np.cos(outer_cbd), np.sin(outer_cbd)
        rows = np.concatenate([real, imaginary], axis=2), np.concatenate([-imaginary, real], axis=2)
        tables = {
            "inner_ca": np.concatenate([np.cos(inner_ca), np.sin(inner_ca)]),
            "outer_cbd": np.concatenate(rows, axis=1),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table).to(dtype))

    def forward(self, frames_ts: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (T, S) -> real and imaginary parts of their bins, (T, N // 2 + 1) each."""
        # In each permutation but the last, the last axis stays: others take several times as long.
        frames = frames_ts.shape[0]
        x_an = frames_ts.reshape(frames, -1, self.q).transpose(0, 1).flatten(1)
        inner_pctb = (self.inner_ca @ x_an).reshape(2, self.p, frames, self.q)
        inner_ctb = inner_pctb.permute(1, 2, 0, 3).flatten(2)  # real parts, then imaginary ones
        outer_ctpd = (inner_ctb @ self.outer_cbd).reshape(self.p, frames, 2, -1)
        parts_tpk = outer_ctpd.permute(1, 2, 3, 0).flatten(2)[..., : self.bins]
        return parts_tpk[:, 0], parts_tpk[:, 1]


def _choose_factor(size: int, points: int) -> int:
    """Return the Q nearest to the root of the points that divides points and samples."""
    factors = [q for q in range(1, points + 1) if points % q == 0 and size % q == 0]
    return min(factors, key=lambda q: abs(math.log(q * q / points)))


def fourier_phase(product: np.ndarray, points: int) -> np.ndarray:
    """Return angles of integer products of sample and bin, in radians below 2 pi."""
    return 2 * np.pi * (product % points) / points


def cut_frames(wave_s: Tensor, frames: int, size: int, hop: int) -> Tensor:
    """Cut a waveform (S,) into overlapping frames (T, size), in operations of ONNX.

    Args:
        wave_s: at least (frames - 1) x hop + size samples.
        frames: T.
        size: samples of a frame.
        hop: samples from frame to frame.
    """
    if size % hop:
        return wave_s[torch.arange(frames)[:, None] * hop + torch.arange(size)]
    count = size // hop
    hops_th = wave_s[: (frames + count - 1) * hop].reshape(-1, hop)
    return torch.cat([hops_th[first : first + frames] for first in range(count)], dim=1)


def fourier_angles(step_s: np.ndarray, points: int) -> np.ndarray:
    """Return the angles (S, bins) of a Fourier transform of ``points`` points at steps (S,)."""
    return 2 * np.pi * np.outer(step_s, np.arange(points // 2 + 1)) / points


def _scale_to_unit(log_btm: Tensor, unpadded_bt: Tensor) -> Tensor:
    """Map log power to [-1, 1], relative to the loudest band of each utterance; silence is -1."""
    audible_btm = unpadded_bt[..., None] & (log_btm > math.log(1.01 * POWER_FLOOR))
    loudest_b11 = log_btm.masked_fill(~audible_btm, -math.inf).amax(dim=(1, 2), keepdim=True)
    decibels_btm = (log_btm - loudest_b11) * (10 / math.log(10))
    unit_btm = (1 + decibels_btm * (2 / UNIT_RANGE_DECIBELS)).clamp(min=-1)
    return unit_btm.masked_fill(~audible_btm, -1)


def hann_window(size: int) -> np.ndarray:
    """Return the periodic Hann window: (size,), float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def mel_filters(rate: int, size: int, bands: int, high: float | None = None) -> np.ndarray:
    """Return triangles on Slaney's mel scale (linear to 1 kHz, then logarithmic), of area one.

    Slaney: Auditory Toolbox, technical report 1998-010, Interval Research 1998.

    Args:
        rate: sampling rate in Hz.
        size: samples of the FFT.
        bands: number of bands.
        high: upper edge of the highest band in Hz; None is half the rate.

    Returns:
        (size // 2 + 1, bands), float64.

    Raises:
        ConfigError: ``high`` is beyond half the rate, or some bands would cover no bin of the FFT.
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
            f"{empty} of {bands} mel bands cover no bin of an FFT of {size} samples at {rate} Hz; "
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
    """Return Savitzky-Golay weights of the frame itself, its first and its second derivative.

    The first derivative is that of a line fitted to nine frames, the second that of a parabola
    (Savitzky and Golay, "Smoothing and differentiation of data", Analytical Chemistry 1964).

    Returns:
        (3, 9), the weight of each frame from the earliest to the latest.
    """
    step_k = np.arange(-DELTA_CONTEXT, DELTA_CONTEXT + 1, dtype=float)
    line = np.linalg.pinv(np.vander(step_k, 2, increasing=True))[1]
    parabola = 2 * np.linalg.pinv(np.vander(step_k, 3, increasing=True))[2]
    return np.stack([step_k == 0, line, parabola])
