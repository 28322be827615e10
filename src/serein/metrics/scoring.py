"""Metrics of each kind of task: WA and UA for classification; CCC, RMSE and Pearson for regression.

`get_scorer` takes the classes of a task; a regression task has none.

G = groups such as speakers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics import classification, distributions, intervals, regression
from serein.metrics.bootstrap import Statistic, confusion_by_group, sum_by_group
from serein.metrics.jackknife import FISHER_Z, LOG, LOGIT, Scale

Scores = dict[str, float | None]
"""Score by name of the metric; None is undefined."""


@dataclass(frozen=True)
class Metric:
    """A metric, computed from confusion matrices or sums of moments.

    Attributes:
        name: name in results, such as "ua".
        title: name in reports, such as "UA".
        description: a definition in one line.
        statistic: function from (..., K, K) confusion matrices or (..., 6) moments to (...) scores.
        format_spec: format specification of a score.
        scale: the scale on which its interval is symmetric.
    """

    name: str
    title: str
    description: str
    statistic: Statistic
    format_spec: str = ".1%"
    scale: Scale = LOGIT

    @property
    def is_percent(self) -> bool:
        """Whether the score is printed in percent."""
        return self.format_spec.endswith("%")

    def format_score(self, value: float) -> str:
        """Format a score with its title.

        >>> get_scorer(()).main.format_score(0.61712)
        'CCC 0.617'
        """
        return f"{self.title} {value:{self.format_spec}}"


@dataclass(frozen=True)
class Scorer:
    """The metrics of one kind of task.

    Attributes:
        metrics: in the order in which they are printed.
        main: the metric that selects epochs and compares systems.
        tally: function from n true values, n predictions, n groups and the classes to (G, ...)
            sums, groups sorted; every score is computed from their total.
    """

    metrics: tuple[Metric, ...]
    main: Metric
    tally: Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]], NDArray[Any]]

    def compute_scores(self, total: ArrayLike) -> Scores:
        """Compute every score from the total of a tally."""
        sums = np.asarray(total, float)
        return {metric.name: nan_to_none(metric.statistic(sums)) for metric in self.metrics}


def compute_interval(
    tallies: NDArray[Any],
    metric: Metric,
    *,
    method: str = intervals.JACKKNIFE,
    resamples: int = 10_000,
) -> tuple[float, float] | None:
    """Compute the 95 % interval of a score over groups; None where it is undefined.

    Args:
        tallies: (G, ...) tallies of the groups that `serein.metrics.intervals.choose_groups` gives.
        metric: of the score.
        method: one of `serein.metrics.intervals.INTERVAL_METHODS`.
        resamples: number of draws of the bootstrap.
    """
    return intervals.compute_interval(
        tallies, metric.statistic, scale=metric.scale, method=method, resamples=resamples
    )


def compute_difference_interval(
    first: NDArray[Any],
    second: NDArray[Any],
    metric: Metric,
    *,
    method: str = intervals.JACKKNIFE,
) -> tuple[float, float] | None:
    """Compute the 95 % interval of the difference of two scores; None where it is undefined.

    Args:
        first: (G, ...) tallies of one system.
        second: the same groups of another.
        metric: of the scores.
        method: one of `serein.metrics.intervals.INTERVAL_METHODS`.
    """
    return intervals.compute_difference_interval(
        first, second, metric.statistic, scale=metric.scale, method=method
    )


def nan_to_none(score: ArrayLike) -> float | None:
    """Convert a score to a float, and nan to None."""
    value = float(np.asarray(score))
    return None if np.isnan(value) else value


def _tally_moments(
    truth: Sequence[Any], answers: Sequence[Any], groups: Sequence[Any], classes: Sequence[Any]
) -> NDArray[np.float64]:
    return sum_by_group(regression.moments(truth, answers), groups)


def _tally_distributions(
    truth: Sequence[Any], answers: Sequence[Any], groups: Sequence[Any], classes: Sequence[Any]
) -> NDArray[np.float64]:
    return sum_by_group(distributions.score_sums(truth, answers), groups)


WA = Metric(
    "wa",
    "WA",
    "weighted accuracy: the share of correct utterances",
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
    "concordance correlation coefficient: agreement with the labels, -1 to 1",
    regression.concordance_from_moments,
    ".3f",
    FISHER_Z,
)
RMSE = Metric(
    "rmse",
    "RMSE",
    "root mean squared error, in the unit of the labels; lower is better",
    regression.root_mean_squared_error_from_moments,
    ".3f",
    LOG,
)
PEARSON = Metric(
    "pearson",
    "Pearson",
    "Pearson's correlation, independent of shift and scale, -1 to 1",
    regression.pearson_from_moments,
    ".3f",
    FISHER_Z,
)
CROSS_ENTROPY = Metric(
    "cross_entropy",
    "CE",
    "cross-entropy of the predicted distribution to the raters' votes, in nats; lower is better",
    distributions.mean_cross_entropy_from_sums,
    ".3f",
    LOG,
)
TOTAL_VARIATION = Metric(
    "total_variation",
    "TV",
    "total variation distance to the raters' votes: 0 is equal, 1 has no class in common",
    distributions.mean_total_variation_from_sums,
    ".3f",
    LOGIT,
)
CLASSIFICATION_SCORER = Scorer((WA, UA), UA, confusion_by_group)
REGRESSION_SCORER = Scorer((CCC, RMSE, PEARSON), CCC, _tally_moments)
VOTES_SCORER = Scorer((CROSS_ENTROPY, TOTAL_VARIATION), CROSS_ENTROPY, _tally_distributions)
"""Of predicted distributions against those of raters, as true values, for classification tasks."""


def get_scorer(classes: Sequence[Any]) -> Scorer:
    """Return the scorer of a task: classification if it has classes, else regression."""
    return CLASSIFICATION_SCORER if classes else REGRESSION_SCORER


def get_main_metric(scores: Mapping[str, float | None]) -> Metric:
    """Return the metric that selects epochs for a task with these scores: UA or CCC."""
    return next(metric for metric in (UA, CCC) if metric.name in scores)


def get_main_score(scores: Mapping[str, float | None]) -> float | None:
    """Return the score that selects epochs: UA for classes, CCC for values."""
    return scores[get_main_metric(scores).name]


def compute_mean_score(
    scores: Mapping[str, Mapping[str, float | None]], tasks: Sequence[str]
) -> float | None:
    """Return the mean of the tasks' main scores where they are defined; None if none is.

    >>> compute_mean_score({"arousal": {"ua": 0.5}, "valence": {"ccc": 0.25}}, ["arousal"])
    0.5

    Args:
        scores: scores of each task by their names.
        tasks: the tasks that count.
    """
    values = [get_main_score(scores[task]) for task in tasks]
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def describe_mean_score(titles: Mapping[str, str]) -> str:
    """Describe the main score of one task, or the mean of those of several tasks.

    >>> describe_mean_score({"arousal": "UA", "valence": "UA"})
    'mean UA of arousal, valence'
    >>> describe_mean_score({"emotion": "UA", "arousal": "CCC"})
    'mean of UA of emotion, CCC of arousal'

    Args:
        titles: for each task, the title of its main metric.
    """
    mean = "mean " * (len(titles) > 1)
    if len(set(titles.values())) == 1:
        return f"{mean}{next(iter(titles.values()))} of {', '.join(titles)}"
    return f"{mean}of {', '.join(f'{title} of {task}' for task, title in titles.items())}"


def get_metric(name: str) -> Metric:
    """Return the metric of a name."""
    metrics = (*CLASSIFICATION_SCORER.metrics, *REGRESSION_SCORER.metrics)
    return next(metric for metric in metrics if metric.name == name)
