"""The waveform itself, a hop of samples a frame.

Frame i is the samples from i x hop on; the last one is filled up with zeros. Segments that
overlap, 640 samples at every 160 in Zhang et al. 2019, section 4.2, are for the model to lay of
neighbouring frames: to store them would store each sample four times.

The waveform is left as it is read, within [-1, 1]; ``[normalise]`` with ``scope = "all"`` gives
it mean 0 and deviation 1 by the training side of a fold.

B = batch, S = samples, T = frames, F = samples of a frame.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """What may vary.

    Attributes:
        rate: sampling rate in Hz.
        hop: samples of a frame.
        seconds: where an utterance is cut; None takes it whole.
    """

    rate: Annotated[int, Interval(ge=1000, le=192_000)] = 16_000
    hop: Annotated[int, Ge(2)] = 160
    seconds: Annotated[float, Gt(0)] | None = None


class FrontEnd(nn.Module):
    """Waveforms to frames of samples; nothing in it is learnt."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.rate = config.rate
        self.hop = config.hop / config.rate
        self.max_seconds = config.seconds
        self.width = config.hop

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        if self.max_seconds is not None:
            length_b = length_b.clamp(max=round(self.max_seconds * self.rate))
        frames_b = ((length_b + self.width - 1) // self.width).clamp(min=1)
        mask_bt = torch.arange(int(frames_b.max()), device=wave_bs.device) < frames_b[:, None]
        wave_bs = F.pad(wave_bs, (0, mask_bt.shape[1] * self.width - wave_bs.shape[1]))
        step_s = torch.arange(wave_bs.shape[1], device=wave_bs.device)
        wave_bs = wave_bs.masked_fill(step_s >= length_b[:, None], 0)
        return wave_bs.view(*mask_bt.shape, self.width), mask_bt
