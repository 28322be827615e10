"""Device, precision and memory of a network's computation.

Precision is fp32, or bf16 where the device supports it. bf16 has fp32's range and a third of its
digits. Weights, gradients and optimizer state stay in fp32; torch's autocast computes matrix
products, which are nearly all of the work, in bf16 and accumulates them in fp32.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from serein.errors import ConfigError, UnknownName
from serein.records import Precision as Precision
from serein.records import PrecisionSetting as PrecisionSetting
from serein.records import Recipe

RANDOM_INITIALIZERS = ("normal_", "uniform_", "kaiming_uniform_")
"""Functions with which torch's layers draw their initial weights."""


def resolve_device(name: str) -> str:
    """Return "cpu" or "cuda"; "auto" is "cuda" if a CUDA device is available.

    Raises:
        UnknownName: ``name`` is not "cpu", "cuda" or "auto".
        ConfigError: ``name`` is "cuda" and there is no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UnknownName("device", name, ("auto", "cpu", "cuda"))
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError("device cuda: torch finds no CUDA device; use cpu or auto")
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    return name


@contextmanager
def restore_num_threads() -> Iterator[None]:
    """Restore torch's number of CPU threads at the end of the context."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def init_empty_weights() -> Iterator[None]:
    """Build modules on the meta device: parameters have shapes but no memory and no values.

    Random initialisation is skipped as well. On the meta device, torch would run it in Python and
    import its compiler for that, which takes over a second.
    """
    with torch.device("meta"), _SkipRandomInit():
        yield


class _SkipRandomInit(TorchFunctionMode):
    """Skip the functions that draw initial weights."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in RANDOM_INITIALIZERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


Network = TypeVar("Network", bound=nn.Module)


def has_bf16(device: str) -> bool:
    """Return whether a device has bf16 hardware; emulated bf16 is slower than fp32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def requested_precision(recipe: Recipe) -> PrecisionSetting:
    """Return the precision that a recipe sets for training and recognition."""
    return recipe.training.get("precision", "fp32")


def resolve_precision(precision: PrecisionSetting, device: str) -> Precision:
    """Return the precision to use: the requested one, or fp32 if the device has no bf16.

    Raises:
        ConfigError: ``precision`` is not "auto", "fp32" or "bf16".
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision = {precision!r}; expected auto, fp32 or bf16")
    return "bf16" if precision != "fp32" and has_bf16(device) else "fp32"


def precision_warnings(precision: PrecisionSetting, device: str) -> list[str]:
    """Return a warning if bf16 was requested and the device has none, or else an empty list."""
    if precision != "bf16" or has_bf16(device):
        return []
    return [f"precision bf16 was requested; this {device} has no bf16 and computed in fp32"]


def autocast_context(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Return a context in which networks compute in the given precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Set denormal numbers to zero within the context, on processors that support it.

    Gradients that vanish over hundreds of steps of an LSTM become denormal. A processor computes
    with these tens of times slower, so that a backward pass over 252 steps can take several times
    as long.
    """
    was_flushing = not bool(torch.tensor(1e-39) * 1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushing)


def to_bf16(network: Network) -> Network:
    """Return a copy with its large weights in bf16, to which autocast would cast them each call."""
    copy = deepcopy(network)
    for module in copy.modules():
        if isinstance(module, nn.Linear | nn.RNNBase):
            module.to(torch.bfloat16)
    return copy


MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables with which a user sets malloc's thresholds."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from glibc's ``malloc.h``."""
MAX_KEPT_BYTES = 2**30
"""Value of both thresholds: size of one block, and unused memory at the end of the heap."""
OLD_GLIBC_MAX_BYTES = 2**25
"""The largest mmap threshold that glibc before 2.35 accepts."""

ONEDNN_CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""Environment variable: how many compiled kernels oneDNN keeps, one for each input shape."""
ONEDNN_CACHE_CAPACITY = "64"


def limit_onednn_cache() -> None:
    """Make oneDNN keep at most 64 kernels; its default of 1,024 takes up to 100 MiB.

    Windows of long recordings have many shapes that do not occur again. The setting holds for the
    whole process and must be made before the first computation. A value that the user has set in
    the environment is kept.
    """
    os.environ.setdefault(ONEDNN_CACHE_VARIABLE, ONEDNN_CACHE_CAPACITY)


@cache
def keep_freed_memory() -> bool:
    """Make malloc keep freed memory in this process, up to 1 GiB, from now on.

    By default, glibc returns large blocks to the system as soon as they are free, and the next
    training step has to fault them in again, page by page. Keeping them makes training faster and
    its resident memory larger.

    Returns:
        Whether the setting was made: not if the user has set one of ``MALLOC_VARIABLES``, nor if
        libc is not glibc.
    """
    if any(name in os.environ for name in MALLOC_VARIABLES) or not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # The trim threshold alone would be worse than nothing: setting any threshold turns off the
    # automatic growth of both.
    is_mmap_set = mallopt(M_MMAP_THRESHOLD, MAX_KEPT_BYTES) or mallopt(
        M_MMAP_THRESHOLD, OLD_GLIBC_MAX_BYTES
    )
    return bool(is_mmap_set and mallopt(M_TRIM_THRESHOLD, MAX_KEPT_BYTES))


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # no such function, or no such name
        return False
