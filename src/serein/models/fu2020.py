"""Convolutions, BLSTM, self-attention and local attention on a mel spectrogram.

Fu, Liu, Ishi, Ishiguro: "An End-to-End Multitask Learning Model to Improve Speech Emotion
Recognition", EUSIPCO 2020, section 3.3, equations 1-4, Table 1; equation 5 is the system's.

Where the paper is silent or unclear, ours:
- a head has 16 channels, 2 d_lstm / N_head, and queries, keys and values of its own, linear in the
  BLSTM's output and without bias, as in Vaswani et al. 2017;
- equation 2 prints W as N_head x fm x 2 d_lstm, where time (fm) stands in a head's channels' place;
  here W is (N_head x 16) x 2 d_lstm, the same for every step, so that any length can be heard;
- ReLU after each convolution ("to increase nonlinearity"), none after the bottleneck;
- dropout after the bottleneck and after each BLSTM layer;
- nothing is added around the self-attention, and nothing normalised;
- weights are drawn by Glorot & Bengio 2010, as Keras does, whose "rmsprop" and "dense" these are;
  by torch's draws the first dozen epochs learn nothing;
- the learning rate is 1e-3, which "rmsprop" is in Keras where nothing else is said (a recipe's);
- where a recipe masks instead of padding, speech of fewer than five frames, what the three
  convolutions see at a time, is filled up with -1 to five.

An attention map has a place for each frame: a step of the convolutions sees five frames and stands
at the third. In training there is no map of the self-attention.

B = batch, T = frames, F = mel bands, N = frames of all utterances end to end, L = steps of the
convolutions, D = channels, H = heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.layers.attention import (
    AttentionWeights,
    ModelOutput,
    MultiHeadAttention,
    attention_pool,
)
from serein.layers.convolution import FastLinear, ValidConv1d
from serein.layers.packed import align_to_centres, pack_windows
from serein.layers.recurrent import BLSTM, Dropout, init_glorot

Count = Annotated[int, Ge(1)]
PAD_VALUE = -1.0


@dataclass(frozen=True)
class Config:
    """What section 3.3 and Table 1 set, by the paper's symbols.

    Attributes:
        filters: of each convolution; the last one is n_f.
        taps: frames that each convolution sees.
        bottleneck: b_n, width of the dense layer.
        hidden: d_lstm, of each direction.
        layers: of BLSTMs.
        heads: N_head, of the self-attention.
        head_size: channels of a head.
        dropout: after the bottleneck and after each BLSTM layer.
    """

    filters: tuple[Count, Count, Count] = (512, 1024, 2048)
    taps: tuple[Count, Count, Count] = (3, 1, 3)
    bottleneck: Count = 512
    hidden: Count = 128
    layers: Count = 2
    heads: Count = 16
    head_size: Count = 16
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.35


class Model(nn.Module):
    """Frames in, one vector per utterance out, the same for all tasks."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: d_spec, bins of a frame.
            tasks: names of those who read the vector.
        """
        super().__init__()
        self.config = config
        self.tasks = tuple(tasks)
        self.width = 2 * config.hidden
        self.receptive_field = 1 + sum(taps - 1 for taps in config.taps)
        ins = (width, *config.filters)
        sizes = zip(ins, config.filters, config.taps, strict=False)
        self.convolutions = nn.ModuleList(ValidConv1d(*size) for size in sizes)
        self.bottleneck = FastLinear(config.filters[-1], config.bottleneck)
        widths = [config.bottleneck] + [self.width] * (config.layers - 1)
        self.blstms = nn.ModuleList(BLSTM(channels, config.hidden) for channels in widths)
        self.dropout = Dropout(config.dropout)
        self.attend = MultiHeadAttention(self.width, config.heads, config.head_size)
        self.local = nn.Linear(self.width, 1, bias=False)
        init_glorot(self)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask -> a vector (B, D), weights (B, H, T, T), (B, 1, T)."""
        x_nd, place_bl, mask_bl = pack_windows(*frames, size=self.receptive_field, fill=PAD_VALUE)
        for convolution in self.convolutions:
            x_nd = convolution(x_nd).relu_()
        x_bld = self.dropout(F.embedding(place_bl, self.bottleneck(x_nd)))
        for blstm in self.blstms:
            x_bld = self.dropout(blstm(x_bld, mask_bl))
        x_btd, middle_bt = align_to_centres(x_bld, frames[1], self.receptive_field)
        h_btd, self_bhtt = self.attend(x_btd, middle_bt)  # equations 1 and 2
        o_b1d, local_b1t = attention_pool(h_btd, self.local(h_btd), middle_bt)  # equations 3 and 4
        maps = {"local": AttentionWeights(local_b1t, stride=1)}
        if self_bhtt is not None:
            maps["self"] = AttentionWeights(self_bhtt, stride=1)
        return ModelOutput(dict.fromkeys(self.tasks, o_b1d[:, 0]), maps)
