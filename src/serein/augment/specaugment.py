"""Masks over frames, drawn anew for every utterance of every epoch.

Park et al. (2019): SpecAugment: A Simple Data Augmentation Method for Automatic Speech
Recognition. Interspeech 2019; its time warping, which its Table 6 finds of little use, is not here.

B = batch, T = frames, F = bins, M = masks, n = places that are hidden.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from serein.augment.config import AugmentConfig
from serein.errors import ConfigError


@dataclass(frozen=True)
class SpecAugment:
    """What is hidden behind each bin's mean over the utterance.

    Attributes:
        time: stretches of each utterance.
        frames: the longest of them.
        share: of the utterance, the longest of them.
        band: runs of bands.
        width: the longest of them.
        bands: of a frame; bins beyond are derivatives of these, one set after the other.
    """

    time_masks: int
    max_frames: int
    max_share: float
    band_masks: int
    max_bands: int
    bands: int

    @property
    def draws_per_utterance(self) -> int:
        """How many numbers an utterance needs, each from 0 to below 1."""
        return 2 * (self.time_masks + self.band_masks)

    def __call__(self, x_btf: Tensor, mask_bt: Tensor, draw_bm: Tensor) -> None:
        """Hide what was drawn, in place.

        Args:
            x_btf: (B, T, F) frames; they are changed.
            mask_bt: (B, T), where there are frames.
            draw_bm: (B, draws): the first half decides on widths, the second on places.
        """
        length_b = mask_bt.sum(dim=1)
        width_bm, place_bm = draw_bm.chunk(2, dim=1)
        longest_b = (length_b * self.max_share).floor().clamp(max=self.max_frames)
        time = width_bm[:, : self.time_masks], place_bm[:, : self.time_masks]
        gone_bt = _mask_spans(*time, longest_b, length_b, x_btf.shape[1])
        band = width_bm[:, self.time_masks :], place_bm[:, self.time_masks :]
        count_b = torch.full_like(length_b, self.bands)
        widest_b = count_b.clamp(max=self.max_bands)
        gone_bf = _mask_spans(*band, widest_b, count_b, self.bands)
        gone_bf = gone_bf.repeat(1, x_btf.shape[2] // self.bands)
        mean_bf = x_btf.sum(dim=1) / length_b[:, None]
        row_n, step_n = gone_bt.nonzero(as_tuple=True)
        x_btf[row_n, step_n] = mean_bf[row_n]
        row_n, bin_n = gone_bf.nonzero(as_tuple=True)
        x_btf[row_n, :, bin_n] = mean_bf[row_n, bin_n][:, None] * mask_bt[row_n]


def _mask_spans(
    width_bm: Tensor, place_bm: Tensor, widest_b: Tensor, length_b: Tensor, size: int
) -> Tensor:
    """Shares of the widest and of all places -> (B, size), whether any span holds it."""
    wide_bm = (width_bm * (widest_b[:, None] + 1)).floor()
    begin_bm = (place_bm * (length_b[:, None] - wide_bm + 1)).floor()
    step_t = torch.arange(size)
    inside_bmt = (step_t >= begin_bm[..., None]) & (step_t < (begin_bm + wide_bm)[..., None])
    return inside_bmt.any(dim=1)


def build_spec_augment(
    config: AugmentConfig, hop: float, width: int, bands: int | None
) -> SpecAugment | None:
    """The masks that the settings ask for; None where they ask for none.

    Args:
        config: of augmentation.
        hop: seconds from frame to frame.
        width: bins of a frame.
        bands: mel bands of a frame; None where it has none.

    Raises:
        ConfigError: bands are to be hidden, and there are none, or all of them would be.
    """
    if not config.time_masks and not config.band_masks:
        return None
    if config.band_masks and bands is None:
        raise ConfigError(
            "augment.band_masks hides mel bands, and this front end has none; set it to 0 or take "
            "features.name = 'logmel'"
        )
    if config.band_masks and config.band_width >= (bands or 0):
        raise ConfigError(
            f"augment.band_width = {config.band_width} would hide all of {bands} bands; set it "
            "lower"
        )
    return SpecAugment(
        time_masks=config.time_masks,
        max_frames=max(1, round(config.time_width / hop)),
        max_share=config.time_share,
        band_masks=config.band_masks,
        max_bands=config.band_width,
        bands=bands or width,
    )
