"""Device and precision of a network's computation, and the state of torch.

Precision is fp32, or bf16 where the device supports it. bf16 has fp32's range and a third of its
digits. Weights, gradients and optimizer state stay in fp32; torch's autocast computes matrix
products, which are nearly all of the work, in bf16 and accumulates them in fp32.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
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
def restore_torch_state() -> Iterator[None]:
    """Restore torch's number of CPU threads and random state at the end of the context.

    Both hold for the whole process, and so for the program of a user that calls this package.
    """
    threads = torch.get_num_threads()
    is_initialized: Callable[[], bool] = torch.cuda.is_initialized
    devices = range(torch.cuda.device_count()) if is_initialized() else ()
    with torch.random.fork_rng(devices):
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
