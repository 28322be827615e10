"""In which numbers a network computes: fp32, or bfloat16 where the machine has it.

bf16 keeps fp32's range and a third of its digits. Weights, their gradients and the optimiser stay
fp32; matrix products, which are nearly all of the work, are done in bf16 and summed in fp32, by
torch's autocast.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Literal, TypeVar

import torch
from torch import nn

from serein.errors import ConfigError
from serein.records import Recipe

PrecisionSetting = Literal["auto", "fp32", "bf16"]
Precision = Literal["fp32", "bf16"]
Network = TypeVar("Network", bound=nn.Module)


def has_bf16(device: str) -> bool:
    """Whether a device ("cpu", "cuda") multiplies bf16 by itself; emulation is slower than fp32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def requested_precision(recipe: Recipe) -> PrecisionSetting:
    """What a recipe asks for, in training and in recognition."""
    return recipe.training.get("precision", "fp32")


def resolve_precision(precision: PrecisionSetting, device: str) -> Precision:
    """What is computed in: what was asked for, or fp32 where the device has no bf16.

    Raises:
        ConfigError: there is no such precision.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision = {precision!r}; expected auto, fp32 or bf16")
    return "bf16" if precision != "fp32" and has_bf16(device) else "fp32"


def precision_warnings(precision: PrecisionSetting, device: str) -> list[str]:
    """That bf16 was asked for by name and is not there, in words; else nothing."""
    if precision != "bf16" or has_bf16(device):
        return []
    return [f"precision bf16 was asked for; this {device} has none and computed in fp32"]


def autocast_context(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Within it, networks compute in these numbers."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Within it, what is too small for a normal number is zero, on processors that can.

    Gradients that fade over hundreds of steps of an LSTM end as denormal numbers, with which a
    processor is tens of times slower: a backward pass over 252 steps can take several times as
    long.
    """
    before = not _keeps_denormal(1e-39)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _keeps_denormal(number: float) -> bool:
    return bool(torch.tensor(number) * 1)


def to_precision(network: Network) -> Network:
    """A copy whose large weights are bf16 already, as autocast would round them at every call."""
    copy = deepcopy(network)
    for module in copy.modules():
        if isinstance(module, nn.Linear | nn.RNNBase):
            module.to(torch.bfloat16)
    return copy
