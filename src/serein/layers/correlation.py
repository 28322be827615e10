"""Convolution with long kernels as three matrix products: to frequencies, there, and back.

A row of J values and a kernel of K taps are taken to N / 2 frequencies at which sums that reach
beyond N come back negated; N is just large enough that none of those lands on an output. The way
there and the way back are matrix products too: for a hundred values they are as fast as an FFT
and need no other order of the values in memory. For K = J / 2 = 40 taps that is a quarter of the
products that a convolution takes tap by tap, and all of them are large.

R = rows, J = inputs of a row, I = outputs of a row, K = taps, C = channels in, D = channels out,
G = real and imaginary parts of N / 2 frequencies, in turns.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor


def correlate(x_rjc: Tensor, weight_kcd: Tensor, outputs: int, offset: int = 0) -> Tensor:
    """y_i = sum over j of x_j weight_(j - i + offset); a tap that does not exist is zero.

    Args:
        x_rjc: (R, J, C); rows may overlap in memory.
        weight_kcd: (K, C, D).
        outputs: I.
        offset: the tap that the first input has in the first output.

    Returns:
        (R, I, D).
    """
    rows, inputs, _ = x_rjc.shape
    sizes = inputs, outputs, weight_kcd.shape[0], offset
    there_gj, tap_gk, back_ig = (torch.from_numpy(m).to(x_rjc) for m in _bases(*sizes))
    weight_gn = tap_gk @ weight_kcd.flatten(1)
    real_fcd, imaginary_fcd = weight_gn.view(-1, 2, *weight_kcd.shape[1:]).unbind(1)
    upper, lower = [real_fcd, imaginary_fcd], [-imaginary_fcd, real_fcd]
    mix_fcd = torch.cat([torch.cat(upper, dim=-1), torch.cat(lower, dim=-1)], dim=-2)
    x_rfc = torch.bmm(there_gj.expand(rows, -1, -1), x_rjc).view(rows, len(mix_fcd), -1)
    y_frd = torch.bmm(x_rfc.transpose(0, 1), mix_fcd)
    y_rgd = y_frd.transpose(0, 1).reshape(rows, len(there_gj), -1)
    return torch.bmm(back_ig.expand(rows, -1, -1), y_rgd)


@cache
def _bases(
    inputs: int, outputs: int, taps: int, offset: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs to frequencies (G, J), taps to frequencies (G, K), and outputs of them (I, G)."""
    tap_k = np.arange(taps)
    used_k = (tap_k > offset - outputs) & (tap_k < inputs + offset)
    lowest, highest = offset - tap_k[used_k].max(), inputs - 1 + offset - tap_k[used_k].min()
    size = max(outputs - lowest, highest + 1)
    angle_f = np.pi * (2 * np.arange((size + 1) // 2) + 1) / (size + size % 2)
    back_gi = _turned(angle_f, np.arange(outputs)) / len(angle_f)
    return (
        _turned(angle_f, np.arange(inputs)),
        _turned(angle_f, offset - tap_k) * used_k,
        np.ascontiguousarray(back_gi.T),
    )


def _turned(angle_f: np.ndarray, step_n: np.ndarray) -> np.ndarray:
    """Real and imaginary part of exp(-i angle step), in turns: (G, N)."""
    angle_fn = np.outer(angle_f, step_n)
    return np.stack([np.cos(angle_fn), -np.sin(angle_fn)], axis=1).reshape(-1, len(step_n))
