"""The equations of the papers in NumPy, step by step."""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from serein.layers.asr import AttentionDecoder
from serein.layers.recurrent import BLSTM, StackedBLSTM

Array = np.ndarray[Any, np.dtype[np.float64]]


def to_array(x: Tensor) -> Array:
    return x.detach().numpy()


def linear(x: Array, layer: nn.Linear) -> Array:
    product: Array = to_array(layer.weight) @ x
    return product if layer.bias is None else product + to_array(layer.bias)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(score: Array) -> Array:
    return np.exp(score) / np.exp(score).sum()


def lstm_cell(gates: Array, state: Array) -> tuple[Array, Array]:
    """Hochreiter and Schmidhuber 1997 with a forget gate; return the output and the state."""
    input_gate, forget, new, output_gate = np.split(gates, 4)
    state = sigmoid(forget) * state + sigmoid(input_gate) * np.tanh(new)
    return sigmoid(output_gate) * np.tanh(state), state


def lstm(x: Array, layer: nn.LSTM) -> Array:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b, c = (to_array(getattr(layer, name)) for name in names)
    hidden, state, out = np.zeros(layer.hidden_size), np.zeros(layer.hidden_size), []
    for step in x:
        hidden, state = lstm_cell(w @ step + u @ hidden + b + c, state)
        out.append(hidden)
    return np.array(out)


def blstm(x: Array, both: BLSTM) -> Array:
    return np.hstack([lstm(x, both.forwards), lstm(x[::-1], both.backwards)[::-1]])


def stacked_blstm(x: Array, stack: StackedBLSTM) -> Array:
    for layer in stack.layers:
        assert isinstance(layer, BLSTM)
        x = blstm(x, layer)
    return x


class DecoderTrace(NamedTuple):
    """For each step: states of both layers, attention weights, log probabilities of the words."""

    s: Array
    y: Array
    weights: Array
    scores: Array


def attention_weights(decoder: AttentionDecoder, h: Array, s: Array, before: Array) -> Array:
    """Feng et al. 2020, equations 8 to 10: the attention weights of one step."""
    filters = to_array(decoder.location.weight)[:, 0]
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


def run_decoder(decoder: AttentionDecoder, h: Array, previous: list[int]) -> DecoderTrace:
    """Feng et al. 2020, equations 6 to 11, for the words of one utterance."""
    size = decoder.from_state.in_features
    s, c, a = np.zeros(size), np.zeros(size), np.zeros(len(h))
    found: list[tuple[Array, ...]] = []
    for word in previous:
        a = attention_weights(decoder, h, s, a)
        g = np.sum([a[t] * h[t] for t in range(len(h))], axis=0)  # equation 7
        gates = linear(to_array(decoder.words.weight)[word], decoder.word_gates)
        s, c = lstm_cell(gates + linear(np.concatenate([g, s]), decoder.gates), c)  # equation 6
        y = np.tanh(linear(g, decoder.from_context) + linear(s, decoder.from_state))
        found.append((s, y, a, np.log(softmax(linear(y, decoder.output)))))  # equation 11
    return DecoderTrace(*map(np.array, zip(*found, strict=True)))
