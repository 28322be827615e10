"""Exported models at work: an ONNX file in the place of a system.

B = batch, S = samples, H = heads, T = steps.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serein import bundle
from serein.bundle import MALFORMED_DOCUMENT_ERRORS, Bundle
from serein.config import build_config
from serein.errors import BundleError, ConfigError, SereinError
from serein.features.normalization import Normalizer
from serein.layers.attention import AttentionWeights
from serein.records import Recipe
from serein.system import Inputs, Output, System
from serein.utils.device import init_empty_weights


class ONNXSystem(System):
    """A system whose every number comes from onnxruntime; it cannot be trained.

    Its modules tell what it is, such as its rate, and hold no weights.
    """

    def __init__(
        self, recipe: Recipe, classes: Mapping[str, Sequence[str]], content: bytes, session: Any
    ) -> None:
        """Take an ONNX file.

        Args:
            recipe: of the model that was exported.
            classes: of each task.
            content: the file.
            session: onnxruntime's, of that file.
        """
        with init_empty_weights():
            super().__init__(recipe, classes, allow_custom=False)
        self.normaliser = Normalizer(self.normaliser.config, 1)
        self.content, self.session = content, session
        self.output_names = [one.name for one in session.get_outputs()]
        document = json.loads(session.get_modelmeta().custom_metadata_map["serein"])
        self.strides: dict[str, int] = document["maps"]

    def __reduce__(self) -> tuple[Any, ...]:
        """Worker processes open the file anew."""
        return _load_system, (self.content,)

    @property
    def shares(self) -> bool:
        """Never: the front end is in the file."""
        return False

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        """The file; by it this model is told from others."""
        return {"onnx": torch.frombuffer(bytearray(self.content), dtype=torch.uint8)}

    def extract_features(self, wave_bs: Tensor, length_b: Tensor) -> Inputs:
        """Waveforms (B, S) and lengths in samples, as they are."""
        return {"wave": (wave_bs, length_b)}

    def forward(self, inputs: Inputs) -> Output:
        """Each waveform by itself; padding never gets in."""
        rows = zip(*(x.cpu() for x in inputs["wave"]), strict=True)
        heard = [self._run(wave_s[:length].numpy()) for wave_s, length in rows]
        said = {task: torch.cat([one[task] for one in heard]) for task in self.classes}
        maps = {
            name: AttentionWeights(
                _stack_maps([one[f"attention.{name}"][0] for one in heard]), stride
            )
            for name, stride in self.strides.items()
        }
        return Output(
            {k: x_bk.log() if self.classes[k] else x_bk for k, x_bk in said.items()}, maps
        )

    def decode(self, output: Output) -> dict[str, Tensor]:
        """(B, K) probabilities for each task, or (B, 1) values; temperatures are in the file."""
        return {k: x_bk.exp() if self.classes[k] else x_bk for k, x_bk in output.logits.items()}

    def _run(self, wave_s: np.ndarray) -> dict[str, Tensor]:
        found = self.session.run(None, {"wave": wave_s[None].astype(np.float32)})
        return dict(zip(self.output_names, map(torch.from_numpy, found), strict=True))


def _stack_maps(weights: Sequence[Tensor]) -> Tensor:
    """Maps (H, T), or (H, T, T) of queries by keys -> (B, H, ...), zeros behind each one's end."""
    most = max(weight.shape[-1] for weight in weights)
    return torch.stack([F.pad(w, (0, most - w.shape[-1]) * (w.ndim - 1)) for w in weights])


def open_model(path: Path, *, device: str = "cpu", trust: Sequence[str] = ()) -> Bundle:
    """Read a bundle, or a model that was exported to ONNX, as the ending says.

    Raises:
        BundleError: it is missing, corrupt, or not of this package.
        ConfigError: the extra ``onnx`` is not installed, or an exported model is to run elsewhere
            than on the CPU.
    """
    if path.suffix != ".onnx":
        return bundle.load(path, device=device, trust=trust)
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device {device}: an exported model runs on the CPU; use cpu or auto")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model {path}: {error.strerror}") from error
    return load_onnx(content, str(path))


def load_onnx(content: bytes, name: str) -> Bundle:
    """Make a bundle of an exported model.

    Args:
        content: the file.
        name: what errors call it.

    Raises:
        BundleError: it is corrupt, or not of this package.
        ConfigError: the extra ``onnx`` is not installed.
    """
    session = _open_session(content, name)
    try:
        document = json.loads(session.get_modelmeta().custom_metadata_map["serein"])
        bundle.check_format(document, name)
        recipe = build_config(Recipe, document["recipe"], "recipe")
        system = ONNXSystem(recipe, document["classes"], content, session).eval()
        return Bundle(system, *bundle.parse_card(document))
    except BundleError:
        raise
    except (SereinError, *MALFORMED_DOCUMENT_ERRORS) as error:
        raise BundleError(
            f"{name} was not written by this version of `serein export` "
            f"({type(error).__name__}: {error}); export the model again"
        ) from error


def _open_session(content: bytes, name: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            'an exported model needs onnxruntime: pip install "serein[onnx]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        reason = " ".join(str(error).split())
        raise BundleError(
            f"{name} is no ONNX file that can be run, or is cut short: {reason}"
        ) from error


def _load_system(content: bytes) -> System:
    return load_onnx(content, "the exported model").system
