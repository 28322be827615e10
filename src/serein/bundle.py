"""A saved model (bundle): weights, recipe, classes, statistics and card in one file.

A bundle is a safetensors file; loading it runs no code. Its metadata has a JSON document under
"serein", and under "sha256" a SHA-256 of document and weights, which detects changed bytes.

A model that reads words may have the speech recogniser (ASR) that makes them: a bundle of its own,
with its document under "asr" and its weights under names that begin with "asr/". The document of
the model has the SHA-256 of both.

A front end with a pretrained encoder has the encoder's weights in the file, too, in half precision,
under names that begin with "encoder/"; or the file names another one that has them
(``model_file``). Files that are written here have all weights in themselves.
"""

import json
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from serein import registry
from serein.config import build_config, rename_settings
from serein.errors import BundleError, ConfigError, EncoderError, SereinError, SereinWarning
from serein.layers.whisper_encoder import ENCODER_PREFIX
from serein.model_file import (
    FORMAT_VERSION,
    MALFORMED_DOCUMENT_ERRORS,
    Card,
    ConfidenceCalibration,
    check_format,
    compute_digest,
    not_a_model,
    parse_card,
    read_bytes,
    read_document,
    read_metadata,
    read_shared_weights,
    was_changed,
)
from serein.records import Recipe
from serein.system import System
from serein.utils.device import init_empty_weights, resolve_device, restore_torch_state
from serein.utils.files import write_bytes

__all__ = [
    "MALFORMED_DOCUMENT_ERRORS",
    "Bundle",
    "Card",
    "ConfidenceCalibration",
    "bundle_to_json",
    "check_asr",
    "check_format",
    "compute_bundle_digest",
    "count_megabytes",
    "load",
    "parse_card",
    "read_document",
    "save",
]

FORMAT_WITHOUT_ASR = 4
"""The format of bundles without a speech recogniser, which earlier versions can read."""
ASR_PREFIX = "asr/"
"""The beginning of the names of a speech recogniser's weights."""


@dataclass(frozen=True)
class Bundle:
    """A trained system, its card, and the calibration of each task.

    Attributes:
        system: the trained system.
        card: the model card.
        confidence: the calibration of each task; empty if none was fitted.
        asr: the speech recogniser (ASR) that makes the words that the system reads; None if it
            reads none, or reads those that it is given.
    """

    system: System
    card: Card
    confidence: dict[str, ConfidenceCalibration] = field(default_factory=dict)
    asr: "Bundle | None" = None
    file_json: str | None = field(default=None, init=False, compare=False, repr=False)
    """JSON document of the file that the bundle was loaded from, possibly in an older format."""

    def __post_init__(self) -> None:
        """Set the temperatures of the system.

        Raises:
            ConfigError: the speech recogniser cannot make the words that the system reads.
        """
        if self.asr is not None:
            check_asr(self.asr, self.system.front_end.rate)
        self.system.temperatures = {
            task: calibration.temperature for task, calibration in self.confidence.items()
        }


def save(bundle: Bundle, path: Path) -> None:
    """Write a bundle atomically.

    Raises:
        StorageError: it could not be written; the previous content of the file is unchanged.
    """
    from safetensors.torch import save as serialize

    text, tensors = bundle_to_json(bundle), _state_tensors(bundle.system)
    metadata = {"serein": text, "sha256": _compute_digest(text, tensors)}
    if bundle.asr is not None:
        metadata["asr"] = _get_json(bundle.asr)
        asr_tensors = _state_tensors(bundle.asr.system)
        tensors |= {f"{ASR_PREFIX}{name}": x for name, x in asr_tensors.items()}
    write_bytes(path, serialize(tensors, metadata))


def bundle_to_json(bundle: Bundle) -> str:
    """Return everything of a bundle but its weights, as JSON.

    Of a speech recogniser it has the SHA-256 only.
    """
    system, recipe, asr = bundle.system, asdict(bundle.system.recipe), bundle.asr
    card = asdict(bundle.card)
    fingerprints = card.pop("fingerprints")  # outside the card, where earlier versions skip them
    for table in ("augment", "text"):  # left out if empty: the digests of older bundles stay valid
        if not recipe[table]:
            del recipe[table]
    modules = _get_module_hashes(bundle)
    document = {
        "format": FORMAT_WITHOUT_ASR if asr is None else FORMAT_VERSION,
        "recipe": recipe,
        "classes": system.classes,
        **({"words": system.words} if system.words else {}),
        "confidence": {task: asdict(table) for task, table in bundle.confidence.items()},
        "card": card,
        **({"fingerprints": fingerprints} if fingerprints else {}),
        **({"modules": modules} if modules else {}),
        **({} if asr is None else {"asr": {"sha256": compute_bundle_digest(asr)}}),
    }
    return json.dumps(document)  # keys are not sorted: the first task is the main task


def _get_module_hashes(bundle: Bundle) -> dict[str, str]:
    """Return the hash of each module of the user's own, as it was when the model was trained."""
    names = _list_own_modules(bundle.system.recipe)
    if not names or bundle.file_json is None:
        return {name: registry.hash_module(name) for name in names}
    hashes: dict[str, str] = json.loads(bundle.file_json).get("modules", {})
    return hashes


def compute_bundle_digest(bundle: Bundle) -> str:
    """Return the SHA-256 of weights and document that the file of a bundle has."""
    return _compute_digest(_get_json(bundle), _state_tensors(bundle.system))


def _get_json(bundle: Bundle) -> str:
    """Return the document of the file that a bundle was loaded from, or build it."""
    return bundle.file_json or bundle_to_json(bundle)


def count_megabytes(system: System) -> float:
    """Return the size of a system's weights in a file, in megabytes."""
    return sum(x.nbytes for x in _state_tensors(system).values()) / 1e6


def check_asr(asr: Bundle, rate: int) -> None:
    """Check that a model can make the words that another one reads.

    Args:
        asr: the speech recogniser.
        rate: sampling rate of the other one, in Hz.

    Raises:
        ConfigError: it does not recognise words, reads words itself, or has another rate.
    """
    system = asr.system
    name = f"{asr.card.name or 'the speech recogniser'} ({system.recipe.name})"
    if not system.has_transcript_loss or system.needs_words:
        raise ConfigError(
            f"{name} does not recognise words from audio alone; take a model that was trained to "
            "transcribe, such as one of feng2020-asr"
        )
    if system.front_end.rate != rate:
        raise ConfigError(
            f"{name} reads audio of {system.front_end.rate} Hz, and the system that reads its "
            f"words {rate} Hz; train both with the same features.rate"
        )


def copy_weights(system: System) -> dict[str, np.ndarray]:
    """Return the weights of a system by the names that they have in its file."""
    return {name: x.numpy() for name, x in _state_tensors(system).items()}


def _state_tensors(system: System) -> dict[str, Tensor]:
    """Return the weights of a system as a file holds them, on the CPU."""
    return {name: x.detach().cpu().contiguous() for name, x in _collect_weights(system).items()}


def _collect_weights(system: System) -> dict[str, Tensor]:
    """Return the weights of a system, those of its front end's pretrained encoder included."""
    getter = getattr(system.front_end, "get_encoder_weights", dict)
    encoder = {f"{ENCODER_PREFIX}{name}": x for name, x in getter().items()}
    return {**system.state_dict(), **encoder}


def load(path: Path, *, device: str = "cpu", trust: Sequence[str] = ()) -> Bundle:
    """Read a bundle.

    Args:
        path: of the file.
        device: of the weights: "cpu", "cuda", or "auto".
        trust: dotted names of your own modules that the bundle may import; it imports no others.

    Raises:
        BundleError: the bundle is missing, damaged, changed, or too new, or needs a module that is
            not trusted.
    """
    main, asr = _read_parts(path)
    try:
        with restore_torch_state():  # building a network draws weights, which are then replaced
            bundle = _build_bundle(main, trust, None if asr is None else _build_bundle(asr, trust))
        parts = [part for part in (bundle, bundle.asr) if part is not None]
        changed = sorted({name for part in parts for name in _list_changed_modules(part)})
    except (BundleError, EncoderError) as error:
        raise BundleError(f"{path}: {error}") from None
    except (SereinError, RuntimeError, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise BundleError(f"{path} does not fit this version of serein: {error}") from error
    if changed:
        warnings.warn(
            f"{path}: {', '.join(changed)} changed after the model was trained, and it answers by "
            "the new code; restore the old code, or train the model again",
            SereinWarning,
            stacklevel=2,
        )
    for part in parts:
        part.system.to(resolve_device(device)).eval()
    return bundle


def _list_changed_modules(bundle: Bundle) -> list[str]:
    """Return the user's own modules whose code differs from that of the training."""
    recorded = _get_module_hashes(bundle)  # files of earlier versions have none
    # Names that the recipe does not have are not trusted, and are not imported.
    own = [name for name in _list_own_modules(bundle.system.recipe) if name in recorded]
    return [name for name in own if registry.hash_module(name) != recorded[name]]


class _Part(NamedTuple):
    """A model in a file.

    Attributes:
        text: its JSON document.
        document: the same, parsed.
        tensors: its weights by name.
    """

    text: str
    document: dict[str, Any]
    tensors: dict[str, Tensor]


def _build_bundle(part: _Part, trust: Sequence[str], asr: Bundle | None = None) -> Bundle:
    """Build a bundle from its part of a file, on the CPU."""
    document = part.document
    tables = rename_settings(document["recipe"], warn=False)
    recipe = _disable_downloads(build_config(Recipe, tables, "recipe"))
    _check_trusted_names(recipe, trust)
    words = tuple(document.get("words", ()))
    with init_empty_weights():
        system = System(recipe, document["classes"], words, allow_custom=bool(trust))
    _check_shapes(system, part.tensors)
    system = System(recipe, document["classes"], words, allow_custom=bool(trust))
    _load_tensors(system, part.tensors)
    bundle = Bundle(system, *parse_card(document), asr)
    object.__setattr__(bundle, "file_json", part.text)
    return bundle


def _load_tensors(system: System, tensors: Mapping[str, Tensor]) -> None:
    """Load the weights of a system, and of its pretrained encoder."""
    encoder = {
        name.removeprefix(ENCODER_PREFIX): x
        for name, x in tensors.items()
        if name.startswith(ENCODER_PREFIX)
    }
    system.load_state_dict(
        {name: x for name, x in tensors.items() if not name.startswith(ENCODER_PREFIX)}
    )
    if encoder:
        front_end: Any = system.front_end
        front_end.load_encoder_weights(encoder)


def _read_parts(path: Path) -> tuple[_Part, _Part | None]:
    """Return the model of a file and its speech recogniser, after checking digests and formats."""
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialize

    content = read_bytes(path)
    try:
        metadata = read_metadata(content)
        text = metadata["serein"]
        document = json.loads(text)
        tensors = deserialize(content)
        shared = read_shared_weights(path, metadata)
        if shared is not None:
            tensors |= {name: torch.from_numpy(x) for name, x in shared.arrays.items()}
        asr = _take_asr(metadata, tensors)
    except (SafetensorError, struct.error, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_a_model(path, error) from error
    check_format(document, str(path))
    asr_digest = None
    if asr is not None:
        check_format(asr.document, f"the speech recogniser in {path}")
        asr_digest = {"sha256": _compute_digest(asr.text, asr.tensors)}
    is_intact = metadata.get("sha256") == _compute_digest(text, tensors)
    if not is_intact or document.get("asr") != asr_digest:
        raise was_changed(path, shared)
    return _Part(text, document, tensors), asr


def _take_asr(metadata: Mapping[str, Any], tensors: dict[str, Tensor]) -> _Part | None:
    """Take the weights of a speech recogniser out of those of a file; None if it has none."""
    if "asr" not in metadata:
        return None
    names = [name for name in tensors if name.startswith(ASR_PREFIX)]
    weights = {name.removeprefix(ASR_PREFIX): tensors.pop(name) for name in names}
    return _Part(metadata["asr"], json.loads(metadata["asr"]), weights)


def _compute_digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    return compute_digest(text, {name: x.contiguous().numpy() for name, x in tensors.items()})


def _disable_downloads(recipe: Recipe) -> Recipe:
    """Change a bundle's recipe so that loading it downloads nothing."""
    features, model = (
        {**table, "download": False} if "download" in table else table
        for table in (recipe.features, recipe.model)
    )
    return replace(recipe, features=features, model=model)


def _check_trusted_names(recipe: Recipe, trust: Sequence[str]) -> None:
    """Check that a bundle needs no modules but those of serein and trusted ones of the user."""
    untrusted = [name for name in _list_own_modules(recipe) if name not in trust]
    if untrusted:
        raise BundleError(
            f"the model would import {untrusted}, which is not part of serein; "
            "if that code is yours, name it in trust=[...] or with --trust"
        )


def _list_own_modules(recipe: Recipe) -> list[str]:
    """Return the names of the user's own modules that a recipe needs, sorted."""
    tasks = [str(table.get("name", name)) for name, table in recipe.tasks.items()]
    names = [str(recipe.features["name"]), str(recipe.model["name"]), *tasks]
    return sorted({name for name in names if "." in name})


def _check_shapes(system: System, tensors: dict[str, Tensor]) -> None:
    expected = {name: tuple(x.shape) for name, x in _collect_weights(system).items()}
    found = {name: tuple(x.shape) for name, x in tensors.items()}
    if expected != found:
        name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise BundleError(
            f"weight {name} has shape {found.get(name)}; its recipe needs {expected.get(name)}"
        )
