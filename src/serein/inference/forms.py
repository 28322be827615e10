"""Parts of a system for one recording at a time, in operations that ONNX has.

Without neighbours in a batch there is no padding, and what keeps it apart falls away: masks are
all true, rows end where the recording ends. The weights are those of the parts themselves.

B = 1, S = samples, T = frames, F = bins or samples of a frame, M = mel bands, P = real and
imaginary parts side by side, D = channels, K = frames that are seen together, Z = directions,
G = gates of all hidden units.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.features import logmel, rawframes, voice

GATE_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Where torch keeps the gates that ONNX wants first, second, ..."""
RNN_WEIGHTS = {
    "input_zgd": ("weight_ih",),
    "state_zgd": ("weight_hh",),
    "bias_zg": ("bias_ih", "bias_hh"),
}


class LogMelONNX(nn.Module):
    """``features.logmel`` with its transform as one matrix product, in double precision too.

    ONNX's own transform is not in double precision everywhere.
    """

    basis_sp: Tensor

    def __init__(self, front_end: logmel.FrontEnd) -> None:
        super().__init__()
        self.inner, self.config = front_end, front_end.config
        size = self.config.window
        angle_sc = _dft_angles(np.arange(size), size)
        basis_sp = np.stack([np.cos(angle_sc), -np.sin(angle_sc)], axis=-1).reshape(size, -1)
        window_s = front_end.window_s.cpu().double()
        self.register_buffer("basis_sp", torch.from_numpy(basis_sp) * window_s[:, None])

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        config, heard = self.config, wave_bs.shape[1]
        if self.inner.max_seconds is not None:
            most = round(self.inner.max_seconds * self.inner.rate)
            heard = wave_bs[:, :most].shape[1]
            wave_bs = F.pad(wave_bs, (0, most if config.pad else 0))[:, :most]
        frames, half = 1 + wave_bs.shape[1] // config.hop, config.window // 2
        wave_s = F.pad(wave_bs[0], (half, config.window - half)).double()
        step_t = torch.arange(frames)[:, None]
        part_tp = (
            wave_s[step_t * config.hop + torch.arange(config.window)] @ self.basis_sp
        ).float()
        log_tm = self._compute_bands(part_tp * part_tp)
        if config.scale == "unit":
            heard_t = step_t[:, 0] <= heard // config.hop
            log_tm = logmel._scale_to_unit(log_tm[None], heard_t[None])[0]
        if config.deltas:
            near_tk = step_t + torch.arange(-logmel.DELTA_CONTEXT, logmel.DELTA_CONTEXT + 1)
            near_tkm = log_tm[near_tk.clamp(0, frames - 1)]
            log_tm = (self.inner.slopes_ok @ near_tkm).flatten(1)
        return log_tm[None], torch.ones(1, frames, dtype=torch.bool)

    def _compute_bands(self, power_tp: Tensor) -> Tensor:
        groups = [
            power_tp[:, low:high] @ self.inner.get_buffer(f"mel_{group}_pm")
            for group, (low, high) in enumerate(self.inner._spans)
        ]
        return torch.cat(groups, dim=-1).clamp(min=logmel.POWER_FLOOR).log()


class VoiceONNX(nn.Module):
    """``features.voice`` with its transforms as matrix products."""

    power_sp: Tensor
    like_cl: Tensor

    def __init__(self, front_end: voice.FrontEnd) -> None:
        super().__init__()
        self.inner, self.mel = front_end, LogMelONNX(front_end.mel)
        size, points = front_end.config.window, front_end.fft_size
        angle_sc = _dft_angles(np.arange(size), points)
        basis_sp = np.concatenate([np.cos(angle_sc), np.sin(angle_sc)], axis=1)
        lag_l = np.array([0, *range(front_end.min_lag - 1, front_end.max_lag + 1)])
        twice_c = np.full(points // 2 + 1, 2.0)
        twice_c[[0, -1]] = 1.0
        like_cl = np.cos(_dft_angles(lag_l, points)).T * twice_c[:, None] / points
        self.register_buffer("power_sp", torch.from_numpy(basis_sp).float())
        self.register_buffer("like_cl", torch.from_numpy(like_cl).float())

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        config, front_end = self.inner.config, self.inner
        if front_end.max_seconds is not None:
            wave_bs = wave_bs[:, : round(front_end.max_seconds * front_end.rate)]
        wave_bs = front_end.normalize_peak(wave_bs, length_b.clamp(max=wave_bs.shape[1]))
        log_btm, mask_bt = self.mel(wave_bs, length_b)
        half, frames = config.window // 2, log_btm.shape[1]
        wave_s = F.pad(wave_bs[0], (half, config.window - half))
        place_ts = torch.arange(frames)[:, None] * config.hop + torch.arange(config.window)
        frames_ts = wave_s[place_ts]
        frames_ts = (frames_ts - frames_ts.mean(dim=1, keepdim=True)) * front_end.window_s
        real_tc, other_tc = (frames_ts @ self.power_sp).chunk(2, dim=1)
        like_tl = (real_tc * real_tc + other_tc * other_tc) @ self.like_cl
        like_tl = like_tl[:, 1:] / like_tl[:, :1].clamp(min=voice.MIN_ENERGY)
        pitch_tp = front_end.find_pitch(like_tl / front_end.window_l)
        return front_end.assemble_frames(log_btm, pitch_tp[None], mask_bt), mask_bt


def _dft_angles(place_s: np.ndarray, points: int) -> np.ndarray:
    """Of a Fourier transform of so many points, at places (S,): (S, bins)."""
    return 2 * np.pi * np.outer(place_s, np.arange(points // 2 + 1)) / points


class RawFramesONNX(nn.Module):
    """``features.rawframes``."""

    def __init__(self, front_end: rawframes.FrontEnd) -> None:
        super().__init__()
        self.width = front_end.width
        longest = front_end.max_seconds
        self.max_samples = None if longest is None else round(longest * front_end.rate)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        if self.max_samples is not None:
            wave_bs = wave_bs[:, : self.max_samples]
        frames = (wave_bs.shape[1] + self.width - 1) // self.width
        wave_bs = F.pad(wave_bs, (0, self.width - 1))[:, : frames * self.width]
        x_btf = wave_bs.reshape(1, frames, self.width)
        return x_btf, torch.ones(1, frames, dtype=torch.bool)


class RecurrentLayerONNX(nn.Module):
    """A layer of LSTMs or GRUs as ONNX's own operator; of two, the second one runs backwards."""

    input_zgd: Tensor
    state_zgd: Tensor
    bias_zg: Tensor

    def __init__(self, directions: Sequence[nn.RNNBase], layer: int = 0) -> None:
        super().__init__()
        self.mode, self.hidden = directions[0].mode, directions[0].hidden_size
        stacked = {
            name: torch.stack([_stack_gates(one, parts, layer) for one in directions]).detach()
            for name, parts in RNN_WEIGHTS.items()
        }
        for name, weight in stacked.items():
            self.register_buffer(name, weight)
        self.settings: dict[str, int | float | str | bool | Sequence[int]] = {
            "hidden_size": self.hidden,
            "direction": "bidirectional" if len(directions) == 2 else "forward",
        }
        if self.mode == "GRU":
            self.settings["linear_before_reset"] = 1  # the reset gate acts behind the product

    def forward(self, x_btd: Tensor) -> Tensor:
        """(1, T, D) -> (1, T, directions x hidden)."""
        y_tzbd = torch.onnx.ops.symbolic(
            self.mode,
            (x_btd.transpose(0, 1), self.input_zgd, self.state_zgd, self.bias_zg),
            {**self.settings},
            dtype=x_btd.dtype,
            shape=(x_btd.shape[1], len(self.bias_zg), 1, self.hidden),
            version=14,
        )
        return y_tzbd.permute(2, 0, 1, 3).flatten(2)


def _stack_gates(one: nn.RNNBase, parts: Sequence[str], layer: int) -> Tensor:
    """Some weights of one direction, their gates in the order of ONNX, one below the other."""
    order, weights = GATE_ORDER[one.mode], [getattr(one, f"{part}_l{layer}") for part in parts]
    return torch.cat([w.chunk(len(order))[place] for w in weights for place in order])
