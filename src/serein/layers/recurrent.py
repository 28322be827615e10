"""Bidirectional LSTMs over padded batches, dropout, and an RNN for ONNX.

B = batch, T = frames, D = channels, Z = directions, G = gates of all hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BLSTM(nn.Module):
    """Bidirectional LSTM; the backward direction starts at the end of each sequence.

    Both directions are plain LSTMs over the padded batch, one of them over reversed sequences.
    The output is that of torch's packed sequences, which take 1.8 times as long on a CPU.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(channels, hidden, batch_first=True)
        self.backwards = nn.LSTM(channels, hidden, batch_first=True)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> Tensor:
        """(B, T, D) and its mask -> (B, T, 2 x hidden); the output on padding is meaningless."""
        forward_btd, _ = self.forwards(x_btd)
        backward_btd, _ = self.backwards(reverse_sequences(x_btd, mask_bt))
        return torch.cat([forward_btd, reverse_sequences(backward_btd, mask_bt)], dim=-1)


class StackedBLSTM(nn.Module):
    """Several BLSTM layers, with dropout between two layers."""

    def __init__(self, channels: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        widths = [channels] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList(BLSTM(width, hidden) for width in widths)
        self.dropout = Dropout(dropout)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> Tensor:
        """(B, T, D) and its mask -> (B, T, 2 x hidden); the output on padding is meaningless."""
        for number, layer in enumerate(self.layers):
            x_btd = layer(self.dropout(x_btd) if number else x_btd, mask_bt)
        return x_btd


def last_states(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Return the last state of each direction of a BLSTM: (B, T, 2D) and mask -> (B, 2D)."""
    forward_btd, backward_btd = x_btd.chunk(2, dim=-1)
    return torch.cat([last_outputs(forward_btd, mask_bt), backward_btd[:, 0]], dim=-1)


def last_outputs(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Return the last frame of each sequence: (B, T, D) and mask -> (B, D)."""
    last_b = mask_bt.sum(dim=1) - 1
    return x_btd[torch.arange(len(last_b), device=x_btd.device), last_b]


def reverse_sequences(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Reverse the frames of each sequence; its padding stays in place."""
    if bool(mask_bt.all()):
        return x_btd.flip(1)
    step_t = torch.arange(mask_bt.shape[1], device=x_btd.device)
    mirror_bt = mask_bt.sum(dim=1, keepdim=True) - 1 - step_t
    index_bt = torch.where(mask_bt, mirror_bt, step_t)
    return x_btd.gather(1, index_bt[..., None].expand_as(x_btd))


class Dropout(nn.Module):
    """In training, zero each value with probability p and scale the others by 1 / (1 - p).

    On a CPU this takes half the time of ``torch.nn.Dropout``, whose generator works bit by bit.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if not self.training or not self.probability:
            return x
        keep = torch.rand_like(x) >= self.probability
        return x * keep.to(x.dtype).mul_(1 / (1 - self.probability))


GATE_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Positions, among torch's gates, of the gates in the order of ONNX."""
ONNX_WEIGHTS = {
    "input_zgd": ("weight_ih",),
    "state_zgd": ("weight_hh",),
    "bias_zg": ("bias_ih", "bias_hh"),
}
"""For each weight of ONNX's operators, the weights of torch that it consists of."""


class ONNXRecurrence(nn.Module):
    """One layer of LSTMs or GRUs as ONNX's own operator, for one sequence without padding."""

    input_zgd: Tensor
    state_zgd: Tensor
    bias_zg: Tensor

    def __init__(self, directions: Sequence[nn.RNNBase], layer: int = 0) -> None:
        """Copy the weights.

        Args:
            directions: one module, or two, of which the second one runs backwards.
            layer: which layer of them.
        """
        super().__init__()
        self.mode, self.hidden = directions[0].mode, directions[0].hidden_size
        for name, parts in ONNX_WEIGHTS.items():
            weight = torch.stack([_reorder_gates(rnn, parts, layer) for rnn in directions])
            self.register_buffer(name, weight.detach())
        self.attributes: dict[str, int | float | str | bool | Sequence[int]] = {
            "hidden_size": self.hidden,
            "direction": "bidirectional" if len(directions) == 2 else "forward",
        }
        if self.mode == "GRU":
            self.attributes["linear_before_reset"] = 1  # the reset gate follows the product

    @classmethod
    def of_blstm(cls, blstm: BLSTM) -> "ONNXRecurrence":
        """Return the operator of a bidirectional LSTM."""
        return cls([blstm.forwards, blstm.backwards])

    def forward(self, x_btd: Tensor) -> Tensor:
        """(1, T, D) -> (1, T, Z x hidden)."""
        y_tzbd = torch.onnx.ops.symbolic(
            self.mode,
            (x_btd.transpose(0, 1), self.input_zgd, self.state_zgd, self.bias_zg),
            {**self.attributes},
            dtype=x_btd.dtype,
            shape=(x_btd.shape[1], len(self.bias_zg), 1, self.hidden),
            version=14,
        )
        return y_tzbd.permute(2, 0, 1, 3).flatten(2)


def _reorder_gates(rnn: nn.RNNBase, parts: Sequence[str], layer: int) -> Tensor:
    """Return some weights of one direction, their gates in the order of ONNX, concatenated."""
    order, weights = GATE_ORDER[rnn.mode], [getattr(rnn, f"{part}_l{layer}") for part in parts]
    return torch.cat([w.chunk(len(order))[gate] for w in weights for gate in order])
