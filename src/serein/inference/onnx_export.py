"""Export a saved model as one ONNX file: a waveform in, probabilities or values out.

The input of the file is ``wave``, (1, samples) of float32 at the model's sampling rate. Its outputs
are, under the name of each task, the probabilities (1, classes), with the temperature applied, or
the value (1, 1); and each attention map as ``attention.NAME``, (1, heads, steps), or
(1, heads, steps, steps) of queries by keys. Long recordings must be split into windows by the
caller. The metadata under ``serein`` is that of a bundle.

S = samples.
"""

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from serein.bundle import Bundle, bundle_to_json, compute_bundle_digest
from serein.errors import ConfigError
from serein.inference.onnx_runtime import ONNXSystem, describe_interface, load_onnx
from serein.layers.attention import AttentionWeights
from serein.registry import list_names, load_module
from serein.system import Output, SingleTaskEnsemble, System, predict_batch
from serein.utils.files import write_bytes

TOLERANCE = 1e-4
"""Largest difference of a probability or value between torch and onnxruntime."""
CHECKED_SECONDS = (0.025, 0.06, 0.31, 1.0, 2.7)
"""Durations of noise on which torch and onnxruntime are compared, in seconds."""


def to_onnx(bundle: Bundle, path: Path) -> None:
    """Export a model to ONNX, if onnxruntime gives the same outputs as torch.

    Args:
        bundle: the model.
        path: file to write, with the suffix ``.onnx``.

    Raises:
        ConfigError: the model cannot be exported, or the extra ``onnx`` is not installed.
        StorageError: the file could not be written.
    """
    if path.suffix != ".onnx":
        raise ConfigError(f"{path} does not end in .onnx; name it {path.with_suffix('.onnx')}")
    if isinstance(bundle.system, ONNXSystem):
        raise ConfigError("this model is an ONNX file already; copy it")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'exporting needs {error.name}: pip install "serein[onnx]"') from error
    system = copy.deepcopy(bundle.system).cpu().eval()
    content = export_graph(replace(bundle, system=system))
    _check_outputs(system, load_onnx(content, str(path)).system)
    write_bytes(path, content)


class _WaveformModel(nn.Module):
    """A system as a module from one waveform to a tuple of outputs."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system

    def forward(self, wave_bs: Tensor) -> tuple[Tensor, ...]:
        """Map a waveform (1, S) to the probabilities of each task and the attention maps."""
        output = self.compute_output(wave_bs)
        maps = [attention.weight for attention in output.attention.values()]
        return (*self.system.decode(output).values(), *maps)

    def compute_output(self, wave_bs: Tensor) -> Output:
        """Return the output of the system for a waveform (1, S)."""
        length_b = torch.full((1,), wave_bs.shape[1])
        return self.system(self.system.extract_features(wave_bs, length_b))


def export_graph(bundle: Bundle) -> bytes:
    """Return a model as an ONNX file; its outputs are not checked."""
    system = bundle.system
    one = _WaveformModel(build_onnx_system(system))
    noise_bs = _make_noise(system, 2.0)
    with torch.inference_mode():
        maps = _WaveformModel(system).compute_output(noise_bs).attention
    with _silence_exporter():
        program = torch.onnx.export(
            one,
            (noise_bs,),
            dynamo=True,
            dynamic_shapes=({1: torch.export.Dim("samples", min=1)},),
            input_names=["wave"],
            output_names=[*system.classes, *(f"attention.{name}" for name in maps)],
            verbose=False,
        )
    assert program is not None
    document = json.loads(bundle_to_json(bundle)) | describe_graph(bundle, maps)
    program.model.metadata_props["serein"] = json.dumps(document)
    return program.model_proto.SerializeToString()


def describe_graph(bundle: Bundle, maps: Mapping[str, AttentionWeights]) -> dict[str, Any]:
    """Return the part of a graph's document that the document of its bundle has not."""
    system = bundle.system
    weights = sum(weight.numel() for weight in system.parameters())
    return {
        "maps": {name: own.stride for name, own in maps.items()},
        "sha256": compute_bundle_digest(bundle),
        "interface": describe_interface(system.recipe, system.classes, weights),
    }


def build_onnx_system(system: System) -> System:
    """Return a copy of a system for one recording at a time, which can only be exported.

    Its front end and its model are those that ``to_onnx_module`` of each part returns.

    Raises:
        ConfigError: a part has no such method.
    """
    exportable = copy.deepcopy(system).eval()
    exportable.front_end = _convert_part(exportable.front_end, system.recipe.features)
    model = exportable.model
    if isinstance(model, SingleTaskEnsemble):
        parts = [_convert_part(part, system.recipe.model) for part in model.models]
        model.models = nn.ModuleList(parts)
    else:
        exportable.model = _convert_part(model, system.recipe.model)
    return exportable


def _convert_part(part: Any, table: Mapping[str, Any]) -> Any:
    if hasattr(part, "to_onnx_module"):
        return part.to_onnx_module()
    raise ConfigError(
        f"{table['name']} cannot be exported: {_explain_unsupported(part)}. "
        f"These can be: {', '.join(_list_exportable())}. Apply such a model with serein itself"
    )


def _list_exportable() -> list[str]:
    """Return the names of front ends and models that can be exported."""
    classes = {"features": "FrontEnd", "models": "Model"}
    return sorted(
        name
        for package, kind in classes.items()
        for name in list_names(package)
        if hasattr(getattr(load_module(package, name), kind, None), "to_onnx_module")
    )


def _explain_unsupported(part: object) -> str:
    """Return why a part cannot be exported."""
    if hasattr(part, "fit"):
        return "it is an estimator, which scikit-learn fits, and no network"
    if getattr(part, "recogniser", None) is not None:
        return "its beam search runs word by word, for a number of steps that is not known before"
    return "it is not written in operations of ONNX"


def _make_noise(system: System, seconds: float) -> Tensor:
    """Return white noise (1, S); the same for the same duration."""
    count = round(seconds * system.front_end.rate)
    return 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(count))


def _check_outputs(system: System, exported: System) -> None:
    """Compare the outputs of both systems on noise.

    Raises:
        ConfigError: they differ.
    """
    for seconds in CHECKED_SECONDS:
        wave_bs = _make_noise(system, seconds)
        length_b = torch.tensor([wave_bs.shape[1]])
        with torch.inference_mode():
            ours, _ = predict_batch(system, system.extract_features(wave_bs, length_b))
        theirs, _ = predict_batch(exported, exported.extract_features(wave_bs, length_b))
        worst = max(_max_difference(ours[task], theirs[task]) for task in ours)
        if not worst <= TOLERANCE:
            raise ConfigError(
                f"not exported: for {seconds} s of noise, the outputs of onnxruntime differ by "
                f"{worst:.2g} from the model's own. Try other versions of torch and onnxruntime"
            )


def _max_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, relative for values above 1."""
    return float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max())


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress the output of the exporter, which is not about the model."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels: list[Any] = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
