"""Two convolutions of overlapping segments of a signal, each segment as if it were alone.

A segment is a few hops of the signal, and a new one begins at every hop: most of what one is
convolved to, its neighbours are too. So the signal is convolved once. What differs is near a
segment's ends, behind which a convolution of the segment alone sees zeros and that of the signal
sees neighbours. The first convolution is done again there. The second one is linear: it gets as a
correction what the differences among its inputs come to.

N = hops, J = pooled positions of a hop, C = filters, R = windows of W samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.correlation import dft_convolve
from serein.layers.filters import conv_max_pool


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
