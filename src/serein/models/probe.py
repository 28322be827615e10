"""A probe: a small network on the frozen states of a pretrained encoder.

Yang et al.: "SUPERB: Speech Processing Universal PERformance Benchmark", Interspeech 2021, for
emotion: a trainable weighted sum of all layers, a dense layer, the mean over time, a linear head.
Ours: weights that are 0 for most layers (``sparse``), no dense layer (``hidden = 0``), or one with
ReLU and dropout, attention for each task in place of the mean, and states standardized as the
recipe says. The frames may be one row of statistics over time.

B = batch, T = frames, F = channels of all states, D = width of the vector.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.attention import ModelOutput
from serein.layers.ssl_encoder import StatePooling, WeightedLayerSum

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """Sizes of the probe.

    Attributes:
        states: layers that are concatenated in a frame; the front end ``ssl`` sets it.
        sparse: whether the weights of the layers are sparse: a few layers, or one, have all weight.
        hidden: width of the dense layer; 0 has none, and the heads are linear in the states.
        attention: whether each task has one; else its vector is the mean over time.
        dropout: of the dense layer's output.
    """

    states: Count = 1
    sparse: bool = False
    hidden: Annotated[int, Ge(0)] = 256
    attention: bool = True
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


class Model(nn.Module):
    """States in, one vector per utterance and task out."""

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: F.
            tasks: names of the tasks; each gets a vector.

        Raises:
            ConfigError: the width of the frames is no multiple of the states.
        """
        super().__init__()
        channels, rest = divmod(width, config.states)
        if rest:
            raise ConfigError(
                f"frames of {width} bins are not {config.states} states side by side; "
                "do not set model.states, the front end ssl sets it"
            )
        self.states = config.states
        self.pooling = StatePooling(
            config.states,
            channels,
            tasks,
            hidden=config.hidden,
            attention=config.attention,
            dropout=config.dropout,
            sparse=config.sparse,
        )
        self.width = self.pooling.width

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask -> a vector (B, D) and weights for each task."""
        x_btf, mask_bt = frames
        x_btf = x_btf.masked_fill(~mask_bt[..., None], 0)
        return self.pooling(x_btf.reshape(*mask_bt.shape, self.states, -1), mask_bt)

    def to_onnx_module(self) -> "Model":
        """Return the model for export, with fixed weights of the layers."""
        model = copy.deepcopy(self)
        model.pooling.layers = _FixedLayerSum(self.pooling.layers)
        return model


class _FixedLayerSum(WeightedLayerSum):
    """The same sum, whose weights are computed once."""

    weight_n: Tensor

    def __init__(self, layers: WeightedLayerSum) -> None:
        super().__init__(len(layers.score_n), sparse=layers.sparse)
        self.register_buffer("weight_n", layers.compute_weights().detach())

    def compute_weights(self) -> Tensor:
        return self.weight_n
