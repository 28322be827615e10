"""SpecAugment: masks over time and bands, drawn anew for every utterance of every epoch.

Park et al. (2019): SpecAugment: A Simple Data Augmentation Method for Automatic Speech
Recognition. Interspeech 2019; time warping is left out: it changes little (Table 6).

B = batch, T = frames, F = bins, M = masks, n = masked frames or bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from serein.augment.config import AugmentConfig
from serein.errors import ConfigError


@dataclass(frozen=True)
class SpecAugment:
    """Replaces spans of frames and bands by each bin's mean over the utterance.

    Attributes:
        time_masks: masks over time of each utterance.
        max_frames: most frames of a mask over time.
        max_share: most frames of a mask over time, as a share of the utterance.
        band_masks: masks over bands of each utterance.
        max_bands: most bands of a mask.
        bands: bands of a frame; the bins after them are their derivatives, one order after the
            other.
    """

    time_masks: int
    max_frames: int
    max_share: float
    band_masks: int
    max_bands: int
    bands: int

    @property
    def draws_per_utterance(self) -> int:
        """How many random numbers in [0, 1) an utterance needs."""
        return 2 * (self.time_masks + self.band_masks)

    def __call__(self, x_btf: Tensor, mask_bt: Tensor, draw_bm: Tensor) -> None:
        """Mask frames in place.

        Args:
            x_btf: (B, T, F) frames; they are changed.
            mask_bt: (B, T), False on padding.
            draw_bm: (B, draws) random numbers: the first half for widths, the second for positions.
        """
        length_b = mask_bt.sum(dim=1)
        width_bm, position_bm = draw_bm.chunk(2, dim=1)
        max_frames_b = (length_b * self.max_share).floor().clamp(max=self.max_frames)
        time = width_bm[:, : self.time_masks], position_bm[:, : self.time_masks]
        masked_bt = _mask_spans(*time, max_frames_b, length_b, x_btf.shape[1])
        band = width_bm[:, self.time_masks :], position_bm[:, self.time_masks :]
        bands_b = torch.full_like(length_b, self.bands)
        masked_bf = _mask_spans(*band, bands_b.clamp(max=self.max_bands), bands_b, self.bands)
        masked_bf = masked_bf.repeat(1, x_btf.shape[2] // self.bands)
        mean_bf = x_btf.sum(dim=1) / length_b[:, None]
        row_n, step_n = masked_bt.nonzero(as_tuple=True)
        x_btf[row_n, step_n] = mean_bf[row_n]
        row_n, bin_n = masked_bf.nonzero(as_tuple=True)
        x_btf[row_n, :, bin_n] = mean_bf[row_n, bin_n][:, None] * mask_bt[row_n]


def _mask_spans(
    width_bm: Tensor, position_bm: Tensor, max_width_b: Tensor, length_b: Tensor, size: int
) -> Tensor:
    """Return a mask (B, size), True inside any span.

    Args:
        width_bm: (B, M) in [0, 1), scaled to the widths up to ``max_width_b``.
        position_bm: (B, M) in [0, 1), scaled to the positions within ``length_b``.
        max_width_b: (B,).
        length_b: (B,).
        size: of the mask.
    """
    width_bm = (width_bm * (max_width_b[:, None] + 1)).floor()
    start_bm = (position_bm * (length_b[:, None] - width_bm + 1)).floor()
    step_t = torch.arange(size)
    inside_bmt = (step_t >= start_bm[..., None]) & (step_t < (start_bm + width_bm)[..., None])
    return inside_bmt.any(dim=1)


def build_spec_augment(
    config: AugmentConfig, hop: float, width: int, bands: int | None
) -> SpecAugment | None:
    """Return the masks of the settings; None if there are none.

    Args:
        config: settings of augmentation.
        hop: seconds from frame to frame.
        width: bins of a frame.
        bands: mel bands of a frame; None for a front end without bands.

    Raises:
        ConfigError: masks over bands for a front end without bands, or as wide as all bands.
    """
    if not config.time_masks and not config.band_masks:
        return None
    if config.band_masks and bands is None:
        raise ConfigError(
            "augment.band_masks masks mel bands, and this front end has none; set it to 0, or "
            "features.name = 'logmel'"
        )
    if config.band_masks and config.band_width >= (bands or 0):
        raise ConfigError(
            f"augment.band_width = {config.band_width} would mask all of {bands} bands; set it "
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
