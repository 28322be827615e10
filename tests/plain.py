"""What papers write in equations, one number at a time."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from serein.layers.recurrence import BLSTM, BLSTMs

Array = np.ndarray[Any, np.dtype[np.float64]]


def array(x: Tensor) -> Array:
    return x.detach().numpy()


def linear(x: Array, layer: nn.Linear) -> Array:
    product: Array = array(layer.weight) @ x
    return product if layer.bias is None else product + array(layer.bias)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(score: Array) -> Array:
    return np.exp(score) / np.exp(score).sum()


def cell(gates: Array, state: Array) -> tuple[Array, Array]:
    """Hochreiter and Schmidhuber 1997 with a forget gate: the output and the state."""
    enter, forget, new, leave = np.split(gates, 4)
    state = sigmoid(forget) * state + sigmoid(enter) * np.tanh(new)
    return sigmoid(leave) * np.tanh(state), state


def lstm(x: Array, layer: nn.LSTM) -> Array:
    wanted = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b, c = (array(getattr(layer, name)) for name in wanted)
    hidden, state, out = np.zeros(layer.hidden_size), np.zeros(layer.hidden_size), []
    for step in x:
        hidden, state = cell(w @ step + u @ hidden + b + c, state)
        out.append(hidden)
    return np.array(out)


def blstm(x: Array, both: BLSTM) -> Array:
    return np.hstack([lstm(x, both.forwards), lstm(x[::-1], both.backwards)[::-1]])


def blstms(x: Array, stack: BLSTMs) -> Array:
    for layer in stack.layers:
        assert isinstance(layer, BLSTM)
        x = blstm(x, layer)
    return x
