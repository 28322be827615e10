"""Sequences of different lengths packed end to end, and convolutions over them.

Nothing is computed for padding, and frames that repeat to the end of their sequence (digital
silence, zeros that a paper pads with) are computed once: all windows within such a constant tail
have the same output. ``pack_frames`` is for convolutions that keep the length, ``pack_windows``
for any function of every window of a fixed size.

B = batch, T = frames, N = frames of all sequences end to end, L = windows, F = channels in,
D = channels (out), K = taps.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class PackedFrames:
    """Frames of a batch, packed end to end.

    Attributes:
        x_nd: (N, D), the frames.
        first_n1: (N, 1), True for the first frame of a sequence.
        last_n1: (N, 1), True for its last packed frame; what follows up to a multiple of ``pool``
            is fill.
        inside_n1: (N, 1), False for fill.
        extent_b: (B,), packed frames of each sequence, a multiple of ``pool``.
        length_b: (B,), frames of each sequence, including those of a constant tail.
        pool: frames that one maximum covers.
    """

    x_nd: Tensor
    first_n1: Tensor
    last_n1: Tensor
    inside_n1: Tensor
    extent_b: Tensor
    length_b: Tensor
    pool: int

    def with_features(self, x_nd: Tensor) -> "PackedFrames":
        """Return the same sequences with other channels."""
        return replace(self, x_nd=x_nd)

    def relu(self) -> "PackedFrames":
        """Return the frames after ReLU."""
        return self.with_features(self.x_nd.relu())

    def previous_frames(self) -> "PackedFrames":
        """Return the predecessor of each frame; the first frame of a sequence is repeated."""
        return self.with_features(torch.where(self.first_n1, self.x_nd, self.x_nd.roll(1, 0)))

    def next_frames(self) -> "PackedFrames":
        """Return the successor of each frame; the last frame of a sequence is repeated."""
        return self.with_features(torch.where(self.last_n1, self.x_nd, self.x_nd.roll(-1, 0)))

    def max_pool(self) -> tuple[Tensor, Tensor]:
        """Return the maximum over every ``pool`` frames, (B, T', D), and its mask (B, T').

        A last group of fewer frames counts. Values must not be negative (as after ReLU).
        """
        x_nd = (self.x_nd * self.inside_n1).view(-1, self.pool, self.x_nd.shape[1]).amax(dim=1)
        packed_b = self.extent_b // self.pool
        length_b = _count_groups(self.length_b, self.pool)
        step_t = torch.arange(int(length_b.max()), device=x_nd.device)
        start_b = packed_b.cumsum(0) - packed_b
        index_bt = start_b[:, None] + torch.minimum(step_t, packed_b[:, None] - 1)
        mask_bt = step_t < length_b[:, None]
        return F.embedding(index_bt, x_nd), mask_bt


class PackedConv1d(nn.Module):
    """``torch.nn.Conv1d`` with ``padding="same"`` and ``padding_mode="replicate"``.

    Over packed frames, each tap is one matrix product with all frames; the narrow outputs are
    shifted, not the wide inputs. With padding masked, that makes a training step of li2019 faster
    by a fifth.
    """

    def __init__(self, channels: int, filters: int, taps: int) -> None:
        """Initialize the weights as ``torch.nn.Conv1d`` does.

        Args:
            channels: F.
            filters: D.
            taps: K; odd.
        """
        super().__init__()
        bound = 1 / math.sqrt(channels * taps)
        self.weight_fkd = nn.Parameter(torch.empty(channels, taps, filters).uniform_(-bound, bound))
        self.bias_d = nn.Parameter(torch.empty(filters).uniform_(-bound, bound))

    def forward(self, frames: PackedFrames) -> PackedFrames:
        """(N, F) -> (N, D)."""
        taps = self.weight_fkd.shape[1]
        tap_nd = (frames.x_nd @ self.weight_fkd.flatten(1)).chunk(taps, dim=-1)
        shifted_nd = [
            _shift_frames(frames.with_features(x_nd), tap - taps // 2)
            for tap, x_nd in enumerate(tap_nd)
        ]
        return frames.with_features(sum(shifted_nd, self.bias_d))

    def convolve_unpacked(self, x_btf: Tensor) -> Tensor:
        """(B, T, F) without padding -> (B, T, D), by torch's own convolution (for ONNX)."""
        weight_dfk = self.weight_fkd.permute(2, 0, 1)
        reach = weight_dfk.shape[2] // 2
        first, last = [x_btf[:, :1]] * reach, [x_btf[:, -1:]] * reach
        x_bft = torch.cat([*first, x_btf, *last], dim=1).mT
        return F.conv1d(x_bft, weight_dfk, self.bias_d).mT


def _shift_frames(frames: PackedFrames, offset: int) -> Tensor:
    """Return the frames ``offset`` later (earlier where negative), edges repeated."""
    for _ in range(abs(offset)):
        frames = frames.next_frames() if offset > 0 else frames.previous_frames()
    return frames.x_nd


class PackedValidConv1d(nn.Module):
    """``torch.nn.Conv1d`` with ``padding="valid"`` over frames that ``pack_windows`` packed.

    It is one matrix product. Outputs of windows that span two sequences are meaningless; the
    indices that ``pack_windows`` returns skip them.
    """

    def __init__(self, channels: int, filters: int, taps: int) -> None:
        """Initialize the weights as ``torch.nn.Conv1d`` does.

        Args:
            channels: F.
            filters: D.
            taps: K.
        """
        super().__init__()
        self.taps = taps
        self.product = nn.Linear(taps * channels, filters)

    def forward(self, x_nf: Tensor) -> Tensor:
        """(N, F) -> (N - K + 1, D)."""
        count = len(x_nf) - self.taps + 1
        neighbours_nf = [x_nf[tap : tap + count] for tap in range(self.taps)]
        return self.product(torch.cat(neighbours_nf, dim=-1) if self.taps > 1 else x_nf)

    def convolve_unpacked(self, x_btf: Tensor) -> Tensor:
        """(B, T, F) without padding -> (B, T - K + 1, D), by torch's own convolution (for ONNX)."""
        weight_dfk = self.product.weight.view(len(self.product.weight), self.taps, -1).mT
        return F.conv1d(x_btf.mT, weight_dfk, self.product.bias).mT


def pack_frames(x_btd: Tensor, mask_bt: Tensor, *, pool: int, context: int) -> PackedFrames:
    """Pack sequences for convolutions that keep the length, and pooling.

    Args:
        x_btd: (B, T, D).
        mask_bt: (B, T), True for the frames of a sequence, which come first; at least one each.
        pool: frames that are pooled together later.
        context: frames on each side that influence a frame before it is pooled.
    """
    batch, frames = mask_bt.shape
    length_b = mask_bt.sum(dim=1)
    full_b = _count_groups(length_b, pool) * pool
    needed_b = constant_tail(x_btd, length_b) + context + pool
    extent_b = torch.minimum(full_b, _count_groups(needed_b, pool) * pool)
    step_t = torch.arange(frames + pool - 1, device=x_btd.device)
    packed_bt = step_t < extent_b[:, None]
    last_b = torch.minimum(length_b, extent_b) - 1
    source_bt = torch.minimum(step_t, last_b[:, None])
    source_bt = source_bt + frames * torch.arange(batch, device=x_btd.device)[:, None]
    return PackedFrames(
        x_nd=x_btd.flatten(0, 1)[source_bt[packed_bt]],
        first_n1=(step_t == 0).expand_as(packed_bt)[packed_bt][:, None],
        last_n1=(step_t == last_b[:, None])[packed_bt][:, None],
        inside_n1=(step_t <= last_b[:, None])[packed_bt][:, None],
        extent_b=extent_b,
        length_b=length_b,
        pool=pool,
    )


def _count_groups(length_b: Tensor, pool: int) -> Tensor:
    return (length_b + pool - 1) // pool


def pack_windows(
    x_btd: Tensor, mask_bt: Tensor, *, size: int, fill: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Pack sequences for a function of every window of ``size`` frames.

    A window begins at every frame that has ``size - 1`` more behind it. Packed frames also hold
    windows that begin in one sequence and end in the next one; the returned indices skip them.

    Args:
        x_btd: (B, T, D).
        mask_bt: (B, T), True for the frames of a sequence, which come first; at least one each.
        size: frames of a window.
        fill: value that pads a sequence shorter than one window.

    Returns:
        The packed frames (N, D); the index of each window's first frame among them (B, L); and the
        mask of the windows (B, L).
    """
    missing = max(0, size - x_btd.shape[1])
    x_btd = F.pad(x_btd.masked_fill(~mask_bt[..., None], fill), (0, 0, 0, missing), value=fill)
    length_b = mask_bt.sum(dim=1).clamp(min=size)
    extent_b = torch.minimum(length_b, constant_tail(x_btd, length_b) + size - 1)
    packed_bt = torch.arange(x_btd.shape[1], device=x_btd.device) < extent_b[:, None]
    count_b = length_b - size + 1
    step_l = torch.arange(int(count_b.max()), device=x_btd.device)
    start_b = extent_b.cumsum(0) - extent_b
    index_bl = start_b[:, None] + torch.minimum(step_l, (extent_b - size)[:, None])
    return x_btd[packed_bt], index_bl, step_l < count_b[:, None]


def align_to_centres(x_bld: Tensor, mask_bt: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Place the outputs of windows (B, L, D) at the central frames of their windows, (B, T, D).

    The centre of a window of four frames is the start of its third one: the first two frames and
    the last one of an utterance are the centre of no window. They repeat the nearest output and
    are masked.

    Args:
        x_bld: (B, L, D), outputs of windows that begin at every frame.
        mask_bt: (B, T), of the frames.
        size: frames of a window.

    Returns:
        (B, T, D), and the mask (B, T) of frames that are the centre of a window.
    """
    length_b1 = mask_bt.sum(dim=1, keepdim=True)
    first_b1 = (length_b1 - 1).clamp(max=size // 2)
    last_b1 = (length_b1 - size).clamp(min=0)
    window_bt = torch.arange(mask_bt.shape[1], device=mask_bt.device) - first_b1
    nearest_bt = torch.minimum(window_bt.clamp(min=0), last_b1)
    index_bt = nearest_bt + x_bld.shape[1] * torch.arange(len(x_bld), device=x_bld.device)[:, None]
    return F.embedding(index_bt, x_bld.flatten(0, 1)), window_bt == nearest_bt


def constant_tail(x_btd: Tensor, length_b: Tensor) -> Tensor:
    """Return (B,), the frames up to and including the first one of the constant tail.

    On a GPU, where the search would cost more than it saves, all frames count.
    """
    if x_btd.device.type != "cpu":
        return length_b
    counts = []
    for x_td, length in zip(x_btd, length_b.tolist(), strict=True):
        other_t = (x_td[:length, 0] != x_td[length - 1, 0]).nonzero()
        start = int(other_t[-1]) + 1 if len(other_t) else 0
        tail_td = x_td[start:length]
        counts.append(start + 1 if torch.equal(tail_td, tail_td[:1].expand_as(tail_td)) else length)
    return torch.tensor(counts, device=x_btd.device)
