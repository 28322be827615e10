"""Interfaces (protocols) of front ends, models, estimators and tasks.

B = batch, S = samples, T = frames, F = bins, D = channels, K = classes of a task, or 1 for a value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from serein.layers.attention import ModelOutput
from serein.layers.outputs import Examples


class FrontEnd(Protocol):
    """A function from waveforms to frames, the same in training and inference.

    Its module may define:

    * ``PACKAGES``: packages besides torch and serein on which its output depends;
    * ``SOURCES``: other files of serein on which its output depends;
    * ``NOTE``: a note that results and models must carry, such as another project's licence;
    * ``contents(settings)``: a function that returns, by name, the SHA-256 of files that it reads;
      runs and cached frames depend on it. The settings are those of a recipe or a saved model.

    A front end may have the attributes ``pinned``, settings that a saved model must have, and
    ``given``, settings of the model that depend on the front end. Models may have all of these but
    ``SOURCES`` and ``given``.

    Attributes:
        config: settings, a dataclass.
        rate: sampling rate in Hz.
        width: F.
        hop: seconds from frame to frame. Frame i is centred at i x hop; frames of raw samples, of
            openSMILE and of encoders begin there.
        max_seconds: longest input; None has no limit.
    """

    config: Any
    rate: int
    width: int
    hop: float
    max_seconds: float | None

    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Compute frames (B, T, F) and mask (B, T) of waveforms (B, S) with lengths in samples."""


class Model(Protocol):
    """A network from inputs to one vector for each task, without heads and losses.

    A model of words has the attribute ``READS = "words"``, is built with the size of the vocabulary
    as a further argument, and may have ``needs_words``: whether its input ``words`` must be given
    in inference. A model whose ``init`` is "keras" gets heads with initial weights as in Keras, too
    (`layers.initialization`).

    Attributes:
        width: D.
    """

    width: int

    def __call__(self, **inputs: tuple[Tensor, Tensor]) -> ModelOutput:
        """Compute a vector (B, D) for each task, and attention.

        Args:
            inputs: by name, values and mask.
        """


class Estimator(Model, Protocol):
    """A model, such as an SVM, that is fitted at once and not trained in epochs.

    Its file may have ``USES_COPIES = True`` if ``fit`` uses augmented copies, ``USES_GROUPS`` if it
    uses the corpora of ``training.balance = "corpus"``, ``USES_VOTES`` if it uses votes of raters,
    and ``USES_INIT`` if it starts from a saved model, which its ``start_from`` takes once the
    weights of the heads are copied. Recipes with such settings are refused otherwise.
    """

    def fit(
        self, train: Examples, validation: Examples | None, tasks: Mapping[str, nn.Module]
    ) -> dict[str, float]:
        """Fit the model and set the heads of the tasks.

        Args:
            train: vectors that the model computes before it is fitted.
            validation: for the selection of a setting, not for fitting.
            tasks: by name, each with its head.

        Returns:
            For each task, the setting ``model.c`` that was selected or given.
        """


class Task(Protocol):
    """Head, loss and decoding of one label.

    Attributes:
        config: settings, a dataclass with a ``weight``.
        classes: in the order of the logits; empty for values.
    """

    config: Any
    classes: tuple[str, ...]

    def __call__(self, x_bd: Tensor) -> Tensor:
        """Compute logits (B, K) from vectors (B, D)."""

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        """Return labels as targets (B,) of the loss, which ignores missing labels.

        Classes are integers, -1 for a missing label; values are floats, nan for a missing label.
        """

    def fit_statistics(self, target_b: Tensor) -> None:
        """Fit statistics of the training subset, such as class weights."""

    def loss(self, logits_bk: Tensor, target_b: Tensor) -> Tensor:
        """Return the mean loss over labelled utterances; 0 if there are none.

        A task whose settings have ``targets = "votes"`` also has ``vote_targets(distributions)``,
        and its loss takes their result (B, K) as a third argument.
        """

    def decode(self, logits_bk: Tensor) -> Tensor:
        """Return (B, K) probabilities, or (B, 1) values, from logits."""
