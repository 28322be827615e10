"""Where a network computes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from serein.errors import ConfigError, UnknownName

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
