"""Tiny Whisper encoders and whole models, random weights, in the layout of ``transformers``."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from serein.labels.whisper_tokens import CHARACTERS
from serein.layers.whisper_decoder import WhisperDecoder, WhisperDecoderConfig
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


DECODER_SIZES = {
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "decoder_layers": 2,
    "max_target_positions": 60,
}
COMMANDS = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|haw|>"),
    *("<|translate|>", "<|transcribe|>", "<|nocaptions|>", "<|notimestamps|>"),
)
TIMES = 4


def write_tokenizer(folder: Path, *, multilingual: bool = True) -> int:
    """Write a tokenizer of bytes and some words; return the number of ids, times included."""
    tokens = [*CHARACTERS, *("Ġder", "Ġlappen", "Ġx", "ÃŁ", "Ġ(")]
    commands = [one for one in COMMANDS if multilingual or one not in ("<|en|>", "<|de|>")]
    document = {
        "model": {"vocab": {token: id_ for id_, token in enumerate(tokens)}},
        "added_tokens": [
            {"id": len(tokens) + i, "content": command} for i, command in enumerate(commands)
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return len(tokens) + len(commands) + TIMES


def write_whisper_model(folder: Path, *, seed: int = 0, prefix: str = "model.") -> Path:
    """Write the folder of a whole model: encoder, decoder and tokenizer."""
    write_whisper(folder, seed=seed)
    sizes = {**DECODER_SIZES, "vocab_size": write_tokenizer(folder)}
    document = {"model_type": "whisper", **SIZES, **sizes}
    (folder / "config.json").write_text(json.dumps(document))
    torch.manual_seed(seed)
    decoder = WhisperDecoder(WhisperDecoderConfig(d_model=SIZES["d_model"], **sizes))
    parts = {
        "encoder.": WhisperEncoder(WhisperConfig(**SIZES)).state_dict(),
        "encoder.layer_norm.": nn.LayerNorm(SIZES["d_model"]).state_dict(),
        "decoder.": decoder.state_dict(),
    }
    weights = {
        f"{prefix}{part}{name}": weight.half().contiguous()
        for part, named in parts.items()
        for name, weight in named.items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
