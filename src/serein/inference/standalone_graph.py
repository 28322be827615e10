"""Write a model as one ONNX file with its weights, without torch and without the package onnx.

The graph of a shipped model has no weights of its own (``onnx_backend``). Here they are put into
the file, each in the precision of the bundle: a weight of fp16 is followed by a node that casts it
to fp32, so that the outputs are those of the bundle at half the size. Whisper's sinusoids are
computed by nodes from their rates. onnxruntime evaluates such nodes once, when it opens the file.

An ONNX file is a message of Protocol Buffers (onnx.proto, ONNX 1.15): a sequence of fields, each
a number and a value; ``FIELDS`` has the numbers that are used here.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from serein.errors import BundleError, ConfigError
from serein.inference.backend import has_torch
from serein.inference.onnx_backend import check_digest, load_weight
from serein.inference.onnx_session import not_exported
from serein.model_file import MALFORMED_DOCUMENT_ERRORS, ModelFile, read_bytes, read_model_file

FIELDS = SimpleNamespace(
    model=SimpleNamespace(graph=7, metadata=14),
    graph=SimpleNamespace(node=1, initializer=5),
    node=SimpleNamespace(input=1, output=2, operation=4, attribute=5),
    attribute=SimpleNamespace(name=1, integer=3, type=20),
    tensor=SimpleNamespace(dims=1, type=2, name=8, content=9, place=14),
    entry=SimpleNamespace(key=1, value=2),
)
"""Numbers of the fields of each message."""
TENSOR_TYPES = {np.dtype(np.float32): 1, np.dtype(np.float16): 10}
EXTERNAL = 1
"""Place of the values of a tensor that the graph does not hold."""
INTEGER_ATTRIBUTE = 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types: how the value of a field is encoded."""


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: of the field.
        value: an integer, or the bytes of a text, of a tensor or of another message.
        encoded: the whole field as it is in the file.
    """

    number: int
    value: int | bytes
    encoded: bytes


def build_standalone_graph(path: Path) -> bytes:
    """Return a model as one ONNX file with its weights.

    Args:
        path: an exported model, or a bundle. A bundle without a graph beside it is exported,
            which needs torch.

    Raises:
        BundleError: a file is missing, corrupt, or of another model.
        ConfigError: the model cannot be exported, or a package for that is missing.
    """
    sidecar = path.with_suffix(".graph.json")
    if path.suffix == ".onnx":
        return read_bytes(path)
    if not sidecar.is_file():
        return _export(path)
    graph = path.with_suffix(".onnx")
    try:
        document, file = json.loads(read_bytes(sidecar)), read_model_file(path)
        check_digest(document, file, graph)
        return _insert_weights(read_bytes(graph), document["initializers"], file)
    except (IndexError, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_exported(str(graph), error) from error


def build_exported_file(path: Path) -> bytes | None:
    """Return a shipped model as `serein export` writes it in fp32, without torch and its exporter.

    Args:
        path: a bundle.

    Returns:
        The graph with all weights in fp32 and the metadata of an exported file; None if there is no
        graph beside the bundle.

    Raises:
        BundleError: a file is corrupt, or the graph is of another model.
    """
    sidecar, graph = path.with_suffix(".graph.json"), path.with_suffix(".onnx")
    if path.suffix == ".onnx" or not sidecar.is_file():
        return None
    try:
        document = json.loads(read_bytes(sidecar))
        file = read_model_file(path)
        check_digest(document, file, graph)
        content = _insert_weights(read_bytes(graph), document.pop("initializers"), file, half=False)
    except (IndexError, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_exported(str(graph), error) from error
    own, text = FIELDS.entry, json.dumps({**file.document, **document})
    entry = encode_field(own.key, b"serein") + encode_field(own.value, text.encode())
    return content + encode_field(FIELDS.model.metadata, entry)


def _export(path: Path) -> bytes:
    """Export a bundle with torch.

    Raises:
        ConfigError: the model cannot be exported, or torch is not installed.
    """
    if path.with_suffix(".onnx").is_file():
        raise BundleError(
            f"{path.with_suffix('.onnx')} lies beside {path.name} without "
            f"{path.with_suffix('.graph.json').name}; give the .onnx file itself as the model"
        )
    if not has_torch():
        raise ConfigError(
            f"{path.name} has no ONNX form beside it, and making one needs torch: export it where "
            "it was trained (serein export), and give the .onnx file as the model"
        )
    from serein.bundle import load
    from serein.inference.onnx_export import to_onnx

    with TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        to_onnx(load(path), exported)
        return exported.read_bytes()


def _insert_weights(
    content: bytes, sources: Mapping[str, Mapping[str, Any]], file: ModelFile, *, half: bool = True
) -> bytes:
    """Return a graph with the weights that it lacks.

    Args:
        content: the ONNX file.
        sources: where the weights come from, by name (``onnx_backend``).
        file: the bundle.
        half: whether weights that the bundle has in fp16 stay in fp16, and sinusoids are computed.
    """
    parts = []
    for field in iter_fields(content):
        if field.number == FIELDS.model.graph and isinstance(field.value, bytes):
            graph = _insert_into_graph(field.value, sources, file, half=half)
            parts.append(encode_field(FIELDS.model.graph, graph))
        else:
            parts.append(field.encoded)
    return b"".join(parts)


def _insert_into_graph(
    graph: bytes, sources: Mapping[str, Mapping[str, Any]], file: ModelFile, *, half: bool
) -> bytes:
    """Return a graph message; the nodes that compute weights come before all others."""
    nodes, others = [], []
    for field in iter_fields(graph):
        name = _find_external_name(field)
        if not name:
            others.append(field.encoded)
        elif not half:
            weight = load_weight(sources[name], file)
            others.append(encode_tensor(name, np.ascontiguousarray(weight, np.float32)))
        elif "rates" in sources[name]:
            tensors, made = _build_sinusoids(name, **sources[name])
            nodes += made
            others += tensors
        else:
            tensor, made = _build_weight(name, _take_weight(file, sources[name]))
            nodes += made
            others.append(tensor)
    return b"".join([*nodes, *others])


def _find_external_name(field: Field) -> str:
    """Return the name of a weight that the graph does not hold; empty for all other fields."""
    if field.number != FIELDS.graph.initializer or not isinstance(field.value, bytes):
        return ""
    values = {own.number: own.value for own in iter_fields(field.value)}
    name = values.get(FIELDS.tensor.name)
    is_external = values.get(FIELDS.tensor.place) == EXTERNAL and isinstance(name, bytes)
    return name.decode() if is_external and isinstance(name, bytes) else ""


def _take_weight(file: ModelFile, source: Mapping[str, Any]) -> np.ndarray:
    moved = file.tensors[source["tensor"]].transpose(source["axes"]).reshape(source["shape"])
    return np.ascontiguousarray(moved)


def _build_weight(name: str, value: np.ndarray) -> tuple[bytes, list[bytes]]:
    """Return a weight in fp32 or fp16, and the node that casts it to fp32 if it needs one."""
    if value.dtype == np.float32:
        return encode_tensor(name, value), []
    stored = f"{name}.stored"
    node = encode_node("Cast", [stored], name, "to", TENSOR_TYPES[np.dtype(np.float32)])
    return encode_tensor(stored, value.astype(np.float16)), [node]


def _build_sinusoids(name: str, frames: int, rates: list[float]) -> tuple[list[bytes], list[bytes]]:
    """Return tensors and nodes that compute ``onnx_backend.position_sinusoids``."""
    position, rate, angle = (f"{name}.{part}" for part in ("position", "rate", "angle"))
    tensors = [
        encode_tensor(position, np.arange(frames, dtype=np.float32)[:, None]),
        encode_tensor(rate, np.asarray(rates, np.float32)[None]),
    ]
    nodes = [
        encode_node("Mul", [position, rate], angle),
        encode_node("Sin", [angle], f"{name}.sine"),
        encode_node("Cos", [angle], f"{name}.cosine"),
        encode_node("Concat", [f"{name}.sine", f"{name}.cosine"], name, "axis", 1),
    ]
    return tensors, nodes


def encode_tensor(name: str, value: np.ndarray) -> bytes:
    """Encode a tensor of fp32 or fp16 as an initializer of a graph."""
    own = FIELDS.tensor
    little_endian = value.astype(value.dtype.newbyteorder("<"), copy=False)
    message = b"".join(
        [
            *(encode_field(own.dims, size) for size in value.shape),
            encode_field(own.type, TENSOR_TYPES[value.dtype]),
            encode_field(own.name, name.encode()),
            encode_field(own.content, little_endian.tobytes()),
        ]
    )
    return encode_field(FIELDS.graph.initializer, message)


def encode_node(
    operation: str, inputs: list[str], output: str, attribute: str = "", number: int = 0
) -> bytes:
    """Encode a node of a graph with at most one attribute, an integer."""
    own = FIELDS.node
    parts = [encode_field(own.input, name.encode()) for name in inputs]
    parts.append(encode_field(own.output, output.encode()))
    parts.append(encode_field(own.operation, operation.encode()))
    if attribute:
        message = [
            encode_field(FIELDS.attribute.name, attribute.encode()),
            encode_field(FIELDS.attribute.integer, number),
            encode_field(FIELDS.attribute.type, INTEGER_ATTRIBUTE),
        ]
        parts.append(encode_field(own.attribute, b"".join(message)))
    return encode_field(FIELDS.graph.node, b"".join(parts))


def encode_field(number: int, value: int | bytes) -> bytes:
    """Encode a field of a message."""
    if isinstance(value, int):
        return _encode_varint(number << 3 | VARINT) + _encode_varint(value)
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(value)) + value


def iter_fields(message: bytes) -> Iterator[Field]:
    """Yield the fields of a message in their order.

    Raises:
        IndexError: the message is truncated.
        ValueError: it is no message.
    """
    position = 0
    while position < len(message):
        start = position
        key, position = _decode_varint(message, position)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if wire_type == VARINT:
            value, position = _decode_varint(message, position)
        elif wire_type in (FIXED32, FIXED64, BYTES):
            size = {FIXED32: 4, FIXED64: 8}.get(wire_type, 0)
            if wire_type == BYTES:
                size, position = _decode_varint(message, position)
            if position + size > len(message):
                raise IndexError(f"a field of {size} bytes at {position} of {len(message)}")
            value, position = message[position : position + size], position + size
        else:
            raise ValueError(f"wire type {wire_type} at byte {start}")
        yield Field(number, value, message[start:position])


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _decode_varint(message: bytes, position: int) -> tuple[int, int]:
    """Return an integer and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
