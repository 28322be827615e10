"""Self-attentional CNN-BLSTM.

Li, Zhao, Kawahara: "Improved End-to-End Speech Emotion Recognition Using Self Attention Mechanism
and Multitask Learning", Interspeech 2019, sections 4.2 and 5.1, equations 1-9, Table 1.

Where the paper is silent, ours:
- frames are logarithms of 128 mel bands (384 = 128 x 3 with deltas and delta-deltas);
- one pooling, after the second convolution (L / n_pw steps are left);
- a last pooling window of fewer than three frames counts, so that short speech is not lost;
- without attention, the last state of each direction of the second BLSTM sums the speech up,
  as a Keras layer does that does not return its sequence.

B = batch, T = frames, T' = pooled steps, F = feature bins, D = channels, H = heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.layers.attention import AttentionWeights, ModelOutput, StructuredAttention
from serein.layers.convolution import EdgeConv1d
from serein.layers.packed import pack_frames
from serein.layers.recurrent import BLSTM, Dropout, last_states

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """What Table 1 and section 5.1 set, by the paper's symbols.

    Attributes:
        filters: d_cnn, of each convolution.
        taps: n_cw, frames that a convolution sees.
        pool: n_pw, frames that are pooled.
        hidden: d_lstm, of each direction.
        attention: whether there is self-attention (the ablation has none).
        attention_hidden: d_attn.
        heads: n_attn.
        dropout: after each BLSTM layer.
    """

    filters: Count = 64
    taps: Count = 3
    pool: Count = 3
    hidden: Count = 60
    attention: bool = True
    attention_hidden: Count = 512
    heads: Count = 8
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5


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
        self.conv1 = EdgeConv1d(width, config.filters, config.taps)
        self.conv2 = EdgeConv1d(config.filters, config.filters, config.taps)
        self.blstm1 = BLSTM(config.filters, config.hidden)
        self.blstm2 = BLSTM(2 * config.hidden, config.hidden)
        self.dropout = Dropout(config.dropout)
        self.width = 2 * config.hidden
        if config.attention:
            sizes = config.attention_hidden, config.heads
            self.attend = StructuredAttention(2 * config.hidden, *sizes)
            self.width *= config.heads

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask (B, T) -> a vector (B, D) and weights (B, H, T')."""
        x_btd, mask_bt = self._convolve(*frames)
        for blstm in (self.blstm1, self.blstm2):
            x_btd = self.dropout(blstm(x_btd, mask_bt))
        if not self.config.attention:
            return ModelOutput(dict.fromkeys(self.tasks, last_states(x_btd, mask_bt)), {})
        z_bd, weight_bht = self.attend(x_btd, mask_bt)
        attention = AttentionWeights(weight_bht, stride=self.config.pool)
        return ModelOutput(dict.fromkeys(self.tasks, z_bd), {"heads": attention})

    def _convolve(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 1-4: (B, T, F) and its mask -> (B, T', D) and its mask."""
        reach = 2 * (self.config.taps // 2)
        rows = pack_frames(x_btf, mask_bt, group=self.config.pool, context=reach)
        for convolution in (self.conv1, self.conv2):
            rows = convolution(rows)
            rows = rows.with_features(rows.x_nd.relu())
        return rows.max_pool()
