"""What computes a model: torch, or onnxruntime without torch.

A `Predictor` splits recordings into windows and turns predictions into answers; below it, a
`Backend` computes the predictions for batches of windows, as NumPy arrays. Modules that import
torch are imported only when the torch backend is chosen.

B = windows, K = classes of all tasks, concatenated, H = heads, T = steps.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from serein.audio import Samples
from serein.errors import BackendError, ConfigError
from serein.inference.dimensions import DimensionSource
from serein.inference.windowing import Probabilities, SampleBuffer
from serein.inference.words import WindowPrediction as WindowPrediction
from serein.model_file import Card, ConfidenceCalibration
from serein.records import Recipe

if TYPE_CHECKING:
    from serein.bundle import Bundle

BackendSetting = Literal["auto", "torch", "onnx"]
"""A requested backend; "auto" is onnx where a model and the settings allow it, else torch."""
BackendName = Literal["torch", "onnx"]
"""What computes a model."""
BACKENDS = ("auto", "torch", "onnx")
BackendPrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""Precision of a model: what torch computes in, or that of an exported file (``onnx_export``)."""
INSTALL_TORCH = "pip install 'serein[train]'"
"""Command that installs torch."""


class Window(NamedTuple):
    """A window of the samples in a buffer, from ``start`` to before ``end``."""

    buffer: SampleBuffer
    start: int
    end: int


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a model without its network.

    Attributes:
        recipe: of the model.
        classes: of each task, in the order of its probabilities; empty for values.
        card: the model card.
        confidence: the calibration of each task.
        rate: sampling rate in Hz.
        hop: seconds from frame to frame.
        max_seconds: longest window in seconds; None is unlimited.
        dimension_sources: how answers give arousal and valence.
        weights: number of trained weights.
        learns_shares: whether a task that trains on votes predicts shares of votes.
        vocabulary: words by id, of a model that uses words.
        word_source: where its words come from: it uses none, recognises them, or needs them given.
        needs_words: whether it reads words that it does not recognise itself.
        asr_hop: seconds from frame to frame of its speech recogniser.
        asr: description of its speech recogniser, for the card; empty without one.
    """

    recipe: Recipe
    classes: dict[str, tuple[str, ...]]
    card: Card
    confidence: dict[str, ConfidenceCalibration]
    rate: int
    hop: float
    max_seconds: float | None
    dimension_sources: Mapping[str, DimensionSource]
    weights: int
    learns_shares: bool
    vocabulary: tuple[str, ...] = ()
    word_source: Literal["none", "recognised", "given"] = "none"
    needs_words: bool = False
    asr_hop: float = 0.0
    asr: str = field(default="", repr=False)


class Backend(Protocol):
    """Computes the predictions of one model; can be pickled.

    Attributes:
        name: "torch" or "onnx".
        description: of the model.
        warnings: about settings that it does not follow.
    """

    name: BackendName
    description: ModelDescription
    warnings: list[str]

    @property
    def precision(self) -> BackendPrecision:
        """Precision that it computes in, or that the weights of an exported model have."""

    def predict_batches(
        self,
        windows: Sequence[Samples],
        *,
        attention: bool,
        texts: Sequence[str | None] | None = None,
    ) -> list[WindowPrediction]:
        """Predict separate windows of recordings.

        Args:
            windows: samples of each window, of shape (n,), at the model's rate.
            attention: whether to return attention maps.
            texts: the words of each window, for a model that reads words; None are recognised.

        Returns:
            The prediction for each window, in their order.
        """

    def predict_windows(self, windows: Sequence[Window]) -> Probabilities:
        """Predict overlapping windows of streams.

        Args:
            windows: windows that start at a multiple of the front end's hop; those of one buffer
                follow each other, in the order of their positions.

        Returns:
            Probabilities and values (B, K) in the order of the windows.
        """

    def limit_threads(self, count: int | None) -> AbstractContextManager[None]:
        """Limit the computation to a number of processor threads within the context."""

    def compute_digest(self) -> str:
        """Return the SHA-256 of the model's file."""

    def load_bundle(self) -> "Bundle":
        """Return the model as a bundle, with its network in torch.

        Raises:
            ConfigError: torch is not installed.
        """


def has_torch() -> bool:
    """Return whether torch is installed; it is not imported."""
    return find_spec("torch") is not None


def require_torch(what: str) -> None:
    """Check that torch is installed.

    Args:
        what: that needs it, as the beginning of the error.

    Raises:
        ConfigError: it is not.
    """
    if not has_torch():
        raise ConfigError(f"{what} needs torch, which is not installed: {INSTALL_TORCH}")


def broken_package(name: str, error: Exception) -> BackendError:
    """Return the error of a package that is installed and cannot be imported."""
    reason = " ".join(str(error).split())[:200]
    return BackendError(f"{name} is installed and cannot be imported ({reason}); install it again")
