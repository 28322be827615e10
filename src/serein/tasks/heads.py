"""Head, loss and decoding of one class per utterance; tasks are made of it.

B = batch, D = channels, K = classes. A target is a class's number, or -1 where nobody knows.

Head, loss and decoding of one number per utterance, such as a rating; tasks are made of it.

B = batch, D = channels. A target is a number, or nan where nobody knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn

from serein.errors import ConfigError

UNLABELLED_CLASS = -1


@dataclass(frozen=True)
class ClassificationConfig:
    """What may vary.

    Attributes:
        weight: of this task's loss in the sum over tasks.
        label: the corpus's name for it, where that differs from the task's.
        scheme: the set of classes: "own" words of the corpus, "harmonised", "four", "seven".
        map: a word's class, or "" to leave it out, before the scheme is applied.
        class_weights: "balanced" weighs each class by the inverse of its share in training.
        smoothing: share of each label that the loss spreads over all classes (Szegedy et al. 2016:
            Rethinking the Inception Architecture for Computer Vision, section 7).
    """

    weight: Annotated[float, Ge(0)] = 1.0
    label: str | None = None
    scheme: str = "own"
    map: dict[str, str] = field(default_factory=dict)
    class_weights: Literal["none", "balanced"] = "none"
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0


class ClassificationTask(nn.Module):
    """One label of each utterance, one of a list."""

    weights_k: Tensor

    def __init__(self, config: ClassificationConfig, width: int, classes: Sequence[str]) -> None:
        super().__init__()
        if not classes:
            raise ConfigError(
                f"scheme {config.scheme!r} has no classes, and this task answers with one; the "
                "task dimensions answers with values"
            )
        self.config = config
        self.classes = tuple(classes)
        self.head = nn.Linear(width, len(self.classes))
        self.register_buffer("weights_k", torch.ones(len(self.classes)), persistent=False)

    def forward(self, x_bd: Tensor) -> Tensor:
        """(B, D) -> (B, K) logits."""
        return self.head(x_bd)

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        """Labels -> (B,) class numbers.

        Raises:
            ConfigError: a label that is not among the classes.
        """
        number = {name: k for k, name in enumerate(self.classes)}
        unknown = sorted({str(x) for x in labels if x is not None and x not in number})
        if unknown:
            raise ConfigError(f"unknown classes {unknown}; this task knows {list(self.classes)}")
        return torch.tensor([UNLABELLED_CLASS if x is None else number[str(x)] for x in labels])

    def prepare(self, target_b: Tensor) -> None:
        """Fit what depends on the training side: the weights of the classes."""
        if self.config.class_weights == "balanced":
            count_k = torch.bincount(target_b[target_b >= 0], minlength=len(self.classes))
            share_k = count_k / count_k.sum().clamp(min=1)
            seen_k = count_k > 0
            weight_k = torch.where(seen_k, 1 / (share_k.clamp(min=1e-9) * seen_k.sum()), 0.0)
            self.weights_k.copy_(weight_k)

    def loss(self, logits_bk: Tensor, target_b: Tensor) -> Tensor:
        """Mean cross-entropy over the labelled utterances; 0 if there are none."""
        loss = F.cross_entropy(
            logits_bk,
            target_b,
            self.weights_k,
            ignore_index=UNLABELLED_CLASS,
            reduction="sum",
            label_smoothing=self.config.smoothing,
        )
        known_b = target_b[target_b != UNLABELLED_CLASS]
        return loss / self.weights_k[known_b].sum().clamp(min=1e-9)

    def decode(self, logits_bk: Tensor) -> Tensor:
        """(B, K) logits -> (B, K) probabilities."""
        return logits_bk.softmax(dim=-1)


UNLABELLED_VALUE = float("nan")


class RegressionTask(nn.Module):
    """One number for each utterance, in the unit of its labels."""

    mean: Tensor
    deviation: Tensor
    classes: tuple[str, ...] = ()

    def __init__(self, config: Any, width: int, loss_name: Literal["ccc", "mse"] = "ccc") -> None:
        """Build it.

        Args:
            config: its settings, with a ``weight``.
            width: D.
            loss_name: of loss: 1 less the concordance, or the mean squared error.
        """
        super().__init__()
        self.config = config
        self.loss_name = loss_name
        self.head = nn.Linear(width, 1)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    def forward(self, x_bd: Tensor) -> Tensor:
        """(B, D) -> (B, 1) values."""
        return self.mean + self.deviation * self.head(x_bd)

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        """Labels -> (B,) numbers."""
        return torch.tensor([UNLABELLED_VALUE if x is None else float(x) for x in labels])

    def prepare(self, target_b: Tensor) -> None:
        """Fit what depends on the training side: where its values lie, and how far apart."""
        known_b = target_b[~target_b.isnan()]
        if len(known_b):
            self.mean.copy_(known_b.mean())
        if len(known_b) and bool((known_b != known_b[0]).any()):
            self.deviation.copy_(known_b.std(correction=0))

    def loss(self, logits_bk: Tensor, target_b: Tensor) -> Tensor:
        """Of the labelled utterances, 1 - CCC or the mean squared error; 0 if there are none."""
        known_b = ~target_b.isnan()
        value_b, truth_b = logits_bk[known_b, 0], target_b[known_b]
        if self.loss_name == "mse":
            return (value_b - truth_b).square().sum() / max(len(truth_b), 1)
        return concordance_loss(value_b, truth_b)

    def decode(self, logits_bk: Tensor) -> Tensor:
        """(B, 1) values, as they are."""
        return logits_bk


def concordance_loss(value_b: Tensor, truth_b: Tensor) -> Tensor:
    r"""One less the concordance correlation coefficient of a batch.

    .. math:: 1 - \rho_c = \frac{\overline{(v - t)^2}}{s_v^2 + s_t^2 + (\bar v - \bar t)^2}

    Lin (1989): A Concordance Correlation Coefficient to Evaluate Reproducibility; as a loss,
    Weninger, Ringeval, Marchi & Schuller (2016): Discriminatively Trained Recurrent Neural Networks
    for Continuous Dimensional Emotion Recognition from Audio.

    Args:
        value_b: (B,) answers.
        truth_b: (B,) labels.

    Returns:
        A value in [0, 2]; 0, with no gradient, where the labels do not vary: fewer than two of
        them, or all the same, have no correlation to learn.
    """
    if len(truth_b) < 2 or bool((truth_b == truth_b[0]).all()):
        return 0.0 * value_b.sum()
    error = (value_b - truth_b).square().mean()
    variances = value_b.var(correction=0) + truth_b.var(correction=0)
    return error / (variances + (value_b.mean() - truth_b.mean()).square())
