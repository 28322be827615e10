"""Heads, losses and decoding of classification and regression, which the tasks share.

B = batch, D = channels, K = classes. The target of an utterance without a label is -1, or nan for
values.
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
UNLABELLED_VALUE = float("nan")


@dataclass(frozen=True)
class ClassificationConfig:
    """Settings of a classification.

    Attributes:
        weight: of this task's loss in the sum over tasks.
        label: name of the corpus's label; default: the name of the task.
        scheme: label scheme (``serein.labels``): "own", "harmonised", "four", "seven", ...
        map: for some labels of the corpus, another label, or "" to drop it, before the scheme is
            applied.
        class_weights: "balanced" weights each class by the inverse of its frequency in training.
        smoothing: label smoothing: fraction of each label that is spread over all classes (Szegedy
            et al. 2016: Rethinking the Inception Architecture for Computer Vision, section 7).
        targets: of the loss: "labels", or "votes", the distribution of the raters' votes where an
            utterance has some, and its label elsewhere (Steidl et al. 2005: "Of All Things the
            Measure Is Man"; Fayek, Lech & Cavedon 2016: Modeling Subjectiveness in Emotion
            Recognition with Deep Neural Networks). Scores stay those of the labels.
        votes: name of the corpus's label with the votes (``serein.labels.votes``); default: that of
            the label with ``_votes`` after it.
    """

    weight: Annotated[float, Ge(0)] = 1.0
    label: str | None = None
    scheme: str = "own"
    map: dict[str, str] = field(default_factory=dict)
    class_weights: Literal["none", "balanced"] = "none"
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: Literal["labels", "votes"] = "labels"
    votes: str | None = None


class ClassificationTask(nn.Module):
    """Prediction of one class of each utterance."""

    weights_k: Tensor

    def __init__(self, config: ClassificationConfig, width: int, classes: Sequence[str]) -> None:
        super().__init__()
        if not classes:
            raise ConfigError(
                f"scheme {config.scheme!r} has no classes, and this task predicts classes; the "
                "task dimensions predicts values"
            )
        self.config = config
        self.classes = tuple(classes)
        self.head = nn.Linear(width, len(self.classes))
        self.register_buffer("weights_k", torch.ones(len(self.classes)), persistent=False)

    def forward(self, x_bd: Tensor) -> Tensor:
        """Compute logits (B, K) from vectors (B, D)."""
        return self.head(x_bd)

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        """Return labels as class numbers (B,).

        Raises:
            ConfigError: a label is not among the classes.
        """
        index = {name: k for k, name in enumerate(self.classes)}
        unknown = sorted({str(x) for x in labels if x is not None and x not in index})
        if unknown:
            raise ConfigError(f"unknown classes {unknown}; this task has {list(self.classes)}")
        return torch.tensor([UNLABELLED_CLASS if x is None else index[str(x)] for x in labels])

    def vote_targets(self, distributions: Sequence[Sequence[float] | None]) -> Tensor:
        """Return the raters' distributions as (B, K); the row of an utterance without is nan."""
        missing = [UNLABELLED_VALUE] * len(self.classes)
        rows = [missing if shares is None else list(shares) for shares in distributions]
        return torch.tensor(rows).reshape(-1, len(self.classes))

    def fit_statistics(self, target_b: Tensor) -> None:
        """Fit the class weights on the training subset."""
        if self.config.class_weights == "balanced":
            count_k = torch.bincount(target_b[target_b >= 0], minlength=len(self.classes))
            frequency_k = count_k / count_k.sum().clamp(min=1)
            present_k = count_k > 0
            weight_k = torch.where(
                present_k, 1 / (frequency_k.clamp(min=1e-9) * present_k.sum()), 0.0
            )
            self.weights_k.copy_(weight_k)

    def loss(self, logits_bk: Tensor, target_b: Tensor, votes_bk: Tensor | None = None) -> Tensor:
        """Return the weighted mean cross-entropy over labelled utterances; 0 without any.

        Args:
            logits_bk: (B, K).
            target_b: (B,) class numbers.
            votes_bk: (B, K) from ``vote_targets``, which replace the classes; None without votes.
        """
        if votes_bk is not None:
            return self._distribution_loss(logits_bk, target_b, votes_bk)
        loss = F.cross_entropy(
            logits_bk,
            target_b,
            self.weights_k,
            ignore_index=UNLABELLED_CLASS,
            reduction="sum",
            label_smoothing=self.config.smoothing,
        )
        labelled_b = target_b[target_b != UNLABELLED_CLASS]
        return loss / self.weights_k[labelled_b].sum().clamp(min=1e-9)

    def _distribution_loss(self, logits_bk: Tensor, target_b: Tensor, votes_bk: Tensor) -> Tensor:
        """Return the cross-entropy to distributions; for those of one class equal to ``loss``."""
        has_votes_b1 = ~votes_bk.isnan().any(dim=1, keepdim=True)
        is_labelled_b1 = (target_b != UNLABELLED_CLASS)[:, None]
        label_bk = F.one_hot(target_b.clamp(min=0), len(self.classes)) * is_labelled_b1
        truth_bk = torch.where(has_votes_b1, votes_bk, label_bk.to(votes_bk.dtype))
        uniform_bk = (has_votes_b1 | is_labelled_b1) / len(self.classes)
        smooth_bk = (1 - self.config.smoothing) * truth_bk + self.config.smoothing * uniform_bk
        log_p_bk = logits_bk.float().log_softmax(dim=-1)
        loss = -(smooth_bk * self.weights_k * log_p_bk).sum()
        return loss / (truth_bk * self.weights_k).sum().clamp(min=1e-9)

    def decode(self, logits_bk: Tensor) -> Tensor:
        """Return probabilities (B, K)."""
        return logits_bk.softmax(dim=-1)


class RegressionTask(nn.Module):
    """Prediction of one value of each utterance, in the unit of its labels."""

    mean: Tensor
    deviation: Tensor
    classes: tuple[str, ...] = ()

    def __init__(self, config: Any, width: int, loss_name: Literal["ccc", "mse"] = "ccc") -> None:
        """Build the head.

        Args:
            config: settings, with a ``weight``.
            width: D.
            loss_name: "ccc" (1 - CCC), or "mse" (mean squared error).
        """
        super().__init__()
        self.config = config
        self.loss_name = loss_name
        self.head = nn.Linear(width, 1)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("deviation", torch.tensor(1.0))

    def forward(self, x_bd: Tensor) -> Tensor:
        """Compute values (B, 1) from vectors (B, D)."""
        return self.mean + self.deviation * self.head(x_bd)

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        """Return labels as values (B,)."""
        return torch.tensor([UNLABELLED_VALUE if x is None else float(x) for x in labels])

    def fit_statistics(self, target_b: Tensor) -> None:
        """Fit mean and standard deviation of the labels of the training subset."""
        labelled_b = target_b[~target_b.isnan()]
        if len(labelled_b):
            self.mean.copy_(labelled_b.mean())
        if len(labelled_b) and bool((labelled_b != labelled_b[0]).any()):
            self.deviation.copy_(labelled_b.std(correction=0))

    def loss(self, logits_bk: Tensor, target_b: Tensor) -> Tensor:
        """Return 1 - CCC or the mean squared error of labelled utterances; 0 if there are none."""
        is_labelled_b = ~target_b.isnan()
        value_b, truth_b = logits_bk[is_labelled_b, 0], target_b[is_labelled_b]
        if self.loss_name == "mse":
            return (value_b - truth_b).square().sum() / max(len(truth_b), 1)
        return concordance_loss(value_b, truth_b)

    def decode(self, value_b1: Tensor) -> Tensor:
        """Return the values (B, 1) unchanged."""
        return value_b1


def concordance_loss(value_b: Tensor, truth_b: Tensor) -> Tensor:
    r"""Return 1 - concordance correlation coefficient (CCC) of a batch.

    .. math:: 1 - \rho_c = \frac{\overline{(v - t)^2}}{s_v^2 + s_t^2 + (\bar v - \bar t)^2}

    Lin (1989): A Concordance Correlation Coefficient to Evaluate Reproducibility; as a loss,
    Weninger, Ringeval, Marchi & Schuller (2016): Discriminatively Trained Recurrent Neural Networks
    for Continuous Dimensional Emotion Recognition from Audio.

    Args:
        value_b: (B,) predictions.
        truth_b: (B,) labels.

    Returns:
        A value in [0, 2]. It is 0, without gradient, if the labels do not vary: correlation is
        undefined for fewer than two labels, or equal ones.
    """
    if len(truth_b) < 2 or bool((truth_b == truth_b[0]).all()):
        return 0.0 * value_b.sum()
    error = (value_b - truth_b).square().mean()
    variances = value_b.var(correction=0) + truth_b.var(correction=0)
    return error / (variances + (value_b.mean() - truth_b.mean()).square())
