"""What papers write in equations, one number at a time."""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from serein.layers.asr import AttentionDecoder
from serein.layers.recurrent import BLSTM, StackedBLSTM

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


def blstms(x: Array, stack: StackedBLSTM) -> Array:
    for layer in stack.layers:
        assert isinstance(layer, BLSTM)
        x = blstm(x, layer)
    return x


class Decoded(NamedTuple):
    """Of each step: states of both layers, where it looked, logarithms of each next word's."""

    s: Array
    y: Array
    weights: Array
    scores: Array


def looked(decoder: AttentionDecoder, h: Array, s: Array, before: Array) -> Array:
    """Feng et al. 2020, equations 8 to 10: the weights of one step."""
    filters = array(decoder.location.weight)[:, 0]
    taps = filters.shape[1]
    energies = np.zeros(len(h))
    for t, h_t in enumerate(h):
        f = np.zeros(len(filters))
        for tap in range(taps):
            place = t + tap - taps // 2
            if 0 <= place < len(h):
                f += filters[:, tap] * before[place]
        inner = linear(s, decoder.query) + linear(h_t, decoder.key) + linear(f, decoder.place)
        energies[t] = linear(np.tanh(inner), decoder.energy)[0]
    return softmax(energies)


def decoded(decoder: AttentionDecoder, h: Array, previous: list[int]) -> Decoded:
    """Feng et al. 2020, equations 6 to 11, over the words of one utterance."""
    size = decoder.from_state.in_features
    s, c, a = np.zeros(size), np.zeros(size), np.zeros(len(h))
    found: list[tuple[Array, ...]] = []
    for word in previous:
        a = looked(decoder, h, s, a)
        g = np.sum([a[t] * h[t] for t in range(len(h))], axis=0)  # equation 7
        gates = linear(array(decoder.words.weight)[word], decoder.word_gates)
        s, c = cell(gates + linear(np.concatenate([g, s]), decoder.gates), c)  # equation 6
        y = np.tanh(linear(g, decoder.from_context) + linear(s, decoder.from_state))
        found.append((s, y, a, np.log(softmax(linear(y, decoder.output)))))  # equation 11
    return Decoded(*map(np.array, zip(*found, strict=True)))
