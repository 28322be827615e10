"""The file of a saved model, read without torch: document, card, calibration and weights.

``serein.bundle`` describes the file, builds the network of it, and writes it.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le

from serein.config import build_config
from serein.errors import BundleError

FORMAT_VERSION = 5
"""The newest format that this version reads. Format 4 had no speech recogniser, 3 had other names
of settings and fields, 2 had no vocabulary, 1 had no confidence."""
RENAMED_CARD_FIELDS = {
    "counts": "class_counts",
    "heard": "file_hashes",
    "samples": "audio_hashes",
}
"""Fields of a card in formats 1 to 3, and their current names."""

MALFORMED_DOCUMENT_ERRORS = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Exceptions that Python raises when a document does not have the expected structure."""


@dataclass(frozen=True)
class Card:
    """The model card: what a user must know about a model.

    Attributes:
        name: name of the model.
        data: corpora of the training, with their licences.
        licence: licence of the weights.
        scores: scores with protocol and selection, as text.
        limits: what the model cannot do.
        use: intended use, and uses that are not allowed.
        training: command, versions, seed, epochs.
        class_counts: number of training utterances of each class, or value, of each task.
        file_hashes: hashes of the training recordings.
        audio_hashes: hashes of their decoded audio, which do not depend on the file format.
        speakers: speakers of the training recordings, as ``CORPUS/NAME``.
        fingerprints: of the training recordings, which altered copies share, as text of
            ``protocols.pack_card``; empty if the model was saved without.
    """

    name: str = ""
    data: str = ""
    licence: str = ""
    scores: str = ""
    limits: str = ""
    use: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    class_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    file_hashes: tuple[str, ...] = ()
    audio_hashes: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    fingerprints: str = ""


@dataclass(frozen=True)
class ConfidenceCalibration:
    """Calibration of a task's probabilities, fitted on speakers outside the training.

    Attributes:
        temperature: divisor of the logits.
        threshold: predictions of lower confidence may be rejected; 0 rejects none.
        description: of how both were fitted.
    """

    temperature: Annotated[float, Gt(0)] = 1.0
    threshold: Annotated[float, Ge(0), Le(1)] = 0.0
    description: str = ""


class ModelFile(NamedTuple):
    """The content of a file whose digest was checked.

    Attributes:
        document: recipe, classes, calibration and card.
        tensors: weights by name, in the precision of the file.
        sha256: digest of both.
    """

    document: dict[str, Any]
    tensors: dict[str, np.ndarray]
    sha256: str


def read_model_file(path: Path) -> ModelFile:
    """Read a saved model without a speech recogniser, and check its digest and format.

    Raises:
        BundleError: the file is missing, damaged, changed, or too new, or has a recogniser.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    content = read_bytes(path)
    try:
        metadata = read_metadata(content)
        text = metadata["serein"]
        document = json.loads(text)
        tensors = deserialize(content)
    except (SafetensorError, struct.error, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_a_model(path, error) from error
    check_format(document, str(path))
    if "asr" in metadata:
        raise BundleError(f"{path} holds a speech recogniser, which needs torch")
    digest = compute_digest(text, tensors)
    if metadata.get("sha256") != digest:
        raise was_changed(path)
    return ModelFile(document, tensors, digest)


def read_bytes(path: Path) -> bytes:
    """Return the content of a model's file.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {path}: {error.strerror}") from error


def read_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file."""
    size = struct.unpack("<Q", content[:8])[0]
    metadata: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return metadata


def not_a_model(path: Path, error: Exception) -> BundleError:
    """Return the error of a file that cannot be read as a model."""
    return BundleError(
        f"{path} is not a serein model, or is cut short ({type(error).__name__}); "
        "a model is a .safetensors file that `serein train` wrote"
    )


def was_changed(path: Path) -> BundleError:
    """Return the error of a file whose digest differs."""
    return BundleError(f"{path} was changed after it was saved: its SHA-256 differs")


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON document of a bundle without its weights, and without checking them.

    Raises:
        BundleError: the file is missing, or is no bundle.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            document: dict[str, Any] = json.loads(file.metadata()["serein"])
    except (SafetensorError, OSError, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise BundleError(f"{path} is not a serein model ({type(error).__name__})") from error
    return document


def compute_digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of a document and of weights."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        # As torch writes a type: the digests of existing files stay valid.
        digest.update(f"{name} torch.{array.dtype} {list(arrays[name].shape)}".encode())
        digest.update(array.reshape(-1).data)
    return digest.hexdigest()


def parse_card(document: dict[str, Any]) -> tuple[Card, dict[str, ConfidenceCalibration]]:
    """Return the card of a bundle's document, and the calibration of each task."""
    confidence = {}
    for task, table in document.get("confidence", {}).items():
        table = {"description" if key == "words" else key: value for key, value in table.items()}
        confidence[task] = build_config(ConfidenceCalibration, table, task)
    card = {RENAMED_CARD_FIELDS.get(key, key): value for key, value in document["card"].items()}
    card["fingerprints"] = document.get("fingerprints", "")
    return build_config(Card, card, "card"), confidence


def check_format(document: Any, name: str) -> None:
    """Check that this version can read a document.

    Args:
        document: of a bundle.
        name: of its file.

    Raises:
        BundleError: the format is missing or newer.
    """
    version = document.get("format") if isinstance(document, dict) else None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            f"{name} has format {version}; this version of serein reads up to {FORMAT_VERSION}: "
            "upgrade serein, or save the model again with this version"
        )
