"""The weights of pretrained encoders, read from safetensors and from nothing else."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from serein import encoders
from serein.errors import EncoderError
from serein.layers.ssl_encoder import SSLEncoder


def load_weights(encoder: SSLEncoder, folder: Path) -> None:
    """Read an encoder's weights; what else the files hold, such as heads, is left out.

    Raises:
        EncoderError: weights that the encoder needs are not there, or have other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    try:
        for file in encoders.find_weight_files(folder):
            found |= load_file(file)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"the weights in {folder} cannot be read: {error}") from error
    wanted = encoder.network.state_dict()
    named = _match_names(found, encoder.network.base_model_prefix, wanted)
    lacking = sorted(set(wanted) - set(named))
    if lacking:
        raise EncoderError(
            f"{len(lacking)} of {len(wanted)} weights of the encoder are not in {folder}, the "
            f"first one {lacking[0]}; they would be left to chance. Get the whole model"
        )
    try:
        encoder.network.load_state_dict(named)
    except RuntimeError as error:
        raise EncoderError(f"the weights in {folder} do not fit its config.json: {error}") from None


def _match_names(
    found: Mapping[str, Tensor], prefix: str, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights that are wanted, by their names within the encoder.

    Models with heads keep theirs one floor lower; torch before 2.1 called the two parts of a
    normalised weight otherwise.
    """
    names = {}
    for name, weight in found.items():
        for start in (f"{prefix}.encoder.", "encoder.", f"{prefix}.", ""):
            inner = name.removeprefix(start) if name.startswith(start) else ""
            inner = inner.replace("weight_g", "parametrizations.weight.original0")
            inner = inner.replace("weight_v", "parametrizations.weight.original1")
            if inner in wanted:
                names[inner] = weight
                break
    return names


@lru_cache(maxsize=2)
def load_frozen_encoder(folder: Path, sha256: str) -> SSLEncoder:
    """An encoder that nobody trains, read once a process.

    Args:
        folder: of the encoder.
        sha256: of its content, so that another content is read anew.
    """
    with torch.inference_mode(False):
        made = SSLEncoder(encoders.read_encoder_config(folder))
        load_weights(made, folder)
        return made.eval().requires_grad_(False)
