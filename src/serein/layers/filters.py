"""Filters over windows of a signal, the maximum of every few outputs, and ReLU.

R = windows, W = samples of a window, K = taps, C = filters, P = outputs under one maximum, J =
maxima of a window, N = J x C.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

WINDOWS_PER_BLOCK = 256
"""Windows that are worked on together; more would not fit into a core's cache."""


def conv_max_pool(window_rw: Tensor, weight_kc: Tensor, bias_c: Tensor, pool: int) -> Tensor:
    """Filter each window where it covers all taps: W = J x pool + K - 1.

    Args:
        window_rw: (R, W); windows may overlap in memory.
        weight_kc: (K, C).
        bias_c: (C,).
        pool: P.

    Returns:
        (R, J, C), not negative.
    """
    taps, filters = weight_kc.shape
    places = (window_rw.shape[1] - taps + 1) // pool
    tap_wo = torch.arange(window_rw.shape[1])[:, None] - torch.arange(places * pool)
    tap_wo = torch.where((tap_wo >= 0) & (tap_wo < taps), tap_wo, taps).to(weight_kc.device)
    toeplitz_wjpc = F.pad(weight_kc, (0, 0, 0, 1))[tap_wo].view(-1, places, pool, filters)
    toeplitz_pwn = toeplitz_wjpc.permute(2, 0, 1, 3).flatten(2)
    x_rn = _ConvMaxPool.apply(window_rw, toeplitz_pwn, bias_c.repeat(places))  # type: ignore[no-untyped-call]
    return x_rn.view(-1, places, filters)


class _ConvMaxPool(torch.autograd.Function):
    """Nothing but the windows is kept for the gradient: filters are cheap, their outputs large.

    Of equal outputs the first gets the gradient.
    """

    @staticmethod
    def forward(ctx: Any, window_rw: Tensor, toeplitz_pwn: Tensor, bias_n: Tensor) -> Tensor:
        ctx.save_for_backward(window_rw, toeplitz_pwn, bias_n)
        x_rn = window_rw.new_empty(len(window_rw), len(bias_n))
        for part_rw, part_rn in zip(_split_windows(window_rw), _split_windows(x_rn), strict=True):
            top_rn = torch.matmul(part_rw, toeplitz_pwn).amax(dim=0)
            torch.add(top_rn, bias_n, out=part_rn).relu_()
        return x_rn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        window_rw, toeplitz_pwn, bias_n = ctx.saved_tensors
        grad_toeplitz_pwn, grad_bias_n = torch.zeros_like(toeplitz_pwn), torch.zeros_like(bias_n)
        grad_windows = []
        for part_rw, grad_rn in zip(
            _split_windows(window_rw), _split_windows(grad[0]), strict=True
        ):
            y_prn = torch.matmul(part_rw, toeplitz_pwn)
            grad_prn = _route_gradient(y_prn, bias_n, grad_rn)
            grad_toeplitz_pwn += part_rw.T @ grad_prn
            grad_bias_n += grad_prn.sum(dim=(0, 1))
            if ctx.needs_input_grad[0]:
                grad_windows.append((grad_prn @ toeplitz_pwn.mT).sum(dim=0))
        grad_window_rw = torch.cat(grad_windows) if grad_windows else None
        return grad_window_rw, grad_toeplitz_pwn, grad_bias_n


def _route_gradient(y_prn: Tensor, bias_n: Tensor, grad_rn: Tensor) -> Tensor:
    """The gradient of the outputs: all of it for the largest, the first of equals."""
    top_rn = y_prn.amax(dim=0)
    left_rn = grad_rn * (top_rn + bias_n > 0)
    parts = []
    for y_rn in y_prn[:-1]:
        parts.append(left_rn * (y_rn == top_rn))
        left_rn = left_rn - parts[-1]
    return torch.stack([*parts, left_rn])


def _split_windows(x_rn: Tensor) -> tuple[Tensor, ...]:
    return torch.split(x_rn, WINDOWS_PER_BLOCK)
