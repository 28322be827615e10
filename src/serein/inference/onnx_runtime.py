"""Exported models among those of torch: an ONNX file in the place of a system.

``onnx_backend`` applies exported models without torch.

B = batch, S = samples, H = heads, T = steps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serein import bundle
from serein.bundle import MALFORMED_DOCUMENT_ERRORS, Bundle
from serein.config import build_config, rename_settings
from serein.errors import BundleError, SereinError
from serein.features.normalization import Normalizer
from serein.inference.dimensions import find_dimension_sources
from serein.inference.onnx_session import not_exported, open_session, run_session
from serein.layers.attention import AttentionWeights
from serein.records import Recipe
from serein.system import Inputs, Output, System, build_front_end, is_estimator
from serein.utils.device import init_empty_weights


class ONNXSystem(System):
    """A system that is computed by onnxruntime; it cannot be trained.

    Its modules describe the model, such as its sampling rate, and hold no weights.
    """

    def __init__(
        self, recipe: Recipe, classes: Mapping[str, Sequence[str]], content: bytes, session: Any
    ) -> None:
        """Build a system from an ONNX file.

        Args:
            recipe: recipe of the exported model.
            classes: classes of each task.
            content: the ONNX file.
            session: an ``onnxruntime.InferenceSession`` of the file.
        """
        with init_empty_weights():
            super().__init__(recipe, classes, allow_custom=False)
        self.normaliser = Normalizer(self.normaliser.config, 1)
        self.content, self.session = content, session
        self.output_names = [output.name for output in session.get_outputs()]
        document = json.loads(session.get_modelmeta().custom_metadata_map["serein"])
        self.strides: dict[str, int] = document["maps"]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the file only: sessions cannot be pickled."""
        return _load_system, (self.content,)

    @property
    def shares(self) -> bool:
        """False: the front end is in the file and cannot share frames between windows."""
        return False

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the file as the only weight; it gives the model a digest of its own."""
        return {"onnx": torch.frombuffer(bytearray(self.content), dtype=torch.uint8)}

    def extract_features(self, wave_bs: Tensor, length_b: Tensor) -> Inputs:
        """Return waveforms (B, S) and their lengths in samples unchanged."""
        return {"wave": (wave_bs, length_b)}

    def forward(self, inputs: Inputs) -> Output:
        """Run each waveform on its own, without padding."""
        waves = zip(*(x.cpu() for x in inputs["wave"]), strict=True)
        outputs = [self._run(wave_s[:length].numpy()) for wave_s, length in waves]
        logits = {}
        for task, classes in self.classes.items():
            x_bk = torch.cat([output[task] for output in outputs])
            logits[task] = x_bk.log() if classes else x_bk
        attention = {
            name: AttentionWeights(
                _stack_maps([output[f"attention.{name}"][0] for output in outputs]), stride
            )
            for name, stride in self.strides.items()
        }
        return Output(logits, attention)

    def decode(self, output: Output) -> dict[str, Tensor]:
        """Return probabilities (B, K) or values (B, 1) per task; the file applies temperatures."""
        return {
            task: x_bk.exp() if self.classes[task] else x_bk for task, x_bk in output.logits.items()
        }

    def _run(self, wave_s: np.ndarray) -> dict[str, Tensor]:
        outputs = run_session(self.session, self.output_names, wave_s)
        return {name: torch.from_numpy(array) for name, array in outputs.items()}


def _stack_maps(weights: Sequence[Tensor]) -> Tensor:
    """Stack maps (H, T), or (H, T, T) of queries by keys, to (B, H, ...), padded with zeros."""
    steps = max(weight.shape[-1] for weight in weights)
    return torch.stack([F.pad(w, (0, steps - w.shape[-1]) * (w.ndim - 1)) for w in weights])


def load_onnx(content: bytes, name: str) -> Bundle:
    """Build a bundle from an exported model.

    Args:
        content: the ONNX file.
        name: name of the file in errors.

    Raises:
        BundleError: the file is corrupt, or was not written by this package.
        BackendError: onnxruntime is missing or broken.
    """
    session = open_session(content, name, fold=True)
    try:
        document = json.loads(session.get_modelmeta().custom_metadata_map["serein"])
        bundle.check_format(document, name)
        tables = rename_settings(document["recipe"], warn=False)
        recipe = build_config(Recipe, tables, "recipe")
        system = ONNXSystem(recipe, document["classes"], content, session).eval()
        return Bundle(system, *bundle.parse_card(document))
    except BundleError:
        raise
    except (SereinError, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise not_exported(name, error) from error


def describe_interface(
    recipe: Recipe, classes: Mapping[str, Sequence[str]], weights: int = 0
) -> dict[str, Any]:
    """Return what ``ModelDescription`` has and the document of a bundle has not, for JSON.

    Args:
        recipe: of the model.
        classes: of each task.
        weights: number of trained weights.
    """
    with init_empty_weights():
        front_end = build_front_end(recipe, allow_custom=False)
    sources = find_dimension_sources(recipe, classes)
    return {
        "rate": front_end.rate,
        "hop": front_end.hop,
        "max_seconds": front_end.max_seconds,
        "shares": bool(getattr(front_end, "shares", False)),
        "dimensions": {name: asdict(source) for name, source in sources.items()},
        "weights": weights,
        "learns_shares": not is_estimator(recipe),
    }


def _load_system(content: bytes) -> System:
    return load_onnx(content, "the exported model").system
