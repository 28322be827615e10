"""Sequences of unlike lengths laid end to end, so that no work is done for padding.

A row is one frame. Frames that repeat to the end of their sequence (digital silence, zeros that a
paper pads with) are laid once: whatever looks at each frame and its neighbours gives the same
for each of them.

B = batch, T = frames, N = rows of all sequences together, D = channels.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PackedFrames:
    """Sequences laid end to end.

    Attributes:
        x_nd: (N, D), the rows.
        first_n1: (N, 1), True where a sequence begins.
        last_n1: (N, 1), True where it ends; what follows to a full group is filling.
        inside_n1: (N, 1), False for filling.
        extent_b: (B,), rows laid for each sequence, a multiple of ``group``.
        length_b: (B,), frames of each sequence, those that repeat its last row included.
        group: rows that are pooled together.
    """

    x_nd: Tensor
    first_n1: Tensor
    last_n1: Tensor
    inside_n1: Tensor
    extent_b: Tensor
    length_b: Tensor
    group: int

    def with_features(self, x_nd: Tensor) -> "PackedFrames":
        """The same sequences with other channels."""
        return replace(self, x_nd=x_nd)

    def previous_frames(self) -> "PackedFrames":
        """Each row's predecessor; a first row is its own."""
        return self.with_features(torch.where(self.first_n1, self.x_nd, self.x_nd.roll(1, 0)))

    def next_frames(self) -> "PackedFrames":
        """Each row's successor; a last row is its own."""
        return self.with_features(torch.where(self.last_n1, self.x_nd, self.x_nd.roll(-1, 0)))

    def max_pool(self) -> tuple[Tensor, Tensor]:
        """Maximum over every ``group`` rows, as (B, T', D) and its mask (B, T').

        T' counts groups of the longest sequence; a last group that is not full counts.
        Rows must not be negative.
        """
        x_nd = (self.x_nd * self.inside_n1).view(-1, self.group, self.x_nd.shape[1]).amax(dim=1)
        laid_b = self.extent_b // self.group
        length_b = _count_groups(self.length_b, self.group)
        step_t = torch.arange(int(length_b.max()), device=x_nd.device)
        start_b = laid_b.cumsum(0) - laid_b
        index_bt = start_b[:, None] + torch.minimum(step_t, laid_b[:, None] - 1)
        mask_bt = step_t < length_b[:, None]
        return F.embedding(index_bt, x_nd), mask_bt


def pack_frames(x_btd: Tensor, mask_bt: Tensor, *, group: int, context: int) -> PackedFrames:
    """Lay sequences end to end.

    Args:
        x_btd: (B, T, D).
        mask_bt: (B, T), True for the frames of a sequence, which come first; at least one each.
        group: rows that are pooled together later.
        context: how many neighbours on one side a row will have seen before it is pooled.
    """
    batch, frames = mask_bt.shape
    length_b = mask_bt.sum(dim=1)
    full_b = _count_groups(length_b, group) * group
    needed_b = constant_tail(x_btd, length_b) + context + group
    extent_b = torch.minimum(full_b, _count_groups(needed_b, group) * group)
    step_t = torch.arange(frames + group - 1, device=x_btd.device)
    laid_bt = step_t < extent_b[:, None]
    last_b = torch.minimum(length_b, extent_b) - 1
    source_bt = torch.minimum(step_t, last_b[:, None])
    source_bt = source_bt + frames * torch.arange(batch, device=x_btd.device)[:, None]
    return PackedFrames(
        x_nd=x_btd.flatten(0, 1)[source_bt[laid_bt]],
        first_n1=(step_t == 0).expand_as(laid_bt)[laid_bt][:, None],
        last_n1=(step_t == last_b[:, None])[laid_bt][:, None],
        inside_n1=(step_t <= last_b[:, None])[laid_bt][:, None],
        extent_b=extent_b,
        length_b=length_b,
        group=group,
    )


def _count_groups(length_b: Tensor, group: int) -> Tensor:
    return (length_b + group - 1) // group


def pack_windows(
    x_btd: Tensor, mask_bt: Tensor, *, size: int, fill: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay sequences end to end for what looks at every window of some frames.

    A window begins at every frame while whole ones are left. Those that begin in the rows of one
    sequence and end in those of the next one are nobody's.

    Args:
        x_btd: (B, T, D).
        mask_bt: (B, T), True for the frames of a sequence, which come first; at least one each.
        size: frames of a window.
        fill: what a sequence that is shorter than a window is filled up with to one.

    Returns:
        The rows (N, D); where each window begins among them (B, L); and the mask (B, L).
    """
    missing = max(0, size - x_btd.shape[1])
    x_btd = F.pad(x_btd.masked_fill(~mask_bt[..., None], fill), (0, 0, 0, missing), value=fill)
    length_b = mask_bt.sum(dim=1).clamp(min=size)
    extent_b = torch.minimum(length_b, constant_tail(x_btd, length_b) + size - 1)
    laid_bt = torch.arange(x_btd.shape[1], device=x_btd.device) < extent_b[:, None]
    count_b = length_b - size + 1
    step_l = torch.arange(int(count_b.max()), device=x_btd.device)
    start_b = extent_b.cumsum(0) - extent_b
    place_bl = start_b[:, None] + torch.minimum(step_l, (extent_b - size)[:, None])
    return x_btd[laid_bt], place_bl, step_l < count_b[:, None]


def align_to_centres(x_bld: Tensor, mask_bt: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What was made of windows (B, L, D) -> as frames (B, T, D), each where its middle is.

    The middle of a window of four frames is where its third one begins: the first two frames and
    the last one of an utterance are no window's middle. They repeat the nearest one and are masked.

    Args:
        x_bld: (B, L, D), of windows that begin at every frame.
        mask_bt: (B, T), of the frames.
        size: frames of a window.

    Returns:
        (B, T, D), and which frames are a window's middle, (B, T).
    """
    length_b1 = mask_bt.sum(dim=1, keepdim=True)
    first_b1 = (length_b1 - 1).clamp(max=size // 2)
    last_b1 = (length_b1 - size).clamp(min=0)
    window_bt = torch.arange(mask_bt.shape[1], device=mask_bt.device) - first_b1
    nearest_bt = torch.minimum(window_bt.clamp(min=0), last_b1)
    place_bt = nearest_bt + x_bld.shape[1] * torch.arange(len(x_bld), device=x_bld.device)[:, None]
    return F.embedding(place_bt, x_bld.flatten(0, 1)), window_bt == nearest_bt


def constant_tail(x_btd: Tensor, length_b: Tensor) -> Tensor:
    """(B,), frames up to and including the first of those that repeat to the end."""
    if x_btd.device.type != "cpu":
        return length_b
    counts = []
    for x_td, length in zip(x_btd, length_b.tolist(), strict=True):
        other_t = (x_td[:length, 0] != x_td[length - 1, 0]).nonzero()
        start = int(other_t[-1]) + 1 if len(other_t) else 0
        tail_td = x_td[start:length]
        counts.append(start + 1 if torch.equal(tail_td, tail_td[:1].expand_as(tail_td)) else length)
    return torch.tensor(counts, device=x_btd.device)
