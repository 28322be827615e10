"""States of a frozen pretrained encoder, layers concatenated, as frames or as one row an utterance.

Any wav2vec 2.0, HuBERT, WavLM, data2vec-audio or Whisper of ``transformers`` (extra ``ssl``), from
a folder or, by its name, from the hub's cache. Frame i starts at i x hop, 20 ms in all published
models of these kinds. A second of a base model's 13 states takes 2 MB in the feature cache, of a
large one's 25 states 5 MB; ``layers`` and ``pool`` reduce that. With ``statistics``, mean and
deviation of each channel over time are the only row of an utterance: 80 kB for a base model's 13
states.

Layers after the last one that is used are not computed.

B = batch, S = samples, T = frames (one, of statistics), N = states, D = channels of a state, F = N
x D, or N x D x statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers import ssl_encoder
from serein.layers.ssl_encoder import (
    EncoderShape,
    build_encoder_config,
    get_encoder_shape,
    load_frozen_encoder,
)

PACKAGES = ("transformers",)
"""Packages that the numbers depend on, besides this file."""
SOURCES = ("layers/ssl_encoder.py",)
"""Other files of this package that the numbers depend on."""
NOTE = "a pretrained encoder's own licence holds for what is made with it"
"""Note for users of its features."""


@dataclass(frozen=True)
class Config:
    """Choice of the encoder, and of its states.

    Attributes:
        encoder: its folder, or its name on the hub.
        revision: branch, tag or commit on the hub.
        download: whether it may be downloaded from the hub.
        sha256: expected SHA-256 of the encoder, set in bundles. With it nothing is downloaded.
        layers: which states, counted from 0, the input of the first layer; empty means all.
        pool: neighbouring frames that are averaged to one; 5 are 100 ms.
        statistics: of each channel over time, as one row for each utterance: the mean, the
            deviation, or both; empty gives frames. The statistics of a state are side by side.
        padding: input of Whisper: "do_not_pad" takes the recording's own length, "max_length" pads
            it with silence to 30 s, as in ``transformers``. None is "do_not_pad"; in a saved model
            of an earlier version, which has no such setting, it is "max_length".
        seconds: longest utterance; the rest is cut. None keeps all. Whisper reads at most 30 s.
    """

    encoder: str = ""
    revision: str = "main"
    download: bool = False
    sha256: str = ""
    layers: tuple[Annotated[int, Ge(0)], ...] = ()
    pool: Annotated[int, Ge(1)] = 1
    statistics: tuple[Literal["mean", "std"], ...] = ()
    padding: Literal["do_not_pad", "max_length"] | None = None
    seconds: Annotated[float, Gt(0)] | None = 30.0


class FrontEnd(nn.Module):
    """Waveforms to states; the encoder is loaded on first use, and is no submodule.

    Attributes:
        pinned: settings that identify the encoder, for bundles to hold.
        given: settings of a model that depend on this front end.
    """

    def __init__(self, config: Config) -> None:
        """Find the encoder.

        Raises:
            EncoderError: it is not on this machine, is another one, or cannot be built.
            ConfigError: it does not have all of ``layers``, has no length to pad to, or settings
                exclude each other.
        """
        super().__init__()
        download = config.download and not config.sha256
        self._folder = ssl_encoder.find_encoder(config.encoder, config.revision, download=download)
        sha256 = ssl_encoder.verify_encoder(config.encoder, self._folder, config.sha256)
        encoder_config = ssl_encoder.read_encoder_config(self._folder)
        shape = get_encoder_shape(build_encoder_config(encoder_config))
        if any(layer >= shape.states for layer in config.layers):
            raise ConfigError(
                f"features.layers = {list(config.layers)}; the encoder has states 0 to "
                f"{shape.states - 1}"
            )
        padding = _choose_padding(config, shape, is_saved=bool(config.sha256))
        if config.pool > 1 and config.statistics:
            raise ConfigError(
                f"features.pool = {config.pool} with features.statistics, which are those of all "
                "frames; remove one of them"
            )
        if len(set(config.statistics)) < len(config.statistics):
            raise ConfigError(
                f"features.statistics = {list(config.statistics)}; expected each name once"
            )
        self.config = replace(config, sha256=sha256, padding=padding)
        self._layers = config.layers or tuple(range(shape.states))
        self.pinned = {"sha256": sha256, "download": False, "padding": padding}
        self.given = {"states": len(self._layers)}
        self.rate = ssl_encoder.SAMPLE_RATE
        self.hop = shape.hop * config.pool / self.rate
        self.width = len(self._layers) * shape.width * max(1, len(config.statistics))
        limits = [shape.max_samples / self.rate if shape.max_samples else None, config.seconds]
        self.max_seconds = min((limit for limit in limits if limit is not None), default=None)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        if self.max_seconds is not None:
            length_b = length_b.clamp(max=round(self.max_seconds * self.rate))
        encoder = load_frozen_encoder(
            self._folder,
            self.config.sha256,
            layers=max(1, *self._layers),
            pad=self.config.padding == "max_length",
        ).to(wave_bs.device)
        with torch.no_grad():
            x_btnd, mask_bt = encoder(wave_bs[:, : int(length_b.max())], length_b)
        x_btnd = x_btnd[:, :, list(self._layers)]
        if self.config.statistics:
            return _compute_statistics(x_btnd, mask_bt, self.config.statistics)
        return _mean_pool(x_btnd.flatten(2), mask_bt, self.config.pool)


def _choose_padding(
    config: Config, shape: EncoderShape, *, is_saved: bool
) -> Literal["do_not_pad", "max_length"]:
    """Return the padding of a front end.

    Raises:
        ConfigError: the encoder has no length to pad to.
    """
    if config.padding == "max_length" and shape.max_samples is None:
        raise ConfigError(
            "features.padding = 'max_length' is for Whisper's encoder; this one takes any length: "
            "set features.padding=do_not_pad"
        )
    if config.padding is None and is_saved and shape.max_samples is not None:
        return "max_length"
    return config.padding or "do_not_pad"


def _compute_statistics(
    x_btnd: Tensor, mask_bt: Tensor, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Compute mean and deviation over time.

    Args:
        x_btnd: states, zero on padding.
        mask_bt: of their frames.
        names: of the statistics, in the order of the result.

    Returns:
        One row for each utterance, (B, 1, F), and its mask (B, 1).
    """
    mask_bt11 = mask_bt[..., None, None]
    count_b11 = mask_bt.sum(dim=1)[:, None, None]
    mean_bnd = x_btnd.sum(dim=1) / count_b11
    centred_btnd = (x_btnd - mean_bnd[:, None]).masked_fill(~mask_bt11, 0)
    std_bnd = (centred_btnd.square().sum(dim=1) / count_b11).sqrt()
    statistics = {"mean": mean_bnd, "std": std_bnd}
    row_bf = torch.cat([statistics[name] for name in names], dim=2).flatten(1)
    return row_bf[:, None], mask_bt.any(dim=1, keepdim=True)


def _mean_pool(x_btf: Tensor, mask_bt: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """Average every ``pool`` frames; the last mean is that of the remaining frames."""
    if pool == 1:
        return x_btf, mask_bt
    (batch, frames), missing = mask_bt.shape, -mask_bt.shape[1] % pool
    sizes = batch, (frames + missing) // pool, pool
    mask_btp = F.pad(mask_bt, (0, missing)).view(sizes)
    x_btpf = F.pad(x_btf, (0, 0, 0, missing)).view(*sizes, -1)
    count_bt1 = mask_btp.sum(dim=2)[..., None].clamp(min=1)
    return x_btpf.sum(dim=2) / count_bt1, mask_btp.any(dim=2)


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the data that a recipe's numbers depend on: that of its encoder."""
    return {"encoder": ssl_encoder.get_encoder_hash(settings)}
