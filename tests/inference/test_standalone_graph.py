"""Models as one ONNX file with their weights, made without the package onnx."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from serein.bundle import Bundle, load
from serein.errors import BundleError, ConfigError, UnknownName
from serein.inference import onnx_export, standalone_graph
from serein.inference.model_loading import list_models
from serein.inference.onnx_backend import ONNXBackend, position_sinusoids
from serein.inference.onnx_export import to_onnx
from serein.inference.recognizer import Recognizer
from serein.inference.standalone_graph import (
    build_exported_file,
    build_standalone_graph,
    encode_field,
    iter_fields,
)
from serein.model_file import ModelFile

RATES = [1.0, 0.3, 0.01]
FRAMES = 700


def run_graph(content: bytes, wave_s: np.ndarray) -> dict[str, np.ndarray]:
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"wave": wave_s[None]}), strict=True))


def make_graph() -> bytes:
    """A graph that adds weights, and position sinusoids, which it lacks."""
    shapes = {"half": (3, 2), "single": (2,), "place": (FRAMES, 6)}
    initializers = [numpy_helper.from_array(np.array([2.0], np.float32), "small")]
    for name, shape in shapes.items():
        initializers.append(TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT))
        initializers[-1].data_location = TensorProto.EXTERNAL
        initializers[-1].external_data.add(key="location", value="of the bundle")
    nodes = [
        helper.make_node("MatMul", ["wave", "half"], ["product"]),
        helper.make_node("Add", ["product", "single"], ["sum"]),
        helper.make_node("Mul", ["sum", "small"], ["out"]),
        helper.make_node("Identity", ["place"], ["sinusoids"]),
    ]
    tensors = [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["N", 3])]
    shapes_out: dict[str, list[str | int | None]] = {"out": ["N", 2], "sinusoids": [FRAMES, 6]}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes_out.items()
    ]
    graph = helper.make_graph(nodes, "g", tensors, outputs, initializers)
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return bytes(model.SerializeToString())


def test_weights_are_put_into_the_graph() -> None:
    half = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float16)
    single = np.array([0.5, -1.5], np.float32)
    file = ModelFile(document={}, tensors={"h": half, "s": single}, sha256="")
    sources: dict[str, dict[str, Any]] = {
        "half": {"tensor": "h", "axes": [1, 0], "shape": [3, 2]},
        "single": {"tensor": "s", "axes": [0], "shape": [2]},
        "place": {"frames": FRAMES, "rates": RATES},
    }
    content = standalone_graph._insert_weights(make_graph(), sources, file)
    onnx.checker.check_model(onnx.load_from_string(content))
    stored = {one.name: one for one in onnx.load_from_string(content).graph.initializer}
    assert stored["half.stored"].data_type == TensorProto.FLOAT16
    assert stored["single"].data_type == TensorProto.FLOAT
    wave_s = np.array([1.0, 2.0, 3.0], np.float32)
    found = run_graph(content, wave_s)
    wanted = 2 * (wave_s @ half.T.astype(np.float32) + single)
    assert found["out"][0] == pytest.approx(wanted, abs=1e-6)
    assert np.abs(found["sinusoids"] - position_sinusoids(FRAMES, RATES)).max() < 1e-6


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "serein-light" else pytest.mark.slow)
        for name in list_models()
    ],
)
def test_shipped_models_have_the_same_outputs(name: str) -> None:
    path = list_models()[name]
    wave_s = np.random.default_rng(0).normal(0, 0.1, 20_001).astype(np.float32)
    found = run_graph(build_standalone_graph(path), wave_s)
    backend = ONNXBackend(path)
    wanted = backend.predict_batches([wave_s], attention=True)[0]
    for task, p_k in wanted.outputs.items():
        assert found[task][0] == pytest.approx(p_k, abs=1e-5)
    for own, attention in wanted.attention.items():
        assert np.abs(found[f"attention.{own}"][0] - attention.weight).max() < 1e-5


def test_exported_file_is_taken_as_it_is(tmp_path: Path) -> None:
    exported = tmp_path / "model.onnx"
    exported.write_bytes(b"content")
    assert build_standalone_graph(exported) == b"content"


def test_shipped_models_are_exported_without_the_exporter(tmp_path: Path) -> None:
    path = list_models()["serein-light"]
    exported = tmp_path / "light.onnx"
    assert build_exported_file(tmp_path / "other.safetensors") is None
    assert build_exported_file(exported) is None
    exported.write_bytes(build_exported_file(path) or b"")
    shipped, backend = ONNXBackend(path), ONNXBackend(exported)
    assert backend.description == shipped.description
    assert backend.compute_digest() == shipped.compute_digest()
    wave_s = np.random.default_rng(0).normal(0, 0.1, 20_001).astype(np.float32)
    (ours,), (theirs,) = (
        one.predict_batches([wave_s], attention=True) for one in (shipped, backend)
    )
    assert theirs.outputs == ours.outputs
    assert np.array_equal(theirs.attention["heads"].weight, ours.attention["heads"].weight)


@pytest.fixture(scope="module")
def light() -> tuple[Bundle, bytes]:
    path = list_models()["serein-light"]
    return load(path), build_exported_file(path) or b""


def test_half_precision_and_integers(light: tuple[Bundle, bytes], tmp_path: Path) -> None:
    model, exported = light
    wave_s = np.random.default_rng(1).normal(0, 0.1, 30_001).astype(np.float32)
    limits = {"fp32": 1e-5, "fp16": 1e-3, "int8": 0.02}
    wanted = None
    sizes = []
    for precision, limit in limits.items():
        file = tmp_path / f"{precision}.onnx"
        difference = to_onnx(model, file, precision, exported=exported)  # type: ignore[arg-type]
        assert difference < limit
        backend = ONNXBackend(file)
        assert (backend.precision, backend.name) == (precision, "onnx")
        assert backend.description.card == model.card
        found = backend.predict_batches([wave_s], attention=False)[0].outputs
        wanted = wanted or found
        for task, p_k in wanted.items():
            assert found[task] == pytest.approx(p_k, abs=limit)
            assert sum(found[task]) == pytest.approx(1, abs=1e-4)
        sizes.append(file.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    types = {one.data_type for one in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert {TensorProto.INT8, TensorProto.FLOAT16, TensorProto.FLOAT} <= types
    recognizer = Recognizer(tmp_path / "int8.onnx")
    assert (recognizer.precision, recognizer.warnings) == ("int8", [])


def test_precisions_that_are_refused(
    light: tuple[Bundle, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, exported = light
    file = tmp_path / "x.onnx"
    with pytest.raises(UnknownName, match="unknown precision 'int4'; did you mean 'int8'"):
        to_onnx(model, file, "int4", exported=exported)  # type: ignore[arg-type]
    monkeypatch.setattr(onnx_export, "MIN_QUANTIZED_VALUES", 10_000_000)
    with pytest.raises(ConfigError, match="no matrix product that is large enough for int8"):
        to_onnx(model, file, "int8", exported=exported)
    monkeypatch.setattr(onnx_export, "TOLERANCES", {"fp16": 0.0})
    with pytest.raises(ConfigError, match=r"differ by .* own\. At most 0 is expected of fp16"):
        to_onnx(model, file, "fp16", exported=exported)
    assert not file.exists()


def test_damaged_graph_and_sidecar(tmp_path: Path) -> None:
    source = list_models()["serein-light"]
    for suffix in (".safetensors", ".onnx", ".graph.json"):
        shutil.copy(source.with_suffix(suffix), tmp_path)
    path = tmp_path / source.name
    graph = path.with_suffix(".onnx")
    graph.write_bytes(graph.read_bytes()[:-7])
    with pytest.raises(BundleError, match="export the model again"):
        build_standalone_graph(path)
    shutil.copy(source.with_suffix(".onnx"), graph)
    sidecar = path.with_suffix(".graph.json")
    document = json.loads(sidecar.read_text())
    next(iter(document["initializers"].values()))["tensor"] = "none"
    sidecar.write_text(json.dumps(document))
    for build in (build_standalone_graph, build_exported_file):
        with pytest.raises(BundleError, match="export the model again"):
            build(path)
    sidecar.write_text(json.dumps({**document, "sha256": "0" * 64}))
    with pytest.raises(BundleError, match=r"serein-light\.onnx does not fit the model beside it"):
        build_exported_file(path)
    sidecar.unlink()
    with pytest.raises(BundleError, match=r"without serein-light\.graph\.json"):
        build_standalone_graph(path)


def test_bundle_without_graph_needs_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(list_models()["serein-light"], tmp_path))
    monkeypatch.setattr(standalone_graph, "has_torch", lambda: False)
    with pytest.raises(ConfigError, match="has no ONNX form beside it, and making one needs torch"):
        build_standalone_graph(path)


def test_fields_of_a_message() -> None:
    message = encode_field(1, 300) + encode_field(2, b"x" * 200) + bytes([3 << 3 | 5, 1, 2, 3, 4])
    found = [(one.number, one.value) for one in iter_fields(message)]
    assert found == [(1, 300), (2, b"x" * 200), (3, bytes([1, 2, 3, 4]))]
    assert b"".join(one.encoded for one in iter_fields(message)) == message
    with pytest.raises(IndexError):
        list(iter_fields(message[:-1]))
    with pytest.raises(ValueError, match="wire type 3"):
        list(iter_fields(bytes([1 << 3 | 3])))
