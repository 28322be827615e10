"""Attention that sums a sequence up, and what it looked at.

B = batch, H = heads, T = frames, D = channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class StructuredAttention(nn.Module):
    """Structured self-attention (Lin et al. 2017): H weighted sums of one sequence.

    a_j = softmax(w_j tanh(W x)), z = a_1 x + ... laid side by side.
    """

    def __init__(self, channels: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden, bias=False)
        self.heads = nn.Linear(hidden, heads, bias=False)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and its mask -> the sums (B, H x D) and the weights (B, H, T)."""
        score_bth = self.heads(torch.tanh(self.hidden(x_btd)))
        z_bhd, weight_bht = summed(x_btd, score_bth, mask_bt)
        return z_bhd.flatten(1), weight_bht


def summed(x_btd: Tensor, score_bth: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Sums weighed by the softmax of scores over time, padding left out.

    Args:
        x_btd: (B, T, D).
        score_bth: (B, T, H), one for each sum.
        mask_bt: (B, T), with a frame or more for each sequence.

    Returns:
        The sums (B, H, D) and the weights (B, H, T).
    """
    score_bth = score_bth.masked_fill(~mask_bt[..., None], -torch.inf)
    weight_bht = score_bth.softmax(dim=1).mT
    return weight_bht @ x_btd, weight_bht


class Attention(NamedTuple):
    """One attention map.

    Attributes:
        weight: (B, ..., T'), sums to 1 over its last axis; 0 on padding.
        stride: frames of the front end that one of the T' steps covers.
    """

    weight: Tensor
    stride: int


class Encoded(NamedTuple):
    """What a model makes of a batch.

    Attributes:
        vectors: for each task, (B, D).
        attention: maps by name; none for a model without attention.
    """

    vectors: dict[str, Tensor]
    attention: dict[str, Attention]
