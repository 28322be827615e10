"""Find and open saved models: shipped ones, bundles, and models that were exported to ONNX."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from serein import bundle
from serein.bundle import Bundle
from serein.errors import BundleError, ConfigError, UnknownName
from serein.inference.onnx_runtime import load_onnx

DEFAULT_MODEL = "serein-base"
"""The shipped model that is used by default."""


def list_models() -> dict[str, Path]:
    """Return the files of the models that are shipped with this package, by name."""
    folder = Path(str(files("serein") / "pretrained"))
    return dict(sorted((file.stem, file) for file in folder.glob("*.safetensors")))


def find_model_file(model: str | os.PathLike[str]) -> Path:
    """Return the file of a shipped model, or the path itself.

    Args:
        model: name of a shipped model, or path of a file.

    Raises:
        UnknownName: neither a shipped model nor a file.
    """
    shipped = list_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model).expanduser()
    if not path.exists() and path.suffix not in (".onnx", ".safetensors"):
        hint = "The path of a .safetensors file of your own works too."
        raise UnknownName("model", str(model), shipped, hint)
    return path


def open_model(path: Path, *, device: str = "cpu", trust: Sequence[str] = ()) -> Bundle:
    """Open a bundle, or an exported model if the path ends in ``.onnx``.

    Args:
        path: the file.
        device: where to compute: "cpu", "cuda" or "auto".
        trust: dotted names of custom modules that the bundle may import.

    Raises:
        BundleError: the file is missing, corrupt, or was not written by this package.
        ConfigError: the extra ``onnx`` is not installed, or an exported model should run on
            another device than the CPU.
    """
    if path.suffix != ".onnx":
        return bundle.load(path, device=device, trust=trust)
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device {device}: an exported model runs on the CPU; use cpu or auto")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {path}: {error.strerror}") from error
    return load_onnx(content, str(path))
