"""Find and open saved models: shipped ones, bundles, and models that were exported to ONNX."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from serein import bundle
from serein.bundle import Bundle
from serein.errors import BundleError, ConfigError, UnknownName
from serein.inference.hub import SCHEME, find_folder_model, find_hub_model, parse_hub_name
from serein.inference.onnx_runtime import load_onnx

DEFAULT_MODEL = "serein-base"
"""The shipped model that is used by default."""


def list_models() -> dict[str, Path]:
    """Return the files of the models that are shipped with this package, by name."""
    folder = Path(str(files("serein") / "pretrained"))
    return dict(sorted((file.stem, file) for file in folder.glob("*.safetensors")))


def find_model_file(model: str | os.PathLike[str]) -> Path:
    """Return the file of a model: a shipped one, one of the hub, the path itself, or in a folder.

    Args:
        model: name of a shipped model, ``hf://ORG/NAME``, or path of a file or of a folder.

    Raises:
        UnknownName: neither a shipped model nor a file.
        HubError: the hub is away or does not have the model.
        BundleError: a folder without a model.
    """
    shipped = list_models()
    if str(model) in shipped:
        return shipped[str(model)]
    if str(model).startswith(SCHEME):
        return find_hub_model(parse_hub_name(str(model)))
    path = Path(model).expanduser()
    if path.is_dir():
        return find_folder_model(path)
    if not path.exists() and path.suffix not in (".onnx", ".safetensors"):
        hint = (
            "The path of a .safetensors file of your own works too, and hf://ORG/NAME for a model "
            "of the hub."
        )
        raise UnknownName("model", str(model), shipped, hint)
    return path


def get_model_name(model: str | os.PathLike[str]) -> str:
    """Return the name of a model for its answers: of the hub, of its folder, or of its file.

    >>> get_model_name("hf://my-lab/calls@v2"), get_model_name("runs/calls.safetensors")
    ('my-lab/calls', 'calls')
    """
    if str(model).startswith(SCHEME):
        return parse_hub_name(str(model)).repository
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else path.stem


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
