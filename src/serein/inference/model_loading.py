"""Find and open saved models: shipped ones, bundles, and models that were exported to ONNX."""

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serein.errors import BackendError, BundleError, ConfigError, UnknownName
from serein.inference.backend import (
    BACKENDS,
    INSTALL_TORCH,
    Backend,
    broken_package,
    has_torch,
    require_torch,
)
from serein.inference.hub import SCHEME, find_folder_model, find_hub_model, parse_hub_name
from serein.model_file import MALFORMED_DOCUMENT_ERRORS, read_bytes
from serein.records import PRECISIONS, PrecisionSetting

if TYPE_CHECKING:
    from serein.bundle import Bundle

DEVICES = ("auto", "cpu", "cuda")
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


def open_model(path: Path, *, device: str = "cpu", trust: Sequence[str] = ()) -> "Bundle":
    """Open a bundle with torch, or an exported model if the path ends in ``.onnx``.

    Args:
        path: the file.
        device: where to compute: "cpu", "cuda" or "auto".
        trust: dotted names of custom modules that the bundle may import.

    Raises:
        BundleError: the file is missing, corrupt, or was not written by this package.
        ConfigError: the extra ``onnx`` is not installed, or an exported model should run on
            another device than the CPU.
    """
    from serein import bundle
    from serein.inference.onnx_runtime import load_onnx

    if path.suffix != ".onnx":
        return bundle.load(path, device=device, trust=trust)
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device {device}: an exported model runs on the CPU; use cpu or auto")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {path}: {error.strerror}") from error
    return load_onnx(content, str(path))


def open_backend(
    path: Path,
    setting: str = "auto",
    *,
    device: str = "cpu",
    precision: PrecisionSetting | None = None,
    threads: int | None = 1,
    trust: Sequence[str] = (),
) -> Backend:
    """Open a model with a backend.

    Args:
        path: file of a model.
        setting: "torch" or "onnx"; "auto" is onnx, which starts without torch, where the model
            has an ONNX form and the settings allow it.
        device: where to compute: "cpu", "cuda" or "auto".
        precision: precision to compute in; None is that of the recipe.
        threads: processor threads of onnxruntime; None is one for each core.
        trust: dotted names of custom modules that the model may import.

    Raises:
        UnknownName: there is no such backend or device.
        BundleError: the file is missing, corrupt, tampered with, or too new.
        ConfigError: the settings need another backend, or one that is not installed.
    """
    if setting not in BACKENDS:
        raise UnknownName("backend", setting, BACKENDS)
    if device not in DEVICES:
        raise UnknownName("device", device, DEVICES)
    if precision not in (None, *PRECISIONS):
        raise ConfigError(f"precision = {precision!r}; expected auto, fp32 or bf16")
    reason = _explain_why_not_onnx(path, device, precision, trust)
    if path.suffix == ".onnx" and (reason or setting == "torch"):
        raise ConfigError(f"an exported model is computed by onnxruntime; {reason or 'not torch'}")
    if setting == "onnx" and reason:
        raise ConfigError(f"backend onnx: {reason}; use backend torch or auto")
    warnings: list[str] = []
    if setting != "torch" and not reason:
        from serein.inference.onnx_backend import ONNXBackend

        try:
            opened = ONNXBackend(path, threads)
            if precision == "bf16":
                opened.warnings = ["precision bf16 was requested; onnxruntime computes in fp32"]
            return opened
        except (BackendError, BundleError) as error:
            if setting == "onnx" or path.suffix == ".onnx" or not has_torch():
                raise
            warnings = [f"{error}; {path.stem} is computed by torch"]
    if reason and not has_torch():
        if not path.exists():
            read_bytes(path)  # gives the reason
        raise ConfigError(f"{reason}, and torch is not installed: {INSTALL_TORCH}")
    require_torch("backend torch")
    backend: Any = _open_torch_backend(path, device, precision, trust)
    backend.warnings = [*backend.warnings, *warnings]
    return backend


def choose_for_many_windows(setting: str, model: str | os.PathLike[str]) -> str:
    """Return the backend for a folder, long recordings or a service, where "auto" is the fastest.

    torch computes frames that windows share once, and predicts windows in batches; for models with
    such a front end that takes half the time. It is chosen if it is installed.

    Args:
        setting: "auto", "torch" or "onnx".
        model: as for ``find_model_file``.
    """
    sidecar = find_model_file(model).with_suffix(".graph.json")
    if setting != "auto" or not has_torch() or not sidecar.is_file():
        return setting
    try:
        shares = json.loads(sidecar.read_text(encoding="utf-8"))["interface"]["shares"]
    except (OSError, *MALFORMED_DOCUMENT_ERRORS):
        return setting  # opening the model gives the reason
    return "torch" if shares else setting


def _open_torch_backend(
    path: Path, device: str, precision: PrecisionSetting | None, trust: Sequence[str]
) -> Backend:
    """Open a model with torch.

    Raises:
        BackendError: torch is installed and cannot be imported.
    """
    try:
        from serein.inference.torch_backend import TorchBackend, load
    except (ImportError, OSError) as error:
        raise broken_package("torch", error) from error
    return TorchBackend(load(path, device=device, trust=trust), precision)


def _explain_why_not_onnx(
    path: Path, device: str, precision: PrecisionSetting | None, trust: Sequence[str]
) -> str:
    """Return why onnxruntime cannot compute a model with these settings; empty if it can."""
    if path.suffix != ".onnx" and not path.with_suffix(".onnx").is_file():
        return f"{path.stem} has no ONNX form beside it (serein export makes one)"
    if device == "cuda" or (device == "auto" and path.suffix != ".onnx" and has_torch()):
        return f"device {device} needs torch; onnxruntime computes on the CPU"
    if precision == "bf16" and path.suffix != ".onnx":
        return "precision bf16 needs torch; onnxruntime computes in fp32"
    if trust and path.suffix != ".onnx":
        return "modules of your own need torch"
    return ""
