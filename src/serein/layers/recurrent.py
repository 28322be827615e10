"""Recurrence over time that padding does not reach.

B = batch, T = frames, D = channels.

Dropout at half the cost of torch's on a CPU, whose generator draws bit by bit.

Weights before the first step.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Dropout(nn.Module):
    """In training, zero each value with probability p and scale the others by 1 / (1 - p)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if not self.training or not self.probability:
            return x
        keep = torch.rand_like(x) >= self.probability
        return x * keep.to(x.dtype).mul_(1 / (1 - self.probability))


class BLSTM(nn.Module):
    """Bidirectional LSTM; the backward direction starts at each sequence's own end.

    Both directions are plain LSTMs over padded batches, one of them over reversed sequences:
    torch's packed sequences give the same, several times slower on CPUs.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(channels, hidden, batch_first=True)
        self.backwards = nn.LSTM(channels, hidden, batch_first=True)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> Tensor:
        """(B, T, D) and its mask -> (B, T, 2 x hidden); padding gives what must not be used."""
        ahead_btd, _ = self.forwards(x_btd)
        back_btd, _ = self.backwards(reverse_sequences(x_btd, mask_bt))
        return torch.cat([ahead_btd, reverse_sequences(back_btd, mask_bt)], dim=-1)


class StackedBLSTM(nn.Module):
    """Layers of them, one upon the other, with dropout between two layers."""

    def __init__(self, channels: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        widths = [channels] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList(BLSTM(width, hidden) for width in widths)
        self.dropout = Dropout(dropout)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> Tensor:
        """(B, T, D) and its mask -> (B, T, 2 x hidden); padding gives what must not be used."""
        for number, layer in enumerate(self.layers):
            x_btd = layer(self.dropout(x_btd) if number else x_btd, mask_bt)
        return x_btd


def last_states(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """The last state of each direction of a BLSTM's output: (B, T, 2D) and mask -> (B, 2D)."""
    ahead_btd, back_btd = x_btd.chunk(2, dim=-1)
    return torch.cat([last_outputs(ahead_btd, mask_bt), back_btd[:, 0]], dim=-1)


def last_outputs(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """What stands at each sequence's own end: (B, T, D) and mask -> (B, D)."""
    last_b = mask_bt.sum(dim=1) - 1
    return x_btd[torch.arange(len(last_b), device=x_btd.device), last_b]


def reverse_sequences(x_btd: Tensor, mask_bt: Tensor) -> Tensor:
    """Each sequence from its last frame to its first, its padding left in place."""
    if bool(mask_bt.all()):
        return x_btd.flip(1)
    step_t = torch.arange(mask_bt.shape[1], device=x_btd.device)
    mirror_bt = mask_bt.sum(dim=1, keepdim=True) - 1 - step_t
    index_bt = torch.where(mask_bt, mirror_bt, step_t)
    return _Involution.apply(x_btd, index_bt)  # type: ignore[no-untyped-call]


class _Involution(torch.autograd.Function):
    """Reorder frames by a permutation that is its own inverse: backward is forward."""

    @staticmethod
    def forward(ctx: Any, x_btd: Tensor, index_bt: Tensor) -> Tensor:
        ctx.save_for_backward(index_bt)
        return _reorder(x_btd, index_bt)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        return _reorder(grad[0], ctx.saved_tensors[0]), None


def _reorder(x_btd: Tensor, index_bt: Tensor) -> Tensor:
    offset_b1 = torch.arange(len(index_bt), device=index_bt.device)[:, None] * index_bt.shape[1]
    return x_btd.flatten(0, 1)[index_bt + offset_b1]


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
