"""Where a network computes.

In which numbers a network computes: fp32, or bfloat16 where the machine has it.

bf16 keeps fp32's range and a third of its digits. Weights, their gradients and the optimiser stay
fp32; matrix products, which are nearly all of the work, are done in bf16 and summed in fp32, by
torch's autocast.

Memory that a step used is kept for the next one, and memory of kernels is bounded.

glibc gives large blocks back to the system as soon as they are free, and the next step faults them
in again, page by page. A training that keeps them is faster and holds more memory at a time.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import cache
from typing import Any, Literal, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from serein.errors import ConfigError, UnknownName
from serein.records import Recipe

RANDOM_INITIALIZERS = ("normal_", "uniform_", "kaiming_uniform_")
"""By which torch's own layers fill their weights."""


def resolve_device(name: str) -> str:
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


@contextmanager
def init_empty_weights() -> Iterator[None]:
    """Networks that are built here have shapes and no weights, and none are drawn.

    Drawing what has no place would be done in Python, and loads torch's compiler for it: over a
    second, for nothing.
    """
    with torch.device("meta"), _SkipRandomInit():
        yield


class _SkipRandomInit(TorchFunctionMode):
    """Passes over what fills weights by chance."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__name__", "") in RANDOM_INITIALIZERS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


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


MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Variables by which a user says the same; who sets one has chosen."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's ``malloc.h``."""
MAX_KEPT_BYTES = 2**30
"""Bytes that are kept: of one block, and unused at the end of the heap."""
OLD_GLIBC_MAX_BYTES = 2**25
"""What glibc before 2.35 takes at most for one block."""

ONEDNN_CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""How many kernels oneDNN keeps; it makes one for each shape that it meets."""
ONEDNN_CACHE_CAPACITY = "64"


def limit_onednn_cache() -> None:
    """Have oneDNN keep fewer kernels than its 1,024, which take up to 100 MiB.

    Windows of long recordings have many shapes that never come again. To be called before anything
    is computed; who sets the variable has chosen.
    """
    os.environ.setdefault(ONEDNN_CACHE_VARIABLE, ONEDNN_CACHE_CAPACITY)


@cache
def keep_freed_memory() -> bool:
    """Have this process keep what it frees, from now on.

    Returns:
        Whether it does: not where the user has chosen, nor where libc is not glibc.
    """
    if any(name in os.environ for name in MALLOC_VARIABLES) or not _is_glibc():
        return False
    settle = ctypes.CDLL(None).mallopt
    # Without the first, the second would make things worse: thresholds would no longer grow.
    return bool(
        (settle(M_MMAP_THRESHOLD, MAX_KEPT_BYTES) or settle(M_MMAP_THRESHOLD, OLD_GLIBC_MAX_BYTES))
        and settle(M_TRIM_THRESHOLD, MAX_KEPT_BYTES)
    )


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return False
