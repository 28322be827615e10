"""Neighbouring frames laid side by side, without overlap.

B = batch, T = frames, F = bins.
"""

import torch.nn.functional as F
from torch import Tensor


def stack_frames(x_btf: Tensor, mask_bt: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """(B, T, F) and mask -> (B, T / stack, stack x F) and mask; zeros fill a last stack up."""
    missing = -x_btf.shape[1] % stack
    x_btf = F.pad(x_btf.masked_fill(~mask_bt[..., None], 0), (0, 0, 0, missing))
    return x_btf.reshape(len(x_btf), -1, stack * x_btf.shape[2]), mask_bt[:, ::stack]
