"""An ensemble of networks that combine functionals with attentive statistics over convolutions.

Ours, for voices, rooms and languages that were not in training; the model of serein's recipe
`serein-light`. It uses two views of ``features.voice``:

- functionals of the whole utterance, without its level and with its spectral tilt, read by a dense
  layer: few utterances suffice to train it;
- the frames, each band less its mean over speech, which removes the channel: two-dimensional
  convolutions over time and bands, then the mean and deviation of each head's channels by attention
  (Okabe et al. 2018: Attentive Statistics Pooling for Deep Speaker Embedding).

The ensemble has ``members`` such networks. In training each utterance goes through one of them, so
that they learn different things; in inference every utterance goes through all: the heads of the
tasks read the vectors of all members, so that the logits are the mean of all members' logits.

B = batch, T = frames, T' = pooled steps, M = mel bands, F = functionals, C = channels, D = width of
a vector, H = heads, K = members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.attention import AttentionWeights, ModelOutput, masked_softmax
from serein.layers.functionals import Functionals, RunningStandardizer, moments, speech_mask
from serein.layers.recurrent import Dropout

Count = Annotated[int, Ge(1)]
Probability = Annotated[float, Ge(0), Lt(1)]
STRIDE = 4
"""Frames in one step of the convolutions' output."""
VARIANCE_EPSILON = 1e-5
"""Added to a variance before its square root, whose slope is infinite at 0."""


@dataclass(frozen=True)
class Config:
    """Sizes of the networks.

    Attributes:
        members: networks in the ensemble.
        functionals: whether there is the dense layer over functionals.
        convolutions: whether there is the convolutional network.
        hop: seconds between frames.
        speech_range: how far below the loudest frame speech lies, in units of the level.
        hidden: width of the dense layer over functionals.
        filters: of the first convolution; the next ones have two, three and four times as many.
        channels: D of the frames that attention pools.
        attention_hidden: width of attention's hidden layer.
        heads: of attention; each pools its own part of the channels.
        functionals_dropout: of the functionals.
        dropout: of the vectors, and before the last layer of the convolutional network.
    """

    members: Count = 1
    functionals: bool = True
    convolutions: bool = True
    hop: Annotated[float, Gt(0)] = 0.02
    speech_range: Annotated[float, Gt(0)] = 2.7
    hidden: Count = 256
    filters: Count = 16
    channels: Count = 128
    attention_hidden: Count = 64
    heads: Count = 4
    functionals_dropout: Probability = 0.3
    dropout: Probability = 0.4

    @property
    def attention(self) -> bool:
        """Whether the model has attention over time; functionals have none."""
        return self.convolutions


class Model(nn.Module):
    """Frames in, one vector per utterance out, the same for all tasks."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the networks.

        Args:
            config: sizes.
            width: bins of ``features.voice``: mel bands, level, pitch, voicing.
            tasks: names of the tasks that read the vector.

        Raises:
            ConfigError: both views are off, or heads do not divide the channels.
        """
        super().__init__()
        if not config.functionals and not config.convolutions:
            raise ConfigError(
                "model.functionals and model.convolutions are both false; set one of them to true"
            )
        if config.channels % config.heads:
            raise ConfigError(
                f"model.channels = {config.channels} is not divisible by model.heads = "
                f"{config.heads}"
            )
        self.config, self.tasks = config, tuple(tasks)
        self.functionals = Functionals(width - 3)
        self.running = RunningStandardizer(self.functionals.width)
        self.dense, self.trunks = nn.ModuleList(), nn.ModuleList()
        for _ in range(config.members):
            if config.functionals:
                self.dense.append(FunctionalsBranch(config, self.functionals.width))
            if config.convolutions:
                self.trunks.append(ConvolutionalBranch(config, width - 3))
        width = config.hidden * config.functionals + 2 * config.channels * config.convolutions
        self.width = config.members * width

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames with their mask (B, T) -> a vector (B, K x D) and weights (B, H, T')."""
        x_btf, mask_bt = frames
        x_btf = x_btf.masked_fill(~mask_bt[..., None], 0)
        speech_bt = speech_mask(x_btf[..., -3], mask_bt, self.config.speech_range)
        with torch.autocast(x_btf.device.type, enabled=False):
            functional_bf = self.functionals(x_btf, mask_bt, speech_bt, self.config.hop)
            functional_bf = self.running(functional_bf)
        bands_btm = _subtract_mean(x_btf[..., :-3], mask_bt, speech_bt)
        views = bands_btm, mask_bt, functional_bf
        if self.training:
            return ModelOutput(dict.fromkeys(self.tasks, self._encode_assigned(*views)), {})
        z_bd, maps = self._encode_all(*views)
        return ModelOutput(dict.fromkeys(self.tasks, z_bd), maps)

    def _encode_all(
        self, bands_btm: Tensor, mask_bt: Tensor, functional_bf: Tensor
    ) -> tuple[Tensor, dict[str, AttentionWeights]]:
        """Encode the batch with all members."""
        members = range(self.config.members)
        views = bands_btm, mask_bt, functional_bf
        z_bd, weight_bht = zip(*(self._encode_member(k, *views) for k in members), strict=True)
        if not self.trunks:
            return torch.cat(z_bd, dim=1), {}
        mean_bht = torch.stack(weight_bht).mean(dim=0)
        return torch.cat(z_bd, dim=1), {"heads": AttentionWeights(mean_bht, stride=STRIDE)}

    def _encode_assigned(self, bands_btm: Tensor, mask_bt: Tensor, functional_bf: Tensor) -> Tensor:
        """Encode each utterance with one random member, whose vector is scaled by K."""
        members, count = self.config.members, len(bands_btm)
        parts = torch.randperm(count, device=bands_btm.device).tensor_split(members)
        z_bkd = bands_btm.new_zeros(count, members, self.width // members)
        for member, part_b in enumerate(parts):
            if len(part_b):
                views = bands_btm[part_b], mask_bt[part_b], functional_bf[part_b]
                z_bd, _ = self._encode_member(member, *views)
                z_bkd[part_b, member] = members * z_bd.to(z_bkd.dtype)
        return z_bkd.flatten(1)

    def _encode_member(
        self, member: int, bands_btm: Tensor, mask_bt: Tensor, functional_bf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return one member's vector (B, D), and its weights (B, H, T')."""
        z_bd, weight_bht = [], bands_btm.new_zeros(0)
        if self.dense:
            z_bd.append(self.dense[member](functional_bf))
        if self.trunks:
            pooled_bd, weight_bht = self.trunks[member](bands_btm, mask_bt)
            z_bd.append(pooled_bd)
        return torch.cat(z_bd, dim=1), weight_bht

    def to_onnx_module(self) -> "Model":
        """Return the model itself: ONNX has all its operations."""
        return self


def _subtract_mean(bands_btm: Tensor, mask_bt: Tensor, speech_bt: Tensor) -> Tensor:
    """Subtract from each band its mean over frames of speech."""
    mean_bm, _ = moments(bands_btm, speech_bt)
    return (bands_btm - mean_bm[:, None]) * mask_bt[..., None]


class FunctionalsBranch(nn.Module):
    """Dropout of functionals, and a dense layer."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.dropout_in = Dropout(config.functionals_dropout)
        self.dense = nn.Linear(width, config.hidden)
        self.dropout_out = Dropout(config.dropout)

    def forward(self, functional_bf: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""
        z_bd: Tensor = self.dropout_out(self.dense(self.dropout_in(functional_bf)).relu())
        return z_bd


class ConvolutionalBranch(nn.Module):
    """Convolutions over time and bands, and attentive statistics pooling."""

    def __init__(self, config: Config, bands: int) -> None:
        super().__init__()
        self.heads = config.heads
        channels = [1, *(config.filters * factor for factor in (1, 2, 3, 4))]
        shapes = zip(channels[:-1], channels[1:], (5, 3, 3, 3), (2, 1, 1, 1), strict=True)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, taps, stride=stride, padding=taps // 2, bias=False)
            for inputs, outputs, taps, stride in shapes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in channels[1:])
        pooled_bands = -(-bands // 2)
        for _ in range(3):
            pooled_bands = -(-pooled_bands // 2)
        self.join = nn.Linear(channels[-1] * pooled_bands, config.channels)
        self.hidden = nn.Linear(config.channels, config.attention_hidden)
        self.score = nn.Linear(config.attention_hidden, config.heads)
        self.dropout = Dropout(config.dropout)
        # A training step is faster by a quarter on a CPU. torch's annotations lack this call.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, bands_btm: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Bands (B, T, M) and their mask (B, T) -> (B, 2 C) and weights (B, H, T')."""
        x_bctm = bands_btm[:, None].contiguous(memory_format=torch.channels_last)
        for number, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            x_bctm = norm(convolution(x_bctm)).relu()
            mask_bt = mask_bt[:, ::2] if number == 0 else mask_bt
            x_bctm = x_bctm * mask_bt[:, None, :, None]
            if number < 3:
                size = (2, 2) if number == 1 else (1, 2)
                x_bctm = F.max_pool2d(x_bctm, size, ceil_mode=True)
                mask_bt = mask_bt[:, ::2] if number == 1 else mask_bt
        x_btd = self.join(self.dropout(x_bctm.transpose(1, 2).flatten(2))).relu()
        return self._pool_statistics(x_btd, mask_bt)

    def _pool_statistics(self, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and deviation of each head's own channels, weighted by its attention."""
        weight_bht = masked_softmax(self.score(torch.tanh(self.hidden(x_btd))), mask_bt)
        x_bhtc = x_btd.view(*x_btd.shape[:2], self.heads, -1).transpose(1, 2)
        weight_bht1 = weight_bht[..., None].to(x_btd.dtype)
        mean_bh1c = (x_bhtc * weight_bht1).sum(dim=2, keepdim=True)
        variance_bhc = ((x_bhtc - mean_bh1c).square() * weight_bht1).sum(dim=2)
        deviation_bhc = (variance_bhc + VARIANCE_EPSILON).sqrt()
        z_bd = torch.cat([mean_bh1c.flatten(1), deviation_bhc.flatten(1)], dim=1)
        return self.dropout(z_bd), weight_bht
