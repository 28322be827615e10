"""Export a saved model as one ONNX file: a waveform in, probabilities or values out.

The input of the file is ``wave``, (1, samples) of float32 at the model's sampling rate. Its outputs
are, under the name of each task, the probabilities (1, classes), with the temperature applied, or
the value (1, 1); and each attention map as ``attention.NAME``, (1, heads, steps), or
(1, heads, steps, steps) of queries by keys. Long recordings must be split into windows by the
caller. The metadata under ``serein`` is that of a bundle.

The large weights can be stored in half precision (fp16), or matrix products computed in integers of
8 bits (int8): of weights by channel, and of activations by tensor with a range that is measured
anew for each input (dynamic quantization of onnxruntime). Weights have 7 of the 8 bits, as the sums
of processors without VNNI overflow otherwise.

S = samples.
"""

import copy
import io
import itertools
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from serein.bundle import Bundle, bundle_to_json, compute_bundle_digest, copy_weights
from serein.errors import ConfigError, UnknownName
from serein.inference.onnx_backend import position_sinusoids
from serein.inference.onnx_runtime import ONNXSystem, describe_interface, load_onnx
from serein.layers.attention import AttentionWeights
from serein.registry import list_names, load_module
from serein.system import Output, SingleTaskEnsemble, System, predict_batch
from serein.utils.files import write_bytes

ExportPrecision = Literal["fp32", "fp16", "int8"]
"""Precision of an exported model: of its weights, and with int8 of its matrix products."""
TOLERANCES: Mapping[str, float] = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.2}
"""Largest difference of a probability or value between torch and onnxruntime, by precision."""
UNSUPPORTED = {
    "egemaps": "openSMILE computes its frames, outside of torch",
    "ssl": "transformers builds its encoder; the front end whisper has one that can be exported",
    "whisper_asr": "its decoder runs word by word, for a number of steps that is not known before",
}
"""Why front ends cannot be exported, by name."""
MIN_VALUES = 64
"""Smaller weights stay in a graph, and in fp32."""
ACTIVATIONS = ("Gelu", "Relu")
"""Products of their outputs stay in fp32: a few large values take up the range of 8 bits."""
MIN_QUANTIZED_VALUES = 32_768
"""Matrices with fewer values are not quantized: the heads of the tasks, which take no time."""
CHECKED_SECONDS = (0.025, 0.06, 0.31, 1.0, 2.7)
"""Durations of noise on which torch and onnxruntime are compared, in seconds."""


def to_onnx(
    bundle: Bundle,
    path: Path,
    precision: ExportPrecision = "fp32",
    *,
    exported: bytes | None = None,
) -> float:
    """Export a model to ONNX, if onnxruntime gives the same outputs as torch.

    Args:
        bundle: the model.
        path: file to write, with the suffix ``.onnx``.
        precision: "fp32"; "fp16" stores the weights in half the size and computes in fp32; "int8"
            also computes matrix products in integers.
        exported: the model in fp32, if it was exported before (``build_exported_file``).

    Returns:
        The largest difference of a probability or value on noise, relative for values above 1.

    Raises:
        UnknownName: there is no such precision.
        ConfigError: the model cannot be exported, or the extra ``onnx`` is not installed.
        StorageError: the file could not be written.
    """
    if precision not in get_args(ExportPrecision):
        raise UnknownName("precision", precision, get_args(ExportPrecision))
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
    content = exported or export_graph(replace(bundle, system=system))
    if precision != "fp32":
        content = _reduce_precision(content, copy_weights(system), precision)
    difference = _check_outputs(system, load_onnx(content, str(path)).system, precision)
    write_bytes(path, content)
    return difference


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
        f"{table['name']} cannot be exported: {_explain_unsupported(part, str(table['name']))}. "
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


def _explain_unsupported(part: object, name: str) -> str:
    """Return why a front end or a model of this name cannot be exported."""
    if hasattr(part, "fit"):
        return "it is an estimator, whose prediction may be no operation of torch"
    if "." in name:
        return "parts of your own have no ONNX form"
    return UNSUPPORTED.get(name, "it is not written in operations of ONNX")


def _make_noise(system: System, seconds: float) -> Tensor:
    """Return white noise (1, S); the same for the same duration."""
    count = round(seconds * system.front_end.rate)
    return 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(count))


def _check_outputs(system: System, exported: System, precision: str) -> float:
    """Compare the outputs of both systems on noise, and return the largest difference.

    Raises:
        ConfigError: it is larger than the precision explains.
    """
    largest = 0.0
    for seconds in CHECKED_SECONDS:
        wave_bs = _make_noise(system, seconds)
        length_b = torch.tensor([wave_bs.shape[1]])
        with torch.inference_mode():
            ours, _ = predict_batch(system, system.extract_features(wave_bs, length_b))
        theirs, _ = predict_batch(exported, exported.extract_features(wave_bs, length_b))
        worst = max(_max_difference(ours[task], theirs[task]) for task in ours)
        if not worst <= TOLERANCES[precision]:
            advice = (
                "Try other versions of torch and onnxruntime"
                if precision == "fp32"
                else f"At most {TOLERANCES[precision]:g} is expected of {precision}: use fp32"
            )
            raise ConfigError(
                f"not exported: for {seconds} s of noise, the outputs of onnxruntime differ by "
                f"{worst:.2g} from the model's own. {advice}"
            )
        largest = max(largest, worst)
    return largest


def _max_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, relative for values above 1."""
    return float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max())


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress the output of the exporter, which is not about the model."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", None)]
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


# Weights of a graph


def find_sources(model: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Find the weights of a graph among those of its bundle, by their values.

    Args:
        model: the graph with all weights, an ``onnx.ModelProto``.
        tensors: weights of the bundle.

    Returns:
        By the name of each weight that was found, its tensor with the order of its axes and its
        shape, or the arguments of its sinusoids.
    """
    from onnx import numpy_helper

    sources: dict[str, dict[str, Any]] = {}
    for initializer in model.graph.initializer:
        value = numpy_helper.to_array(initializer)
        if value.size < MIN_VALUES or value.dtype not in (np.float32, np.float64):
            continue
        found = find_tensor(value, tensors) or find_sinusoids(value)
        if found is not None:
            sources[initializer.name] = found
    return sources


def find_tensor(value: np.ndarray, tensors: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Return the tensor that has these values, with the order of its axes, or None."""
    for name, tensor in tensors.items():
        if tensor.size != value.size or tensor.dtype.kind != "f":
            continue
        same = tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        for axes in itertools.permutations(range(tensor.ndim)):
            if np.array_equal(same.transpose(axes).reshape(value.shape), value):
                return {"tensor": name, "axes": list(axes), "shape": list(value.shape)}
    return None


def find_sinusoids(value: np.ndarray) -> dict[str, Any] | None:
    """Return the arguments of the sinusoids that have these values, to rounding, or None."""
    if value.ndim != 2 or value.shape[1] % 2 or value.shape[1] < 4 or value.dtype != np.float32:
        return None
    frames, rates = len(value), _position_rates(value.shape[1] // 2)
    is_same = np.allclose(position_sinusoids(frames, rates), value, rtol=0, atol=2e-7)
    return {"frames": frames, "rates": rates} if is_same else None


def _position_rates(count: int) -> list[float]:
    """Return the rates of Whisper's sinusoids, as ``layers.whisper_encoder`` rounds them."""
    from serein.layers.whisper_encoder import MAX_TIMESCALE

    step = torch.log(torch.tensor(float(MAX_TIMESCALE))) / (count - 1)
    rates: list[float] = torch.exp(-step * torch.arange(count)).tolist()
    return rates


def _reduce_precision(
    content: bytes, tensors: Mapping[str, np.ndarray], precision: ExportPrecision
) -> bytes:
    """Return an exported model with weights in fp16, or with matrix products in int8.

    What is not a weight of the bundle, such as the tables of Fourier transforms, stays as it is.
    """
    import onnx

    model = onnx.load_from_string(content)
    (entry,) = (own for own in model.metadata_props if own.key == "serein")
    document = json.loads(entry.value) | {"precision": precision}
    sources = find_sources(model, tensors)
    if precision == "int8":
        model = _quantize(model, sources)
    _store_in_half(model, {name for name, source in sources.items() if "tensor" in source})
    del model.metadata_props[:]
    model.metadata_props.add(key="serein", value=json.dumps(document))
    reduced: bytes = model.SerializeToString()
    return reduced


def _store_in_half(model: Any, names: set[str]) -> None:
    """Store weights in fp16 that are in fp32; a node casts each one, once, when it is loaded."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for initializer in model.graph.initializer:
        if initializer.name not in names or initializer.data_type != TensorProto.FLOAT:
            continue
        value = numpy_helper.to_array(initializer)
        if not np.abs(value).max() <= np.finfo(np.float16).max:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}.stored"))
        casts.append(helper.make_node("Cast", [f"{name}.stored"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _quantize(model: Any, sources: Mapping[str, Any]) -> Any:
    """Return a model whose products with large matrices of weights are computed in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = {
        own.name
        for own in model.graph.initializer
        if own.name in sources and len(own.dims) == 2 and np.prod(own.dims) >= MIN_QUANTIZED_VALUES
    }
    operations = {name: node.op_type for node in model.graph.node for name in node.output}
    nodes = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm")
        and node.input[1] in large
        and operations.get(node.input[0]) not in ACTIVATIONS
    ]
    if not nodes:
        raise ConfigError(
            "not exported: the model has no matrix product that is large enough for int8 to save "
            "time; use fp16 for a smaller file"
        )
    with TemporaryDirectory() as folder, _silence_exporter():
        quantized = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            model,
            quantized,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            # A Gemm becomes a MatMul of this name before it is quantized.
            nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(quantized)
