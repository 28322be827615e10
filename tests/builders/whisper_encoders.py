"""Tiny Whisper encoders with random weights, in the layout of ``transformers``."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from serein.layers.whisper_encoder import WhisperConfig, WhisperEncoder

SIZES = {
    "d_model": 16,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "num_mel_bins": 20,
    "encoder_layers": 3,
}


def write_whisper(folder: Path, *, seed: int = 0, prefix: str = "encoder.", **config: Any) -> Path:
    """Write an encoder's folder, with fp16 weights; ``config`` changes its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    weights = WhisperEncoder(WhisperConfig(**SIZES)).state_dict()
    weights = {prefix + name: weight.half().contiguous() for name, weight in weights.items()}
    weights["decoder.layers.0.fc1.weight"] = torch.zeros(2, 2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    document = {"model_type": "whisper", **SIZES, **config}
    (folder / "config.json").write_text(json.dumps(document))
    return folder
