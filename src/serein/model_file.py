"""The file of a saved model, read without torch: document, card, calibration and weights.

``serein.bundle`` describes the file, builds the network of it, and writes it.

Two models with the same frozen encoder can store it once: the file of one of them has an entry
"shared" in its metadata, which names the file beside it that has these weights, and their SHA-256.
The document and the digest of the model are the same as those of a file with all weights.
"""

import hashlib
import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le

from serein.config import build_config
from serein.errors import BundleError
from serein.utils.files import replace_atomically, write_bytes

FORMAT_VERSION = 5
"""The newest format that this version reads. Format 4 had no speech recogniser, 3 had other names
of settings and fields, 2 had no vocabulary, 1 had no confidence."""
RENAMED_CARD_FIELDS = {
    "counts": "class_counts",
    "heard": "file_hashes",
    "samples": "audio_hashes",
}
"""Fields of a card in formats 1 to 3, and their current names."""

SHIPPED_FOLDER = Path(__file__).parent / "pretrained"
"""Where shared weights are looked for if the file that has them is not beside a model."""

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


class SharedWeights(NamedTuple):
    """Weights of a model that are in the file of another one.

    Attributes:
        path: of that file.
        arrays: the weights, by name.
        sha256: their digest when the model was saved.
    """

    path: Path
    arrays: dict[str, np.ndarray]
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
        shared = read_shared_weights(path, metadata)
    except (SafetensorError, struct.error, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_a_model(path, error) from error
    check_format(document, str(path))
    if "asr" in metadata:
        raise BundleError(f"{path} holds a speech recogniser, which needs torch")
    if shared is not None:
        tensors |= shared.arrays
    digest = compute_digest(text, tensors)
    if metadata.get("sha256") != digest:
        raise was_changed(path, shared)
    return ModelFile(document, tensors, digest)


def read_shared_weights(path: Path, metadata: Mapping[str, str]) -> SharedWeights | None:
    """Read the weights of a model that are in the file of another one.

    Args:
        path: of the model.
        metadata: of its file.

    Returns:
        The weights, whose digest was not compared; None if the file has all weights in itself.

    Raises:
        BundleError: the other file is missing, or does not have these weights.
        ValueError: or another of ``MALFORMED_DOCUMENT_ERRORS``, if the entry is damaged.
    """
    from safetensors import SafetensorError

    if "shared" not in metadata:
        return None
    entry = json.loads(metadata["shared"])
    file, sha256 = str(entry["file"]), str(entry["sha256"])
    names = [str(name) for name in entry["names"]]
    if PurePath(file).name != file:
        raise ValueError(f"shared weights in {file!r}; expected the name of a file")
    folders = dict.fromkeys((path.parent.resolve(), SHIPPED_FOLDER.resolve()))
    found = [folder / file for folder in folders if (folder / file).is_file()]
    if not found:
        raise BundleError(
            f"{path} takes {len(names)} weights from {file}, which is not beside it; copy that "
            "file, too, or make a copy with all weights by `serein push MODEL ORG/NAME -o FOLDER`"
        )
    # The digest tells whether a file is the one that is meant, wherever it is.
    for candidate in found[:-1]:
        with suppress(SafetensorError, OSError):
            shared = SharedWeights(candidate, _read_arrays(candidate, names), sha256)
            if not is_changed(shared):
                return shared
    try:
        return SharedWeights(found[-1], _read_arrays(found[-1], names), sha256)
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{path} takes {len(names)} weights from {found[-1]}, which does not have them "
            f"({error}); copy both files again"
        ) from error


def _read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, "np") as opened:
        return {name: opened.get_tensor(name) for name in names}


def copy_model_file(path: Path, target: Path) -> None:
    """Copy the file of a saved model; the copy has all weights in itself.

    Raises:
        BundleError: the file, or another one with weights of the model, is missing or damaged.
        StorageError: the copy could not be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize
    from safetensors.numpy import save as serialize

    content = read_bytes(path)
    try:
        metadata = read_metadata(content)
        shared = read_shared_weights(path, metadata)
        if shared is None:
            with replace_atomically(target) as temporary:
                shutil.copyfile(path, temporary)
            return
        tensors = deserialize(content) | shared.arrays
    except (SafetensorError, struct.error, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_a_model(path, error) from error
    if is_changed(shared):
        raise was_changed(path, shared)
    del metadata["shared"]
    write_bytes(target, serialize(tensors, metadata))


def share_weights(path: Path, other: Path, prefix: str) -> int:
    """Write the file of a model again, without the weights that another file in its folder has.

    Args:
        path: of the model.
        other: file that keeps the weights.
        prefix: beginning of the names of weights that may be left out.

    Returns:
        How many weights were left out.

    Raises:
        BundleError: one of the files is missing or damaged.
        StorageError: the file could not be written.
    """
    from safetensors.numpy import save as serialize

    tensors, metadata = read_model_file(path).tensors, read_metadata(read_bytes(path))
    theirs = read_model_file(other).tensors
    same = {
        name: theirs[name]
        for name, x in tensors.items()
        if name.startswith(prefix) and name in theirs and _is_same(x, theirs[name])
    }
    metadata.pop("shared", None)
    if same:
        digest = compute_digest("", same)
        entry = {"file": other.name, "sha256": digest, "names": sorted(same)}
        metadata["shared"] = json.dumps(entry)
    own = {name: x for name, x in tensors.items() if name not in same}
    write_bytes(path, serialize(own, metadata))
    return len(same)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays have the same type, shape and bytes."""
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def is_changed(shared: SharedWeights) -> bool:
    """Return whether shared weights are others than when the model was saved."""
    return compute_digest("", shared.arrays) != shared.sha256


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


def was_changed(path: Path, shared: SharedWeights | None = None) -> BundleError:
    """Return the error of a file whose digest differs, or of the one that has its weights."""
    if shared is not None and is_changed(shared):
        return BundleError(
            f"{path} takes weights from {shared.path}, which has others than when the model was "
            "saved: their SHA-256 differs; copy both files again"
        )
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
