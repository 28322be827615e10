"""Whether a score rises or falls with a setting, over training seeds and tested speakers.

P = values of the setting, S = seeds, G = groups such as speakers, K = classes.
"""

from collections.abc import Iterator
from itertools import permutations, product
from math import factorial, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.bootstrap import CHUNK_CELLS, Statistic

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

    >>> arrangements(3, 5)
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
