"""Masks over frames, drawn anew for every utterance of every epoch.

Park et al. (2019): SpecAugment: A Simple Data Augmentation Method for Automatic Speech
Recognition. Interspeech 2019; its time warping, which its Table 6 finds of little use, is not here.

B = batch, T = frames, F = bins, M = masks, n = places that are hidden.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from serein.augment.settings import Settings
from serein.errors import ConfigError


@dataclass(frozen=True)
class Masks:
    """What is hidden behind each bin's mean over the utterance.

    Attributes:
        time: stretches of each utterance.
        frames: the longest of them.
        share: of the utterance, the longest of them.
        band: runs of bands.
        width: the longest of them.
        bands: of a frame; bins beyond are derivatives of these, one set after the other.
    """

    time: int
    frames: int
    share: float
    band: int
    width: int
    bands: int

    @property
    def draws(self) -> int:
        """How many numbers an utterance needs, each from 0 to below 1."""
        return 2 * (self.time + self.band)

    def __call__(self, x_btf: Tensor, mask_bt: Tensor, draw_bm: Tensor) -> None:
        """Hide what was drawn, in place.

        Args:
            x_btf: (B, T, F) frames; they are changed.
            mask_bt: (B, T), where there are frames.
            draw_bm: (B, draws): the first half decides on widths, the second on places.
        """
        length_b = mask_bt.sum(dim=1)
        width_bm, place_bm = draw_bm.chunk(2, dim=1)
        longest_b = (length_b * self.share).floor().clamp(max=self.frames)
        time = width_bm[:, : self.time], place_bm[:, : self.time]
        gone_bt = _spans(*time, longest_b, length_b, x_btf.shape[1])
        band = width_bm[:, self.time :], place_bm[:, self.time :]
        count_b = torch.full_like(length_b, self.bands)
        widest_b = count_b.clamp(max=self.width)
        gone_bf = _spans(*band, widest_b, count_b, self.bands)
        gone_bf = gone_bf.repeat(1, x_btf.shape[2] // self.bands)
        mean_bf = x_btf.sum(dim=1) / length_b[:, None]
        row_n, step_n = gone_bt.nonzero(as_tuple=True)
        x_btf[row_n, step_n] = mean_bf[row_n]
        row_n, bin_n = gone_bf.nonzero(as_tuple=True)
        x_btf[row_n, :, bin_n] = mean_bf[row_n, bin_n][:, None] * mask_bt[row_n]


def _spans(
    width_bm: Tensor, place_bm: Tensor, widest_b: Tensor, length_b: Tensor, size: int
) -> Tensor:
    """Shares of the widest and of all places -> (B, size), whether any span holds it."""
    wide_bm = (width_bm * (widest_b[:, None] + 1)).floor()
    begin_bm = (place_bm * (length_b[:, None] - wide_bm + 1)).floor()
    step_t = torch.arange(size)
    inside_bmt = (step_t >= begin_bm[..., None]) & (step_t < (begin_bm + wide_bm)[..., None])
    return inside_bmt.any(dim=1)


def masks(settings: Settings, hop: float, width: int, bands: int | None) -> Masks | None:
    """The masks that the settings ask for; None where they ask for none.

    Args:
        settings: of augmentation.
        hop: seconds from frame to frame.
        width: bins of a frame.
        bands: mel bands of a frame; None where it has none.

    Raises:
        ConfigError: bands are to be hidden, and there are none, or all of them would be.
    """
    if not settings.time_masks and not settings.band_masks:
        return None
    if settings.band_masks and bands is None:
        raise ConfigError(
            "augment.band_masks hides mel bands, and this front end has none; set it to 0 or take "
            "features.name = 'logmel'"
        )
    if settings.band_masks and settings.band_width >= (bands or 0):
        raise ConfigError(
            f"augment.band_width = {settings.band_width} would hide all of {bands} bands; set it "
            "lower"
        )
    return Masks(
        time=settings.time_masks,
        frames=max(1, round(settings.time_width / hop)),
        share=settings.time_share,
        band=settings.band_masks,
        width=settings.band_width,
        bands=bands or width,
    )
