"""Standardization of frames by statistics of the training subset of a fold.

Other settings use the statistics of each utterance, which removes level and channel; or those of
each speaker, including the tested ones: many papers do so, and it is worth several points, but
with a single recording of a speaker it is not possible.

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
"""Smaller deviations are replaced by 1."""


@dataclass(frozen=True)
class Config:
    """Settings of the standardization.

    Attributes:
        statistics: "training" gives each bin mean 0 and deviation 1 over the frames of the training
            subset; "none" leaves frames unchanged; "utterance" uses the statistics of each
            utterance, or window; "speaker" those of all utterances of a speaker, before the split.
        scope: "bin" has a mean and a deviation of each bin; "all" one of each over all values, for
            samples of a waveform. The statistics of a speaker are always those of each bin.
    """

    statistics: Literal["training", "utterance", "speaker", "none"] = "training"
    scope: Literal["bin", "all"] = "bin"


class Normalizer(nn.Module):
    """(x - mean) / deviation of each bin, or of all values; saved with the model."""

    mean_f: Tensor
    deviation_f: Tensor

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean_f", torch.zeros(width))
        self.register_buffer("deviation_f", torch.ones(width))

    def fit(self, frames: Iterable[np.ndarray]) -> None:
        """Compute mean and deviation over all frames; constant bins keep deviation 1.

        Args:
            frames: (T, F) for each utterance of the training subset.

        Raises:
            ConfigError: the statistics are those of utterances, which have one frame each.
        """
        if self.config.statistics == "utterance" and all(len(x_tf) == 1 for x_tf in frames):
            raise ConfigError(
                "normalise.statistics = 'utterance': every utterance has one frame here, which "
                "would become zero; set normalise.statistics=training"
            )
        if self.config.statistics != "training":
            return
        if self.config.scope == "all":
            frames = (x_tf.reshape(-1, 1) for x_tf in frames)
        mean_f, deviation_f = moments(frames)
        self.mean_f.copy_(torch.from_numpy(mean_f))
        self.deviation_f.copy_(torch.from_numpy(deviation_f))

    def forward(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        """(B, T, F) and its mask -> the same, standardized; padding stays meaningless."""
        if self.config.statistics == "utterance":
            return self._normalize_each(x_btf, mask_bt)
        if self.config.statistics != "training":
            return x_btf
        scale_f = 1 / self.deviation_f
        return torch.addcmul(-self.mean_f * scale_f, x_btf, scale_f)

    def _normalize_each(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        weight_bt1 = (mask_bt / mask_bt.sum(dim=1, keepdim=True))[..., None].to(x_btf.dtype)
        centred_btf = x_btf - self._mean(x_btf * weight_bt1)
        deviation_b1f = self._mean(centred_btf**2 * weight_bt1).sqrt()
        return centred_btf / deviation_b1f.masked_fill(deviation_b1f <= MIN_DEVIATION, 1.0)

    def _mean(self, x_btf: Tensor) -> Tensor:
        """Sum weighted values over time, and average over bins where the scope is "all"."""
        mean_b1f = x_btf.sum(dim=1, keepdim=True)
        return mean_b1f.mean(dim=2, keepdim=True) if self.config.scope == "all" else mean_b1f


def moments(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (F,) of each bin; a constant bin has deviation 1.

    Args:
        frames: (T, F) for each utterance.
    """
    count, total_f, square_f = 0, np.float64(0), np.float64(0)
    for x_tf in frames:
        x_tf = x_tf.astype(np.float64)
        count += len(x_tf)
        total_f = total_f + x_tf.sum(axis=0)
        square_f = square_f + (x_tf**2).sum(axis=0)
    mean_f = total_f / count
    deviation_f = np.sqrt(np.maximum(square_f / count - mean_f**2, 0))
    return np.asarray(mean_f), np.where(deviation_f > MIN_DEVIATION, deviation_f, 1.0)
