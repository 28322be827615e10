"""States of a frozen pretrained encoder, all layers concatenated.

Any wav2vec 2.0, HuBERT, WavLM, data2vec-audio or Whisper of ``transformers`` (extra ``ssl``), from
a folder or, by its name, from the hub's cache. Frame i starts at i x hop, 20 ms in all published
models of these kinds. A second of a base model's 13 states takes 2 MB in the feature cache, of a
large one's 25 states 5 MB; ``layers`` and ``pool`` reduce that.

B = batch, S = samples, T = frames, N = states, D = channels of a state, F = N x D.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers import ssl_encoder
from serein.layers.ssl_encoder import build_encoder_config, get_encoder_shape, load_frozen_encoder

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
        seconds: longest utterance; the rest is cut. None keeps all. Whisper reads at most 30 s.
    """

    encoder: str = ""
    revision: str = "main"
    download: bool = False
    sha256: str = ""
    layers: tuple[Annotated[int, Ge(0)], ...] = ()
    pool: Annotated[int, Ge(1)] = 1
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
            ConfigError: it does not have all of ``layers``.
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
        self.config = replace(config, sha256=sha256)
        self._layers = config.layers or tuple(range(shape.states))
        self.pinned = {"sha256": sha256, "download": False}
        self.given = {"states": len(self._layers)}
        self.rate = ssl_encoder.SAMPLE_RATE
        self.hop = shape.hop * config.pool / self.rate
        self.width = len(self._layers) * shape.width
        limits = [shape.max_samples / self.rate if shape.max_samples else None, config.seconds]
        self.max_seconds = min((limit for limit in limits if limit is not None), default=None)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T)."""
        if self.max_seconds is not None:
            length_b = length_b.clamp(max=round(self.max_seconds * self.rate))
        encoder = load_frozen_encoder(self._folder, self.config.sha256).to(wave_bs.device)
        with torch.no_grad():
            x_btnd, mask_bt = encoder(wave_bs[:, : int(length_b.max())], length_b)
        x_btf = x_btnd[:, :, list(self._layers)].flatten(2)
        return _mean_pool(x_btf, mask_bt, self.config.pool)


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
