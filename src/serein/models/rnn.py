"""GRUs over frames: the recurrent baseline on hand-crafted descriptors.

Zhang, Wu, Schuller: "Attention-Augmented End-to-End Multi-Task Learning for Emotion Prediction
from Speech", ICASSP 2019, section 4.3, "OS+RNNs" of Table 1: "the sequence classifier of RNNs to
model frame-level features". The paper gives no sizes for it; ours are those of its end-to-end
system (section 4.2): two layers of 128 GRUs, the last output (section 3.1), or attention in its
place (equations 3 and 4), dropout that keeps 0.9, here of each output.

B = batch, T = frames (or stacks of them), F = bins, D = hidden units, H = tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.layers.asr import stack_frames
from serein.layers.attention import AttentionWeights, ModelOutput, attention_pool
from serein.layers.recurrent import Dropout, ONNXRecurrence, last_outputs

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """Sizes of the network.

    Attributes:
        stack: neighbouring frames that are concatenated to one; 1 for none. Four make training four
            times faster, as recurrence goes step by step.
        hidden: units of each layer.
        layers: number of GRU layers.
        attention: whether each task has one; without, the vector is the last output.
        dropout: of the last layer's outputs.
    """

    stack: Count = 1
    hidden: Count = 128
    layers: Count = 2
    attention: bool = False
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


class Model(nn.Module):
    """Frames in, one vector per utterance and task out."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: bins of a frame.
            tasks: names of the tasks; each gets a vector.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.stack = config.stack
        self.gru = nn.GRU(width * config.stack, config.hidden, config.layers, batch_first=True)
        self.dropout = Dropout(config.dropout)
        self.width = config.hidden
        self.attend = (
            nn.Linear(config.hidden, len(self.tasks), bias=False) if config.attention else None
        )

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask (B, T) -> a vector (B, D) and weights for each task."""
        x_btf, mask_bt = stack_frames(*frames, self.stack)
        h_btd, _ = self.gru(x_btf)
        return self.reduce_outputs(self.dropout(h_btd), mask_bt)

    def reduce_outputs(self, h_btd: Tensor, mask_bt: Tensor) -> ModelOutput:
        """Outputs of the last layer (B, T, D) and their mask -> a vector for each task."""
        if self.attend is None:
            return ModelOutput(dict.fromkeys(self.tasks, last_outputs(h_btd, mask_bt)), {})
        r_bhd, weight_bht = attention_pool(h_btd, self.attend(h_btd), mask_bt)
        vectors = dict(zip(self.tasks, r_bhd.unbind(dim=1), strict=True))
        maps = zip(self.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return ModelOutput(
            vectors, {task: AttentionWeights(weight, self.stack) for task, weight in maps}
        )

    def to_onnx_module(self) -> "ONNXModel":
        """Return the model for export."""
        return ONNXModel(self)


class ONNXModel(nn.Module):
    """The same network for one utterance without padding, in operations of ONNX."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        layers = range(model.gru.num_layers)
        self.grus = nn.ModuleList(ONNXRecurrence([model.gru], layer) for layer in layers)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (1, T, F) with their mask -> a vector (1, D) and weights for each task."""
        x_btf, stack = frames[0], self.model.stack
        count = (x_btf.shape[1] + stack - 1) // stack
        x_btf = F.pad(x_btf, (0, 0, 0, stack - 1))[:, : count * stack]
        x_btf = x_btf.reshape(1, count, stack * x_btf.shape[2])
        for gru in self.grus:
            x_btf = gru(x_btf)
        return self.model.reduce_outputs(x_btf, torch.ones_like(x_btf[..., 0], dtype=torch.bool))
