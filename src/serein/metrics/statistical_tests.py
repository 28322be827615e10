"""Significance tests: of the difference between two systems, and of a trend over a setting.

Two systems that predicted the same utterances are compared by utterance (`mcnemar_test`) or by
speaker (`permutation_test`). The first assumes independent utterances, which those of one speaker
are not; quote the second. `two_proportion_test` is the test of Zhang et al. (2019). None of them
covers the variation between training seeds. Adjust the p-values of several pairs by
`holm_correction`.

C = sums, G = groups such as speakers, K = classes, P = values of a setting, S = seeds.
"""

import math
from collections.abc import Hashable, Iterable, Iterator
from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.bootstrap import CHUNK_CELLS, Statistic

FloatArray = NDArray[np.float64]
MAX_ENUMERATED = 14
"""With more differing groups, random swaps are drawn: 2 ** 14 exceeds the usual 10,000 draws."""
SCORE_TOLERANCE = 1e-12
"""Smaller differences are rounding: the same counts, summed in another order."""
SLOPE_TOLERANCE = 1e-12


def discordant_counts(
    truth: Iterable[Hashable], first: Iterable[Hashable], second: Iterable[Hashable]
) -> tuple[int, int]:
    """Count the utterances that only the first system predicts correctly, and only the second.

    Args:
        truth: n gold labels.
        first: n predictions of one system.
        second: n predictions of another.

    Raises:
        ValueError: the lengths differ.

    >>> discordant_counts(["joy", "joy", "fear"], ["joy", "joy", "joy"], ["fear", "joy", "fear"])
    (1, 1)
    """
    rows = list(truth), list(first), list(second)
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        raise ValueError(f"truth and the two predictions differ in length: {lengths}")
    correct = [(label == one, label == other) for label, one, other in zip(*rows, strict=True)]
    return correct.count((True, False)), correct.count((False, True))


def mcnemar_test(only_first: int, only_second: int) -> float:
    r"""Exact McNemar test: p-value of two systems being correct equally often.

    Only the n utterances count that one system predicts correctly and the other does not. Under
    the null hypothesis each of them is a fair coin:

    .. math:: p = \min\left(1, 2^{1-n} \sum_{k=0}^{\min(b, c)} \binom{n}{k}\right), \quad n = b + c

    McNemar (1947): Note on the Sampling Error of the Difference Between Correlated Proportions;
    two-sided and binomial, not its chi-squared approximation. It compares WA, not UA, and assumes
    independent utterances: with few speakers, p is too small.

    Args:
        only_first: b, utterances that only the first system predicts; see `discordant_counts`.
        only_second: c, utterances that only the second system predicts.

    Returns:
        The p-value; 1 where the systems never differ.

    Raises:
        ValueError: a count is negative.

    >>> mcnemar_test(9, 2)
    0.0654296875
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"need counts; got {only_first} and {only_second}")
    n = only_first + only_second
    tail = term = 1
    for k in range(min(only_first, only_second)):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def permutation_test(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    r"""Paired permutation test over groups: p-value of two systems being interchangeable.

    If they are, the two systems' predictions for all utterances of a speaker may be swapped. The
    p-value is the share of such swaps whose absolute difference of scores is at least as large as
    the observed one. With up to 14 groups that differ, all :math:`2^G` swaps are enumerated; with
    more, ``draws`` random swaps are drawn, and the observed difference is counted among them:

    .. math:: p = \frac{1 + \#\{|d^*| \ge |d|\}}{1 + draws}

    Good (2005): Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3; Phipson &
    Smyth (2010): Permutation P-values Should Never Be Zero. G groups give no p below
    :math:`2^{1-G}`: five groups give at least 0.0625.

    Args:
        first: (G, K, K) counts of each group for one system, see
            `serein.metrics.bootstrap.confusion_by_group`; or (G, C) sums, such as
            `serein.metrics.regression.moments`.
        second: the same groups in the same order for another system.
        statistic: function from (n, K, K) or (n, C) sums over groups to (n,) scores, such as
            `serein.metrics.classification.unweighted_accuracy_from_confusion`.
        draws: number of random swaps, where there are too many to enumerate.
        seed: of the draws; the same seed gives the same p-value.

    Returns:
        The p-value; nan without groups, and where the statistic is undefined.

    Raises:
        ValueError: the two are not of the same utterances, or ``draws`` is out of range.

    >>> from serein.metrics.classification import weighted_accuracy_from_confusion
    >>> worse, better = [[[5, 5], [5, 5]]] * 6, [[[6, 4], [4, 6]]] * 6
    >>> permutation_test(better, worse, weighted_accuracy_from_confusion)
    0.03125
    """
    ours, theirs = _check_pair(first, second)
    if draws < 1:
        raise ValueError(f"need draws >= 1; got {draws}")
    if not len(ours):
        return float("nan")
    total, gaps = (ours + theirs).sum(axis=0), ours - theirs
    observed = gaps.sum(axis=0)
    # Swapping a group without a difference has no effect; each other group gets a sign.
    gaps = gaps[gaps.any(axis=tuple(range(1, gaps.ndim)))]
    exact = len(gaps) <= MAX_ENUMERATED
    signed = (
        _enumerate_swaps(gaps) if exact else _sample_swaps(gaps, draws, np.random.default_rng(seed))
    )
    swapped = np.concatenate([_score_differences(total, sums, statistic) for sums in signed])
    threshold = np.abs(_score_differences(total, observed[None], statistic)) - SCORE_TOLERANCE
    if np.isnan(swapped).any() or np.isnan(threshold).any():
        return float("nan")
    hits = int((np.abs(swapped) >= threshold).sum())
    return hits / len(swapped) if exact else (1 + hits) / (1 + draws)


def two_proportion_test(first: float, second: float, n: int) -> tuple[float, float]:
    r"""One-tailed z-test of whether the first of two proportions is larger.

    .. math:: z = \frac{p_1 - p_2}{\sqrt{2 \bar p (1 - \bar p) / n}}, \quad
        \bar p = \frac{p_1 + p_2}{2}

    The test behind the stars of Zhang et al. (2019), Table 1, who do not print its formula; the
    pooled form over the 1,811 and 1,819 utterances of their development and test subsets gives
    their stars. It treats UA, a mean of recalls, as the share of n correct utterances, and two
    predictions for the same utterance as independent. It is for checking that paper, not for
    quoting: `permutation_test` makes neither mistake.

    Args:
        first: score of one system, 0 to 1.
        second: score of another system on as many utterances.
        n: number of utterances of each score.

    Returns:
        z, and the p-value of a z at least as large for equal proportions. Both are nan where both
        scores are 0 or both 1, and for n = 0.

    Raises:
        ValueError: a score is not within 0 and 1, or n is negative.

    >>> z, p = two_proportion_test(0.485, 0.451, 1819)
    >>> round(z, 3), round(p, 4)
    (2.055, 0.0199)
    """
    if not (0 <= first <= 1 and 0 <= second <= 1 and n >= 0):
        raise ValueError(f"need scores within 0 and 1 and n >= 0; got {first}, {second}, {n}")
    pooled = (first + second) / 2
    if not n or not 0 < pooled < 1:
        return float("nan"), float("nan")
    z = (first - second) / math.sqrt(2 * pooled * (1 - pooled) / n)
    return z, math.erfc(z / math.sqrt(2)) / 2


def holm_correction(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Adjust the p-values of several tests so that they share one significance level.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})

    Holm (1979): A Simple Sequentially Rejective Multiple Test Procedure. For dependent and
    independent tests, the probability of any false alarm among those below 0.05 is at most 0.05.

    Args:
        p_values: (m,) p-values; nan is a test that could not be done, and is not counted.

    Returns:
        (m,) adjusted p-values in the same order, never below the given ones.

    Raises:
        ValueError: the p-values are not one vector within 0 and 1.

    >>> holm_correction([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise ValueError(f"need a vector of p-values within 0 and 1; got {p}")
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted


def cohens_h(first: float, second: float) -> float:
    r"""Cohen's h: difference of two proportions on a scale of equal variance.

    .. math:: h = 2 \arcsin \sqrt{p_1} - 2 \arcsin \sqrt{p_2}

    Cohen (1988): Statistical Power Analysis for the Behavioral Sciences, section 6.2, calls 0.2
    small, 0.5 medium and 0.8 large. An effect size, unlike a p-value, does not depend on n.

    Args:
        first: one proportion, such as a WA, 0 to 1.
        second: another proportion.

    Returns:
        A value in [-pi, pi], positive where the first is larger; nan where either is nan.

    Raises:
        ValueError: a proportion is not within 0 and 1.

    >>> round(cohens_h(0.816, 0.705), 4)
    0.2617
    """
    if any(score < 0 or score > 1 for score in (first, second)):
        raise ValueError(f"need proportions within 0 and 1; got {first} and {second}")
    return 2 * math.asin(math.sqrt(first)) - 2 * math.asin(math.sqrt(second))


def slope(values: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Least-squares slope of scores against values.

    Args:
        values: (P,) numbers, not all equal.
        scores: (..., P), one for each value.

    Returns:
        (...) slopes, in score per unit of the values.

    Raises:
        ValueError: fewer than two different values, or shapes do not match.

    >>> slope([0, 0.5, 1], [[0.6, 0.7, 0.8], [0.5, 0.5, 0.5]])
    array([0.2, 0. ])
    """
    x_p, y = np.asarray(values, dtype=float), np.asarray(scores, dtype=float)
    if x_p.ndim != 1 or len(np.unique(x_p)) < 2 or y.shape[-1:] != x_p.shape:
        raise ValueError(
            f"need two or more different values and a score for each; got {x_p.shape} and {y.shape}"
        )
    centred_p = x_p - x_p.mean()
    return np.asarray(y @ centred_p / (centred_p @ centred_p))


def slope_test(
    values: ArrayLike, scores: ArrayLike, *, draws: int = 10_000, seed: int = 0
) -> float:
    r"""Permutation test of a trend: p-value of a setting without effect.

    If a setting has no effect, the scores of one seed may be permuted among its values. The p-value
    is the share of such permutations, independent for each seed, whose mean scores have at least
    the observed absolute slope. All :math:`(P!)^S` are enumerated if there are at most ``draws``;
    else random ones are drawn, and the observed slope is counted among them. The test covers the
    variation between seeds only; `bootstrap_over_seeds` also covers that between speakers.

    Good (2005): Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.

    Args:
        values: (P,) numbers.
        scores: (S, P), a row for each seed.
        draws: number of random permutations, where there are too many to enumerate.
        seed: of the draws; the same seed gives the same p-value.

    Returns:
        The p-value; nan where a score is undefined.

    Raises:
        ValueError: as `slope`, or ``draws`` is out of range.

    >>> slope_test([0, 1, 2], [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]])  # 2 of (3!)^2
    0.05555555555555555
    """
    y_sp = np.atleast_2d(np.asarray(scores, dtype=float))
    observed = abs(float(slope(values, y_sp.mean(axis=0)))) - SLOPE_TOLERANCE
    if draws < 1:
        raise ValueError(f"need draws >= 1; got {draws}")
    if not np.isfinite(y_sp).all():
        return float("nan")
    exact = count_arrangements(*y_sp.shape) <= draws
    means = (
        _enumerate_mean_scores(y_sp)
        if exact
        else _sample_mean_scores(y_sp, draws, np.random.default_rng(seed))
    )
    slopes = np.abs(slope(values, np.stack(list(means))))
    hits = int((slopes >= observed).sum())
    return hits / len(slopes) if exact else (1 + hits) / (1 + draws)


def count_arrangements(seeds: int, values: int) -> int:
    """Count the ways to permute the scores of each seed among the values.

    >>> count_arrangements(3, 5)
    1728000
    """
    return math.factorial(values) ** seeds


def bootstrap_over_seeds(
    confusions: ArrayLike, statistic: Statistic, *, resamples: int = 10_000, seed: int = 0
) -> FloatArray:
    """Resample scores of systems that were trained with several seeds, over speakers and seeds.

    Each draw takes G of the G groups with replacement, the same for all systems, and for each
    system S of its S seeds; a system's score is that of all its predictions together. With few
    seeds the draws vary too little (Davison & Hinkley 1997, section 3.8).

    Args:
        confusions: (P, S, G, K, K) counts of each system, seed and group.
        statistic: function from (n, K, K) summed matrices to (n,) scores.
        resamples: number of draws.
        seed: of the draws; the same seed gives the same scores.

    Returns:
        (resamples, P) scores, nan where the statistic is undefined.

    Raises:
        ValueError: the counts have another shape or are empty, or ``resamples`` is below 1.
    """
    counts = np.asarray(confusions, dtype=float)
    if counts.ndim != 5 or not counts.size or resamples < 1:
        raise ValueError(
            f"need counts (P, S, G, K, K) and resamples >= 1; got {counts.shape} and {resamples}"
        )
    systems, seeds, groups, k = counts.shape[:4]
    x_gc = np.moveaxis(counts, 2, 0).reshape(groups, -1)
    # Separate streams, so that the draws do not depend on the size of a chunk.
    group_rng, seed_rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    step = max(1, CHUNK_CELLS // max(groups, x_gc.shape[1]))
    scores = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        group_counts = group_rng.multinomial(groups, np.full(groups, 1 / groups), size=size)
        seed_counts = seed_rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=(size, systems))
        sums = (group_counts.astype(float) @ x_gc).reshape(size, systems, seeds, k * k)
        totals = np.einsum("nps,npsc->npc", seed_counts.astype(float), sums)
        score = np.asarray(statistic(totals.reshape(-1, k, k)), dtype=float)
        scores.append(score.reshape(size, systems))
    return np.concatenate(scores)


def _check_pair(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ours, theirs = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if ours.ndim == 2 and ours.shape == theirs.shape:
        return ours, theirs
    if ours.ndim != 3 or ours.shape[1] != ours.shape[2] or ours.shape != theirs.shape:
        shapes = f"{ours.shape} and {theirs.shape}"
        raise ValueError(f"need one confusion matrix per group from both, (G, K, K); got {shapes}")
    if not np.array_equal(ours.sum(axis=2), theirs.sum(axis=2)):
        raise ValueError(
            "the class counts of the groups differ: compare predictions for the same utterances"
        )
    return ours, theirs


def _score_differences(
    total: NDArray[np.float64], gaps: NDArray[np.float64], statistic: Statistic
) -> NDArray[np.float64]:
    """Return the score of (total + gap) / 2 minus that of (total - gap) / 2, for each gap."""
    ours, theirs = (total + gaps) / 2, (total - gaps) / 2
    return np.asarray(statistic(ours), dtype=float) - np.asarray(statistic(theirs), dtype=float)


def _enumerate_swaps(gaps: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    count, shape = len(gaps), gaps.shape[1:]
    signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    sums = signs.astype(float) @ gaps.reshape(count, math.prod(shape))
    return [sums.reshape(2**count, *shape)]


def _sample_swaps(
    gaps: NDArray[np.float64], draws: int, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    # As in the bootstrap: of equal groups only the number that is swapped matters.
    kinds, members = np.unique(gaps, axis=0, return_counts=True)
    step = max(1, CHUNK_CELLS // max(len(kinds), kinds[0].size))
    sums = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        signed = members - 2.0 * rng.binomial(members, 0.5, size=(size, len(kinds)))
        sums.append((signed @ kinds.reshape(len(kinds), -1)).reshape(size, *kinds[0].shape))
    return sums


def _enumerate_mean_scores(y_sp: FloatArray) -> Iterator[FloatArray]:
    for rows in product(*(permutations(row) for row in y_sp.tolist())):
        yield np.mean(rows, axis=0)


def _sample_mean_scores(
    y_sp: FloatArray, draws: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    for _ in range(draws):
        yield rng.permuted(y_sp, axis=1).mean(axis=0)
