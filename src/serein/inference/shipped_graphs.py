"""Make the ONNX graphs of the shipped models: `python -m serein.inference.shipped_graphs`.

Run this after a shipped model was trained anew. It removes from a bundle the encoder that another
shipped one has (``SHARED_ENCODERS``), so that the package holds it once. It writes, beside the
bundle of each model that can be exported, its graph without the weights that the bundle has, and
the document that says where they are (``onnx_backend``). It needs torch and the extra ``onnx``. The
graphs of silero-vad, for speech detection, are made of the weights of its package.
"""

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from serein import bundle as bundles
from serein.inference.model_loading import list_models
from serein.inference.onnx_export import export_graph, find_sources
from serein.inference.vad import BLOCK_SAMPLES, CONTEXT_SAMPLES, SILERO_FOLDER, STATE_SIZE
from serein.layers.whisper_encoder import ENCODER_PREFIX
from serein.model_file import read_model_file, share_weights
from serein.utils.files import write_bytes, write_text

SHARED_ENCODERS = {"serein-base-noncommercial": "serein-base"}
"""Shipped models whose encoder is in the file of another one."""
OPSET, IR_VERSION = 18, 9
"""Versions of ONNX of silero-vad's graphs, which onnxruntime reads since 1.15."""


def write_graph(path: Path) -> None:
    """Write the graph of a bundle beside it, without the weights that the bundle has.

    Raises:
        ConfigError: the model cannot be exported.
    """
    import onnx

    model = onnx.load_from_string(export_graph(bundles.load(path)))
    (entry,) = (own for own in model.metadata_props if own.key == "serein")
    document = json.loads(entry.value)
    model.metadata_props.remove(entry)
    file = read_model_file(path)
    sources = find_sources(model, file.tensors)
    for initializer in model.graph.initializer:
        if initializer.name in sources:
            for field in ("raw_data", "float_data", "double_data"):
                initializer.ClearField(field)
            initializer.data_location = onnx.TensorProto.EXTERNAL
            initializer.external_data.add(key="location", value="of the bundle")
    for node in model.graph.node:  # stack traces of the exporter
        del node.metadata_props[:]
        node.ClearField("doc_string")
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    kept = {key: document[key] for key in ("sha256", "maps", "interface")}
    write_bytes(path.with_suffix(".onnx"), model.SerializeToString())
    text = json.dumps({**kept, "initializers": sources}, indent=1, sort_keys=True)
    write_text(path.with_suffix(".graph.json"), f"{text}\n")


def write_silero_graphs(folder: Path) -> None:
    """Write the two graphs of silero-vad, with the weights of the package silero-vad.

    ``encoder.onnx`` encodes blocks with their context (N, S), each independently, to (N, D);
    ``recurrence.onnx`` maps sequences of them (L, T, D), and a state, to probabilities (L, T).
    """
    weights = _read_silero_weights()
    folder.mkdir(exist_ok=True)
    write_bytes(folder / "encoder.onnx", build_silero_encoder(weights))
    write_bytes(folder / "recurrence.onnx", build_silero_recurrence(weights))
    write_bytes(folder / "LICENSE", _find_licence("silero-vad").read_bytes())


def _read_silero_weights() -> dict[str, np.ndarray]:
    """Return the weights of the package silero-vad for 16 kHz."""
    import torch

    (package,) = find_spec("silero_vad").submodule_search_locations or [""]  # type: ignore[union-attr]
    with warnings.catch_warnings():  # torch deprecates this format
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(Path(package) / "data" / "silero_vad.jit"))  # type: ignore[no-untyped-call]
    prefix = "_model."
    return {
        name.removeprefix(prefix).replace(".reparam_conv", ""): weight.numpy()
        for name, weight in module.state_dict().items()
        if name.startswith(prefix)
    }


def _find_licence(package: str) -> Path:
    return next(Path(str(file.locate())) for file in files(package) or [] if file.name == "LICENSE")


def build_silero_encoder(weights: Mapping[str, np.ndarray]) -> bytes:
    """Return the spectrum and the convolutions of silero-vad as an ONNX file.

    Every convolution is a product of matrices over all blocks and positions (N, T', taps x D):
    with four positions or fewer in a block, that takes a quarter of the time of ONNX's Conv.
    """
    from onnx import helper

    bins = weights["encoder.0.weight"].shape[1]
    hop = weights["stft.forward_basis_buffer"].shape[2] // 2
    hops = (BLOCK_SAMPLES + 2 * CONTEXT_SAMPLES) // hop
    constants = {
        "padding": np.array([0, 0, 0, CONTEXT_SAMPLES]),
        "hops": np.array([-1, hops, hop]),
        "basis": weights["stft.forward_basis_buffer"][:, 0].T,
        "parts": np.array([bins, bins]),
    }
    nodes = [
        helper.make_node("Pad", ["wave", "padding"], ["padded_ns"], mode="reflect"),
        helper.make_node("Reshape", ["padded_ns", "hops"], ["hops_nth"]),
        *_cut_positions("hops_nth", "frames", range(2), hops - 1, 1, constants),
        helper.make_node("MatMul", ["frames", "basis"], ["spectrum"]),
        helper.make_node("Split", ["spectrum", "parts"], ["real", "imaginary"], axis=2),
        helper.make_node("Mul", ["real", "real"], ["real_square"]),
        helper.make_node("Mul", ["imaginary", "imaginary"], ["imaginary_square"]),
        helper.make_node("Add", ["real_square", "imaginary_square"], ["power"]),
        helper.make_node("Sqrt", ["power"], ["x_0"]),
    ]
    positions = hops - 1
    for number, stride in enumerate((1, 2, 2, 1)):
        weight_dck = weights[f"encoder.{number}.weight"]
        # Taps that cover only zeros before and after the positions are left out.
        taps = range(3) if positions > 2 else range(1, 1 + positions)
        positions = (positions - 1) // stride + 1
        weight_nd = np.concatenate([weight_dck[:, :, tap].T for tap in taps])
        constants |= {f"w_{number}": weight_nd, f"b_{number}": weights[f"encoder.{number}.bias"]}
        x, windows = f"x_{number}", f"windows_{number}"
        if len(taps) == 3:
            constants["edges"] = np.array([0, 1, 0, 0, 1, 0])
            nodes.append(helper.make_node("Pad", [x, "edges"], [f"padded_{number}"]))
            nodes += _cut_positions(f"padded_{number}", windows, taps, positions, stride, constants)
        else:
            constants[f"shape_{number}"] = np.array([-1, len(weight_nd)])
            nodes.append(helper.make_node("Reshape", [x, f"shape_{number}"], [windows]))
        nodes += [
            helper.make_node("MatMul", [windows, f"w_{number}"], [f"product_{number}"]),
            helper.make_node("Add", [f"product_{number}", f"b_{number}"], [f"y_{number}"]),
            helper.make_node("Relu", [f"y_{number}"], [f"x_{number + 1}"]),
        ]
    nodes[-1].output[0] = "encoded"
    return _build_graph(
        "silero_vad_encoder",
        nodes,
        {"wave": ("N", BLOCK_SAMPLES + CONTEXT_SAMPLES)},
        {"encoded": ("N", STATE_SIZE)},
        constants,
    )


def _cut_positions(
    x: str,
    windows: str,
    taps: Sequence[int],
    positions: int,
    stride: int,
    constants: dict[str, np.ndarray],
) -> list[Any]:
    """Return nodes that concatenate the taps at each position: (N, T, D) -> (N, T', taps x D).

    Args:
        x: name of the input.
        windows: name of the output.
        taps: their places after a position.
        positions: T'.
        stride: from position to position.
        constants: to which the places are added.
    """
    from onnx import helper

    nodes, parts = [], []
    constants |= {"axis": np.array([1]), f"stride_{stride}": np.array([stride])}
    for tap in taps:
        parts.append(f"{windows}_{tap}")
        ends = tap, tap + stride * (positions - 1) + 1
        constants |= {f"place_{place}": np.array([place]) for place in ends}
        inputs = [x, *(f"place_{place}" for place in ends), "axis", f"stride_{stride}"]
        nodes.append(helper.make_node("Slice", inputs, [parts[-1]]))
    return [*nodes, helper.make_node("Concat", parts, [windows], axis=2)]


def build_silero_recurrence(weights: Mapping[str, np.ndarray]) -> bytes:
    """Return the LSTM and the head of silero-vad as an ONNX file."""
    from onnx import helper

    def reorder(gates: np.ndarray) -> np.ndarray:
        i, f, g, o = np.split(gates, 4)  # torch's order of gates; ONNX has i, o, f, g
        return np.concatenate([i, o, f, g])[None]

    biases = [reorder(weights[f"decoder.rnn.bias_{name}"]) for name in ("ih", "hh")]
    constants = {
        "w": reorder(weights["decoder.rnn.weight_ih"]),
        "r": reorder(weights["decoder.rnn.weight_hh"]),
        "b": np.concatenate(biases, axis=1),
        "head": weights["decoder.decoder.2.weight"][0],
        "bias": weights["decoder.decoder.2.bias"],
        "direction": np.array([1]),
        "last": np.array([2]),
    }
    nodes = [
        helper.make_node("Transpose", ["encoded"], ["x_tld"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM",
            ["x_tld", "w", "r", "b", "", "h", "c"],
            ["y_t1ld", "next_h", "next_c"],
            hidden_size=STATE_SIZE,
        ),
        helper.make_node("Squeeze", ["y_t1ld", "direction"], ["y_tld"]),
        helper.make_node("Relu", ["y_tld"], ["positive_tld"]),
        helper.make_node("MatMul", ["positive_tld", "head"], ["score_tl1"]),
        helper.make_node("Add", ["score_tl1", "bias"], ["logit_tl1"]),
        helper.make_node("Squeeze", ["logit_tl1", "last"], ["logit_tl"]),
        helper.make_node("Transpose", ["logit_tl"], ["logit_lt"], perm=[1, 0]),
        helper.make_node("Sigmoid", ["logit_lt"], ["probability"]),
    ]
    state = (1, "L", STATE_SIZE)
    return _build_graph(
        "silero_vad_recurrence",
        nodes,
        {"encoded": ("L", "T", STATE_SIZE), "h": state, "c": state},
        {"probability": ("L", "T"), "next_h": state, "next_c": state},
        constants,
    )


def _build_graph(
    name: str,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[int | str, ...]],
    outputs: Mapping[str, tuple[int | str, ...]],
    constants: Mapping[str, np.ndarray],
) -> bytes:
    """Return an ONNX file of nodes; inputs and outputs are fp32, of these shapes."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def describe(values: Mapping[str, tuple[int | str, ...]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(key, TensorProto.FLOAT, shape)
            for key, shape in values.items()
        ]

    initializers = [numpy_helper.from_array(x, key) for key, x in constants.items()]
    graph = helper.make_graph(nodes, name, describe(inputs), describe(outputs), initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def main(names: Sequence[str]) -> None:
    """Write the graphs of the named shipped models and of silero-vad, or of all."""
    models = list_models()
    for name, path in models.items():
        if not names or name in names:
            if name in SHARED_ENCODERS:
                share_weights(path, models[SHARED_ENCODERS[name]], ENCODER_PREFIX)
            write_graph(path)
            sizes = (path.with_suffix(suffix).stat().st_size for suffix in (".onnx", ".graph.json"))
            print(name, *(f"{size / 1e6:.2f} MB" for size in sizes))
    if not names or "silero-vad" in names:
        write_silero_graphs(SILERO_FOLDER)


if __name__ == "__main__":
    main(sys.argv[1:])
