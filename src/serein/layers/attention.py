"""Attention within a sequence, attention that sums one up, and what either looked at.

B = batch, H = heads, T = frames, L = windows of frames, D = channels, S = channels of a head.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    weight_bht = _softmax(score_bth, dim=1).mT
    return weight_bht.to(x_btd.dtype) @ x_btd, weight_bht


class MultiHeadAttention(nn.Module):
    """Scaled dot-product self-attention in parallel heads (Vaswani et al. 2017, section 3.2).

    h_i = softmax(Q_i K_i' / sqrt(S)) V_i, y = (h_1, h_2, ...) W; Q_i, K_i and V_i are linear in x.
    """

    def __init__(self, channels: int, heads: int, size: int) -> None:
        """Draw weights as ``torch.nn.Linear`` does.

        Args:
            channels: D, of input and output.
            heads: H.
            size: S.
        """
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(channels, 3 * heads * size, bias=False)
        self.join = nn.Linear(heads * size, channels, bias=False)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) and its mask -> (B, T, D), and the weights (B, H, T, T).

        In training there are no weights: nobody looks at them, and they would be the largest
        tensor of the step.
        """
        split_btjhs = self.project(x_btd).unflatten(-1, (3, self.heads, -1))
        q_bhts, k_bhts, v_bhts = split_btjhs.permute(2, 0, 3, 1, 4)
        seen_b11t = None if bool(mask_bt.all()) else mask_bt[:, None, None]
        if self.training:
            h_bhts = F.scaled_dot_product_attention(q_bhts, k_bhts, v_bhts, seen_b11t)
            return self.join(h_bhts.transpose(1, 2).flatten(2)), None
        score_bhtt = (q_bhts * q_bhts.shape[-1] ** -0.5) @ k_bhts.mT
        if seen_b11t is not None:
            score_bhtt = score_bhtt.masked_fill(~seen_b11t, -torch.inf)
        weight_bhtt = _softmax(score_bhtt, dim=-1)
        h_bhts = weight_bhtt.to(v_bhts.dtype) @ v_bhts
        return self.join(h_bhts.transpose(1, 2).flatten(2)), weight_bhtt


def _softmax(score: Tensor, dim: int) -> Tensor:
    """In fp32 at least: weights that are rounded to bf16 do not sum to 1."""
    return score.softmax(dim, dtype=torch.promote_types(score.dtype, torch.float32))


def centred(weight_bhl: Tensor, mask_bt: Tensor, size: int) -> Tensor:
    """Weights of windows (B, H, L) -> of frames (B, H, T), each where its window's middle is.

    Windows begin at every frame. The middle of one of four frames is where its third one begins:
    the first two frames and the last one of an utterance are no window's middle, and weigh nothing.

    Args:
        weight_bhl: (B, H, L), 0 where an utterance has no window.
        mask_bt: (B, T), the mask of the frames.
        size: frames of a window.
    """
    last_b = mask_bt.sum(dim=1) - 1
    middle_l = torch.arange(weight_bhl.shape[-1], device=last_b.device) + size // 2
    middle_bl = torch.minimum(middle_l, last_b[:, None])
    middle_bhl = middle_bl[:, None].expand_as(weight_bhl)
    empty_bht = weight_bhl.new_zeros(*weight_bhl.shape[:2], mask_bt.shape[1])
    return empty_bht.scatter_add(2, middle_bhl, weight_bhl)


def centred_pairs(weight_bhll: Tensor, mask_bt: Tensor, size: int) -> Tensor:
    """Weights of windows for windows (B, H, L, L) -> of frames for frames (B, H, T, T).

    A frame that is no window's middle looks where the nearest window does; nothing looks at it.
    """
    steps, frames = weight_bhll.shape[-1], mask_bt.shape[1]
    last_b = (mask_bt.sum(dim=1) - size).clamp(min=0, max=steps - 1)
    step_t = torch.arange(frames, device=mask_bt.device) - size // 2
    place_bt = torch.minimum(step_t.clamp(min=0), last_b[:, None])
    batch_b1 = torch.arange(len(place_bt), device=place_bt.device)[:, None]
    weight_bhtl = weight_bhll.transpose(1, 2)[batch_b1, place_bt].transpose(1, 2)
    return centred(weight_bhtl.flatten(1, 2), mask_bt, size).unflatten(1, (-1, frames))


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
