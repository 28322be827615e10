"""A fine-tuned pretrained encoder: the waveform in, its states pooled for each task.

Any encoder of ``layers.ssl_encoder``, after ``features.rawframes`` with hops of its step (320
samples). Its convolutions stay frozen, as is usual since wav2vec 2.0; its other layers have a lower
learning rate. The layers after it are those of ``probe``.

A saved model holds the encoder's weights and configuration, and needs neither folder nor hub.

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
"""Packages that the numbers depend on, besides this one."""
NOTE = "a pretrained encoder's own licence holds for what is made with it"
"""Note for users of its models."""
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Config:
    """Choice of the encoder, and settings of its training.

    Attributes:
        encoder: its folder, or its name on the hub.
        revision: branch, tag or commit on the hub.
        download: whether it may be downloaded from the hub.
        sha256: expected SHA-256 of the encoder. With it nothing is downloaded.
        architecture: the encoder's own configuration, as saved models hold it: the encoder is built
            from it with random weights, and no files are read.
        convolutions: whether its convolutions are trained, too.
        lr_factor: factor of the learning rate for the encoder.
        hidden: width of the dense layer after it.
        attention: whether each task has one; else its vector is the mean over time.
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
        pinned: settings that identify the encoder, for bundles to hold.
    """

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Build the network; load the encoder's weights, unless ``architecture`` is given.

        Args:
            config: sizes.
            width: samples of a hop.
            tasks: names of the tasks; each gets a vector.

        Raises:
            EncoderError: the encoder is not on this machine, is another one, or is incomplete.
            ConfigError: hops of another length than the encoder's step.
        """
        super().__init__()
        self.encoder, sha256, encoder_config = _build_encoder(config)
        step = self.encoder.shape.hop
        if width != step:
            raise ConfigError(
                f"frames of {width} samples; this encoder has steps of {step}: use the front end "
                f"rawframes with features.hop = {step} and features.rate = "
                f"{ssl_encoder.SAMPLE_RATE}"
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
        self.pinned = {"architecture": encoder_config, "sha256": sha256, "download": False}

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, F) with their mask -> a vector (B, D) and weights for each task."""
        x_btf, mask_bt = frames
        wave_bs = x_btf.masked_fill(~mask_bt[..., None], 0).flatten(1)
        x_btnd, state_mask_bt = self.encoder(wave_bs, mask_bt.sum(dim=1) * x_btf.shape[2])
        pooled = self.pooling(x_btnd, state_mask_bt)
        missing = x_btf.shape[1] - state_mask_bt.shape[1]  # the last hop is too short for a step
        maps = {
            task: weights._replace(weight=F.pad(weights.weight, (0, missing)))
            for task, weights in pooled.attention.items()
        }
        return ModelOutput(pooled.vectors, maps)


def _build_encoder(config: Config) -> tuple[SSLEncoder, str, dict[str, Any]]:
    """Return the encoder, its SHA-256, and its configuration."""
    if config.architecture is not None:
        return SSLEncoder(config.architecture), config.sha256, config.architecture
    download = config.download and not config.sha256
    folder = ssl_encoder.find_encoder(config.encoder, config.revision, download=download)
    sha256 = ssl_encoder.verify_encoder(config.encoder, folder, config.sha256)
    encoder_config = ssl_encoder.read_encoder_config(folder)
    encoder = SSLEncoder(encoder_config)
    if not any(parameter.is_meta for parameter in encoder.parameters()):
        load_weights(encoder, folder)
    return encoder, sha256, encoder_config


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the data that a recipe's numbers depend on: that of its encoder."""
    return {"encoder": ssl_encoder.get_encoder_hash(settings)}
