"""Open ONNX files with onnxruntime, and run them.

S = samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serein.audio import Samples
from serein.errors import BackendError, BundleError
from serein.inference.backend import broken_package

MIN_ONNXRUNTIME = (1, 20)
"""First version of onnxruntime that has all operations of the graphs."""


def open_session(
    content: bytes,
    name: str,
    threads: int | None = 1,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    fold: bool = False,
) -> Any:
    """Open an ONNX file with onnxruntime, on the CPU.

    Args:
        content: the file.
        name: of the file in errors.
        threads: processor threads; None is one for each core.
        weights: of a graph without its own, by their names.
        fold: whether to compute constants when the file is opened: exported files have weights in
            fp16, and nodes that cast them.

    Raises:
        BackendError: onnxruntime is missing, broken, or too old.
        BundleError: onnxruntime cannot open the file.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or 0, 4
    # Further optimization takes longer than it saves.
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if fold else levels.ORT_DISABLE_ALL
    options.enable_mem_pattern = False  # it would keep a plan for each length of a recording
    try:
        if weights:
            values = map(onnxruntime.OrtValue.ortvalue_from_numpy, weights.values())
            options.add_external_initializers([*weights], [*values])
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        reason = " ".join(str(error).split())
        raise BundleError(
            f"{name} is not an ONNX file that onnxruntime can run, or is truncated: {reason} "
            f"(onnxruntime {onnxruntime.__version__})"
        ) from error


def run_session(session: Any, names: Sequence[str], wave_s: Samples) -> dict[str, np.ndarray]:
    """Return the named outputs for one window of samples (S,)."""
    wave_1s = np.ascontiguousarray(wave_s[None], np.float32)
    return dict(zip(names, session.run(list(names), {"wave": wave_1s}), strict=True))


def import_onnxruntime() -> Any:
    """Import onnxruntime.

    Raises:
        BackendError: it is missing, broken, or too old.
    """
    needed = ".".join(map(str, MIN_ONNXRUNTIME))
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise broken_package("onnxruntime", error) from error
        raise BackendError(
            f"onnxruntime is not installed: pip install 'onnxruntime>={needed}'"
        ) from error
    except (ImportError, OSError) as error:
        raise broken_package("onnxruntime", error) from error
    version = str(getattr(onnxruntime, "__version__", "0"))
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if found < MIN_ONNXRUNTIME:
        raise BackendError(
            f"onnxruntime is version {version}, expected {needed} or later: "
            f"pip install 'onnxruntime>={needed}'"
        )
    return onnxruntime


def not_exported(name: str, error: Exception) -> BundleError:
    """Return the error of an ONNX file without the metadata of this package."""
    return BundleError(
        f"{name} was not written by this version of `serein export` "
        f"({type(error).__name__}: {error}); export the model again"
    )
