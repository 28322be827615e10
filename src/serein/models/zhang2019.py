"""End-to-end convolutions and GRUs on the waveform, with an attention for each task.

Zhang, Wu, Schuller: "Attention-Augmented End-to-End Multi-Task Learning for Emotion Prediction
from Speech", ICASSP 2019, sections 3.1, 3.2 and 4.2, equations 1-4; equation 5 is the system's.

Where the paper is silent, ours:
- both convolutions keep their length by zeros, 19 before and 20 behind for 40 taps, as its "zero
  padding" does in TensorFlow; zeros stand beyond each segment's ends, not its neighbours;
- segments begin at every hop while whole ones are left; an utterance shorter than one segment is
  filled up with zeros to one;
- the vector of a segment is laid position by position, dropout is on that vector alone;
- a GRU's reset gate acts behind the recurrent product, as in torch and cuDNN.

B = batch, T = frames (hops of samples), F = samples of a frame, N = hops of all utterances end to
end, L = segments of the longest utterance, D = hidden units, H = tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.layers.attention import AttentionWeights, ModelOutput, attention_pool
from serein.layers.packed import align_to_centres, pack_windows
from serein.layers.recurrent import Dropout, last_outputs
from serein.layers.segment_convolution import SegmentConvolutions

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """What section 4.2 sets.

    Attributes:
        hops: frames of a segment: 4 of 160 samples are 40 ms at 16 kHz.
        filters: of each convolution.
        taps: samples, and then pooled samples, that a convolution sees.
        pool: samples under the first maximum.
        group: neighbouring channels under the second one.
        dropout: of a segment's vector; 1 less what the paper keeps.
        hidden: units of each GRU layer.
        layers: of GRUs.
        attention: whether each task has one; without, the last output sums the speech up.
        exact: whether a segment sees zeros beyond its ends, as in the paper; false shows it its
            neighbours there, which is other arithmetic and a little faster.
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
            tasks: names of those who get a vector each.

        Raises:
            ConfigError: sizes that do not divide each other, or hops too short for the taps.
        """
        super().__init__()
        self.config = config
        self.tasks = tuple(tasks)
        self.convolutions = SegmentConvolutions(
            width,
            config.hops,
            filters=config.filters,
            taps=config.taps,
            pool=config.pool,
            group=config.group,
            exact=config.zero_pad_segments,
        )
        self.dropout = Dropout(config.dropout)
        inside = self.convolutions.width
        self.gru = nn.GRU(inside, config.hidden, config.layers, batch_first=True)
        self.width = config.hidden
        if config.attention:
            self.attend = nn.Linear(config.hidden, len(self.tasks), bias=False)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask (B, T) -> a vector (B, D) and weights for each task."""
        wave_nf, place_bl, mask_bl = pack_windows(*frames, size=self.config.hops, fill=0)
        v_bld = F.embedding(place_bl, self.convolutions(wave_nf))  # equation 1
        h_bld, _ = self.gru(self.dropout(v_bld))  # equation 2
        if not self.config.attention:
            return ModelOutput(dict.fromkeys(self.tasks, last_outputs(h_bld, mask_bl)), {})
        h_btd, middle_bt = align_to_centres(h_bld, frames[1], self.config.hops)
        r_bhd, weight_bht = attention_pool(
            h_btd, self.attend(h_btd), middle_bt
        )  # equations 3 and 4
        vectors = dict(zip(self.tasks, r_bhd.unbind(dim=1), strict=True))
        maps = zip(self.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return ModelOutput(
            vectors, {task: AttentionWeights(weight, stride=1) for task, weight in maps}
        )
