"""Self-attentional CNN-BLSTM.

Li, Zhao, Kawahara: "Improved End-to-End Speech Emotion Recognition Using Self Attention Mechanism
and Multitask Learning", Interspeech 2019, sections 4.2 and 5.1, equations 1-9, Table 1.

Our choices where the paper gives none:
- frames are log-mel energies of 128 bands (384 = 128 x 3 with deltas and delta-deltas);
- there is one pooling, after the second convolution (L / n_pw steps are left);
- a last pooling window of fewer than three frames counts, so that short speech is not lost;
- without attention, the vector is the last state of each direction of the second BLSTM, as in a
  Keras layer that does not return its sequence;
- initial weights are Keras's defaults in the recipes of the paper, which was implemented in Keras
  (``model.init = "keras"``), those of the attention as in its dense layers; torch's in earlier
  recipes ("torch");
- the gates of an LSTM are logistic, as in Keras since 2.3 and on a GPU; before, Keras's LSTM layer
  had a piecewise linear function by default. An LSTM has two biases, as in torch, which both learn:
  their sum takes steps twice as large as the one bias of Keras.

B = batch, T = frames, T' = pooled steps, F = feature bins, D = channels, H = heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.layers.attention import AttentionWeights, ModelOutput, StructuredAttention
from serein.layers.initialization import Initialization, init_weights
from serein.layers.packed import PackedConv1d, pack_frames
from serein.layers.recurrent import BLSTM, Dropout, ONNXRecurrence, last_states

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """Sizes of Table 1 and section 5.1, with the paper's symbols.

    Attributes:
        filters: d_cnn, of each convolution.
        taps: n_cw, frames in the window of a convolution.
        pool: n_pw, frames in a pooling window.
        hidden: d_lstm, of each direction.
        attention: whether there is self-attention (the ablation has none).
        attention_hidden: d_attn.
        heads: n_attn.
        dropout: after each BLSTM layer.
        init: initial weights (`layers.initialization`): "torch"; "keras", the defaults of the
            paper's framework; "glorot".
    """

    filters: Count = 64
    taps: Count = 3
    pool: Count = 3
    hidden: Count = 60
    attention: bool = True
    attention_hidden: Count = 512
    heads: Count = 8
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    init: Initialization = "torch"


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
        self.conv1 = PackedConv1d(width, config.filters, config.taps)
        self.conv2 = PackedConv1d(config.filters, config.filters, config.taps)
        self.blstm1 = BLSTM(config.filters, config.hidden)
        self.blstm2 = BLSTM(2 * config.hidden, config.hidden)
        self.dropout = Dropout(config.dropout)
        self.width = 2 * config.hidden
        if config.attention:
            sizes = config.attention_hidden, config.heads
            self.attend = StructuredAttention(2 * config.hidden, *sizes)
            self.width *= config.heads
        self.init = config.init
        init_weights(self, config.init)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask (B, T) -> a vector (B, D) and weights (B, H, T')."""
        x_btd, mask_bt = self.convolve(*frames)
        for blstm in (self.blstm1, self.blstm2):
            x_btd = self.dropout(blstm(x_btd, mask_bt))
        return self.reduce_states(x_btd, mask_bt)

    def convolve(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Section 4.2.1: (B, T, F) and its mask -> (B, T', D) and its mask."""
        context = 2 * (self.config.taps // 2)
        packed = pack_frames(x_btf, mask_bt, pool=self.config.pool, context=context)
        packed = self.conv1(packed).relu()  # equations 1-3
        packed = self.conv2(packed).relu()
        return packed.max_pool()  # equation 4

    def reduce_states(self, x_btd: Tensor, mask_bt: Tensor) -> ModelOutput:
        """Section 4.2.3: states of the second BLSTM (B, T', D) and their mask -> the vector."""
        if not self.config.attention:
            return ModelOutput(dict.fromkeys(self.tasks, last_states(x_btd, mask_bt)), {})
        z_bd, weight_bht = self.attend(x_btd, mask_bt)  # equations 5-9
        attention = AttentionWeights(weight_bht, stride=self.config.pool)
        return ModelOutput(dict.fromkeys(self.tasks, z_bd), {"heads": attention})

    def to_onnx_module(self) -> "ONNXModel":
        """Return the model for export."""
        return ONNXModel(self)


class ONNXModel(nn.Module):
    """The same network for one utterance without padding, in operations of ONNX."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        blstms = (model.blstm1, model.blstm2)
        self.blstms = nn.ModuleList(ONNXRecurrence.of_blstm(blstm) for blstm in blstms)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (1, T, F) with their mask -> a vector (1, D) and weights (1, H, T')."""
        x_btd, pool = frames[0], self.model.config.pool
        for convolution in (self.model.conv1, self.model.conv2):
            x_btd = convolution.convolve_unpacked(x_btd).relu()
        x_btd = F.max_pool1d(F.pad(x_btd, (0, 0, 0, pool - 1)).mT, pool).mT
        for blstm in self.blstms:
            x_btd = blstm(x_btd)
        return self.model.reduce_states(x_btd, torch.ones_like(x_btd[..., 0], dtype=torch.bool))
