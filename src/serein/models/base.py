"""Functionals beside a convolutional network with attentive statistics, several times over.

Ours, for voices, rooms and languages that training never heard; of serein's recipe `serein-base`.
Two views of ``features.voice``:

- functionals of the whole utterance, with its level taken away and its spectral tilt kept, read by
  a dense layer: few utterances suffice;
- the frames, each bin's mean over speech taken away, and so the channel: two-dimensional
  convolutions over time and bands, then the mean and deviation of each head's channels by
  attention (Okabe et al. 2018: Attentive Statistics Pooling for Deep Speaker Embedding).

``members`` networks of other weights stand side by side. In training each utterance is heard by
one of them, so that they learn apart; asked, they answer together: heads see all their vectors, and
logits are the mean of all members' logits.

B = batch, T = frames, T' = pooled steps, F = bins, C = channels, D = width of a vector, H = heads,
K = members.
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
"""Frames that a step of the convolutions' output stands for."""
VARIANCE_EPSILON = 1e-5
"""Added to a square before its root, whose slope has no end at 0."""


@dataclass(frozen=True)
class Config:
    """What may vary.

    Attributes:
        members: networks side by side.
        functionals: whether there is the dense layer over functionals.
        convolutions: whether there is the convolutional network.
        hop: seconds between frames.
        within: how far below the loudest frame speech lies, in units of the level.
        hidden: width of the dense layer over functionals.
        filters: of the first convolution; those behind it have two, three and four times as many.
        channels: D of the frames that attention looks at.
        attention_hidden: width of attention's hidden layer.
        heads: of attention; each looks at its part of the channels.
        hide: share of functionals that training hides.
        dropout: of what the heads see, and before the last layer of convolutions.
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
        """Whether it attends to moments; functionals do not."""
        return self.convolutions


class Model(nn.Module):
    """Frames in, one vector per utterance out, the same for all tasks."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the networks.

        Args:
            config: sizes.
            width: F, of ``features.voice``: mel bands, level, pitch, voicing.
            tasks: names of those who read the vector.

        Raises:
            ConfigError: neither view is wanted, or heads do not divide the channels.
        """
        super().__init__()
        if not config.functionals and not config.convolutions:
            raise ConfigError("model.functionals and model.convolutions are both false")
        if config.channels % config.heads:
            raise ConfigError(
                f"model.channels = {config.channels} cannot be dealt to {config.heads} heads"
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
        each = config.hidden * config.functionals + 2 * config.channels * config.convolutions
        self.width = config.members * each

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask (B, T) -> a vector (B, K x D) and weights (B, H, T')."""
        x_btf, mask_bt = frames
        x_btf = x_btf.masked_fill(~mask_bt[..., None], 0)
        spoken_bt = speech_mask(x_btf[..., -3], mask_bt, self.config.speech_range)
        with torch.autocast(x_btf.device.type, enabled=False):
            told_bf = self.functionals(x_btf, mask_bt, spoken_bt, self.config.hop)
            told_bf = self.running(told_bf)
        heard = _subtract_mean(x_btf[..., :-3], mask_bt, spoken_bt), mask_bt, told_bf
        if self.training:
            return ModelOutput(dict.fromkeys(self.tasks, self._encode_assigned(*heard)), {})
        z_bd, maps = self._encode_all(*heard)
        return ModelOutput(dict.fromkeys(self.tasks, z_bd), maps)

    def _encode_all(
        self, x_btm: Tensor, mask_bt: Tensor, told_bf: Tensor
    ) -> tuple[Tensor, dict[str, AttentionWeights]]:
        """What all members make of everything."""
        all_heard = [
            self._encode_member(k, x_btm, mask_bt, told_bf) for k in range(self.config.members)
        ]
        z_bd = torch.cat([z_bd for z_bd, _ in all_heard], dim=1)
        if not self.trunks:
            return z_bd, {}
        weight_bht = torch.stack([weight_bht for _, weight_bht in all_heard]).mean(dim=0)
        return z_bd, {"heads": AttentionWeights(weight_bht, stride=STRIDE)}

    def _encode_assigned(self, x_btm: Tensor, mask_bt: Tensor, told_bf: Tensor) -> Tensor:
        """Each utterance heard by one member, whose vector is as strong as all of them."""
        members = self.config.members
        parts = torch.randperm(len(x_btm), device=x_btm.device).tensor_split(members)
        z_bkd = x_btm.new_zeros(len(x_btm), members, self.width // members)
        for member, part_b in enumerate(parts):
            if len(part_b):
                heard = x_btm[part_b], mask_bt[part_b], told_bf[part_b]
                z_bkd[part_b, member] = members * self._encode_member(member, *heard)[0].to(
                    z_bkd.dtype
                )
        return z_bkd.flatten(1)

    def _encode_member(
        self, member: int, x_btm: Tensor, mask_bt: Tensor, told_bf: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One member's vector (B, D), and its weights (B, H, T')."""
        z_bd, weight_bht = [], x_btm.new_zeros(0)
        if self.dense:
            z_bd.append(self.dense[member](told_bf))
        if self.trunks:
            own_bd, weight_bht = self.trunks[member](x_btm, mask_bt)
            z_bd.append(own_bd)
        return torch.cat(z_bd, dim=1), weight_bht


def _subtract_mean(x_btm: Tensor, mask_bt: Tensor, spoken_bt: Tensor) -> Tensor:
    """Each band less its mean over frames of speech."""
    mean_bm, _ = moments(x_btm, spoken_bt)
    return (x_btm - mean_bm[:, None]) * mask_bt[..., None]


class FunctionalsBranch(nn.Module):
    """Functionals (B, F) -> (B, D)."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.hide, self.dropout = Dropout(config.functionals_dropout), Dropout(config.dropout)
        self.dense = nn.Linear(width, config.hidden)

    def forward(self, told_bf: Tensor) -> Tensor:
        """Some functionals hidden, then one layer."""
        z_bd: Tensor = self.dropout(self.dense(self.hide(told_bf)).relu())
        return z_bd


class ConvolutionalBranch(nn.Module):
    """Frames -> mean and deviation of channels by attention."""

    def __init__(self, config: Config, bands: int) -> None:
        super().__init__()
        self.heads = config.heads
        sizes = [1, *(config.filters * times for times in (1, 2, 3, 4))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(from_, to, size, stride=stride, padding=size // 2, bias=False)
            for from_, to, size, stride in zip(
                sizes[:-1], sizes[1:], (5, 3, 3, 3), (2, 1, 1, 1), strict=True
            )
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes[1:])
        left = -(-bands // 2)
        for _ in range(3):
            left = -(-left // 2)
        self.join = nn.Linear(sizes[-1] * left, config.channels)
        self.hidden = nn.Linear(config.channels, config.attention_hidden)
        self.score = nn.Linear(config.attention_hidden, config.heads)
        self.dropout = Dropout(config.dropout)
        # In bf16 twice as fast on a CPU; torch's annotations do not know it of modules.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x_btm: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Bands (B, T, M) and their mask (B, T) -> (B, 2 C) and weights (B, H, T')."""
        x_bctm = x_btm[:, None].contiguous(memory_format=torch.channels_last)
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
        """Mean and deviation of each head's own channels, by its attention."""
        weight_bht = masked_softmax(self.score(torch.tanh(self.hidden(x_btd))), mask_bt)
        x_bhtc = x_btd.view(*x_btd.shape[:2], self.heads, -1).transpose(1, 2)
        share_bht1 = weight_bht[..., None].to(x_btd.dtype)
        mean_bh1c = (x_bhtc * share_bht1).sum(dim=2, keepdim=True)
        square_bhc = ((x_bhtc - mean_bh1c).square() * share_bht1).sum(dim=2)
        deviation_bhc = (square_bhc + VARIANCE_EPSILON).sqrt()
        z_bd = torch.cat([mean_bh1c.flatten(1), deviation_bhc.flatten(1)], dim=1)
        return self.dropout(z_bd), weight_bht
