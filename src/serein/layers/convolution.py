"""Convolution over time: with repeated edges, and without padding.

N = rows of all sequences together, F = channels in, D = channels out, K = taps.

A linear layer whose gradient is as fast in bf16 as its answer.

The gradient of the weights is a product with a transposed left side. oneDNN does it at half its
speed on AMX; with that side copied into place first it is as fast as any other. A product in fp32
needs no copy.

N = rows, F = channels in, D = channels out.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from serein.layers.packed import PackedFrames


class FastLinear(nn.Linear):
    """``torch.nn.Linear`` over rows: the same weights, the same answer."""

    def forward(self, x_nf: Tensor) -> Tensor:
        """(N, F) -> (N, D), in autocast's precision where there is one."""
        if x_nf.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x_nf)
        parts = (
            part.to(torch.get_autocast_dtype("cpu")) for part in (x_nf, self.weight, self.bias)
        )
        return _FastLinearFunction.apply(*parts)  # type: ignore[no-untyped-call]


class _FastLinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_nf: Tensor, weight_df: Tensor, bias_d: Tensor) -> Tensor:
        ctx.save_for_backward(x_nf, weight_df)
        return F.linear(x_nf, weight_df, bias_d)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (grad_nd,), (x_nf, weight_df) = grad, ctx.saved_tensors
        grad_x_nf = grad_nd @ weight_df if ctx.needs_input_grad[0] else None
        return grad_x_nf, grad_nd.T.contiguous() @ x_nf, grad_nd.sum(dim=0)


class EdgeConv1d(nn.Module):
    """Convolution of stride 1 that repeats the first and the last frame as padding.

    Each tap is one matrix product with all rows; what belongs to a neighbour is shifted after
    the product, where it is narrow.
    """

    def __init__(self, channels: int, filters: int, taps: int) -> None:
        """Draw weights as ``torch.nn.Conv1d`` does.

        Args:
            channels: width of a frame.
            filters: width of the output.
            taps: frames that one output sees; odd.
        """
        super().__init__()
        bound = 1 / math.sqrt(channels * taps)
        self.weight_fkd = nn.Parameter(torch.empty(channels, taps, filters).uniform_(-bound, bound))
        self.bias_d = nn.Parameter(torch.empty(filters).uniform_(-bound, bound))

    def forward(self, rows: PackedFrames) -> PackedFrames:
        """(N, F) -> (N, D)."""
        taps = self.weight_fkd.shape[1]
        tap_nd = (rows.x_nd @ self.weight_fkd.flatten(1)).chunk(taps, dim=-1)
        centre = taps // 2
        shifted_nd = [
            _shift_rows(rows.with_features(x_nd), tap - centre) for tap, x_nd in enumerate(tap_nd)
        ]
        return rows.with_features(sum(shifted_nd, self.bias_d))


class ValidConv1d(nn.Module):
    """Convolution of stride 1 without padding, over rows laid end to end; as one matrix product.

    What it makes of rows of two sequences is nobody's: ``rows.windows`` says whose is whose.
    """

    def __init__(self, channels: int, filters: int, taps: int) -> None:
        """Draw weights as ``torch.nn.Conv1d`` does.

        Args:
            channels: width of a frame.
            filters: width of the output.
            taps: frames that one output sees.
        """
        super().__init__()
        self.taps = taps
        self.product = FastLinear(taps * channels, filters)

    def forward(self, x_nf: Tensor) -> Tensor:
        """(N, F) -> (N - taps + 1, D)."""
        count = len(x_nf) - self.taps + 1
        near = [x_nf[tap : tap + count] for tap in range(self.taps)]
        return self.product(torch.cat(near, dim=-1) if self.taps > 1 else x_nf)


def _shift_rows(rows: PackedFrames, offset: int) -> Tensor:
    """What stands ``offset`` rows later (earlier where negative), edges repeated."""
    for _ in range(abs(offset)):
        rows = rows.next_frames() if offset > 0 else rows.previous_frames()
    return rows.x_nd
