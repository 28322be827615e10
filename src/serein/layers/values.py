"""Head, loss and decoding of one number per utterance, such as a rating; tasks are made of it.

B = batch, D = channels. A target is a number, or nan where nobody knows.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

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
