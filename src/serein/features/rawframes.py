"""The waveform itself, one hop of samples a frame.

Frame i starts at sample i x hop; the last one is padded with zeros. Overlapping segments, 640
samples at every 160 in Zhang et al. 2019, section 4.2, are built by the model from neighbouring
frames: stored segments would hold each sample four times.

The samples are unchanged, within [-1, 1]; ``[normalise]`` with ``scope = "all"`` gives them mean 0
and deviation 1 over the training subset of a fold.

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
    """Settings of the front end.

    Attributes:
        rate: sampling rate in Hz.
        hop: samples of a frame.
        seconds: longest utterance; the rest is cut. None keeps all.
    """

    rate: Annotated[int, Interval(ge=1000, le=192_000)] = 16_000
    hop: Annotated[int, Ge(2)] = 160
    seconds: Annotated[float, Gt(0)] | None = None


class FrontEnd(nn.Module):
    """Waveforms to frames of samples; it has no trainable weights."""

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

    def to_onnx_module(self) -> "ONNXFrontEnd":
        """Return the front end for export."""
        return ONNXFrontEnd(self)


class ONNXFrontEnd(nn.Module):
    """The same front end for one waveform, in operations of ONNX."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.width = front_end.width
        seconds = front_end.max_seconds
        self.max_samples = None if seconds is None else round(seconds * front_end.rate)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> frames (1, T, F) and a mask of ones."""
        if self.max_samples is not None:
            wave_bs = wave_bs[:, : self.max_samples]
        frames = (wave_bs.shape[1] + self.width - 1) // self.width
        wave_bs = F.pad(wave_bs, (0, self.width - 1))[:, : frames * self.width]
        x_btf = wave_bs.reshape(1, frames, self.width)
        return x_btf, torch.ones(1, frames, dtype=torch.bool)
