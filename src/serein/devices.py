"""Where a network computes."""

import torch

from serein.errors import ConfigError, UnknownName


def device_of(name: str) -> str:
    """Where to compute: "auto" is "cuda" where there is one.

    Raises:
        UnknownName: neither "cpu", "cuda" nor "auto".
        ConfigError: there is no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UnknownName("device", name, ("auto", "cpu", "cuda"))
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device cuda: this torch sees no CUDA device; use cpu or auto")
    return "cuda" if there and name == "auto" else name.replace("auto", "cpu")
