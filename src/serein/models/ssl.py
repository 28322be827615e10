"""A pretrained encoder that learns along: the waveform in, its states pooled for each task.

Any encoder that ``layers.encoder`` knows, after ``features.rawframes`` with hops of its step (320
samples). Its convolutions stay as they are, as is usual since wav2vec 2.0; its layers learn at a
share of the rate. What stands behind it is that of ``probe``.

A saved model holds the encoder's weights and settings, and needs neither folder nor hub.

B = batch, S = samples, T = frames (hops of samples), F = samples of a frame, N = states, D = width
of the vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers import ssl_encoder
from serein.layers.attention import ModelOutput
from serein.layers.ssl_encoder import SSLEncoder, StatePooling, load_weights

PACKAGES = ("transformers",)
"""What the numbers depend on beside this package."""
NOTE = "a pretrained encoder's own licence holds for what is made with it"
"""What whoever uses them must know."""
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """What may vary.

    Attributes:
        encoder: its folder, or its name on the hub.
        revision: branch, tag or commit on the hub.
        download: whether the hub may be asked for it.
        sha256: what the encoder must be known by. Nothing is downloaded then.
        architecture: the encoder's own settings, as saved models hold them: it is built by these,
            with weights drawn by chance, and nothing is looked for.
        convolutions: whether its convolutions learn, too.
        share: of the learning rate, for the encoder.
        hidden: width of the dense layer behind it.
        attention: whether each task has one; else it takes the mean over time.
        dropout: of the dense layer's output.
    """

    encoder: str = ""
    revision: str = "main"
    download: bool = False
    sha256: str = ""
    architecture: dict[str, Any] | None = None
    convolutions: bool = False
    lr_factor: Annotated[float, Gt(0), Le(1)] = 0.1
    hidden: Count = 256
    attention: bool = True
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


class Model(nn.Module):
    """Hops of samples in, one vector per utterance and task out.

    Attributes:
        pinned: settings that say which encoder this is, for bundles to hold.
    """

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network; read the encoder's weights, if any are named.

        Args:
            config: sizes.
            width: samples of a hop.
            tasks: names of those who get a vector each.

        Raises:
            EncoderError: the encoder is not here, is another one, or is not whole.
            ConfigError: hops of another length than the encoder's step.
        """
        super().__init__()
        self.encoder, sha256, described = _build_encoder(config)
        step = self.encoder.shape.hop
        if width != step:
            raise ConfigError(
                f"frames of {width} samples; this encoder makes steps of {step}: use the front "
                f"end rawframes with features.hop = {step} and features.rate = {ssl_encoder.SAMPLE_RATE}"
            )
        self.encoder.lr_factor = config.lr_factor
        if not config.convolutions:
            self.encoder.freeze_convolutions()
        self.pooling = StatePooling(
            self.encoder.shape.states,
            self.encoder.shape.width,
            tasks,
            hidden=config.hidden,
            attention=config.attention,
            dropout=config.dropout,
        )
        self.width = config.hidden
        self.pinned = {"architecture": described, "sha256": sha256, "download": False}

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask -> a vector (B, D) and weights for each task."""
        x_btf, mask_bt = frames
        wave_bs = x_btf.masked_fill(~mask_bt[..., None], 0).flatten(1)
        x_btnd, heard_bt = self.encoder(wave_bs, mask_bt.sum(dim=1) * x_btf.shape[2])
        found = self.pooling(x_btnd, heard_bt)
        missing = x_btf.shape[1] - heard_bt.shape[1]  # the last hop is too short for a step
        maps = {
            task: one._replace(weight=F.pad(one.weight, (0, missing)))
            for task, one in found.attention.items()
        }
        return ModelOutput(found.vectors, maps)


def _build_encoder(config: Config) -> tuple[SSLEncoder, str, dict[str, Any]]:
    """The encoder, its SHA-256, and its settings."""
    if config.architecture is not None:
        return SSLEncoder(config.architecture), config.sha256, config.architecture
    asked = config.download and not config.sha256
    folder = ssl_encoder.find_encoder(config.encoder, config.revision, download=asked)
    sha256 = ssl_encoder.verify_encoder(config.encoder, folder, config.sha256)
    described = ssl_encoder.read_encoder_config(folder)
    made = SSLEncoder(described)
    if not any(parameter.is_meta for parameter in made.parameters()):
        load_weights(made, folder)
    return made, sha256, described


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """What a recipe's numbers depend on beside packages: which encoder it begins with."""
    return {"encoder": ssl_encoder.get_encoder_hash(settings)}
