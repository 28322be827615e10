"""Tiny encoders with random weights, in the layout of the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.whisper_encoders import write_whisper_model
from safetensors.torch import load_file, save_file

CONVOLUTIONS = {"conv_dim": [8, 8], "conv_kernel": [40, 10], "conv_stride": [32, 10]}
COMMON = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.1,
    **CONVOLUTIONS,
}
WHISPER = {
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "max_source_positions": 50,
    "num_mel_bins": 8,
    "dropout": 0.1,
}
GROUP, LAYER = {"feat_extract_norm": "group"}, {"feat_extract_norm": "layer"}
STABLE = {**LAYER, "do_stable_layer_norm": True}
ENCODERS: dict[str, dict[str, Any]] = {
    "wav2vec2-group": {"model_type": "wav2vec2", **COMMON, **GROUP},
    "wav2vec2-layer": {"model_type": "wav2vec2", **COMMON, **STABLE},
    "hubert-group": {"model_type": "hubert", **COMMON, **GROUP},
    "hubert-layer": {"model_type": "hubert", **COMMON, **STABLE},
    "wavlm-group": {"model_type": "wavlm", **COMMON, **GROUP},
    "wavlm-layer": {"model_type": "wavlm", **COMMON, **STABLE},
    "data2vec-audio": {"model_type": "data2vec-audio", **COMMON, "conv_pos_kernel_size": 5},
    "whisper": WHISPER,
}
"""For each type, one with group normalization in its convolutions, and one without."""
DEFAULT_ENCODER = "wav2vec2-layer"


def write_encoder(
    folder: Path, kind: str = DEFAULT_ENCODER, *, seed: int = 0, prefix: str = ""
) -> Path:
    """Write an encoder's folder; ``prefix`` is for the weights' names in a model with a head."""
    pytest.importorskip("transformers", reason="needs transformers: pip install 'serein[ssl]'")
    from serein.layers.ssl_encoder import SSLEncoder

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    weights = SSLEncoder(ENCODERS[kind]).network.state_dict()
    named = {prefix + name: weight.contiguous() for name, weight in weights.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(ENCODERS[kind]))
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    return folder


def rename_weights(folder: Path, changes: dict[str, str]) -> None:
    """Rename weights, or remove those with an empty new name."""
    file = folder / "model.safetensors"
    found = {changes.get(name, name): weight for name, weight in load_file(file).items()}
    found.pop("", None)
    save_file(found, file, {"format": "pt"})


def recipe_settings(name: str, folder: Path) -> list[str]:
    """Return the settings that a recipe of pretrained encoders requires; none for others."""
    if name.startswith("feng2020") and "whisper" in name:
        return [f"features.encoder={write_whisper_model(folder / 'whisper')}"]
    if not name.startswith("ssl-"):
        return []
    where = "model" if name == "ssl-finetune" else "features"
    return [f"{where}.encoder={write_encoder(folder / 'encoder')}"]


def as_toml(table: dict[str, Any]) -> str:
    """Format a flat table as in a setting."""
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + "}"
