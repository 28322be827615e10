"""Whisper's decoder (Radford et al. 2023), without ``transformers``: states of words to come.

Pre-norm Transformer layers (Vaswani et al. 2017): self-attention over the tokens so far, attention
over the output of the encoder, and a feed-forward network. Its last states, normalized, are
multiplied by the embedding of every token; the largest product is the next token. Weights are those
of ``transformers``, by the same names.

One recording at a time: L = tokens, P = tokens before them, T = frames of the encoder, D =
channels, C = channels of a head, H = heads, V = tokens of the vocabulary, N = layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from serein.errors import EncoderError
from serein.layers.whisper_encoder import Size, WhisperAttention

MAX_TOKENS = 448
"""Most tokens of a transcript, those of the prompt included: the positions of the decoder."""


@dataclass(frozen=True)
class WhisperDecoderConfig:
    """Sizes of a decoder, named as in config.json of ``transformers``.

    Attributes:
        d_model: D.
        decoder_attention_heads: H.
        decoder_ffn_dim: width of a layer's feed-forward network.
        decoder_layers: N.
        vocab_size: V.
        max_target_positions: most tokens of a transcript.
    """

    d_model: Size = 512
    decoder_attention_heads: Size = 8
    decoder_ffn_dim: Size = 2048
    decoder_layers: Annotated[int, Ge(1), Le(64)] = 6
    vocab_size: Annotated[int, Ge(1), Le(1_000_000)] = 51_865
    max_target_positions: Size = MAX_TOKENS


def read_decoder_config(document: Mapping[str, Any]) -> WhisperDecoderConfig:
    """Return the sizes of a decoder.

    Args:
        document: its config.json.

    Raises:
        EncoderError: it is not Whisper's, or lacks a size.
    """
    if document.get("model_type") != "whisper":
        raise EncoderError(
            f"a recogniser of type {document.get('model_type')!r}; expected a folder of Whisper, "
            "encoder and decoder"
        )
    names = [field.name for field in fields(WhisperDecoderConfig)]
    given = {name: document.get(name) for name in names}
    sizes = {name: size for name, size in given.items() if isinstance(size, int) and size >= 1}
    if wrong := [name for name in given if name not in sizes]:
        raise EncoderError(
            f"the recogniser's config.json has no valid {', '.join(wrong)}; a folder of an encoder "
            "alone has no decoder: get the whole model"
        )
    if sizes["d_model"] % sizes["decoder_attention_heads"]:
        raise EncoderError(
            f"d_model = {sizes['d_model']} of the recogniser is not divisible by its "
            f"{sizes['decoder_attention_heads']} heads"
        )
    return WhisperDecoderConfig(**sizes)


class DecoderCache(NamedTuple):
    """What later steps of one recording need again.

    Attributes:
        encoded: of each layer, keys and values of the encoder's output, (H, T, C).
        past: of each layer, keys and values of the tokens so far, (H, P, C).
    """

    encoded: list[tuple[Tensor, Tensor]]
    past: list[tuple[Tensor, Tensor]]

    @property
    def length(self) -> int:
        """P."""
        return self.past[0][0].shape[1]


class WhisperDecoder(nn.Module):
    """Tokens and the output of the encoder to states.

    Attributes:
        config: sizes.
    """

    def __init__(self, config: WhisperDecoderConfig) -> None:
        """Build the layers, with torch's initial weights."""
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = nn.Embedding(config.max_target_positions, config.d_model)
        layers = (WhisperDecoderLayer(config) for _ in range(config.decoder_layers))
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(config.d_model)

    def start(self, encoded_td: Tensor) -> DecoderCache:
        """Prepare the steps of a recording from the output of its encoder (T, D)."""
        layers: Any = self.layers
        encoded = [layer.encoder_attn.project(encoded_td) for layer in layers]
        return DecoderCache(encoded, [(k_htc[:, :0], v_htc[:, :0]) for k_htc, v_htc in encoded])

    def forward(
        self, ids: Sequence[int], cache: DecoderCache
    ) -> tuple[Tensor, Tensor, DecoderCache]:
        """Read the next tokens.

        Args:
            ids: L tokens.
            cache: after the tokens before them.

        Returns:
            Normalized states (L, D), weights (N, H, L, T) of the attention over the encoder's
            frames, and the cache after these tokens.
        """
        device = self.embed_tokens.weight.device
        position_l = torch.arange(cache.length, cache.length + len(ids), device=device)
        x_ld = self.embed_tokens(torch.tensor(ids, device=device))
        x_ld = x_ld + self.embed_positions(position_l)
        weights, past = [], []
        for layer, encoded, before in zip(self.layers, cache.encoded, cache.past, strict=True):
            x_ld, weight_hlt, after = layer(x_ld, encoded, before)
            weights.append(weight_hlt)
            past.append(after)
        return self.layer_norm(x_ld), torch.stack(weights), cache._replace(past=past)

    def compute_logits(self, state_d: Tensor) -> Tensor:
        """A state (D,) -> a logit of each next token (V,)."""
        return self.embed_tokens.weight @ state_d


class WhisperDecoderLayer(nn.Module):
    """Two attentions and a feed-forward network, each after a normalization, with a residual."""

    def __init__(self, config: WhisperDecoderConfig) -> None:
        super().__init__()
        width, heads = config.d_model, config.decoder_attention_heads
        self.self_attn = CachedAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = CachedAttention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.decoder_ffn_dim)
        self.fc2 = nn.Linear(config.decoder_ffn_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self, x_ld: Tensor, encoded: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Tokens (L, D) -> (L, D), weights over frames (H, L, T), and keys and values so far."""
        normal_ld = self.self_attn_layer_norm(x_ld)
        pairs = zip(past, self.self_attn.project(normal_ld), strict=True)
        key_hpc, value_hpc = (torch.cat(pair, dim=1) for pair in pairs)
        before = key_hpc.shape[1] - len(x_ld)
        is_seen_lp = torch.ones(len(x_ld), key_hpc.shape[1], device=x_ld.device).tril(before) > 0
        y_ld, _ = self.self_attn.mix(normal_ld, key_hpc, value_hpc, is_seen_lp)
        x_ld = x_ld + y_ld
        y_ld, weight_hlt = self.encoder_attn.mix(self.encoder_attn_layer_norm(x_ld), *encoded)
        x_ld = x_ld + y_ld
        x_ld = x_ld + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x_ld))))
        return x_ld, weight_hlt, (key_hpc, value_hpc)


class CachedAttention(WhisperAttention):
    """Attention with keys and values that were computed before, and with its weights."""

    def project(self, x_td: Tensor) -> tuple[Tensor, Tensor]:
        """(T, D) -> keys and values (H, T, C)."""
        key_htc, value_htc = (self._split(part(x_td)) for part in (self.k_proj, self.v_proj))
        return key_htc, value_htc

    def mix(
        self, x_ld: Tensor, key_htc: Tensor, value_htc: Tensor, is_seen_lt: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (L, D), keys and values -> (L, D), and the weights (H, L, T)."""
        query_hlc = self._split(self.q_proj(x_ld))
        score_hlt = query_hlc @ key_htc.mT / query_hlc.shape[-1] ** 0.5
        if is_seen_lt is not None:
            score_hlt = score_hlt.masked_fill(~is_seen_lt, -torch.inf)
        weight_hlt = score_hlt.softmax(dim=-1)
        y_ld: Tensor = self.out_proj((weight_hlt @ value_htc).transpose(0, 1).flatten(1))
        return y_ld, weight_hlt

    def _split(self, x_td: Tensor) -> Tensor:
        return x_td.view(len(x_td), self.heads, -1).transpose(0, 1)


def load_decoder(weights: Mapping[str, Tensor], config: WhisperDecoderConfig) -> WhisperDecoder:
    """Build a decoder with given weights, in fp32.

    Args:
        weights: of the whole model, with or without "model." before "decoder." in their names.
        config: sizes.

    Raises:
        EncoderError: some are missing, or have other shapes.
    """
    with torch.device("meta"):
        decoder = WhisperDecoder(config)
    expected = {name: x.shape for name, x in decoder.state_dict().items()}
    found = dict[str, Tensor]()
    for name, weight in weights.items():
        prefix, _, inner = name.partition("decoder.")
        if prefix in ("", "model.") and weight.shape == expected.get(inner):
            found[inner] = weight.detach().to("cpu", torch.float32).contiguous().clone()
    if missing := [name for name in expected if name not in found]:
        raise EncoderError(
            f"{len(missing)} of {len(expected)} weights of the decoder are missing or have another "
            f"shape, the first one {missing[0]}; expected those of config.json. Get the whole "
            "model: an encoder alone recognises no words"
        )
    decoder.load_state_dict(found, assign=True)
    return decoder.eval().requires_grad_(False)
