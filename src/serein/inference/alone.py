"""Front ends and models for one recording at a time, in operations that ONNX has.

Without neighbours in a batch there is no padding, and what keeps it apart falls away: masks are
all true, rows end where the recording ends. The weights are those of the parts themselves.

B = 1, S = samples, T = frames, T' = pooled steps, F = bins or samples of a frame, M = mel bands,
P = real and imaginary parts side by side, D = channels, L = segments, K = frames or samples that
are seen together, J = positions of a segment, Z = directions, G = gates of all hidden units.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.features import logmel, rawframes
from serein.layers.apart import Apart
from serein.layers.attention import Attention, Encoded, summed
from serein.layers.convolution import EdgeConv1d
from serein.layers.recurrence import BLSTM, last_states
from serein.layers.rows import at_middles
from serein.models import li2019, zhang2019
from serein.system import System

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Where torch keeps the gates that ONNX wants first, second, ..."""
WEIGHTS = {
    "input_zgd": ("weight_ih",),
    "state_zgd": ("weight_hh",),
    "bias_zg": ("bias_ih", "bias_hh"),
}


def alone(system: System) -> System:
    """The same system for one recording at a time; it can be exported and nothing else.

    Raises:
        ConfigError: a part of it has no such form.
    """
    one = copy.deepcopy(system).eval()
    one.front_end = _form(system.front_end, system.recipe.features)
    model = system.model
    if isinstance(model, Apart):
        parts = copy.deepcopy(model)
        parts.models = nn.ModuleList(_form(part, system.recipe.model) for part in model.models)
        one.model = parts
    else:
        one.model = _form(model, system.recipe.model)
    return one


def _form(part: object, table: Mapping[str, Any]) -> Any:
    if type(part) not in FORMS:
        known = ", ".join(sorted(kind.__module__.rpartition(".")[2] for kind in FORMS))
        raise ConfigError(
            f"{table['name']} cannot be exported: it is not written in operations of ONNX. "
            f"These are: {known}. Apply such a model with serein itself"
        )
    return FORMS[type(part)](part)


class LogMel(nn.Module):
    """``features.logmel`` with its transform as one matrix product, in double precision too.

    ONNX's own transform is not in double precision everywhere.
    """

    basis_sp: Tensor

    def __init__(self, front_end: logmel.FrontEnd) -> None:
        super().__init__()
        self.inner, self.config = front_end, front_end.config
        size = self.config.window
        angle_sc = 2 * np.pi * np.outer(np.arange(size), np.arange(size // 2 + 1)) / size
        basis_sp = np.stack([np.cos(angle_sc), -np.sin(angle_sc)], axis=-1).reshape(size, -1)
        window_s = front_end.window_s.cpu().double()
        self.register_buffer("basis_sp", torch.from_numpy(basis_sp) * window_s[:, None])

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        config = self.config
        if self.inner.longest is not None:
            most = round(self.inner.longest * self.inner.rate)
            wave_bs = F.pad(wave_bs, (0, most if config.pad else 0))[:, :most]
        frames, half = 1 + wave_bs.shape[1] // config.hop, config.window // 2
        wave_s = F.pad(wave_bs[0], (half, config.window - half)).double()
        step_t = torch.arange(frames)[:, None]
        part_tp = (
            wave_s[step_t * config.hop + torch.arange(config.window)] @ self.basis_sp
        ).float()
        log_tm = self._bands(part_tp * part_tp)
        if config.deltas:
            near_tk = step_t + torch.arange(-logmel.REACH, logmel.REACH + 1)
            near_tkm = log_tm[near_tk.clamp(0, frames - 1)]
            log_tm = (self.inner.slopes_ok @ near_tkm).flatten(1)
        return log_tm[None], torch.ones(1, frames, dtype=torch.bool)

    def _bands(self, power_tp: Tensor) -> Tensor:
        groups = [
            power_tp[:, low:high] @ self.inner.get_buffer(f"mel_{group}_pm")
            for group, (low, high) in enumerate(self.inner._spans)
        ]
        return torch.cat(groups, dim=-1).clamp(min=logmel.FLOOR).log()


class RawFrames(nn.Module):
    """``features.rawframes``."""

    def __init__(self, front_end: rawframes.FrontEnd) -> None:
        super().__init__()
        self.width = front_end.width
        longest = front_end.longest
        self.most = None if longest is None else round(longest * front_end.rate)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        if self.most is not None:
            wave_bs = wave_bs[:, : self.most]
        frames = (wave_bs.shape[1] + self.width - 1) // self.width
        wave_bs = F.pad(wave_bs, (0, self.width - 1))[:, : frames * self.width]
        x_btf = wave_bs.reshape(1, frames, self.width)
        return x_btf, torch.ones(1, frames, dtype=torch.bool)


class Recurrence(nn.Module):
    """A layer of LSTMs or GRUs as ONNX's own operator; of two, the second one runs backwards."""

    input_zgd: Tensor
    state_zgd: Tensor
    bias_zg: Tensor

    def __init__(self, directions: Sequence[nn.RNNBase], layer: int = 0) -> None:
        super().__init__()
        self.kind, self.hidden = directions[0].mode, directions[0].hidden_size
        stacked = {
            name: torch.stack([_gates(one, parts, layer) for one in directions]).detach()
            for name, parts in WEIGHTS.items()
        }
        for name, weight in stacked.items():
            self.register_buffer(name, weight)
        self.settings: dict[str, int | float | str | bool | Sequence[int]] = {
            "hidden_size": self.hidden,
            "direction": "bidirectional" if len(directions) == 2 else "forward",
        }
        if self.kind == "GRU":
            self.settings["linear_before_reset"] = 1  # the reset gate acts behind the product

    def forward(self, x_btd: Tensor) -> Tensor:
        """(1, T, D) -> (1, T, directions x hidden)."""
        y_tzbd = torch.onnx.ops.symbolic(
            self.kind,
            (x_btd.transpose(0, 1), self.input_zgd, self.state_zgd, self.bias_zg),
            {**self.settings},
            dtype=x_btd.dtype,
            shape=(x_btd.shape[1], len(self.bias_zg), 1, self.hidden),
            version=14,
        )
        return y_tzbd.permute(2, 0, 1, 3).flatten(2)


def _gates(one: nn.RNNBase, parts: Sequence[str], layer: int) -> Tensor:
    """Some weights of one direction, their gates in the order of ONNX, one below the other."""
    order, weights = GATES[one.mode], [getattr(one, f"{part}_l{layer}") for part in parts]
    return torch.cat([w.chunk(len(order))[place] for w in weights for place in order])


class Li2019(nn.Module):
    """``models.li2019``."""

    def __init__(self, model: li2019.Model) -> None:
        super().__init__()
        self.inner = model
        blstms: list[BLSTM] = [model.blstm1, model.blstm2]
        self.blstms = nn.ModuleList(Recurrence([b.forwards, b.backwards]) for b in blstms)

    def forward(self, frames: tuple[Tensor, Tensor]) -> Encoded:
        """As the model does it."""
        model, (x_btd, _) = self.inner, frames
        for convolution in (model.conv1, model.conv2):
            x_btd = _convolved(x_btd, convolution).relu()
        pool = model.config.pool
        x_btd = F.max_pool1d(F.pad(x_btd, (0, 0, 0, pool - 1)).mT, pool).mT
        for blstm in self.blstms:
            x_btd = blstm(x_btd)
        mask_bt = torch.ones_like(x_btd[..., 0], dtype=torch.bool)
        if not model.config.attention:
            return Encoded(dict.fromkeys(model.tasks, last_states(x_btd, mask_bt)), {})
        z_bd, weight_bht = model.attend(x_btd, mask_bt)
        return Encoded(dict.fromkeys(model.tasks, z_bd), {"heads": Attention(weight_bht, pool)})


def _convolved(x_btf: Tensor, convolution: EdgeConv1d) -> Tensor:
    """(1, T, F) -> (1, T, D), the first and the last frame repeated."""
    weight_dfk = convolution.weight_fkd.permute(2, 0, 1)
    reach = weight_dfk.shape[2] // 2
    first, last = [x_btf[:, :1]] * reach, [x_btf[:, -1:]] * reach
    return F.conv1d(torch.cat([*first, x_btf, *last], dim=1).mT, weight_dfk, convolution.bias_d).mT


class Zhang2019(nn.Module):
    """``models.zhang2019``, every segment convolved by itself."""

    def __init__(self, model: zhang2019.Model) -> None:
        super().__init__()
        if not model.config.exact:
            raise ConfigError(
                "zhang2019 with model.exact = false cannot be exported: its segments see their "
                "neighbours. Train it with model.exact = true"
            )
        self.inner = model
        self.grus = nn.ModuleList(Recurrence([model.gru], n) for n in range(model.config.layers))

    def forward(self, frames: tuple[Tensor, Tensor]) -> Encoded:
        """As the model does it; segments behind the last whole one are nobody's."""
        model, (x_btf, mask_bt) = self.inner, frames
        h_bld = self._convolved(x_btf)
        for gru in self.grus:
            h_bld = gru(h_bld)
        if not model.config.attention:
            last = (mask_bt.sum() - model.config.hops).clamp(min=0)
            return Encoded(dict.fromkeys(model.tasks, h_bld[:, last]), {})
        h_btd, middle_bt = at_middles(h_bld, mask_bt, model.config.hops)
        r_bhd, weight_bht = summed(h_btd, model.attend(h_btd), middle_bt)
        vectors = dict(zip(model.tasks, r_bhd.unbind(dim=1), strict=True))
        maps = zip(model.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return Encoded(vectors, {task: Attention(weight, stride=1) for task, weight in maps})

    def _convolved(self, x_btf: Tensor) -> Tensor:
        """Hops of samples (1, T, F) -> the vector of the segment that begins at each: (1, T, D)."""
        parts, (frames, width) = self.inner.convolutions, x_btf.shape[1:]
        seen = parts.hops * width
        wave_s = F.pad(x_btf.flatten(), (0, seen))
        wave_lk = wave_s[torch.arange(frames)[:, None] * width + torch.arange(seen)]
        sides = parts.before, parts.behind
        weight_cik = parts.weight1_kc.T[:, None]
        y_lcj = F.conv1d(F.pad(wave_lk[:, None], sides), weight_cik, parts.bias1_c)
        y_lcj = F.max_pool1d(y_lcj, parts.pool).relu()
        weight_dck = parts.weight2_kcd.permute(2, 1, 0)
        y_ldj = F.conv1d(F.pad(y_lcj, sides), weight_dck, parts.bias2_c)
        return F.max_pool1d(y_ldj.mT, parts.group).relu().flatten(1)[None]


FORMS = {
    logmel.FrontEnd: LogMel,
    rawframes.FrontEnd: RawFrames,
    li2019.Model: Li2019,
    zhang2019.Model: Zhang2019,
}
