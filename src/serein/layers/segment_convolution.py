"""Two convolutions of overlapping segments of a signal, each segment as if it were alone.

A segment is a few hops of the signal, and a new one begins at every hop: most of what one is
convolved to, its neighbours are too. So the signal is convolved once. What differs is near a
segment's ends, behind which a convolution of the segment alone sees zeros and that of the signal
sees neighbours. The first convolution is done again there. The second one is linear: it gets as a
correction what the differences among its inputs come to.

N = hops, J = pooled positions of a hop, C = filters, R = windows of W samples.

Convolution with long kernels as three matrix products: to frequencies, there, and back.

A row of J values and a kernel of K taps are taken to N / 2 frequencies at which sums that reach
beyond N come back negated; N is just large enough that none of those lands on an output. The way
there and the way back are matrix products too: for a hundred values they are as fast as an FFT
and need no other order of the values in memory. For 40 taps and 80 outputs that is a
quarter of the products that a convolution takes tap by tap, and all matrices are large.

R = rows, J = inputs of a row, I = outputs of a row, K = taps, C = channels in, D = channels out,
F = N / 2 frequencies, G = their real and imaginary parts in turns.

Filters over windows of a signal, the maximum of every few outputs, and ReLU.

R = windows, W = samples of a window, K = taps, C = filters, P = outputs under one maximum, J =
maxima of a window, N = J x C.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from serein.errors import ConfigError

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


class SegmentConvolutions(nn.Module):
    """Convolution, maximum over time, convolution, maximum over channels; ReLU after each.

    Length is kept by zeros: of an even number of taps, one more looks ahead than back.
    """

    def __init__(
        self,
        hop: int,
        hops: int,
        *,
        filters: int,
        taps: int,
        pool: int,
        group: int,
        exact: bool = True,
    ) -> None:
        """Draw weights as ``torch.nn.Conv1d`` does.

        Args:
            hop: samples from segment to segment.
            hops: of a segment; two or more.
            filters: of each convolution.
            taps: of each convolution; three or more.
            pool: samples over which the first maximum is taken.
            group: channels over which the second one is taken.
            exact: whether zeros are seen beyond a segment's ends; else its neighbours are.

        Raises:
            ConfigError: sizes that do not divide each other, or hops too short for the taps.
        """
        super().__init__()
        if hop % pool or filters % group:
            raise ConfigError(
                f"model.pool = {pool} must divide a hop of {hop} samples, and "
                f"model.group = {group} must divide model.filters = {filters}"
            )
        self.hops, self.pool, self.group, self.exact = hops, pool, group, exact
        self.pad_left, self.pad_right = (taps - 1) // 2, taps // 2
        self.pooled_left, self.pooled_right = (
            math.ceil(self.pad_left / pool),
            math.ceil(self.pad_right / pool),
        )
        self.positions = hop // pool
        if min(self._split_sizes()) < 1:
            raise ConfigError(
                f"model.taps = {taps} reach too far for a hop of {hop} samples, {self.positions} "
                f"after pooling; set model.taps lower: {self.positions // 2} fit"
            )
        self.width = hops * self.positions * filters // group
        bounds = 1 / math.sqrt(taps), 1 / math.sqrt(filters * taps)
        self.weight1_kc = nn.Parameter(torch.empty(taps, filters).uniform_(-bounds[0], bounds[0]))
        self.bias1_c = nn.Parameter(torch.empty(filters).uniform_(-bounds[0], bounds[0]))
        weight2_kcd = torch.empty(taps, filters, filters)
        self.weight2_kcd = nn.Parameter(weight2_kcd.uniform_(-bounds[1], bounds[1]))
        self.bias2_c = nn.Parameter(torch.empty(filters).uniform_(-bounds[1], bounds[1]))

    def forward(self, wave_nf: Tensor) -> Tensor:
        """Hops (N, samples) of one signal -> (N - hops + 1, width), each hop's segment.

        In the precision of the weights, autocast or not: the corrections at the ends are
        differences of like numbers, of which bf16 would leave little.
        """
        with torch.autocast(wave_nf.device.type, enabled=False):
            return self._convolve(wave_nf)

    def _convolve(self, wave_nf: Tensor) -> Tensor:
        x_njc = self._convolve_first(F.pad(wave_nf, (0, 0, 1, 1)))
        y_njc = self._convolve_second(x_njc)
        if not self.exact:
            whole_nf = self._max_over_channels(y_njc)
            return self._concat_hops(whole_nf, whole_nf, whole_nf)
        left_njc, middle_njc, right_njc = torch.split(y_njc, self._split_sizes(), dim=1)
        left_nf, middle_nf, right_nf = map(
            self._max_over_channels, (left_njc, middle_njc, right_njc)
        )
        between = self.positions - 2 * self.pad_right
        head_njc, _, tail_njc = torch.split(x_njc, [self.pad_right, between, self.pad_right], dim=1)
        begun_njc = left_njc + self._start_correction(wave_nf, head_njc, tail_njc)
        ended_njc = right_njc + self._end_correction(wave_nf, head_njc, tail_njc)
        return self._concat_hops(
            torch.cat([self._max_over_channels(begun_njc), middle_nf, right_nf], dim=1),
            torch.cat([left_nf, middle_nf, right_nf], dim=1),
            torch.cat([left_nf, middle_nf, self._max_over_channels(ended_njc)], dim=1),
        )

    def _split_sizes(self) -> list[int]:
        """Positions that zeros before a segment reach, none, and zeros behind it."""
        left, right = self.pad_left + self.pooled_left, self.pooled_right + self.pad_right
        return [left, self.positions - left - right, right]

    def _convolve_first(self, wave_nf: Tensor) -> Tensor:
        """(N, samples) -> (N, J, C), pooled."""
        tile = math.gcd(self.positions, self.pooled_right) * self.pool
        wave_s = F.pad(wave_nf.flatten(), (self.pad_left, self.pad_right))
        window_rw = wave_s.unfold(0, tile + self.pad_left + self.pad_right, tile)
        return self._first_convolution(window_rw).view(len(wave_nf), self.positions, -1)

    def _convolve_second(self, x_njc: Tensor) -> Tensor:
        """(N + 2, J, C) -> (N, J, C), for all but the first and the last hop."""
        inside = slice(self.positions - self.pad_left, self.pad_right - self.positions)
        seen = self.positions + self.pad_left + self.pad_right
        near_njc = x_njc.flatten(0, 1)[inside].unfold(0, seen, self.positions).mT
        return dft_convolve(near_njc, self.weight2_kcd, self.positions) + self.bias2_c

    def _start_correction(self, wave_nf: Tensor, head_njc: Tensor, tail_njc: Tensor) -> Tensor:
        """By what the second convolution of a segment differs in its first positions."""
        count = self.pooled_left * self.pool
        silent_nf = F.pad(wave_nf[:, : count + self.pad_right], (self.pad_left, 0))
        change_njc = self._first_convolution(silent_nf) - head_njc[1:-1, : self.pooled_left]
        missing_njc = tail_njc[:-2, self.pad_right - self.pad_left :]
        change_njc = torch.cat([-missing_njc, change_njc], dim=1)
        return dft_convolve(change_njc, self.weight2_kcd, self._split_sizes()[0])

    def _end_correction(self, wave_nf: Tensor, head_njc: Tensor, tail_njc: Tensor) -> Tensor:
        """By what the second convolution of a segment differs in its last positions."""
        count = self.pooled_right * self.pool
        silent_nf = F.pad(wave_nf[:, -count - self.pad_left :], (0, self.pad_right))
        change_njc = self._first_convolution(silent_nf) - tail_njc[1:-1, -self.pooled_right :]
        change_njc = torch.cat([change_njc, -head_njc[2:]], dim=1)
        offset = self.pad_left + self.pad_right
        return dft_convolve(change_njc, self.weight2_kcd, self._split_sizes()[2], offset)

    def _first_convolution(self, window_rw: Tensor) -> Tensor:
        return conv_max_pool(window_rw, self.weight1_kc, self.bias1_c, self.pool)

    def _max_over_channels(self, y_njc: Tensor) -> Tensor:
        """Maximum over channels and ReLU: (N, J, C) -> (N, J x groups)."""
        return F.max_pool1d(y_njc.flatten(0, 1), self.group).relu().view(len(y_njc), -1)

    def _concat_hops(self, begun_nf: Tensor, whole_nf: Tensor, ended_nf: Tensor) -> Tensor:
        """First, inner and last hops laid side by side: (N - hops + 1, width)."""
        count = len(whole_nf) - self.hops + 1
        inner = [whole_nf[hop : hop + count] for hop in range(1, self.hops - 1)]
        return torch.cat([begun_nf[:count], *inner, ended_nf[-count:]], dim=1)
