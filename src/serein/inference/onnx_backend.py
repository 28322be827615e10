"""Compute a model with onnxruntime, without torch.

An ONNX file of `serein export` holds the weights. The graph of a shipped model does not: its large
weights are those of the bundle beside it, converted to fp32, so that they are stored once. The
sinusoids of Whisper's positions are computed. A JSON document has:

- ``interface``: sampling rate, hop, longest window, and whatever else `ModelDescription` has and
  the document of a bundle has not;
- ``maps``: the stride of each attention map, by name;
- ``sha256``: digest of the bundle that the file was made of;
- ``initializers``: where the weights of a graph come from, by their names;
- ``precision``: of an exported file, "fp16" or "int8"; without it, fp32.

It is in the metadata of an exported file, under "serein", together with the document of the bundle,
and in the file ``.graph.json`` beside the graph of a shipped model.

B = windows, S = samples, K = classes of all tasks, concatenated.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serein.audio import Samples
from serein.config import build_config, rename_settings
from serein.errors import BundleError, SereinError
from serein.inference.backend import (
    BackendName,
    BackendPrecision,
    ModelDescription,
    Window,
    WindowPrediction,
    has_torch,
    require_torch,
)
from serein.inference.dimensions import DimensionSource
from serein.inference.onnx_session import not_exported, open_session, run_session
from serein.inference.windowing import Probabilities
from serein.inference.words import WindowAttention
from serein.model_file import (
    MALFORMED_DOCUMENT_ERRORS,
    ModelFile,
    check_format,
    parse_card,
    read_bytes,
    read_model_file,
)
from serein.records import Recipe

if TYPE_CHECKING:
    from serein.bundle import Bundle


class ONNXBackend:
    """A model that onnxruntime computes, on the CPU; each window on its own.

    Attributes:
        name: "onnx".
        is_exported: whether the file holds the weights, without a bundle beside it.
        description: of the model.
        strides: frames of a step of each attention map, by name.
        precision: "fp32", or that of an exported file: "fp16" or "int8".
        warnings: none.
    """

    name: BackendName = "onnx"
    precision: BackendPrecision

    def __init__(self, path: Path, threads: int | None = 1, content: bytes | None = None) -> None:
        """Open an exported model, or a bundle with its graph beside it.

        Args:
            path: of the ``.onnx`` or ``.safetensors`` file.
            threads: processor threads; None is one for each core.
            content: of the exported file, if it was read before.

        Raises:
            BundleError: a file is missing, corrupt, or of another model.
            BackendError: onnxruntime is missing, broken, or too old.
        """
        self._path, self._threads, self.warnings = path, threads, list[str]()
        self.is_exported = path.suffix == ".onnx"
        graph_path = path.with_suffix(".onnx")
        graph = read_bytes(graph_path) if content is None else content
        self._content = graph if self.is_exported else None
        file = None if self.is_exported else read_model_file(path)
        document = {} if file is None else _read_sidecar(path.with_suffix(".graph.json"))
        weights = {}
        if file is not None and document:
            check_digest(document, file, graph_path)
            weights = _collect_weights(document, file, graph_path)
        fold = self.is_exported
        self._session = open_session(graph, str(graph_path), threads, weights, fold=fold)
        self._output_names = [output.name for output in self._session.get_outputs()]
        try:
            if not document:
                document = json.loads(self._session.get_modelmeta().custom_metadata_map["serein"])
            if file is not None:
                check_digest(document, file, graph_path)
            model = document if file is None else file.document
            check_format(model, str(path))
            self._sha256 = str(document.get("sha256") or "")
            self.precision = document.get("precision", "fp32")
            self.strides = {str(name): int(stride) for name, stride in document["maps"].items()}
            self.description = _describe(model, document.get("interface"))
        except BundleError:
            raise
        except (SereinError, *MALFORMED_DOCUMENT_ERRORS) as error:
            raise not_exported(str(graph_path), error) from error
        missing = {*self.description.classes} - {*self._output_names}
        if missing:
            raise BundleError(
                f"{graph_path} does not fit its card: it has no output {sorted(missing)[0]}; "
                f"found {', '.join(self._output_names)}. Export the model again"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the file only: sessions cannot be pickled."""
        return ONNXBackend, (self._path, self._threads, self._content)

    def predict_batches(
        self,
        windows: Sequence[Samples],
        *,
        attention: bool,
        texts: Sequence[str | None] | None = None,
    ) -> list[WindowPrediction]:
        """Predict separate windows of recordings; see ``Backend``."""
        return [self._predict(wave_s, attention=attention) for wave_s in windows]

    def predict_windows(self, windows: Sequence[Window]) -> Probabilities:
        """Predict overlapping windows of streams; see ``Backend``."""
        rows = []
        for buffer, start, end in windows:
            outputs = self._predict(buffer[start:end], attention=False).outputs
            rows.append([p for task in self.description.classes for p in outputs[task]])
        return np.array(rows, np.float64)

    def _predict(self, wave_s: Samples, *, attention: bool) -> WindowPrediction:
        maps = self.strides if attention else {}
        names = [*self.description.classes, *(f"attention.{name}" for name in maps)]
        found = run_session(self._session, names, wave_s)
        outputs = {task: found[task][0].tolist() for task in self.description.classes}
        attentions = {
            name: WindowAttention(found[f"attention.{name}"][0], stride)
            for name, stride in maps.items()
        }
        return WindowPrediction(outputs, attentions)

    def limit_threads(self, count: int | None) -> AbstractContextManager[None]:
        """Return an empty context: the number of threads is fixed when the model is opened."""
        return nullcontext()

    def compute_digest(self) -> str:
        """Return the SHA-256 of the bundle that the model was made of."""
        if self._sha256:
            return self._sha256
        from serein.bundle import compute_bundle_digest

        return compute_bundle_digest(self.load_bundle())

    def load_bundle(self) -> "Bundle":
        """Return the model as a bundle of torch, which is loaded once."""
        return self._bundle

    @cached_property
    def _bundle(self) -> "Bundle":
        require_torch(f"the network of {self._path.name}")
        if self._content is None:
            from serein.bundle import load

            return load(self._path)
        from serein.inference.onnx_runtime import load_onnx

        return load_onnx(self._content, str(self._path))


def _read_sidecar(path: Path) -> dict[str, Any]:
    """Return the document beside the graph of a shipped model; empty if there is none.

    Raises:
        BundleError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        document: dict[str, Any] = json.loads(read_bytes(path))
        return {"initializers": {}, **document}
    except MALFORMED_DOCUMENT_ERRORS as error:
        raise not_exported(str(path), error) from error


def check_digest(document: Mapping[str, Any], file: ModelFile, path: Path) -> None:
    """Check that a graph was made of the bundle beside it.

    Raises:
        BundleError: it was made of another one.
    """
    expected = str(document.get("sha256"))
    if expected != file.sha256:
        raise BundleError(
            f"{path} does not fit the model beside it: it was made of the one with SHA-256 "
            f"{expected[:16]}, found {file.sha256[:16]}. Remove it, or export the model again"
        )


def _collect_weights(
    document: Mapping[str, Any], file: ModelFile, path: Path
) -> dict[str, np.ndarray]:
    """Return the weights of a graph by their names, from the bundle beside it.

    Raises:
        BundleError: the bundle lacks one.
    """
    try:
        return {
            name: load_weight(source, file) for name, source in document["initializers"].items()
        }
    except MALFORMED_DOCUMENT_ERRORS as error:
        raise not_exported(str(path), error) from error


def load_weight(source: Mapping[str, Any], file: ModelFile) -> np.ndarray:
    """Return a weight of a graph in fp32.

    Args:
        source: where it comes from.
        file: the bundle.
    """
    if "rates" in source:
        return position_sinusoids(**source)
    tensor = file.tensors[source["tensor"]]
    # Axes are moved in fp16: half as many bytes.
    moved = np.ascontiguousarray(tensor.transpose(source["axes"]).reshape(source["shape"]))
    return moved.astype(np.float32) if moved.dtype == np.float16 else moved


def position_sinusoids(frames: int, rates: Sequence[float]) -> np.ndarray:
    """Return sines and cosines of the position, all sines first: (frames, 2 x rates), fp32.

    Args:
        frames: number of positions.
        rates: radians from frame to frame.
    """
    angle_tc = np.outer(np.arange(frames, dtype=np.float32), np.asarray(rates, np.float32))
    return np.concatenate([np.sin(angle_tc), np.cos(angle_tc)], axis=1)


def _describe(model: Mapping[str, Any], interface: Any) -> ModelDescription:
    """Describe a model by its document and the interface of its graph."""
    recipe = build_config(Recipe, rename_settings(model["recipe"], warn=False), "recipe")
    card, confidence = parse_card(dict(model))
    classes = {str(task): tuple(names) for task, names in model["classes"].items()}
    if interface is None:  # a file of an earlier version
        if not has_torch():
            raise BundleError(
                f"{card.name or 'this model'} was exported by an earlier version, whose files need "
                "torch; export it again"
            )
        from serein.inference.onnx_runtime import describe_interface

        interface = describe_interface(recipe, classes)
    return ModelDescription(
        recipe=recipe,
        classes=classes,
        card=card,
        confidence=confidence,
        rate=int(interface["rate"]),
        hop=float(interface["hop"]),
        max_seconds=interface["max_seconds"],
        dimension_sources={
            name: build_config(DimensionSource, table, name)
            for name, table in interface["dimensions"].items()
        },
        weights=int(interface["weights"]),
        learns_shares=bool(interface["learns_shares"]),
        asr_hop=float(interface["hop"]),
    )
