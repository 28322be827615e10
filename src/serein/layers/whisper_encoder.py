"""The first layers of Whisper's encoder (Radford et al. 2023), without ``transformers``.

Two convolutions over 80 mel bands, the second of stride 2, sinusoids of the position, and pre-norm
Transformer layers (Vaswani et al. 2017). It runs on the true length of a recording, where Whisper
itself pads to 30 s. The middle layers are the ones that emotion is read from (``docs/ssl.md``), so
that the layers after the last one that is used, and the final normalization, are left out.

Weights are those of ``transformers``, by the same names. In files they are half precision (fp16),
as published; the computation is in single precision.

B = batch, T = frames of 20 ms, M = mel bands, D = channels, H = heads, N = layers.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from serein.errors import EncoderError

MAX_FRAMES = 1500
"""Most frames, of 30 s: the positions that Whisper was trained on."""
MAX_TIMESCALE = 10_000
"""Longest period of the sinusoids of the position, over 2 pi."""
ENCODER_PREFIX = "encoder/"
"""Beginning of the names of an encoder's weights in a saved model."""
Size = Annotated[int, Ge(1), Le(8192)]


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of an encoder, named as in config.json of ``transformers``.

    Attributes:
        d_model: D.
        encoder_attention_heads: H.
        encoder_ffn_dim: width of a layer's feed-forward network.
        num_mel_bins: M.
        encoder_layers: layers that are computed.
    """

    d_model: Size = 512
    encoder_attention_heads: Size = 8
    encoder_ffn_dim: Size = 2048
    num_mel_bins: Size = 80
    encoder_layers: Annotated[int, Ge(1), Le(64)] = 6


def read_whisper_config(document: Mapping[str, Any], layers: int) -> WhisperConfig:
    """Return the sizes of an encoder's first layers.

    Args:
        document: its config.json.
        layers: number of layers to compute.

    Raises:
        EncoderError: it is not Whisper's, lacks a size, or has fewer layers.
    """
    if document.get("model_type") != "whisper":
        raise EncoderError(
            f"an encoder of type {document.get('model_type')!r}; this front end takes Whisper's. "
            "Others are for the front end ssl"
        )
    names = ("d_model", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins")
    given = {name: document.get(name) for name in (*names, "encoder_layers")}
    sizes = {name: size for name, size in given.items() if isinstance(size, int) and size >= 1}
    if wrong := [name for name in given if name not in sizes]:
        raise EncoderError(f"the encoder's config.json has no valid {', '.join(wrong)}")
    if layers > sizes["encoder_layers"]:
        raise EncoderError(
            f"layer {layers} of an encoder of {sizes['encoder_layers']} layers; set "
            "features.layers to some of those"
        )
    if sizes["d_model"] % (2 * sizes["encoder_attention_heads"]):
        raise EncoderError(
            f"d_model = {sizes['d_model']} of the encoder is not divisible by twice its "
            f"{sizes['encoder_attention_heads']} heads"
        )
    return WhisperConfig(**{**sizes, "encoder_layers": layers})


class WhisperEncoder(nn.Module):
    """Mel spectrogram to the output of each layer.

    Attributes:
        config: sizes.
    """

    position_td: Tensor

    def __init__(self, config: WhisperConfig) -> None:
        """Build the layers, with torch's initial weights."""
        super().__init__()
        self.config = config
        width = config.d_model
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(WhisperLayer(config) for _ in range(config.encoder_layers))
        self.register_buffer("position_td", sinusoids(MAX_FRAMES, width), persistent=False)

    def forward(self, bands_bmt: Tensor) -> list[Tensor]:
        """Compute all layers.

        Args:
            bands_bmt: (B, M, 2 T) log-mel bands of frames of 10 ms.

        Returns:
            The output of each layer, (B, T, D).
        """
        x_bdt = F.gelu(self.conv1(bands_bmt))
        x_btd = F.gelu(self.conv2(x_bdt)).transpose(1, 2)
        x_btd = x_btd + self.position_td[: x_btd.shape[1]]
        outputs = []
        for layer in self.layers:
            x_btd = layer(x_btd)
            outputs.append(x_btd)
        return outputs


class WhisperLayer(nn.Module):
    """Self-attention and a feed-forward network, each after a normalization, with a residual."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        width = config.d_model
        self.self_attn = WhisperAttention(width, config.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x_btd: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x_btd = x_btd + self.self_attn(self.self_attn_layer_norm(x_btd))
        hidden_bte = F.gelu(self.fc1(self.final_layer_norm(x_btd)))
        y_btd: Tensor = x_btd + self.fc2(hidden_bte)
        return y_btd


class WhisperAttention(nn.Module):
    """Scaled dot-product attention; the keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_btd: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        query, key, value = (
            project(x_btd).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed_bhtc = F.scaled_dot_product_attention(query, key, value)
        y_btd: Tensor = self.out_proj(mixed_bhtc.transpose(1, 2).flatten(2))
        return y_btd


def sinusoids(frames: int, width: int) -> Tensor:
    """Return sines and cosines of the position, (frames, width), as in Whisper.

    The periods are a geometric series; all sines come before all cosines.
    """
    half = width // 2
    step = torch.log(torch.tensor(float(MAX_TIMESCALE), device="cpu")) / (half - 1)
    rate_c = torch.exp(-step * torch.arange(half, device="cpu"))
    angle_tc = torch.arange(frames, device="cpu")[:, None] * rate_c[None]
    return torch.cat([angle_tc.sin(), angle_tc.cos()], dim=1)


def select_encoder_weights(
    weights: Mapping[str, Tensor], config: WhisperConfig
) -> dict[str, Tensor]:
    """Return the weights of an encoder's first layers in fp16, by the names of this module.

    Args:
        weights: of the whole model, or of its encoder, with or without "model." and "encoder.".
        config: sizes.

    Raises:
        EncoderError: some are missing, or have other shapes.
    """
    with torch.device("meta"):
        expected = {name: x.shape for name, x in WhisperEncoder(config).state_dict().items()}
    found = {}
    for name, weight in weights.items():
        inner = name.removeprefix("model.").removeprefix("encoder.")
        if inner in expected and weight.shape == expected[inner]:
            # A copy: weights that are mapped from a file would change, or vanish, with it.
            found[inner] = weight.detach().to("cpu", torch.float16).contiguous().clone()
    if missing := [name for name in expected if name not in found]:
        raise EncoderError(
            f"{len(missing)} of {len(expected)} weights of the encoder are missing or have another "
            f"shape, the first one {missing[0]}; expected those of config.json. Get the whole model"
        )
    return {name: found[name] for name in expected}


def hash_encoder_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights, by their names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        weight = weights[name]
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()
