"""What every front end, model and task offers to those who call it.

B = batch, S = samples, T = frames, F = bins, D = channels, K = classes of a task, or 1 for a
number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from serein.layers.attention import ModelOutput
from serein.layers.outputs import Examples


class FrontEnd(Protocol):
    """A plain function of the waveform; the same object in training and inference.

    Its file may name in ``PACKAGES`` what its numbers depend on beside torch and serein, in
    ``SOURCES`` other files of this package that make them, and say in ``NOTE`` what results and
    models must carry, such as another's licence; ``contents(settings)`` gives the SHA-256 of what
    is read beside a recipe. It may have ``pinned``, settings that a saved model must hold, and
    ``given``, settings of a model that only it knows. All but SOURCES and ``given`` holds for
    models, too.

    Attributes:
        config: its settings, a dataclass.
        rate: sampling rate in Hz.
        width: bins of a frame.
        hop: seconds from frame to frame; frame i is centred at i x hop (one of raw samples,
            of openSMILE or of an encoder begins there).
        longest: seconds that it takes at a time; None is any number.
    """

    config: Any
    rate: int
    width: int
    hop: float
    max_seconds: float | None

    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and lengths in samples -> frames (B, T, F) and mask (B, T)."""


class Model(Protocol):
    """Inputs by name, each with its mask; no loss, no head, no input or output.

    Attributes:
        width: D of the vector that each task gets.
    """

    width: int

    def __call__(self, **inputs: tuple[Tensor, Tensor]) -> ModelOutput:
        """For each task a vector (B, D); and attention."""


class Estimator(Model, Protocol):
    """A model that is no network: fitted at once, where others are trained in epochs."""

    def fit(
        self, train: Examples, validation: Examples | None, tasks: Mapping[str, nn.Module]
    ) -> dict[str, float]:
        """Write its own state and the heads of the tasks.

        Args:
            train: vectors as it makes them before it is fitted.
            validation: what a setting may be picked on; it trains nothing.
            tasks: by name, each with its head.

        Returns:
            For each task the setting, ``model.c``, that was picked or given.
        """


class Task(Protocol):
    """Head, loss and decoding of one label.

    Attributes:
        config: its settings, a dataclass with a ``weight``.
        classes: in the order of its logits; none where the answer is a number.
    """

    config: Any
    classes: tuple[str, ...]

    def __call__(self, x_bd: Tensor) -> Tensor:
        """(B, D) -> (B, K) logits."""

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        """Labels -> (B,), what the loss takes; a missing label costs nothing.

        Classes are whole numbers, -1 where a label is missing; numbers are floats, nan there.
        """

    def prepare(self, target_b: Tensor) -> None:
        """Fit what depends on the training side."""

    def loss(self, logits_bk: Tensor, target_b: Tensor) -> Tensor:
        """A mean over the labelled utterances; 0 if there are none."""

    def decode(self, logits_bk: Tensor) -> Tensor:
        """(B, K) logits -> (B, K) probabilities; or (B, 1) values."""
