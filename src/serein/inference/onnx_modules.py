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
from serein.inference.forms import LogMelONNX, RawFramesONNX, RecurrentLayerONNX, VoiceONNX
from serein.layers.apart import SingleTaskEnsemble
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
from serein.system import System


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
        if not model.config.exact:
            raise ConfigError(
                "zhang2019 with model.exact = false cannot be exported: its segments see their "
                "neighbours. Train it with model.exact = true"
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
