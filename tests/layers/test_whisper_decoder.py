"""Whisper's decoder against transformers', step by step; monotonic paths; faults."""

import pytest
import torch
from torch import Tensor

from serein.errors import EncoderError
from serein.layers.whisper_decoder import (
    WhisperDecoder,
    WhisperDecoderConfig,
    load_decoder,
    read_decoder_config,
)

CONFIG = WhisperDecoderConfig(
    d_model=16,
    decoder_attention_heads=2,
    decoder_ffn_dim=24,
    decoder_layers=3,
    vocab_size=30,
    max_target_positions=20,
)
IDS = [4, 7, 29, 7, 0, 12]


def build_decoder(seed: int = 0) -> WhisperDecoder:
    torch.manual_seed(seed)
    return WhisperDecoder(CONFIG).eval().requires_grad_(False)


def encoded(frames: int = 9) -> Tensor:
    return torch.randn(frames, CONFIG.d_model, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cuts", [[], [1], [1, 4], [1, 2, 3, 4, 5]])
def test_states_weights_and_logits_are_those_of_transformers(cuts: list[int]) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra ssl")
    sizes = vars(CONFIG) | {"encoder_layers": 1, "encoder_attention_heads": 2}
    theirs = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            **sizes, attn_implementation="eager", pad_token_id=0, bos_token_id=0, eos_token_id=0
        )
    ).eval()
    ours = build_decoder()
    theirs.model.decoder.load_state_dict(ours.state_dict())
    theirs.tie_weights()
    with torch.no_grad():
        output = theirs(
            encoder_outputs=(encoded()[None],),
            decoder_input_ids=torch.tensor([IDS]),
            output_attentions=True,
            output_hidden_states=True,
        )
    cache, states, weights = ours.start(encoded()), [], []
    for start, end in zip([0, *cuts], [*cuts, len(IDS)], strict=True):
        state_ld, weight_nhlt, cache = ours(IDS[start:end], cache)
        states.append(state_ld)
        weights.append(weight_nhlt)
    state_ld = torch.cat(states)
    torch.testing.assert_close(state_ld, output.decoder_hidden_states[-1][0])
    torch.testing.assert_close(torch.cat(weights, dim=2), torch.cat(output.cross_attentions))
    logits_lv = torch.stack([ours.compute_logits(state_d) for state_d in state_ld])
    torch.testing.assert_close(logits_lv, output.logits[0])
    assert cache.length == len(IDS)


@pytest.mark.parametrize("prefix", ["model.decoder.", "decoder."])
def test_weights_are_found_by_their_names(prefix: str) -> None:
    ours = build_decoder()
    weights = {f"{prefix}{name}": x.half() for name, x in ours.state_dict().items()}
    weights["model.encoder.layer_norm.weight"] = torch.zeros(CONFIG.d_model)
    loaded = load_decoder(weights, CONFIG).state_dict()
    for name, x in ours.state_dict().items():
        torch.testing.assert_close(loaded[name], x, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("lost", ["layers.2.fc2.bias", "embed_tokens.weight"])
def test_missing_and_misshapen_weights_are_named(lost: str) -> None:
    weights = {f"decoder.{name}": x for name, x in build_decoder().state_dict().items()}
    misshapen = {**weights, f"decoder.{lost}": torch.zeros(1, 1)}
    del weights[f"decoder.{lost}"]
    for changed in (weights, misshapen):
        with pytest.raises(EncoderError, match=rf"1 of \d+ weights .* the first one {lost}"):
            load_decoder(changed, CONFIG)


def test_an_encoder_alone_and_other_models_are_refused() -> None:
    sizes = {**vars(CONFIG), "model_type": "whisper"}
    assert read_decoder_config(sizes) == CONFIG
    with pytest.raises(EncoderError, match=r"no valid decoder_layers; .* alone has no decoder"):
        read_decoder_config({**sizes, "decoder_layers": 0})
    with pytest.raises(EncoderError, match="type 'hubert'; expected a folder of Whisper"):
        read_decoder_config({**sizes, "model_type": "hubert"})
    with pytest.raises(EncoderError, match="not divisible by its 3 heads"):
        read_decoder_config({**sizes, "decoder_attention_heads": 3})
