"""Moments and quantiles over those frames of a sequence that count.

B = batch, T = frames, D = contours, Q = quantiles.
"""

import math

import numpy as np
import torch
from torch import Tensor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def speech_mask(level_bt: Tensor, mask_bt: Tensor, within: float) -> Tensor:
    """In which frames (B, T) somebody speaks: no farther than that below the loudest one."""
    level_bt = level_bt.masked_fill(~mask_bt, -math.inf)
    return (level_bt >= level_bt.amax(dim=1, keepdim=True) - within) & mask_bt


def uniform_weights(counts_bt: Tensor) -> Tensor:
    """Of each frame that counts, the same share of one; (B, T). Zeros where none does."""
    return counts_bt / counts_bt.sum(dim=1, keepdim=True).clamp(min=1)


def moments(x_btd: Tensor, counts_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, D) over the frames that count; zeros where none does."""
    share_bt1 = uniform_weights(counts_bt)[..., None]
    x_btd = x_btd.masked_fill(~counts_bt[..., None], 0)
    mean_bd = (x_btd * share_bt1).sum(dim=1)
    square_bd = ((x_btd - mean_bd[:, None]).square() * share_bt1).sum(dim=1)
    return mean_bd, square_bd.sqrt()


def quantiles(x_btd: Tensor, counts_bt: Tensor) -> Tensor:
    """(B, Q x D) over the frames that count, between two of them in proportion; else zeros."""
    count_b = counts_bt.sum(dim=1)
    sorted_btd = _sort_frames(x_btd.masked_fill(~counts_bt[..., None], math.inf))
    place_bq = (count_b[:, None] - 1).clamp(min=0) * torch.tensor(QUANTILES, device=x_btd.device)
    low_bq = place_bq.floor().long()
    high_bq = torch.minimum(low_bq + 1, (count_b[:, None] - 1).clamp(min=0))
    wide = -1, -1, x_btd.shape[2]
    low_bqd = sorted_btd.gather(1, low_bq[..., None].expand(wide))
    high_bqd = sorted_btd.gather(1, high_bq[..., None].expand(wide))
    found_bqd = low_bqd.lerp(high_bqd, (place_bq - low_bq)[..., None])
    return found_bqd.masked_fill((count_b == 0)[:, None, None], 0).flatten(1)


def _sort_frames(x_btd: Tensor) -> Tensor:
    """Each contour in order. NumPy sorts on a processor in a tenth of torch's time."""
    if not x_btd.is_cpu or torch.compiler.is_exporting():
        return x_btd.sort(dim=1).values
    return torch.from_numpy(np.sort(x_btd.mT.contiguous().numpy(), axis=2)).mT
