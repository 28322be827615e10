"""Audio classifiers of transformers, as models that serein did not build.

S = samples, K = labels.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serein.errors import ConfigError
from serein.evaluation.answers import FunctionModel
from serein.registry import hash_sources
from serein.utils.device import resolve_device

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHT_FILES = ("*.safetensors", "*.bin")


def load_audio_classifier(
    source: str | Path, *, name: str | None = None, device: str = "cpu"
) -> FunctionModel:
    """Load an audio classifier of transformers, to be evaluated as it is.

    Its labels are those of its configuration (``id2label``). Each recording is one input, whole.

    Args:
        source: a folder that ``save_pretrained`` wrote, with the model and its feature extractor;
            or the name of a model on the hub, ``ORG/NAME``.
        name: in reports; the default is the last part of the source.
        device: "cpu", "cuda", or "auto".

    Raises:
        ConfigError: transformers is not installed, or the source is no audio classifier.
    """
    if find_spec("transformers") is None:
        raise ConfigError(
            "audio classifiers need transformers, which is not installed: pip install 'serein[ssl]'"
        )
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    place = Path(source).expanduser()
    where = str(place) if place.is_dir() else str(source)
    if not place.is_dir() and not HUB_NAME.fullmatch(str(source)):
        raise ConfigError(
            f"{where} is no folder; expected one that save_pretrained of transformers wrote, or a "
            "name on the hub, ORG/NAME"
        )
    if place.is_dir() and not (place / "config.json").is_file():
        raise ConfigError(
            f"{where} has no config.json; expected a folder that save_pretrained of transformers "
            "wrote"
        )
    try:
        extractor = AutoFeatureExtractor.from_pretrained(where)
        model = AutoModelForAudioClassification.from_pretrained(where)
    except Exception as error:  # transformers raises exceptions of many types
        message = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{where} is no audio classifier of transformers ({type(error).__name__}: {message}). "
            "Expected a folder with the model and its feature extractor, each written by "
            "save_pretrained, or a name on the hub, ORG/NAME"
        ) from error
    labels = [str(label) for _, label in sorted(model.config.id2label.items())]
    if len({*labels}) < 2:
        raise ConfigError(f"{where} has the labels {labels}; expected two or more")
    rate = int(getattr(extractor, "sampling_rate", 16_000))
    device = resolve_device(device)
    model = model.to(device).eval()
    name = name or Path(where).name
    revision = _hash_weights(place) or str(getattr(model.config, "_commit_hash", None) or "")
    kind = type(model).__name__
    return FunctionModel(
        function=lambda wave_s, rate: _classify(model, extractor, labels, wave_s, rate),
        rate=rate,
        name=name,
        labels=tuple(labels),
        meaning=f"the {kind} {name} of transformers, as it is, on whole recordings at {rate} Hz",
        key=[where, revision],
        environment=_describe(kind, revision, device),
    )


def _hash_weights(folder: Path) -> str:
    """Return a hash of the weights in a folder; empty for a model of the hub."""
    files = sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern))
    return hash_sources(files) if folder.is_dir() and files else ""


def _describe(kind: str, revision: str, device: str) -> Mapping[str, object]:
    import transformers

    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    return {"model": kind, "weights": revision, "device": device, "versions": versions}


def _classify(
    model: Any, extractor: Any, labels: list[str], wave_s: NDArray[np.float32], rate: int
) -> dict[str, float]:
    """Return the probability of each label for a waveform (S,)."""
    inputs = extractor(wave_s, sampling_rate=rate, return_tensors="pt")
    with torch.inference_mode():
        logits_k = model(**inputs.to(model.device)).logits[0].float()
    return dict(zip(labels, logits_k.softmax(dim=0).tolist(), strict=True))
