"""A linear layer whose gradient is as fast in bf16 as its answer.

The gradient of the weights is a product with a transposed left side. oneDNN does it at half its
speed on AMX; with that side copied into place first it is as fast as any other. A product in fp32
needs no copy.

N = rows, F = channels in, D = channels out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
