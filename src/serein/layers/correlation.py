"""Convolution with long kernels as three matrix products: to frequencies, there, and back.

A row of J values and a kernel of K taps are taken to N / 2 frequencies at which sums that reach
beyond N come back negated; N is just large enough that none of those lands on an output. The way
there and the way back are matrix products too: for a hundred values they are as fast as an FFT
and need no other order of the values in memory. For 40 taps and 80 outputs that is a
quarter of the products that a convolution takes tap by tap, and all matrices are large.

R = rows, J = inputs of a row, I = outputs of a row, K = taps, C = channels in, D = channels out,
F = N / 2 frequencies, G = their real and imaginary parts in turns.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_PER_BLOCK = 128
"""Rows that are worked on together; more would not fit into a core's cache."""


def dft_convolve(x_rjc: Tensor, weight_kcd: Tensor, outputs: int, offset: int = 0) -> Tensor:
    """y_i = sum over j of x_j weight_(j - i + offset); a tap that does not exist is zero.

    Args:
        x_rjc: (R, J, C); rows may overlap in memory.
        weight_kcd: (K, C, D).
        outputs: I.
        offset: the tap that the first input has in the first output.

    Returns:
        (R, I, D).
    """
    sizes = x_rjc.shape[1], outputs, weight_kcd.shape[0], offset
    there_gj, tap_gk, back_ig = (torch.from_numpy(m).to(x_rjc) for m in _build_dft_bases(*sizes))
    weight_gn = tap_gk @ weight_kcd.flatten(1)
    real_fcd, imaginary_fcd = weight_gn.view(-1, 2, *weight_kcd.shape[1:]).unbind(1)
    upper, lower = [real_fcd, imaginary_fcd], [-imaginary_fcd, real_fcd]
    mix_fcd = torch.cat([torch.cat(upper, dim=-1), torch.cat(lower, dim=-1)], dim=-2)
    return _DFTConvolution.apply(x_rjc, mix_fcd, there_gj, back_ig)  # type: ignore[no-untyped-call]


class _DFTConvolution(torch.autograd.Function):
    """To frequencies, through a filter (F, 2C, 2D) there, and back; some rows at a time.

    What rows are at the frequencies is worked out again for the gradient: that costs less than
    to keep it, which is several times their size.
    """

    @staticmethod
    def forward(
        ctx: Any, x_rjc: Tensor, mix_fcd: Tensor, there_gj: Tensor, back_ig: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x_rjc, mix_fcd, there_gj, back_ig)
        y_ric = x_rjc.new_empty(len(x_rjc), len(back_ig), mix_fcd.shape[2] // 2)
        for part_rjc, y_part_ric in zip(_split_rows(x_rjc), _split_rows(y_ric), strict=True):
            y_frd = torch.bmm(_to_frequencies(there_gj, part_rjc), mix_fcd)
            _from_frequencies(back_ig, y_frd, y_part_ric)
        return y_ric

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_rjc, mix_fcd, there_gj, back_ig = ctx.saved_tensors
        grad_x_rjc = x_rjc.new_empty(x_rjc.shape)
        grad_mix_fcd = torch.zeros_like(mix_fcd)
        parts = zip(_split_rows(x_rjc), _split_rows(grad[0]), _split_rows(grad_x_rjc), strict=True)
        for part_rjc, y_ric, grad_part_rjc in parts:
            y_frd = _to_frequencies(back_ig.T, y_ric)
            grad_mix_fcd.baddbmm_(_to_frequencies(there_gj, part_rjc).mT, y_frd)
            _from_frequencies(there_gj.T, torch.bmm(y_frd, mix_fcd.mT), grad_part_rjc)
        return grad_x_rjc, grad_mix_fcd, None, None


def _split_rows(x_rjc: Tensor) -> tuple[Tensor, ...]:
    return torch.split(x_rjc, ROWS_PER_BLOCK)


def _to_frequencies(turn_gj: Tensor, x_rjc: Tensor) -> Tensor:
    """Rows (R, J, C) -> real and imaginary parts side by side at each frequency, (F, R, 2C)."""
    x_rgc = torch.bmm(turn_gj.expand(len(x_rjc), -1, -1), x_rjc)
    return x_rgc.view(len(x_rjc), len(turn_gj) // 2, -1).transpose(0, 1)


def _from_frequencies(turn_jg: Tensor, x_frc: Tensor, out_rjc: Tensor) -> None:
    """The way back: (F, R, 2C) into (R, J, C)."""
    x_rgc = x_frc.transpose(0, 1).reshape(len(out_rjc), turn_jg.shape[1], -1)
    torch.bmm(turn_jg.expand(len(out_rjc), -1, -1), x_rgc, out=out_rjc)


@cache
def _build_dft_bases(
    inputs: int, outputs: int, taps: int, offset: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs to frequencies (G, J), taps to frequencies (G, K), and outputs of them (I, G)."""
    tap_k = np.arange(taps)
    used_k = (tap_k > offset - outputs) & (tap_k < inputs + offset)
    lowest, highest = offset - tap_k[used_k].max(), inputs - 1 + offset - tap_k[used_k].min()
    size = max(outputs - lowest, highest + 1)
    angle_f = np.pi * (2 * np.arange((size + 1) // 2) + 1) / (size + size % 2)
    back_gi = _complex_exponentials(angle_f, np.arange(outputs)) / len(angle_f)
    return (
        _complex_exponentials(angle_f, np.arange(inputs)),
        _complex_exponentials(angle_f, offset - tap_k) * used_k,
        np.ascontiguousarray(back_gi.T),
    )


def _complex_exponentials(angle_f: np.ndarray, step_n: np.ndarray) -> np.ndarray:
    """Real and imaginary part of exp(-i angle step), in turns: (G, N)."""
    angle_fn = np.outer(angle_f, step_n)
    return np.stack([np.cos(angle_fn), -np.sin(angle_fn)], axis=1).reshape(-1, len(step_n))
