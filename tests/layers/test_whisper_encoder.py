"""The first layers of Whisper's encoder, beside a literal version and transformers."""

import math

import numpy as np
import pytest
import torch
from builders.whisper_encoders import SIZES

from serein.errors import EncoderError
from serein.layers.whisper_encoder import (
    WhisperConfig,
    WhisperEncoder,
    hash_encoder_weights,
    read_whisper_config,
    select_encoder_weights,
    sinusoids,
)

Weights = dict[str, np.ndarray]


def build_encoder() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(WhisperConfig(**SIZES)).eval()


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def convolve(x_dt: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Convolve with three taps, frame by frame, with zeros beyond both ends."""
    padded = np.pad(x_dt, ((0, 0), (1, 1)))
    steps = range(0, x_dt.shape[1], stride)
    columns = [(weight * padded[None, :, t : t + 3]).sum(axis=(1, 2)) + bias for t in steps]
    return np.stack(columns, axis=1)


def layer_norm(x_td: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean, variance = x_td.mean(axis=1, keepdims=True), x_td.var(axis=1, keepdims=True)
    return (x_td - mean) / np.sqrt(variance + 1e-5) * weight + bias


def attend(x_td: np.ndarray, w: Weights, heads: int) -> np.ndarray:
    query = x_td @ w["q_proj.weight"].T + w["q_proj.bias"]
    key = x_td @ w["k_proj.weight"].T
    value = x_td @ w["v_proj.weight"].T + w["v_proj.bias"]
    size, mixed = x_td.shape[1] // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        score = query[:, part] @ key[:, part].T / math.sqrt(size)
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        mixed.append(weight / weight.sum(axis=1, keepdims=True) @ value[:, part])
    return np.concatenate(mixed, axis=1) @ w["out_proj.weight"].T + w["out_proj.bias"]


def literal_outputs(encoder: WhisperEncoder, bands_mt: np.ndarray) -> list[np.ndarray]:
    w = {name: x.double().numpy() for name, x in encoder.state_dict().items()}
    x_dt = gelu(convolve(bands_mt, w["conv1.weight"], w["conv1.bias"], 1))
    x_td = gelu(convolve(x_dt, w["conv2.weight"], w["conv2.bias"], 2)).T
    half = x_td.shape[1] // 2
    for t in range(len(x_td)):
        for c in range(half):
            angle = t * 10_000 ** (-c / (half - 1))
            x_td[t, c] += math.sin(angle)
            x_td[t, half + c] += math.cos(angle)
    outputs = []
    for number in range(SIZES["encoder_layers"]):
        start = f"layers.{number}."
        v = {name.removeprefix(start): x for name, x in w.items() if name.startswith(start)}
        inner = {k.removeprefix("self_attn."): x for k, x in v.items()}
        h_td = layer_norm(x_td, v["self_attn_layer_norm.weight"], v["self_attn_layer_norm.bias"])
        x_td = x_td + attend(h_td, inner, SIZES["encoder_attention_heads"])
        h_td = layer_norm(x_td, v["final_layer_norm.weight"], v["final_layer_norm.bias"])
        h_te = gelu(h_td @ v["fc1.weight"].T + v["fc1.bias"])
        x_td = x_td + h_te @ v["fc2.weight"].T + v["fc2.bias"]
        outputs.append(x_td)
    return outputs


def test_layers_are_those_of_a_literal_encoder() -> None:
    encoder = build_encoder()
    bands_bmt = torch.randn(1, SIZES["num_mel_bins"], 14)
    with torch.no_grad():
        found = encoder(bands_bmt)
    expected = literal_outputs(encoder, bands_bmt[0].double().numpy())
    assert len(found) == len(expected) == 3
    for x_btd, wanted_td in zip(found, expected, strict=True):
        np.testing.assert_allclose(x_btd[0].numpy(), wanted_td, atol=2e-5)


def test_layers_are_those_of_transformers() -> None:
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers: pip install 'serein[ssl]'"
    )
    config = transformers.WhisperConfig(**SIZES, max_source_positions=40)
    torch.manual_seed(1)
    theirs = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    sizes = WhisperConfig(**SIZES)
    ours = WhisperEncoder(sizes).eval()
    ours.load_state_dict(
        {name: x for name, x in theirs.state_dict().items() if name in ours.state_dict()}
    )
    bands_bmt = torch.randn(2, SIZES["num_mel_bins"], 80)
    with torch.no_grad():
        states = theirs(bands_bmt, output_hidden_states=True).hidden_states
        found = ours(bands_bmt)
    for x_btd, wanted_btd in zip(found[:2], states[1:3], strict=True):
        torch.testing.assert_close(x_btd, wanted_btd, atol=1e-5, rtol=1e-4)


def test_sinusoids_are_sines_then_cosines() -> None:
    position_td = sinusoids(5, 8)
    assert position_td.shape == (5, 8)
    torch.testing.assert_close(position_td[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert float(position_td[3, 0]) == pytest.approx(math.sin(3), abs=1e-6)
    assert float(position_td[3, 7]) == pytest.approx(math.cos(3e-4), abs=1e-6)


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder."])
def test_weights_are_found_by_the_names_of_transformers(prefix: str) -> None:
    weights = {prefix + name: x for name, x in build_encoder().state_dict().items()}
    sizes = WhisperConfig(**{**SIZES, "encoder_layers": 2})
    found = select_encoder_weights(weights, sizes)
    assert "layers.1.fc2.bias" in found
    assert "layers.2.fc2.bias" not in found
    assert {x.dtype for x in found.values()} == {torch.float16}
    WhisperEncoder(sizes).load_state_dict(found)


def test_missing_weights_are_named() -> None:
    weights = build_encoder().state_dict()
    del weights["layers.1.fc1.weight"]
    weights["conv1.bias"] = torch.zeros(3)
    with pytest.raises(EncoderError, match=r"2 of \d+ weights .* the first one conv1\.bias"):
        select_encoder_weights(weights, WhisperConfig(**SIZES))


def test_hash_depends_on_every_weight_and_not_on_their_order() -> None:
    weights = select_encoder_weights(build_encoder().state_dict(), WhisperConfig(**SIZES))
    digest = hash_encoder_weights(weights)
    assert hash_encoder_weights(dict(reversed(weights.items()))) == digest
    weights["conv1.bias"][0] += 1
    assert hash_encoder_weights(weights) != digest


@pytest.mark.parametrize(
    ("change", "layers", "message"),
    [
        ({"model_type": "hubert"}, 1, "type 'hubert'.*front end ssl"),
        ({"d_model": None}, 1, "no valid d_model"),
        ({"encoder_ffn_dim": "wide"}, 1, "no valid encoder_ffn_dim"),
        ({"encoder_layers": 0}, 1, "no valid encoder_layers"),
        ({}, 4, "layer 4 of an encoder of 3 layers"),
        ({"d_model": 18, "encoder_attention_heads": 4}, 1, "not divisible by twice its 4 heads"),
    ],
)
def test_faulty_configurations_are_refused(
    change: dict[str, object], layers: int, message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        read_whisper_config({"model_type": "whisper", **SIZES, **change}, layers)
