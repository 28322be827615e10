"""The method of the intervals of all scores: the jackknife over speakers, or the bootstrap by name.

G = groups such as speakers.
"""

import math
from collections.abc import Sequence

from numpy.typing import ArrayLike

from serein.metrics.bootstrap import (
    Statistic,
    bootstrap_difference,
    bootstrap_interval,
    choose_resampling_groups,
)
from serein.metrics.jackknife import (
    LOGIT,
    Scale,
    choose_jackknife_groups,
    jackknife_difference,
    jackknife_interval,
)

Interval = tuple[float, float] | None
JACKKNIFE, BOOTSTRAP = "jackknife", "bootstrap"
INTERVAL_METHODS = (JACKKNIFE, BOOTSTRAP)
"""The first one is the default; the percentile bootstrap is too narrow for few speakers."""


def choose_groups(speakers: Sequence[str | None], method: str = JACKKNIFE) -> tuple[list[str], str]:
    """Choose the groups of an interval, and describe how it is computed.

    >>> choose_groups(["ann", "bob", "ann"])[1]
    '95 % jackknife over 2 speakers'

    Args:
        speakers: n speakers, one for each utterance; None for an unknown speaker.
        method: one of `INTERVAL_METHODS`.

    Returns:
        n names of groups, and a description.

    Raises:
        ValueError: no method has this name.
    """
    if _check_method(method) == BOOTSTRAP:
        return choose_resampling_groups(speakers)
    return choose_jackknife_groups(speakers)


def compute_interval(
    tallies: ArrayLike,
    statistic: Statistic,
    *,
    scale: Scale = LOGIT,
    method: str = JACKKNIFE,
    resamples: int = 10_000,
) -> Interval:
    """Compute the 95 % interval of a score over groups; None where it is undefined.

    Args:
        tallies: (G, ...) counts or sums of each group.
        statistic: function from (n, ...) sums over groups to (n,) scores.
        scale: of the score, for the jackknife.
        method: one of `INTERVAL_METHODS`.
        resamples: number of draws of the bootstrap.

    Raises:
        ValueError: no method has this name.
    """
    if _check_method(method) == BOOTSTRAP:
        return _nan_to_none(bootstrap_interval(tallies, statistic, resamples=resamples))
    return _nan_to_none(jackknife_interval(tallies, statistic, scale=scale))


def compute_difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    *,
    scale: Scale = LOGIT,
    method: str = JACKKNIFE,
) -> Interval:
    """Compute the 95 % interval of a difference of scores of the same utterances, first - second.

    Args:
        first: (G, ...) counts or sums of each group for one system.
        second: the same groups in the same order for another system.
        statistic: as for `compute_interval`.
        scale: as for `compute_interval`.
        method: one of `INTERVAL_METHODS`.

    Raises:
        ValueError: no method has this name, or the shapes differ.
    """
    if _check_method(method) == BOOTSTRAP:
        return _nan_to_none(bootstrap_difference(first, second, statistic))
    return _nan_to_none(jackknife_difference(first, second, statistic, scale=scale))


def find_method(description: str) -> str:
    """Return the method to compute intervals with again: the jackknife, unless another was named.

    Descriptions of earlier versions, which knew only the bootstrap, did not name it "percentile".

    >>> find_method("95 % percentile bootstrap over 24 speakers")
    'bootstrap'
    >>> find_method("95 % bootstrap over 24 speakers")
    'jackknife'
    """
    return BOOTSTRAP if "percentile bootstrap" in description else JACKKNIFE


def _check_method(method: str) -> str:
    if method not in INTERVAL_METHODS:
        raise ValueError(
            f"{method!r} is no method of intervals; use {' or '.join(INTERVAL_METHODS)}"
        )
    return method


def _nan_to_none(bounds: tuple[float, float]) -> Interval:
    return None if math.isnan(bounds[0]) else bounds
