"""Whether one system is better than another, or the answers merely fell that way.

Two systems that answered the same utterances are compared utterance by utterance (`mcnemar_test`)
or speaker by speaker (`permutation_test`). The first takes utterances for independent, which those
of one speaker are not; the second does not, and is the one to quote. `two_proportion_test` is what
Zhang et al. (2019) did. None of them knows what another training seed would have given. Who tests
several pairs owes the reader `holm_adjusted`.

Whether a score rises or falls with a setting, over training seeds and tested speakers.

P = values of the setting, S = seeds, G = groups such as speakers, K = classes.
"""

import math
from collections.abc import Hashable, Iterable, Iterator
from itertools import permutations, product
from math import factorial, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.bootstrap import CHUNK_CELLS, Statistic

MAX_ENUMERATED = 14
"""Groups that differ; with more, swaps are drawn: 2 ** 14 is more than the usual 10,000 draws."""

SCORE_TOLERANCE = 1e-12
"""Differences nearer than this are equal: the same counts, summed in another order."""


def discordant_counts(
    truth: Iterable[Hashable], first: Iterable[Hashable], second: Iterable[Hashable]
) -> tuple[int, int]:
    """How many utterances only the first system has right, and how many only the second.

    Args:
        truth: n gold labels.
        first: n answers of one system.
        second: n answers of another.

    Raises:
        ValueError: the three differ in length.

    >>> discordant_counts(["joy", "joy", "fear"], ["joy", "joy", "joy"], ["fear", "joy", "fear"])
    (1, 1)
    """
    rows = list(truth), list(first), list(second)
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        raise ValueError(f"truth and the two answers differ in length: {lengths}")
    right = [(label == one, label == other) for label, one, other in zip(*rows, strict=True)]
    return right.count((True, False)), right.count((False, True))


def mcnemar_test(only_first: int, only_second: int) -> float:
    r"""Exact McNemar test: p-value of two systems being right equally often.

    Utterances that both have right or both wrong say nothing; of the n others, each is a fair coin:

    .. math:: p = \min\left(1, 2^{1-n} \sum_{k=0}^{\min(b, c)} \binom{n}{k}\right), \quad n = b + c

    McNemar (1947): Note on the Sampling Error of the Difference Between Correlated Proportions;
    two-sided and binomial, not its chi-squared approximation. It compares WA, not UA, and takes
    utterances for independent: with few speakers, p is too small.

    Args:
        only_first: b, utterances that only the first system has right; see `discordant_counts`.
        only_second: c, utterances that only the second has right.

    Returns:
        The p-value; 1 where the two never differ.

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

    If they are, swapping the two systems' answers to all utterances of a speaker changes nothing
    but chance. The p-value is the share of all such swaps whose difference of scores is at least
    as large, either way, as the one observed. With up to 14 groups that differ, all
    :math:`2^G` swaps are tried; with more, ``draws`` random ones, the observed one counted among
    them:

    .. math:: p = \frac{1 + \#\{|d^*| \ge |d|\}}{1 + draws}

    Good (2005): Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3; Phipson &
    Smyth (2010): Permutation P-values Should Never Be Zero. G groups give no p under
    :math:`2^{1-G}`: five cannot fall below 0.0625.

    Args:
        first: (G, K, K) counts of each group, as answered by one system; see
            `serein.metrics.bootstrap.grouped_confusions`. Or (G, C) sums, such as
            `serein.metrics.regression.moments`.
        second: of the same groups in the same order, by another.
        statistic: takes (n, K, K) or (n, C) sums over groups, gives (n,) scores, such as
            `serein.metrics.classification.unweighted_accuracy_from_confusion`.
        draws: how many swaps, where there are too many to try them all.
        seed: of the draws; the same seed gives the same p-value.

    Returns:
        The p-value; nan without groups, and where the statistic is undefined.

    Raises:
        ValueError: the two do not hold the same utterances, or ``draws`` is out of range.

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
    # A group that both answer alike makes no difference to swap; one sign each for the others.
    gaps = gaps[gaps.any(axis=tuple(range(1, gaps.ndim)))]
    exact = len(gaps) <= MAX_ENUMERATED
    signed = (
        _enumerate_swaps(gaps) if exact else _sample_swaps(gaps, draws, np.random.default_rng(seed))
    )
    found = np.concatenate([_score_differences(total, sums, statistic) for sums in signed])
    least = np.abs(_score_differences(total, observed[None], statistic)) - SCORE_TOLERANCE
    if np.isnan(found).any() or np.isnan(least).any():
        return float("nan")
    reached = int((np.abs(found) >= least).sum())
    return reached / len(found) if exact else (1 + reached) / (1 + draws)


def two_proportion_test(first: float, second: float, n: int) -> tuple[float, float]:
    r"""One-tailed z-test of two proportions: is the first larger?

    .. math:: z = \frac{p_1 - p_2}{\sqrt{2 \bar p (1 - \bar p) / n}}, \quad
        \bar p = \frac{p_1 + p_2}{2}

    The test behind the stars of Zhang et al. (2019), Table 1, who do not print its formula; the
    pooled one over the 1,811 and 1,819 utterances of their two sides gives their stars. It treats
    UA, a mean of recalls, as if it were the share of n utterances that is right, and two answers to
    the same utterance as independent. So it is here to check that paper, not to be quoted:
    `permutation_test` makes neither mistake.

    Args:
        first: score of one system, 0 to 1.
        second: score of another on as many utterances.
        n: utterances that each score is taken for a proportion of.

    Returns:
        z, and the p-value of a z as large or larger where the two are equal. Both are nan where
        both scores are 0 or both 1, and for n = 0.

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
    r"""P-values of several tests, adjusted so that one level holds for all of them together.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})

    Holm (1979): A Simple Sequentially Rejective Multiple Test Procedure. Whatever the tests have
    to do with each other, the chance of any false alarm among those under 0.05 is at most 0.05.

    Args:
        p_values: (m,) p-values; nan is a test that was not possible, and is not counted.

    Returns:
        (m,) adjusted p-values in the order given, never smaller than what went in.

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
    r"""Cohen's h: how far two proportions are apart, on a scale where they are equally variable.

    .. math:: h = 2 \arcsin \sqrt{p_1} - 2 \arcsin \sqrt{p_2}

    Cohen (1988): Statistical Power Analysis for the Behavioral Sciences, section 6.2, who calls
    0.2 small, 0.5 medium and 0.8 large. A size, unlike a p-value, does not grow with n.

    Args:
        first: one proportion, such as a WA, 0 to 1.
        second: another.

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


def _check_pair(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ours, theirs = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if ours.ndim == 2 and ours.shape == theirs.shape:
        return ours, theirs
    if ours.ndim != 3 or ours.shape[1] != ours.shape[2] or ours.shape != theirs.shape:
        shapes = f"{ours.shape} and {theirs.shape}"
        raise ValueError(f"need one confusion matrix a group from both, (G, K, K); got {shapes}")
    if not np.array_equal(ours.sum(axis=2), theirs.sum(axis=2)):
        raise ValueError(
            "the two differ in how often each group has each class: compare answers "
            "to the same utterances"
        )
    return ours, theirs


def _score_differences(
    total: NDArray[np.float64], gaps: NDArray[np.float64], statistic: Statistic
) -> NDArray[np.float64]:
    """Difference of the scores of (total + gap) / 2 and (total - gap) / 2, for each gap."""
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
    # As in the bootstrap: of equal groups it matters only how many are swapped.
    kinds, members = np.unique(gaps, axis=0, return_counts=True)
    step = max(1, CHUNK_CELLS // max(len(kinds), kinds[0].size))
    sums = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        kept = members - 2.0 * rng.binomial(members, 0.5, size=(size, len(kinds)))
        sums.append((kept @ kinds.reshape(len(kinds), -1)).reshape(size, *kinds[0].shape))
    return sums


FloatArray = NDArray[np.float64]
SLOPE_TOLERANCE = 1e-12


def slope(values: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Least-squares slope of scores against values.

    Args:
        values: (P,) numbers, not all the same.
        scores: (..., P).

    Returns:
        (...) slopes, a score for each unit of the values.

    Raises:
        ValueError: fewer than two different values, or shapes that do not fit.

    >>> slope([0, 0.5, 1], [[0.6, 0.7, 0.8], [0.5, 0.5, 0.5]])
    array([0.2, 0. ])
    """
    x_p, y = np.asarray(values, dtype=float), np.asarray(scores, dtype=float)
    if x_p.ndim != 1 or len(np.unique(x_p)) < 2 or y.shape[-1:] != x_p.shape:
        raise ValueError(
            f"need two different values or more and a score for each; got {x_p.shape} and {y.shape}"
        )
    centred_p = x_p - x_p.mean()
    return np.asarray(y @ centred_p / (centred_p @ centred_p))


def slope_test(
    values: ArrayLike, scores: ArrayLike, *, draws: int = 10_000, seed: int = 0
) -> float:
    r"""Permutation test of no trend: p-value of the setting being nothing but a name.

    If a setting does nothing, the scores of one seed may be exchanged among its values. The
    p-value is the share of such exchanges, in each seed its own, whose mean score has at least as
    steep a slope, either way, as the one observed. All :math:`(P!)^S` are tried where there are
    no more than ``draws``; else random ones, the observed one counted among them. It knows of
    the seeds alone: of other speakers, `bootstrap_repeated` knows.

    Good (2005): Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.

    Args:
        values: (P,) numbers.
        scores: (S, P), a row for each seed.
        draws: how many exchanges, where there are too many to try them all.
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
    turned = (
        _enumerate_mean_scores(y_sp)
        if exact
        else _sample_mean_scores(y_sp, draws, np.random.default_rng(seed))
    )
    found = np.abs(slope(values, np.stack(list(turned))))
    reached = int((found >= observed).sum())
    return reached / len(found) if exact else (1 + reached) / (1 + draws)


def count_arrangements(seeds: int, values: int) -> int:
    """How many ways there are to exchange the scores of each seed among the values.

    >>> count_arrangements(3, 5)
    1728000
    """
    return prod([factorial(values)] * seeds)


def _enumerate_mean_scores(y_sp: FloatArray) -> Iterator[FloatArray]:
    for rows in product(*(permutations(row) for row in y_sp.tolist())):
        yield np.mean(rows, axis=0)


def _sample_mean_scores(
    y_sp: FloatArray, draws: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    for _ in range(draws):
        yield rng.permuted(y_sp, axis=1).mean(axis=0)


def bootstrap_over_seeds(
    confusions: ArrayLike, statistic: Statistic, *, resamples: int = 10_000, seed: int = 0
) -> FloatArray:
    """Scores of systems trained with several seeds, as other seeds and speakers would have had it.

    Each draw takes G of the G groups with replacement, the same for all systems, and for each
    system S of its S seeds; a system's score is that of all its answers together. With few seeds
    the draws are too much alike (Davison & Hinkley 1997, section 3.8).

    Args:
        confusions: (P, S, G, K, K) counts of each system, seed and group.
        statistic: takes (n, K, K) summed matrices, gives (n,) scores.
        resamples: how many draws.
        seed: of the draws; the same seed gives the same scores.

    Returns:
        (resamples, P) scores, nan where the statistic is undefined.

    Raises:
        ValueError: the counts have another shape or hold nothing, or ``resamples`` is below 1.
    """
    counts = np.asarray(confusions, dtype=float)
    if counts.ndim != 5 or not counts.size or resamples < 1:
        raise ValueError(
            f"need counts (P, S, G, K, K) and resamples >= 1; got {counts.shape} and {resamples}"
        )
    systems, seeds, groups, k = counts.shape[:4]
    x_gc = np.moveaxis(counts, 2, 0).reshape(groups, -1)
    # A stream for each, so that the draws do not depend on how many are made at a time.
    of_groups, of_seeds = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    step = max(1, CHUNK_CELLS // max(groups, x_gc.shape[1]))
    scores = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        people = of_groups.multinomial(groups, np.full(groups, 1 / groups), size=size).astype(float)
        times = of_seeds.multinomial(seeds, np.full(seeds, 1 / seeds), size=(size, systems))
        sums = (people @ x_gc).reshape(size, systems, seeds, k * k)
        chosen = np.einsum("nps,npsc->npc", times.astype(float), sums)
        found = np.asarray(statistic(chosen.reshape(-1, k, k)), dtype=float)
        scores.append(found.reshape(size, systems))
    return np.concatenate(scores)
