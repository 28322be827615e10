"""Convolutions, BLSTM, self-attention and local attention on a mel spectrogram.

Fu, Liu, Ishi, Ishiguro: "An End-to-End Multitask Learning Model to Improve Speech Emotion
Recognition", EUSIPCO 2020, section 3.3, equations 1-4, Table 1; equation 5 is in ``system.py``.

Our choices where the paper gives none or is unclear:
- "a 2-layer self-attention based bidirectional LSTM" is read as two BLSTM layers, and one
  self-attention after the second one: equations 1 and 2 apply it once, to H^blstm. The words also
  fit two other networks. One has a self-attention after each BLSTM layer: the second BLSTM would
  read the first self-attention, with 262,144 weights more than the 9.4 million here, and there
  would be two maps. The other one has two layers in total, one BLSTM and one self-attention
  (``model.layers = 1``): 395,264 weights fewer, and one recurrence over the frames instead of two;
- a head has 16 channels, 2 d_lstm / N_head, and its own queries, keys and values, linear in the
  BLSTM's output and without bias, as in Vaswani et al. 2017;
- in equation 2, W is printed as N_head x fm x 2 d_lstm, with time (fm) in place of a head's
  channels; here W is (N_head x 16) x 2 d_lstm, the same for every step, so that an
  utterance can have any length;
- ReLU after each convolution ("to increase nonlinearity"), none after the bottleneck;
- dropout after the bottleneck and after each BLSTM layer;
- no residual connection around the self-attention, and no normalization;
- initial weights are Keras's defaults in the recipes of the paper, which names Keras
  (``model.init = "keras"``), and those of Glorot & Bengio 2010 in earlier recipes ("glorot"); with
  torch's defaults the loss does not fall in the first twelve epochs. An LSTM has two biases, as in
  torch, which both learn: their sum takes steps twice as large as the one bias of Keras;
- the learning rate is 1e-3, the default of Keras's "rmsprop" (set in the recipe);
- where a recipe masks instead of padding, speech of fewer than five frames, the receptive field of
  the three convolutions, is padded with -1 to five.

An attention map has a weight for each frame: a step of the convolutions covers five frames and
belongs to the third. In training there is no map of the self-attention.

B = batch, T = frames, F = mel bands, N = frames of all utterances packed end to end, L = steps of
the convolutions, D = channels, H = heads.
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
from serein.layers.initialization import Initialization, init_weights
from serein.layers.packed import PackedValidConv1d, align_to_centres, pack_windows
from serein.layers.recurrent import BLSTM, Dropout, ONNXRecurrence

Count = Annotated[int, Ge(1)]
PAD_VALUE = -1.0


@dataclass(frozen=True)
class Config:
    """Sizes of section 3.3 and Table 1, with the paper's symbols.

    Attributes:
        filters: of each convolution; the last one is n_f.
        taps: frames in the window of each convolution.
        bottleneck: b_n, width of the dense layer.
        hidden: d_lstm, of each direction.
        layers: number of BLSTM layers.
        heads: N_head, of the self-attention.
        head_size: channels of a head.
        dropout: after the bottleneck and after each BLSTM layer.
        init: initial weights (`layers.initialization`): "glorot" of all layers but the heads of the
            tasks, as in release 0.1; "keras", the defaults of the paper's framework; "torch".
    """

    filters: tuple[Count, Count, Count] = (512, 1024, 2048)
    taps: tuple[Count, Count, Count] = (3, 1, 3)
    bottleneck: Count = 512
    hidden: Count = 128
    layers: Count = 2
    heads: Count = 16
    head_size: Count = 16
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.35
    init: Initialization = "glorot"


class Model(nn.Module):
    """Frames in, one vector per utterance out, the same for all tasks."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: d_spec, bins of a frame.
            tasks: names of the tasks that read the vector.
        """
        super().__init__()
        self.config = config
        self.tasks = tuple(tasks)
        self.width = 2 * config.hidden
        self.receptive_field = 1 + sum(taps - 1 for taps in config.taps)
        channels = (width, *config.filters)
        sizes = zip(channels, config.filters, config.taps, strict=False)
        self.convolutions = nn.ModuleList(PackedValidConv1d(*size) for size in sizes)
        self.bottleneck = nn.Linear(config.filters[-1], config.bottleneck)
        widths = [config.bottleneck] + [self.width] * (config.layers - 1)
        self.blstms = nn.ModuleList(BLSTM(width, config.hidden) for width in widths)
        self.dropout = Dropout(config.dropout)
        self.attend = MultiHeadAttention(self.width, config.heads, config.head_size)
        self.local = nn.Linear(self.width, 1, bias=False)
        self.init = config.init
        init_weights(self, config.init)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask -> a vector (B, D), weights (B, H, T, T), (B, 1, T)."""
        x_nd, index_bl, mask_bl = pack_windows(*frames, size=self.receptive_field, fill=PAD_VALUE)
        for convolution in self.convolutions:
            x_nd = convolution(x_nd).relu_()
        x_bld = F.embedding(index_bl, self.bottleneck(x_nd))  # from packed frames to a batch
        x_bld = self.dropout(x_bld)
        for blstm in self.blstms:
            x_bld = self.dropout(blstm(x_bld, mask_bl))
        x_btd, centre_bt = align_to_centres(x_bld, frames[1], self.receptive_field)
        h_btd, self_bhtt = self.attend(x_btd, centre_bt)  # equations 1 and 2
        return self.pool_states(h_btd, self_bhtt, centre_bt)

    def pool_states(self, h_btd: Tensor, self_bhtt: Tensor | None, mask_bt: Tensor) -> ModelOutput:
        """Output of the self-attention (B, T, D), its weights and mask -> the vector."""
        o_b1d, local_b1t = attention_pool(h_btd, self.local(h_btd), mask_bt)  # equations 3 and 4
        maps = {"local": AttentionWeights(local_b1t, stride=1)}
        if self_bhtt is not None:
            maps["self"] = AttentionWeights(self_bhtt, stride=1)
        return ModelOutput(dict.fromkeys(self.tasks, o_b1d[:, 0]), maps)

    def to_onnx_module(self) -> "ONNXModel":
        """Return the model for export."""
        return ONNXModel(self)


class ONNXModel(nn.Module):
    """The same network for one utterance without padding, in operations of ONNX."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.blstms = nn.ModuleList(
            ONNXRecurrence.of_blstm(blstm) for blstm in model.blstms if isinstance(blstm, BLSTM)
        )

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (1, T, F) with their mask -> a vector (1, D), weights (1, H, T, T), (1, 1, T)."""
        model, (x_btf, mask_bt) = self.model, frames
        missing = model.receptive_field - x_btf[:, : model.receptive_field].shape[1]
        x_bld = F.pad(x_btf, (0, 0, 0, missing), value=PAD_VALUE)
        for convolution in model.convolutions:
            assert isinstance(convolution, PackedValidConv1d)
            x_bld = convolution.convolve_unpacked(x_bld).relu()
        x_bld = model.bottleneck(x_bld)
        for blstm in self.blstms:
            x_bld = blstm(x_bld)
        x_btd, centre_bt = align_to_centres(x_bld, mask_bt, model.receptive_field)
        attend = model.attend
        h_btd, self_bhtt = attend.attend(attend.project(x_btd), centre_bt[:, None, None])
        return model.pool_states(attend.join(h_btd), self_bhtt, centre_bt)
