r"""Jackknife intervals of scores over speakers: each speaker is left out once.

Utterances of one speaker are alike, so that a score of ten speakers has the certainty of ten
observations, however many utterances there are. The score is computed once without each of the G
speakers. Its standard error follows from the spread of these G scores (Tukey 1958; Efron &
Tibshirani 1993, equation 11.5):

.. math:: s^2 = \frac{G-1}{G} \sum_g (\hat\theta_{(g)} - \bar\theta_{(\cdot)})^2

The interval is symmetric on a scale h where the score has no bounds, and uses Student's t with
G - 1 degrees of freedom, which is what makes it hold for few speakers:

.. math:: h^{-1}\left(h(\hat\theta) \pm t_{G-1} \, h'(\hat\theta) \, s\right)

h is the logit of scores from 0 to 1, Fisher's z of correlations, and the logarithm of rates and
errors above 0. The standard error is carried to the scale by the derivative, not computed there:
one left-out score of exactly 1 would have an infinite logit. `docs/metrics.md` has the measured
coverage. It needs no random draws. It does not cover the variation between training seeds, unless
these are left out as well (`jackknife_over_seeds`).

C = counts or sums, G = groups such as speakers, K = classes, P = systems, S = seeds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.bootstrap import Statistic

FloatArray = NDArray[np.float64]
TOLERANCE = 1e-12
"""Smaller differences of scores are rounding: the same counts, summed in another order."""


@dataclass(frozen=True)
class Scale:
    """A scale on which a score has no bounds.

    Attributes:
        name: "logit", "z", "log" or "plain".
        lowest: lowest possible score.
        highest: highest possible score.
        transform: function from scores to the scale.
        derivative: of ``transform``.
        inverse: function from the scale to scores.
    """

    name: str
    lowest: float
    highest: float
    transform: Callable[[FloatArray], FloatArray]
    derivative: Callable[[FloatArray], FloatArray]
    inverse: Callable[[FloatArray], FloatArray]


LOGIT = Scale(
    "logit",
    0.0,
    1.0,
    lambda p: np.asarray(np.log(p) - np.log1p(-p)),
    lambda p: np.asarray(1 / (p * (1 - p))),
    lambda x: np.asarray(0.5 * (1 + np.tanh(x / 2))),
)
"""Of scores from 0 to 1, such as UA, WA, F1 and recalls."""
FISHER_Z = Scale(
    "z",
    -1.0,
    1.0,
    lambda r: np.asarray(np.arctanh(r)),
    lambda r: np.asarray(1 / (1 - r**2)),
    lambda z: np.asarray(np.tanh(z)),
)
"""Of CCC and correlations (Fisher 1921; for CCC: Lin 1989, section 4)."""
LOG = Scale(
    "log",
    0.0,
    math.inf,
    lambda x: np.asarray(np.log(x)),
    lambda x: np.asarray(1 / x),
    lambda x: np.asarray(np.exp(x)),
)
"""Of errors and rates from 0, such as RMSE and the word error rate."""
PLAIN = Scale("plain", -math.inf, math.inf, np.asarray, np.ones_like, np.asarray)
"""Of differences and slopes."""


def jackknife_interval(
    tallies: ArrayLike, statistic: Statistic, *, scale: Scale = LOGIT, level: float = 0.95
) -> tuple[float, float]:
    """Jackknife interval of a score; one group is left out at a time.

    Groups without any count are no observations, and are not counted as groups. A score of exactly
    0 or 1 on the logit scale has no standard error. Its other bound is the mean score m of a
    population in which G groups without an error (or without a hit) have the probability
    (1 - level) / 2 at most: :math:`m^G`, as a group is without an error with probability m or less.

    Args:
        tallies: (G, ...) counts or sums of each group, such as confusion matrices of speakers.
        statistic: function from (n, ...) sums over groups to (n,) scores, such as
            `serein.metrics.classification.unweighted_accuracy_from_confusion`.
        scale: of the score.
        level: confidence level.

    Returns:
        Lower and upper bound. Both are nan with fewer than two groups, where the score is undefined
        for all groups or without one of them, and where it does not vary.

    Raises:
        ValueError: ``level`` is not within 0 and 1.

    >>> from serein.metrics.classification import weighted_accuracy_from_confusion
    >>> good, bad = [[9, 1], [1, 9]], [[5, 5], [5, 5]]
    >>> low, high = jackknife_interval([good, bad] * 5, weighted_accuracy_from_confusion)
    >>> round(low, 3), round(high, 3)
    (0.532, 0.827)
    """
    rows = np.asarray(tallies, dtype=float)
    rows = rows[rows.any(axis=tuple(range(1, rows.ndim)))]
    score, left_out = _leave_out(rows, statistic)
    return _to_pair(*compute_bounds(score, left_out, scale=scale, level=level))


def jackknife_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    *,
    scale: Scale = LOGIT,
    level: float = 0.95,
) -> tuple[float, float]:
    """Jackknife interval of the difference of two scores of the same utterances, first - second.

    The same group is left out of both, so that the difficulty of a speaker cancels out. The
    interval is symmetric around the difference, and cut where no difference can lie.

    Args:
        first: (G, ...) counts or sums of each group for one system.
        second: the same groups in the same order for another system.
        statistic: function from (n, ...) sums over groups to (n,) scores.
        scale: of the scores, which limits their difference.
        level: confidence level.

    Returns:
        Lower and upper bound; (0, 0) for equal counts, else nan as in `jackknife_interval`.

    Raises:
        ValueError: the shapes differ, or ``level`` is not within 0 and 1.

    >>> from serein.metrics.classification import weighted_accuracy_from_confusion
    >>> hard, easy, better = [[5, 5], [5, 5]], [[9, 1], [1, 9]], [[7, 3], [3, 7]]
    >>> low, high = jackknife_difference(
    ...     [better, easy] * 5, [hard, easy] * 5, weighted_accuracy_from_confusion
    ... )
    >>> round(low, 3), round(high, 3)
    (0.025, 0.175)
    """
    ours, theirs = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if ours.shape != theirs.shape:
        raise ValueError(f"pairs need equal shapes; got {ours.shape} and {theirs.shape}")
    used = (ours != 0) | (theirs != 0)
    used_g = used.any(axis=tuple(range(1, used.ndim)))
    ours, theirs = ours[used_g], theirs[used_g]
    (score, left_out), (other, other_left_out) = (
        _leave_out(rows, statistic) for rows in (ours, theirs)
    )
    if len(ours) > 1 and np.array_equal(ours, theirs) and not np.isnan(score):
        return 0.0, 0.0
    low, high = compute_bounds(score - other, left_out - other_left_out, scale=PLAIN, level=level)
    span = scale.highest - scale.lowest
    return _to_pair(np.maximum(low, -span), np.minimum(high, span))


def jackknife_over_seeds(
    tallies: ArrayLike, statistic: Statistic, *, scale: Scale = LOGIT, level: float = 0.95
) -> tuple[float, float]:
    """Jackknife interval over groups and over training seeds.

    ``statistic`` gets the sums of P systems with S seeds each. The variances of leaving out a
    group (of all systems and seeds) and a seed (of one system) are added, and the degrees of
    freedom are those of Satterthwaite (1946), rounded down. With one seed, the groups alone count.
    The sum holds the interaction of groups and seeds twice, so that the interval is rather too wide
    than too narrow.

    Args:
        tallies: (P, S, G, ...) counts or sums of each system, seed and group.
        statistic: function from (n, P, ...) sums to (n,) scores.
        scale: of the score.
        level: confidence level.

    Returns:
        Lower and upper bound, nan as in `jackknife_interval`.

    Raises:
        ValueError: the tallies have fewer than four axes or are empty, or ``level`` is not within
            0 and 1.
    """
    counts = np.asarray(tallies, dtype=float)
    if counts.ndim < 4 or not counts.size:
        raise ValueError(f"need tallies (P, S, G, ...) that are not empty; got {counts.shape}")
    systems, seeds = counts.shape[:2]
    by_group = np.moveaxis(counts.sum(axis=1), 1, 0)
    by_group = by_group[by_group.any(axis=tuple(range(1, by_group.ndim)))]
    score, left_out = _leave_out(by_group, statistic)
    sources = [left_out]
    if seeds > 1:
        by_seed, total = counts.sum(axis=2), by_group.sum(axis=0)
        for system in range(systems):
            without = np.repeat(total[None], seeds, axis=0)
            # Scaled to the same number of predictions, for statistics of several systems.
            without[:, system] -= by_seed[system]
            without[:, system] *= seeds / (seeds - 1)
            sources.append(np.asarray(statistic(without), dtype=float))
    return _to_pair(*compute_bounds(score, *sources, scale=scale, level=level))


def compute_bounds(
    score: ArrayLike, *left_out: ArrayLike, scale: Scale = LOGIT, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Compute the bounds of scores from the scores without one unit.

    Args:
        score: (...) scores.
        left_out: for each independent source of variation, (..., G) scores without one of its G
            units; the first source is the speakers.
        scale: of the score.
        level: confidence level.

    Returns:
        (...) lower and (...) upper bounds; nan as in `jackknife_interval`.

    Raises:
        ValueError: ``level`` is not within 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"need a level within 0 and 1; got {level}")
    score = np.asarray(score, dtype=float)
    sources = [np.asarray(one, dtype=float) for one in left_out]
    undefined = np.full(score.shape, np.nan)
    if any(one.shape[-1] < 2 for one in sources):
        return undefined, undefined.copy()
    variances = np.stack([_jackknife_variance(one) for one in sources])
    freedom = np.array([one.shape[-1] - 1 for one in sources])
    variance = variances.sum(axis=0)
    varies = variance > TOLERANCE**2
    safe = np.where(varies, variance, 1.0)
    # Satterthwaite's degrees of freedom; those of a single source are its own.
    shares = np.where(varies, variances / safe, 1.0)
    weights = shares**2 / freedom.reshape(-1, *(1,) * score.ndim)
    t = _map_quantiles(1 / weights.sum(axis=0), (1 + level) / 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        centre, half = scale.transform(score), t * scale.derivative(score) * np.sqrt(safe)
        low = np.where(varies, scale.inverse(centre - half), undefined)
        high = np.where(varies, scale.inverse(centre + half), undefined)
    if scale is LOGIT:
        # Without any error, m ** G = (1 - level) / 2 gives the bound; see `jackknife_interval`.
        edge = ((1 - level) / 2) ** (1 / sources[0].shape[-1])
        constant = (np.ptp(sources[0], axis=-1) <= TOLERANCE) & np.isfinite(sources[0]).all(axis=-1)
        is_one = constant & (score >= 1 - TOLERANCE)
        is_zero = constant & (score <= TOLERANCE)
        low = np.where(is_one, edge, np.where(is_zero, 0.0, low))
        high = np.where(is_one, 1.0, np.where(is_zero, 1 - edge, high))
    return low, high


def choose_jackknife_groups(speakers: Sequence[str | None]) -> tuple[list[str], str]:
    """Choose what to leave out: speakers, or utterances where a speaker is not known.

    One speaker has no interval: nothing is known about how much speakers differ.

    Args:
        speakers: n speakers, one for each utterance; None for an unknown speaker.

    Returns:
        n names of groups, and a description of the method.

    >>> choose_jackknife_groups(["ann", "bob", "ann"])
    (['ann', 'bob', 'ann'], '95 % jackknife over 2 speakers')
    >>> choose_jackknife_groups(["ann", "ann"])[1]
    'no interval (1 speaker; 2 are needed)'
    """
    known = [speaker for speaker in speakers if speaker is not None]
    if len(known) < len(speakers):
        reason = f"the speaker of {len(speakers) - len(known)} is not known"
        method = f"95 % jackknife over {len(speakers)} utterances ({reason}; likely too narrow)"
        return [str(index) for index in range(len(speakers))], method
    count = len(set(known))
    if count < 2:
        plural = "s" * (count != 1)
        return known, f"no interval ({count} speaker{plural}; 2 are needed)"
    return known, f"95 % jackknife over {count} speakers"


@lru_cache(maxsize=4096)
def student_t_quantile(probability: float, freedom: int) -> float:
    r"""Quantile of Student's t distribution.

    The distribution function for whole degrees of freedom is a finite sum (Abramowitz & Stegun
    1964, 26.7.3 and 26.7.4), which is inverted by bisection of :math:`\arctan(t / \sqrt{\nu})`.

    Args:
        probability: within 0.5 and 1, without the latter.
        freedom: degrees of freedom, 1 or more.

    Raises:
        ValueError: an argument is out of range.

    >>> round(student_t_quantile(0.975, 9), 3)
    2.262
    """
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(
            f"need 0.5 <= probability < 1 and freedom >= 1; got {probability} and {freedom}"
        )
    steps = np.arange(1, freedom // 2)
    # Products of (2k - 1) / 2k for even, and of 2k / (2k + 1) for odd degrees of freedom.
    factors = 2 * steps / (2 * steps + 1) if freedom % 2 else (2 * steps - 1) / (2 * steps)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        central = _central_probability(middle, freedom, factors)
        low, high = (middle, high) if central < 2 * probability - 1 else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _central_probability(angle: float, freedom: int, factors: FloatArray) -> float:
    """Return the probability of t within -x and x, where x is sqrt(freedom) * tan(angle)."""
    if freedom == 1:
        return 2 * angle / math.pi
    sine, cosine = math.sin(angle), math.cos(angle)
    terms = np.cumprod(np.concatenate([[1.0], factors * cosine**2]))
    if freedom % 2 == 0:
        return float(sine * terms.sum())
    return float(2 / math.pi * (angle + sine * cosine * terms.sum()))


def _map_quantiles(freedom: FloatArray, probability: float) -> FloatArray:
    # Whole degrees of freedom, rounded down; the sum of reciprocals may be short of them.
    whole = np.maximum(1, np.floor(np.nan_to_num(freedom, nan=1.0) + 1e-6)).astype(int)
    kinds, index = np.unique(whole, return_inverse=True)
    quantiles = np.array([student_t_quantile(probability, int(kind)) for kind in kinds])
    return quantiles[index].reshape(np.shape(freedom))


def _leave_out(rows: FloatArray, statistic: Statistic) -> tuple[FloatArray, FloatArray]:
    """Return the score of all groups, and the (G,) scores without one of them."""
    if len(rows) < 2:
        return np.asarray(np.nan), np.full(len(rows), np.nan)
    total = rows.sum(axis=0)
    left_out = np.asarray(statistic(total - rows), dtype=float)
    return np.asarray(statistic(total[None]), dtype=float)[0], left_out


def _jackknife_variance(left_out: FloatArray) -> FloatArray:
    count = left_out.shape[-1]
    deviations = left_out - left_out.mean(axis=-1, keepdims=True)
    return np.asarray((count - 1) / count * (deviations**2).sum(axis=-1))


def _to_pair(low: FloatArray, high: FloatArray) -> tuple[float, float]:
    bounds = float(low), float(high)
    return bounds if all(map(math.isfinite, bounds)) else (math.nan, math.nan)
