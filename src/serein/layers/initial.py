"""Weights before the first step."""

import torch
from torch import nn


def init_glorot(module: nn.Module) -> None:
    """Draw weights as Keras does where nothing is said: Glorot & Bengio 2010, uniform.

    The variance of a signal then stays what it is through a deep network; torch's own draws shrink
    it at every layer. Biases are 0. LSTMs have orthogonal recurrent weights (Saxe et al. 2014) and
    a bias of 1 at the forget gate (Jozefowicz et al. 2015). A convolution is taken as the matrix
    product that it is, from all taps to one frame.

    Args:
        module: changed in place, with all that it holds.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LSTM):
            _init_lstm(part)


def _init_lstm(lstm: nn.LSTM) -> None:
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
