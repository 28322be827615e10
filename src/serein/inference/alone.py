"""Models for one recording at a time, in operations that ONNX has; see ``forms``.

B = 1, T = frames, T' = pooled steps, F = bins or samples of a frame, D = channels, L = segments or
steps of convolutions, K = frames or samples that are seen together, J = positions of a segment,
H = heads, S = channels of a head.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.features import logmel, rawframes, voice
from serein.inference.forms import LogMel, RawFrames, Recurrence, Voice
from serein.layers.apart import Apart
from serein.layers.attention import Attention, Encoded, MultiHeadAttention, summed
from serein.layers.convolution import EdgeConv1d, ValidConv1d
from serein.layers.recurrence import BLSTM, last_states
from serein.layers.rows import at_middles
from serein.models import base, fu2020, li2019, zhang2019
from serein.system import System


def alone(system: System) -> System:
    """The same system for one recording at a time; it can be exported and nothing else.

    Raises:
        ConfigError: a part of it has no such form.
    """
    one = copy.deepcopy(system).eval()
    model = system.model
    if isinstance(model, Apart):
        parts = copy.deepcopy(model)
        parts.models = nn.ModuleList(_form(part, system.recipe.model) for part in model.models)
        one.model = parts
    else:
        one.model = _form(model, system.recipe.model)
    one.front_end = _form(system.front_end, system.recipe.features)
    return one


def _form(part: object, table: Mapping[str, Any]) -> Any:
    if type(part) not in FORMS:
        known = ", ".join(sorted(kind.__module__.rpartition(".")[2] for kind in FORMS))
        raise ConfigError(
            f"{table['name']} cannot be exported: {_reason(part)}. "
            f"These can be: {known}. Apply such a model with serein itself"
        )
    return FORMS[type(part)](part)


def _reason(part: object) -> str:
    """Why a part has no form."""
    if hasattr(part, "fit"):
        return "it is an estimator, which scikit-learn fits, and no network"
    if getattr(part, "recogniser", None) is not None:
        return "it searches for words, one after the other, until it has found the last"
    return "it is not written in operations of ONNX"


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


class Fu2020(nn.Module):
    """``models.fu2020``."""

    def __init__(self, model: fu2020.Model) -> None:
        super().__init__()
        self.inner = model
        self.blstms = nn.ModuleList(
            Recurrence([b.forwards, b.backwards]) for b in cast(Iterable[BLSTM], model.blstms)
        )

    def forward(self, frames: tuple[Tensor, Tensor]) -> Encoded:
        """As the model does it."""
        model, (x_btf, mask_bt) = self.inner, frames
        missing = model.seen - x_btf[:, : model.seen].shape[1]
        x_bld = F.pad(x_btf, (0, 0, 0, missing), value=fu2020.PAD)
        for convolution in cast(Iterable[ValidConv1d], model.convolutions):
            x_bld = _valid(x_bld, convolution).relu()
        x_bld = model.bottleneck(x_bld)
        for blstm in self.blstms:
            x_bld = blstm(x_bld)
        x_btd, middle_bt = at_middles(x_bld, mask_bt, model.seen)
        h_btd, self_bhtt = _attended(model.attend, x_btd, middle_bt)
        o_b1d, local_b1t = summed(h_btd, model.local(h_btd), middle_bt)
        maps = {"local": Attention(local_b1t, stride=1), "self": Attention(self_bhtt, stride=1)}
        return Encoded(dict.fromkeys(model.tasks, o_b1d[:, 0]), maps)


def _valid(x_btf: Tensor, convolution: ValidConv1d) -> Tensor:
    """(1, T, F) -> (1, T - taps + 1, D)."""
    product = convolution.product
    weight_dfk = product.weight.view(len(product.weight), convolution.taps, -1).mT
    return F.conv1d(x_btf.mT, weight_dfk, product.bias).mT


def _attended(attend: MultiHeadAttention, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
    """(1, T, D) and which frames are seen -> (1, T, D) and the weights (1, H, T, T)."""
    split_btjhs = attend.project(x_btd).view(1, x_btd.shape[1], 3, attend.heads, -1)
    h_bhts, weight_bhtt = attend._heads(split_btjhs.permute(2, 0, 3, 1, 4), mask_bt[:, None, None])
    assert weight_bhtt is not None, "only in training nobody looks"
    return attend.join(h_bhts.transpose(1, 2).flatten(2)), weight_bhtt


def _as_it_is(model: base.Model) -> base.Model:
    """One that has all its operations in ONNX."""
    return model


FORMS: dict[type, Callable[[Any], nn.Module]] = {
    logmel.FrontEnd: LogMel,
    rawframes.FrontEnd: RawFrames,
    voice.FrontEnd: Voice,
    base.Model: _as_it_is,
    fu2020.Model: Fu2020,
    li2019.Model: Li2019,
    zhang2019.Model: Zhang2019,
}
