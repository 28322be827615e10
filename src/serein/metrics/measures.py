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
from serein.metrics.significance import (
    Statistic,
    bootstrap_counts,
    bootstrap_interval,
    grouped_confusions,
    grouped_sums,
)

Scores = dict[str, float | None]
"""By name; None is undefined."""


@dataclass(frozen=True)
class Score:
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
    words: str
    statistic: Statistic
    format: str = ".1%"

    @property
    def percent(self) -> bool:
        """Whether it is a share, and written so."""
        return self.format.endswith("%")

    def worded(self, score: float) -> str:
        """Title and number.

        >>> measure_of(()).main.worded(0.61712)
        'CCC 0.617'
        """
        return f"{self.title} {score:{self.format}}"


@dataclass(frozen=True)
class Measure:
    """How answers of one kind are scored.

    Attributes:
        scores: in the order in which they are shown.
        main: the one that chooses epochs, and that two systems are compared by.
        tally: from n truths, n answers, n groups and the classes to (G, ...) sums of which every
            score follows, the groups in sorting order.
    """

    scores: tuple[Score, ...]
    main: Score
    tally: Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]], NDArray[Any]]

    def scored(self, total: ArrayLike) -> Scores:
        """Every score of one tally."""
        return {one.name: defined(one.statistic(np.asarray(total, float))) for one in self.scores}


def interval(
    tallies: NDArray[Any], score: Score, *, resamples: int = 10_000
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a score, whole groups being resampled; None where undefined."""
    bootstrap = bootstrap_interval if tallies.ndim == 3 else bootstrap_counts
    low, high = bootstrap(tallies, score.statistic, resamples=resamples)
    return None if np.isnan(low) else (low, high)


def defined(score: ArrayLike) -> float | None:
    """A score as results hold it: None where it is undefined."""
    value = float(np.asarray(score))
    return None if np.isnan(value) else value


def _moments(
    truth: Sequence[Any], answers: Sequence[Any], groups: Sequence[Any], classes: Sequence[Any]
) -> NDArray[np.float64]:
    return grouped_sums(regression.moments(truth, answers), groups)


WA = Score(
    "wa",
    "WA",
    "weighted accuracy: the share of all utterances that is right",
    classification.weighted_accuracy_from_confusion,
)
UA = Score(
    "ua",
    "UA",
    "unweighted accuracy: the mean of the classes' recalls",
    classification.unweighted_accuracy_from_confusion,
)
CCC = Score(
    "ccc",
    "CCC",
    "concordance correlation coefficient: how near the answers are to the truth, -1 to 1",
    regression.concordance_from_moments,
    ".3f",
)
RMSE = Score(
    "rmse",
    "RMSE",
    "root mean squared error, in the unit of the labels; lower is better",
    regression.root_mean_squared_error_from_moments,
    ".3f",
)
PEARSON = Score(
    "pearson",
    "Pearson",
    "Pearson's correlation, which sees no shift and no scale, -1 to 1",
    regression.pearson_from_moments,
    ".3f",
)
OF_CLASSES = Measure((WA, UA), UA, grouped_confusions)
OF_VALUES = Measure((CCC, RMSE, PEARSON), CCC, _moments)


def measure_of(classes: Sequence[Any]) -> Measure:
    """How a task is scored: one of classes, or, where it has none, one of values."""
    return OF_CLASSES if classes else OF_VALUES


def main_of(scores: Mapping[str, float | None]) -> Score:
    """What a task of these scores has its epochs chosen by: UA, or CCC."""
    return next(one for one in (UA, CCC) if one.name in scores)


def main_score(scores: Mapping[str, float | None]) -> float | None:
    """What chooses an epoch: the UA of classes, the CCC of values."""
    return scores[main_of(scores).name]


def score_named(name: str) -> Score:
    """The score of that name."""
    return next(one for one in (*OF_CLASSES.scores, *OF_VALUES.scores) if one.name == name)
