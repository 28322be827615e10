"""Models for one recording at a time, in operations that ONNX has; see ``forms``.

B = 1, T = frames, T' = pooled steps, F = bins or samples of a frame, D = channels, L = segments or
steps of convolutions, K = frames or samples that are seen together, J = positions of a segment,
H = heads, S = channels of a head.

Parts of a system for one recording at a time, in operations that ONNX has.

Without neighbours in a batch there is no padding, and what keeps it apart falls away: masks are
all true, rows end where the recording ends. The weights are those of the parts themselves.

B = 1, S = samples, T = frames, F = bins or samples of a frame, M = mel bands, P = real and
imaginary parts side by side, D = channels, K = frames that are seen together, Z = directions,
G = gates of all hidden units.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.features import logmel, rawframes, voice
from serein.layers.attention import (
    AttentionWeights,
    ModelOutput,
    MultiHeadAttention,
    attention_pool,
)
from serein.layers.convolution import EdgeConv1d, ValidConv1d
from serein.layers.packed import align_to_centres
from serein.layers.recurrent import BLSTM, last_states
from serein.models import base, fu2020, li2019, zhang2019
from serein.system import SingleTaskEnsemble, System

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


def build_onnx_system(system: System) -> System:
    """The same system for one recording at a time; it can be exported and nothing else.

    Raises:
        ConfigError: a part of it has no such form.
    """
    one = copy.deepcopy(system).eval()
    model = system.model
    if isinstance(model, SingleTaskEnsemble):
        parts = copy.deepcopy(model)
        parts.models = nn.ModuleList(
            _convert_part(part, system.recipe.model) for part in model.models
        )
        one.model = parts
    else:
        one.model = _convert_part(model, system.recipe.model)
    one.front_end = _convert_part(system.front_end, system.recipe.features)
    return one


def _convert_part(part: object, table: Mapping[str, Any]) -> Any:
    if type(part) not in ONNX_CLASSES:
        known = ", ".join(sorted(kind.__module__.rpartition(".")[2] for kind in ONNX_CLASSES))
        raise ConfigError(
            f"{table['name']} cannot be exported: {_explain_unsupported(part)}. "
            f"These can be: {known}. Apply such a model with serein itself"
        )
    return ONNX_CLASSES[type(part)](part)


def _explain_unsupported(part: object) -> str:
    """Why a part has no form."""
    if hasattr(part, "fit"):
        return "it is an estimator, which scikit-learn fits, and no network"
    if getattr(part, "recogniser", None) is not None:
        return "it searches for words, one after the other, until it has found the last"
    return "it is not written in operations of ONNX"


class Li2019ONNX(nn.Module):
    """``models.li2019``."""

    def __init__(self, model: li2019.Model) -> None:
        super().__init__()
        self.inner = model
        blstms: list[BLSTM] = [model.blstm1, model.blstm2]
        self.blstms = nn.ModuleList(RecurrentLayerONNX([b.forwards, b.backwards]) for b in blstms)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """As the model does it."""
        model, (x_btd, _) = self.inner, frames
        for convolution in (model.conv1, model.conv2):
            x_btd = _edge_conv1d(x_btd, convolution).relu()
        pool = model.config.pool
        x_btd = F.max_pool1d(F.pad(x_btd, (0, 0, 0, pool - 1)).mT, pool).mT
        for blstm in self.blstms:
            x_btd = blstm(x_btd)
        mask_bt = torch.ones_like(x_btd[..., 0], dtype=torch.bool)
        if not model.config.attention:
            return ModelOutput(dict.fromkeys(model.tasks, last_states(x_btd, mask_bt)), {})
        z_bd, weight_bht = model.attend(x_btd, mask_bt)
        return ModelOutput(
            dict.fromkeys(model.tasks, z_bd), {"heads": AttentionWeights(weight_bht, pool)}
        )


def _edge_conv1d(x_btf: Tensor, convolution: EdgeConv1d) -> Tensor:
    """(1, T, F) -> (1, T, D), the first and the last frame repeated."""
    weight_dfk = convolution.weight_fkd.permute(2, 0, 1)
    reach = weight_dfk.shape[2] // 2
    first, last = [x_btf[:, :1]] * reach, [x_btf[:, -1:]] * reach
    return F.conv1d(torch.cat([*first, x_btf, *last], dim=1).mT, weight_dfk, convolution.bias_d).mT


class Zhang2019ONNX(nn.Module):
    """``models.zhang2019``, every segment convolved by itself."""

    def __init__(self, model: zhang2019.Model) -> None:
        super().__init__()
        if not model.config.zero_pad_segments:
            raise ConfigError(
                "zhang2019 with model.zero_pad_segments = false cannot be exported: its segments see their "
                "neighbours. Train it with model.zero_pad_segments = true"
            )
        self.inner = model
        self.grus = nn.ModuleList(
            RecurrentLayerONNX([model.gru], n) for n in range(model.config.layers)
        )

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """As the model does it; segments behind the last whole one are nobody's."""
        model, (x_btf, mask_bt) = self.inner, frames
        h_bld = self._convolve_segments(x_btf)
        for gru in self.grus:
            h_bld = gru(h_bld)
        if not model.config.attention:
            last = (mask_bt.sum() - model.config.hops).clamp(min=0)
            return ModelOutput(dict.fromkeys(model.tasks, h_bld[:, last]), {})
        h_btd, middle_bt = align_to_centres(h_bld, mask_bt, model.config.hops)
        r_bhd, weight_bht = attention_pool(h_btd, model.attend(h_btd), middle_bt)
        vectors = dict(zip(model.tasks, r_bhd.unbind(dim=1), strict=True))
        maps = zip(model.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return ModelOutput(
            vectors, {task: AttentionWeights(weight, stride=1) for task, weight in maps}
        )

    def _convolve_segments(self, x_btf: Tensor) -> Tensor:
        """Hops of samples (1, T, F) -> the vector of the segment that begins at each: (1, T, D)."""
        parts, (frames, width) = self.inner.convolutions, x_btf.shape[1:]
        seen = parts.hops * width
        wave_s = F.pad(x_btf.flatten(), (0, seen))
        wave_lk = wave_s[torch.arange(frames)[:, None] * width + torch.arange(seen)]
        sides = parts.pad_left, parts.pad_right
        weight_cik = parts.weight1_kc.T[:, None]
        y_lcj = F.conv1d(F.pad(wave_lk[:, None], sides), weight_cik, parts.bias1_c)
        y_lcj = F.max_pool1d(y_lcj, parts.pool).relu()
        weight_dck = parts.weight2_kcd.permute(2, 1, 0)
        y_ldj = F.conv1d(F.pad(y_lcj, sides), weight_dck, parts.bias2_c)
        return F.max_pool1d(y_ldj.mT, parts.group).relu().flatten(1)[None]


class Fu2020ONNX(nn.Module):
    """``models.fu2020``."""

    def __init__(self, model: fu2020.Model) -> None:
        super().__init__()
        self.inner = model
        self.blstms = nn.ModuleList(
            RecurrentLayerONNX([b.forwards, b.backwards])
            for b in cast(Iterable[BLSTM], model.blstms)
        )

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """As the model does it."""
        model, (x_btf, mask_bt) = self.inner, frames
        missing = model.receptive_field - x_btf[:, : model.receptive_field].shape[1]
        x_bld = F.pad(x_btf, (0, 0, 0, missing), value=fu2020.PAD_VALUE)
        for convolution in cast(Iterable[ValidConv1d], model.convolutions):
            x_bld = _valid_conv1d(x_bld, convolution).relu()
        x_bld = model.bottleneck(x_bld)
        for blstm in self.blstms:
            x_bld = blstm(x_bld)
        x_btd, middle_bt = align_to_centres(x_bld, mask_bt, model.receptive_field)
        h_btd, self_bhtt = _self_attention(model.attend, x_btd, middle_bt)
        o_b1d, local_b1t = attention_pool(h_btd, model.local(h_btd), middle_bt)
        maps = {
            "local": AttentionWeights(local_b1t, stride=1),
            "self": AttentionWeights(self_bhtt, stride=1),
        }
        return ModelOutput(dict.fromkeys(model.tasks, o_b1d[:, 0]), maps)


def _valid_conv1d(x_btf: Tensor, convolution: ValidConv1d) -> Tensor:
    """(1, T, F) -> (1, T - taps + 1, D)."""
    product = convolution.product
    weight_dfk = product.weight.view(len(product.weight), convolution.taps, -1).mT
    return F.conv1d(x_btf.mT, weight_dfk, product.bias).mT


def _self_attention(
    attend: MultiHeadAttention, x_btd: Tensor, mask_bt: Tensor
) -> tuple[Tensor, Tensor]:
    """(1, T, D) and which frames are seen -> (1, T, D) and the weights (1, H, T, T)."""
    split_btjhs = attend.project(x_btd).view(1, x_btd.shape[1], 3, attend.heads, -1)
    h_bhts, weight_bhtt = attend._attend(split_btjhs.permute(2, 0, 3, 1, 4), mask_bt[:, None, None])
    assert weight_bhtt is not None, "only in training nobody looks"
    return attend.join(h_bhts.transpose(1, 2).flatten(2)), weight_bhtt


def _keep_model(model: base.Model) -> base.Model:
    """One that has all its operations in ONNX."""
    return model


ONNX_CLASSES: dict[type, Callable[[Any], nn.Module]] = {
    logmel.FrontEnd: LogMelONNX,
    rawframes.FrontEnd: RawFramesONNX,
    voice.FrontEnd: VoiceONNX,
    base.Model: _keep_model,
    fu2020.Model: Fu2020ONNX,
    li2019.Model: Li2019ONNX,
    zhang2019.Model: Zhang2019ONNX,
}
