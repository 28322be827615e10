"""Attention that pools a sequence, attention within a sequence, and the output of a model.

B = batch, H = heads, T = frames, D = channels, S = channels of a head. A mask is (B, T), True for
frames that are not padding.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.layers.outputs import TranscriptOutput


class AttentionWeights(NamedTuple):
    """One attention map.

    Attributes:
        weight: (B, ..., T'), sums to 1 over its last axis; 0 on padding.
        stride: frames of the front end in one of the T' steps; 0 where the steps are words, which
            have no time of their own.
    """

    weight: Tensor
    stride: int


class ModelOutput(NamedTuple):
    """The output of a model for a batch.

    Attributes:
        vectors: for each task, (B, D).
        attention: maps by name; empty for a model without attention.
        transcript: output of the speech recogniser (ASR); None for a model without one.
    """

    vectors: dict[str, Tensor]
    attention: dict[str, AttentionWeights]
    transcript: TranscriptOutput | None = None


class StructuredAttention(nn.Module):
    """Structured self-attention (Lin et al. 2017): H weighted sums of one sequence.

    a_j = softmax(w_j tanh(W x)), z = (a_1 x, ..., a_H x), concatenated.
    """

    def __init__(self, channels: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden, bias=False)
        self.heads = nn.Linear(hidden, heads, bias=False)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and its mask -> the sums (B, H x D) and the weights (B, H, T)."""
        score_bth = self.heads(torch.tanh(self.hidden(x_btd)))
        z_bhd, weight_bht = attention_pool(x_btd, score_bth, mask_bt)
        return z_bhd.flatten(1), weight_bht


def attention_pool(x_btd: Tensor, score_bth: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Sum a sequence over time, weighted by the softmax of scores; padding has weight 0.

    Args:
        x_btd: (B, T, D).
        score_bth: (B, T, H), scores of each sum.
        mask_bt: (B, T), with at least one frame in each sequence.

    Returns:
        The sums (B, H, D) and the weights (B, H, T).
    """
    weight_bht = masked_softmax(score_bth, mask_bt)
    return weight_bht.to(x_btd.dtype) @ x_btd, weight_bht


def masked_softmax(score_bth: Tensor, mask_bt: Tensor) -> Tensor:
    """Return the softmax of scores (B, T, H) over unmasked time -> (B, H, T)."""
    score_bth = score_bth.masked_fill(~mask_bt[..., None], -torch.inf)
    return _at_least_fp32(score_bth).softmax(dim=1).mT


class MultiHeadAttention(nn.Module):
    """Scaled dot-product self-attention in parallel heads (Vaswani et al. 2017, section 3.2).

    h_i = softmax(Q_i K_i' / sqrt(S)) V_i, y = (h_1, h_2, ...) W; Q_i, K_i and V_i are linear in x.
    """

    def __init__(self, channels: int, heads: int, head_size: int) -> None:
        """Initialize the weights as ``torch.nn.Linear`` does.

        Args:
            channels: D, of input and output.
            heads: H.
            head_size: S.
        """
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(channels, 3 * heads * head_size, bias=False)
        self.join = nn.Linear(heads * head_size, channels, bias=False)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) and its mask -> (B, T, D), and the weights (B, H, T, T).

        In training there are no weights: they are not used, and would be the largest tensor of the
        step.
        """
        qkv_btd = _at_least_fp32(self.project(x_btd))
        visible_b11t = None if bool(mask_bt.all()) else mask_bt[:, None, None]
        with torch.autocast(x_btd.device.type, enabled=False):  # slower in bf16 on a CPU
            h_btd, weight_bhtt = self.attend(qkv_btd, visible_b11t)
        return self.join(h_btd), weight_bhtt

    def attend(self, qkv_btd: Tensor, visible_b11t: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Attend with each head.

        Args:
            qkv_btd: (B, T, 3 x H x S), queries, keys and values of all heads.
            visible_b11t: False for padding; None where there is none.

        Returns:
            The heads side by side (B, T, H x S), and in evaluation the weights (B, H, T, T).
        """
        batch, frame_count, _ = qkv_btd.shape
        split_btjhs = qkv_btd.view(batch, frame_count, 3, self.heads, -1)
        q_bhts, k_bhts, v_bhts = split_btjhs.permute(2, 0, 3, 1, 4)
        if self.training:
            h_bhts = F.scaled_dot_product_attention(q_bhts, k_bhts, v_bhts, visible_b11t)
            return h_bhts.transpose(1, 2).flatten(2), None
        score_bhtt = (q_bhts * q_bhts.shape[-1] ** -0.5) @ k_bhts.mT
        if visible_b11t is not None:
            bias_b11t = torch.zeros_like(visible_b11t, dtype=score_bhtt.dtype)
            score_bhtt += bias_b11t.masked_fill_(~visible_b11t, -torch.inf)
        weight_bhtt = score_bhtt.softmax(dim=-1)
        return (weight_bhtt @ v_bhts).transpose(1, 2).flatten(2), weight_bhtt


def _at_least_fp32(x: Tensor) -> Tensor:
    """Return x in fp32 or wider: weights that are rounded to bf16 do not sum to 1."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
