"""What a task's answers are scored by: classes by WA and UA, values by CCC, RMSE and correlation.

The one place that knows; everybody else asks `measure_of` with the classes of a task, of which a
task of values has none.

G = groups such as speakers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics import classification, regression
from serein.metrics.bootstrap import (
    Statistic,
    bootstrap_counts,
    bootstrap_interval,
    confusion_by_group,
    sum_by_group,
)

Scores = dict[str, float | None]
"""By name; None is undefined."""


@dataclass(frozen=True)
class Metric:
    """One number that says how well a task was done.

    Attributes:
        name: in results, such as "ua".
        title: for people, such as "UA".
        words: what it is.
        statistic: takes (..., K, K) or (..., 6) tallies, gives (...) scores.
        format: how to write it, as `format` takes it.
    """

    name: str
    title: str
    description: str
    statistic: Statistic
    format_spec: str = ".1%"

    @property
    def is_percent(self) -> bool:
        """Whether it is a share, and written so."""
        return self.format_spec.endswith("%")

    def format_score(self, value: float) -> str:
        """Title and number.

        >>> get_scorer(()).main.format_score(0.61712)
        'CCC 0.617'
        """
        return f"{self.title} {value:{self.format_spec}}"


@dataclass(frozen=True)
class Scorer:
    """How answers of one kind are scored.

    Attributes:
        scores: in the order in which they are shown.
        main: the one that chooses epochs, and that two systems are compared by.
        tally: from n truths, n answers, n groups and the classes to (G, ...) sums of which every
            score follows, the groups in sorting order.
    """

    metrics: tuple[Metric, ...]
    main: Metric
    tally: Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]], NDArray[Any]]

    def compute_scores(self, total: ArrayLike) -> Scores:
        """Every score of one tally."""
        return {
            one.name: nan_to_none(one.statistic(np.asarray(total, float))) for one in self.metrics
        }


def compute_interval(
    tallies: NDArray[Any], metric: Metric, *, resamples: int = 10_000
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a score, whole groups being resampled; None where undefined."""
    bootstrap = bootstrap_interval if tallies.ndim == 3 else bootstrap_counts
    low, high = bootstrap(tallies, metric.statistic, resamples=resamples)
    return None if np.isnan(low) else (low, high)


def nan_to_none(score: ArrayLike) -> float | None:
    """A score as results hold it: None where it is undefined."""
    value = float(np.asarray(score))
    return None if np.isnan(value) else value


def _tally_moments(
    truth: Sequence[Any], answers: Sequence[Any], groups: Sequence[Any], classes: Sequence[Any]
) -> NDArray[np.float64]:
    return sum_by_group(regression.moments(truth, answers), groups)


WA = Metric(
    "wa",
    "WA",
    "weighted accuracy: the share of all utterances that is right",
    classification.weighted_accuracy_from_confusion,
)
UA = Metric(
    "ua",
    "UA",
    "unweighted accuracy: the mean of the classes' recalls",
    classification.unweighted_accuracy_from_confusion,
)
CCC = Metric(
    "ccc",
    "CCC",
    "concordance correlation coefficient: how near the answers are to the truth, -1 to 1",
    regression.concordance_from_moments,
    ".3f",
)
RMSE = Metric(
    "rmse",
    "RMSE",
    "root mean squared error, in the unit of the labels; lower is better",
    regression.root_mean_squared_error_from_moments,
    ".3f",
)
PEARSON = Metric(
    "pearson",
    "Pearson",
    "Pearson's correlation, which sees no shift and no scale, -1 to 1",
    regression.pearson_from_moments,
    ".3f",
)
CLASSIFICATION_SCORER = Scorer((WA, UA), UA, confusion_by_group)
REGRESSION_SCORER = Scorer((CCC, RMSE, PEARSON), CCC, _tally_moments)


def get_scorer(classes: Sequence[Any]) -> Scorer:
    """How a task is scored: one of classes, or, where it has none, one of values."""
    return CLASSIFICATION_SCORER if classes else REGRESSION_SCORER


def get_main_metric(scores: Mapping[str, float | None]) -> Metric:
    """What a task of these scores has its epochs chosen by: UA, or CCC."""
    return next(one for one in (UA, CCC) if one.name in scores)


def get_main_score(scores: Mapping[str, float | None]) -> float | None:
    """What chooses an epoch: the UA of classes, the CCC of values."""
    return scores[get_main_metric(scores).name]


def get_metric(name: str) -> Metric:
    """The score of that name."""
    return next(
        one
        for one in (*CLASSIFICATION_SCORER.metrics, *REGRESSION_SCORER.metrics)
        if one.name == name
    )
