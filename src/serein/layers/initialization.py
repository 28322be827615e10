"""Initial weights of a network: those of torch, Glorot's, or those of Keras.

A recipe chooses them by ``model.init`` where its model has this setting. Keras was the framework of
Li et al. 2019 and of Fu et al. 2020; neither paper mentions other initial weights than its defaults
(`keras.layers`, versions 2.2 to 3.15).

F = channels in, K = taps, D = channels out.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from serein.layers.attention import MultiHeadAttention
from serein.layers.packed import PackedConv1d, PackedValidConv1d

Initialization = Literal["torch", "glorot", "keras"]
"""Initial weights, for ``init_weights``."""


def init_weights(module: nn.Module, scheme: Initialization) -> None:
    """Draw new initial weights.

    - "torch": keep those that torch's layers have drawn, which shrink a signal at every layer.
    - "glorot": uniform weights after Glorot & Bengio (2010), which keep the variance of a signal
      through a deep network; biases are 0. LSTMs have orthogonal recurrent weights (Saxe et al.
      2014) and a bias of 1 at the forget gate (Jozefowicz et al. 2015). A convolution counts as the
      matrix product from all taps to one frame, and queries, keys and values as one product.
    - "keras": the defaults of Keras. They differ from "glorot" in two kinds of layers: a
      convolution has K x D outputs, not D, so that the deviation of a wide one is 0.7 times as
      large with three taps; and queries, keys and values are three matrices. A `System` draws the
      heads of its tasks in the same way, which "glorot" leaves to torch.

    Args:
        module: changed in place, with all its submodules: ``nn.Linear``, ``nn.LSTM`` and the
            convolutions over packed frames. Other layers keep their weights.
        scheme: which weights.
    """
    if scheme == "torch":
        return
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LSTM):
            _init_lstm(part)
        elif isinstance(part, PackedConv1d):
            channels, taps, filters = part.weight_fkd.shape
            _draw_glorot(part.weight_fkd, channels * taps, filters)
            nn.init.zeros_(part.bias_d)
    if scheme == "keras":
        _init_kernels_of_keras(module)


def _init_kernels_of_keras(module: nn.Module) -> None:
    """Draw the weights that are one matrix for "glorot" and another shape in Keras."""
    for part in module.modules():
        if isinstance(part, PackedConv1d):
            channels, taps, filters = part.weight_fkd.shape
            _draw_glorot(part.weight_fkd, channels * taps, taps * filters)
        elif isinstance(part, PackedValidConv1d):
            filters, inputs = part.product.weight.shape
            _draw_glorot(part.product.weight, inputs, part.taps * filters)
        elif isinstance(part, MultiHeadAttention):
            outputs, inputs = part.project.weight.shape
            _draw_glorot(part.project.weight, inputs, outputs // 3)


def _draw_glorot(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """Draw uniform weights with the variance 2 / (fan_in + fan_out)."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(weight, -bound, bound)


def _init_lstm(lstm: nn.LSTM) -> None:
    """Draw the weights of an LSTM; its two biases, one in Keras, have the sum of that one."""
    for name, weight in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(weight)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(weight)
        else:
            nn.init.zeros_(weight)
            if name.startswith("bias_ih"):
                with torch.no_grad():
                    weight[lstm.hidden_size : 2 * lstm.hidden_size] = 1
