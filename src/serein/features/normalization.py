"""Standardisation of frames by statistics of the training side of a fold, and of it alone.

Who asks for it gets each utterance's own statistics instead, which take level and line away; or
each speaker's, the tested speakers' among them: as many papers do, and worth several points that
nobody gets who has one recording of a speaker.

B = batch, T = frames of one utterance, F = bins.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from serein.errors import ConfigError

MIN_DEVIATION = 1e-6
"""A smaller deviation is none, and taken as 1."""


@dataclass(frozen=True)
class Config:
    """What is done to frames.

    Attributes:
        statistics: "training" gives each bin mean 0 and deviation 1 over the frames that the
            model sees in training; "none" leaves frames as they are; "utterance" does it for
            each utterance, or window, by itself; "speaker" for each speaker over all that he or
            she says, before anything is split.
        scope: "bin" takes mean and deviation for each bin; "all" one of each over all values, as
            samples of a waveform need it. A speaker's own are always those of each bin.
    """

    statistics: Literal["training", "utterance", "speaker", "none"] = "training"
    scope: Literal["bin", "all"] = "bin"


class Normalizer(nn.Module):
    """(x - mean) / deviation for each bin, or of all; saved with the model."""

    mean_f: Tensor
    deviation_f: Tensor

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean_f", torch.zeros(width))
        self.register_buffer("deviation_f", torch.ones(width))

    def fit(self, frames: Iterable[np.ndarray]) -> None:
        """Take mean and deviation over all frames; what never varies keeps deviation 1.

        Args:
            frames: (T, F) for each utterance of the training side.

        Raises:
            ConfigError: utterances are to be standardised by themselves, and have a frame each.
        """
        if self.config.statistics == "utterance" and all(len(x_tf) == 1 for x_tf in frames):
            raise ConfigError(
                "normalise.statistics = 'utterance': every utterance is one frame here, of which "
                "nothing would be left; set normalise.statistics=training"
            )
        if self.config.statistics != "training":
            return
        if self.config.scope == "all":
            frames = (x_tf.reshape(-1, 1) for x_tf in frames)
        mean_f, deviation_f = moments(frames)
        self.mean_f.copy_(torch.from_numpy(mean_f))
        self.deviation_f.copy_(torch.from_numpy(deviation_f))

    def forward(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        """(B, T, F) and its mask -> the same, standardised; padding is as meaningless as before."""
        if self.config.statistics == "utterance":
            return self._normalize_each(x_btf, mask_bt)
        if self.config.statistics != "training":
            return x_btf
        scale_f = 1 / self.deviation_f
        return torch.addcmul(-self.mean_f * scale_f, x_btf, scale_f)

    def _normalize_each(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        share_bt1 = (mask_bt / mask_bt.sum(dim=1, keepdim=True))[..., None].to(x_btf.dtype)
        apart_btf = x_btf - self._mean(x_btf * share_bt1)
        deviation_b1f = self._mean(apart_btf**2 * share_bt1).sqrt()
        return apart_btf / deviation_b1f.masked_fill(deviation_b1f <= MIN_DEVIATION, 1.0)

    def _mean(self, x_btf: Tensor) -> Tensor:
        mean_b1f = x_btf.sum(dim=1, keepdim=True)
        return mean_b1f.mean(dim=2, keepdim=True) if self.config.scope == "all" else mean_b1f


def moments(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (F,) of each bin; a bin that never varies has deviation 1.

    Args:
        frames: (T, F) for each of some utterances.
    """
    count, total_f, square_f = 0, np.float64(0), np.float64(0)
    for x_tf in frames:
        wide_tf = x_tf.astype(np.float64)
        count += len(wide_tf)
        total_f = total_f + wide_tf.sum(axis=0)
        square_f = square_f + (wide_tf**2).sum(axis=0)
    mean_f = total_f / count
    deviation_f = np.sqrt(np.maximum(square_f / count - mean_f**2, 0))
    return np.asarray(mean_f), np.where(deviation_f > MIN_DEVIATION, deviation_f, 1.0)
