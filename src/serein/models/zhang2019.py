"""End-to-end convolutions and GRUs on the waveform, with an attention for each task.

Zhang, Wu, Schuller: "Attention-Augmented End-to-End Multi-Task Learning for Emotion Prediction
from Speech", ICASSP 2019, sections 3.1, 3.2 and 4.2, equations 1-4; equation 5 is in
``system.py``.

Our choices where the paper gives none:
- both convolutions keep the length by zeros, 19 before and 20 after for 40 taps, as "zero padding"
  does in TensorFlow; each segment is padded with zeros, not with its neighbouring samples;
- segments begin at every hop that has a whole segment behind it; an utterance shorter than one
  segment is padded with zeros to one;
- the last hop of an utterance is filled with zeros (`features.rawframes`), so that its end is read:
  up to 159 of the 640 samples of the last segment are zeros. To drop an incomplete hop would leave
  out up to 10 ms of speech, and one segment of the utterance;
- the vector of a segment is its positions one after the other; dropout acts on that vector alone;
- a GRU's reset gate follows the recurrent product, as in torch and cuDNN.

B = batch, T = frames (hops of samples), F = samples of a frame, N = hops of all utterances packed
end to end, L = segments of the longest utterance, D = hidden units, H = tasks. In the ONNX form: S
= samples of a segment, C = filters of the first convolution, E = of the second, K = taps, J =
positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.attention import AttentionWeights, ModelOutput, attention_pool
from serein.layers.packed import align_to_centres, pack_windows
from serein.layers.recurrent import Dropout, ONNXRecurrence, last_outputs
from serein.layers.segment_convolution import SegmentConvolutions

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """Sizes of section 4.2.

    Attributes:
        hops: frames of a segment: 4 of 160 samples are 40 ms at 16 kHz.
        filters: number of filters of each convolution.
        taps: samples, and then pooled samples, in the window of a convolution.
        pool: size of the max pooling over time, in samples.
        group: size of the max pooling over channels.
        dropout: dropout of a segment's vector; 1 - the keep probability of the paper.
        hidden: units of each GRU layer.
        layers: number of GRU layers.
        attention: whether each task has attention; otherwise the vector is the last output.
        zero_pad_segments: whether each segment is padded with zeros, as in the paper; false pads
            it with its neighbouring samples, which gives other numbers a little faster.
    """

    hops: Annotated[int, Ge(2)] = 4
    filters: Count = 40
    taps: Annotated[int, Ge(3)] = 40
    pool: Count = 2
    group: Count = 10
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    hidden: Count = 128
    layers: Count = 2
    attention: bool = True
    zero_pad_segments: bool = True


class Model(nn.Module):
    """Hops of samples in, one vector per utterance and task out."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: samples of a hop.
            tasks: names of the tasks; each gets a vector.

        Raises:
            ConfigError: sizes that do not divide each other, or hops too short for the taps.
        """
        super().__init__()
        self.config = config
        self.tasks = tuple(tasks)
        # Conv1d, max pooling over time, ReLU, Conv1d, max pooling over channels, ReLU.
        self.convolutions = SegmentConvolutions(
            width,
            config.hops,
            filters=config.filters,
            taps=config.taps,
            pool=config.pool,
            group=config.group,
            zero_pad=config.zero_pad_segments,
        )
        self.dropout = Dropout(config.dropout)
        self.gru = nn.GRU(self.convolutions.width, config.hidden, config.layers, batch_first=True)
        self.width = config.hidden
        if config.attention:
            self.attend = nn.Linear(config.hidden, len(self.tasks), bias=False)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask (B, T) -> a vector (B, D) and weights for each task."""
        wave_nf, index_bl, mask_bl = pack_windows(*frames, size=self.config.hops, fill=0)
        v_bld = F.embedding(index_bl, self.convolutions(wave_nf))  # equation 1
        h_bld, _ = self.gru(self.dropout(v_bld))  # equation 2
        if not self.config.attention:
            return ModelOutput(dict.fromkeys(self.tasks, last_outputs(h_bld, mask_bl)), {})
        return self.pool_states(h_bld, frames[1])

    def pool_states(self, h_bld: Tensor, mask_bt: Tensor) -> ModelOutput:
        """Section 3.2: outputs of the GRUs (B, L, D) and mask (B, T) -> a vector for each task."""
        h_btd, centre_bt = align_to_centres(h_bld, mask_bt, self.config.hops)
        r_bhd, weight_bht = attention_pool(h_btd, self.attend(h_btd), centre_bt)  # equations 3, 4
        vectors = dict(zip(self.tasks, r_bhd.unbind(dim=1), strict=True))
        maps = zip(self.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return ModelOutput(
            vectors, {task: AttentionWeights(weight, stride=1) for task, weight in maps}
        )

    def to_onnx_module(self) -> "ONNXModel":
        """Return the model for export.

        Raises:
            ConfigError: segments are not padded with zeros.
        """
        if not self.config.zero_pad_segments:
            raise ConfigError(
                "zhang2019 with model.zero_pad_segments = false cannot be exported: the padding of "
                "a segment is its neighbouring samples. Train it with "
                "model.zero_pad_segments = true"
            )
        return ONNXModel(self)


class ONNXModel(nn.Module):
    """The same network for one utterance, segment by segment, in operations of ONNX."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        layers = range(model.config.layers)
        self.grus = nn.ModuleList(ONNXRecurrence([model.gru], layer) for layer in layers)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (1, T, F) with their mask -> a vector (1, D) and weights for each task."""
        model, (x_btf, mask_bt) = self.model, frames
        h_bld = self._convolve_segments(x_btf)
        for gru in self.grus:
            h_bld = gru(h_bld)
        if not model.config.attention:
            last = (mask_bt.sum() - model.config.hops).clamp(min=0)
            return ModelOutput(dict.fromkeys(model.tasks, h_bld[:, last]), {})
        return model.pool_states(h_bld, mask_bt)

    def _convolve_segments(self, x_btf: Tensor) -> Tensor:
        """Equation 1: hops of samples (1, T, F) -> the vector of a segment at each, (1, T, D).

        The last segments of an utterance are incomplete and meaningless; they are not used.
        """
        layer, (frame_count, width) = self.model.convolutions, x_btf.shape[1:]
        size = layer.hops * width
        wave_s = F.pad(x_btf.flatten(), (0, size))
        segment_ls = wave_s[torch.arange(frame_count)[:, None] * width + torch.arange(size)]
        padding = layer.pad_left, layer.pad_right
        weight1_c1k = layer.weight1_kc.T[:, None]
        y_lcj = F.conv1d(F.pad(segment_ls[:, None], padding), weight1_c1k, layer.bias1_c)
        y_lcj = F.max_pool1d(y_lcj, layer.pool).relu()
        weight2_eck = layer.weight2_kcd.permute(2, 1, 0)
        y_lej = F.conv1d(F.pad(y_lcj, padding), weight2_eck, layer.bias2_c)
        return F.max_pool1d(y_lej.mT, layer.group).relu().flatten(1)[None]
