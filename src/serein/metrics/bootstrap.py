"""Bootstrap intervals of scores over speakers, and of correlations over blocks of time.

The intervals of serein are those of `serein.metrics.jackknife`; this one is used where it is named.

Utterances of one speaker are alike: 500 utterances of ten speakers are much closer to ten
observations than to 500. An interval that resamples utterances as if they were independent is too
narrow. Resampling whole speakers shows how much a score depends on who was recorded (Davison &
Hinkley 1997, section 3.8). With few speakers this interval is too narrow as well (`docs/metrics.md`
has the measured coverage): below twenty its description says so, and below eight utterances are
resampled instead. It does not cover the variation between training seeds.

Neighbouring steps of a series are alike, too: resampling single steps gives a far too narrow
interval of a correlation. Resampling whole blocks of steps keeps their dependence (Künsch 1989,
"The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17).
Blocks must be longer than the dependence, and there must be many: with few blocks the interval is
too narrow.

C = counts or sums, G = groups, K = classes, R = draws, T = steps.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.classification import class_indices
from serein.metrics.regression import pearson_score, spearman_score

Statistic = Callable[[NDArray[np.float64]], ArrayLike]
FloatArray = NDArray[np.float64]
MIN_SPEAKERS = 8
"""With fewer speakers, utterances are resampled instead."""
MIN_RELIABLE_SPEAKERS = 20
"""With fewer speakers, the interval is likely too narrow, and its description says so."""
CHUNK_CELLS = 1_000_000
"""Numbers of a chunk of draws, which limits memory: 8 bytes each, in a few copies."""
CORRELATION_CHUNK_CELLS = 1_000_000


def bootstrap_interval(
    sums: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    r"""Percentile interval of a score; whole groups are resampled with replacement.

    Each draw takes G of the G groups with replacement and computes the statistic of their summed
    matrices or counts. The interval contains the middle ``level`` of the scores of all draws:

    .. math:: [\hat\theta^{*(\alpha)}, \hat\theta^{*(1-\alpha)}], \quad \alpha = (1 - level) / 2

    Efron & Tibshirani (1993): An Introduction to the Bootstrap, chapter 13.

    Args:
        sums: (G, K, K) confusion matrices of each group, such as a speaker; or (G, C) counts,
            such as a speaker's word errors.
        statistic: function from (n, K, K) or (n, C) sums over groups to (n,) scores, such as
            `serein.metrics.classification.unweighted_accuracy_from_confusion` or
            `serein.metrics.word_error_rate.word_error_rate_from_counts`.
        resamples: number of draws.
        level: share of the draws inside the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Lower and upper bound. Both are nan without groups, and where the statistic is undefined
        in any draw: an interval of the other draws would be an interval of another statistic.

    Raises:
        ValueError: the sums are neither (G, K, K) nor (G, C), or an option is out of range.

    >>> from serein.metrics.classification import weighted_accuracy_from_confusion
    >>> good, bad = [[9, 1], [1, 9]], [[5, 5], [5, 5]]
    >>> bootstrap_interval([good, bad] * 5, weighted_accuracy_from_confusion)
    (0.58, 0.82)
    >>> from serein.metrics.word_error_rate import word_error_rate_from_counts
    >>> good, bad = [1, 0, 0, 10], [3, 1, 1, 10]
    >>> bootstrap_interval([good, bad] * 5, word_error_rate_from_counts)
    (0.18, 0.42)
    """
    return _percentile_interval(_check_sums(sums), statistic, resamples, level, seed)


def bootstrap_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the difference of two scores of the same utterances, first - second.

    Every draw takes the same groups for both, as in `bootstrap_interval`: the difficulty of a
    speaker cancels out, and for equal predictions the interval is (0, 0).

    Args:
        first: (G, K, K) counts of each group for one system; or (G, C) sums, such as
            `serein.metrics.regression.moments`.
        second: the same groups in the same order for another system.
        statistic: function from (n, K, K) or (n, C) sums over groups to (n,) scores.
        resamples: number of draws.
        level: share of the draws inside the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Lower and upper bound, nan as in `bootstrap_interval`.

    Raises:
        ValueError: shapes differ, or are neither (G, K, K) nor (G, C), or an option is out of
            range.

    >>> from serein.metrics.classification import weighted_accuracy_from_confusion
    >>> hard, easy, better = [[5, 5], [5, 5]], [[9, 1], [1, 9]], [[7, 3], [3, 7]]
    >>> low, high = bootstrap_difference(
    ...     [better, easy] * 5, [hard, easy] * 5, weighted_accuracy_from_confusion
    ... )
    >>> round(low, 2), round(high, 2)
    (0.04, 0.16)
    """
    pair = _check_sums(first), _check_sums(second)
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"pairs need equal shapes; got {pair[0].shape} and {pair[1].shape}")

    def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(statistic(sums[:, 0])) - np.asarray(statistic(sums[:, 1]))

    return _percentile_interval(np.stack(pair, axis=1), difference, resamples, level, seed)


def block_bootstrap_correlation(
    first: ArrayLike,
    second: ArrayLike,
    *,
    block: int,
    ranked: bool = False,
    resamples: int = 2_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the correlation of two series; blocks of steps are resampled.

    Each draw takes as many of the T - ``block`` + 1 blocks as cover T steps, with replacement and
    the same ones of both series, and correlates the concatenated blocks.

    Args:
        first: (T,) values in order of time.
        second: (T,) values at the same steps.
        block: number of steps of a block.
        ranked: use Spearman's correlation, with ranks of each draw, instead of Pearson's.
        resamples: number of draws.
        level: share of the draws inside the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Lower and upper bound; nan where the correlation is undefined, in the series or in a draw.

    Raises:
        ValueError: the arguments are not series of one length, or an option is out of range.

    >>> rising = list(range(40))
    >>> block_bootstrap_correlation(rising, [2 * x for x in rising], block=4)
    (1.0, 1.0)
    """
    score = (spearman_score if ranked else pearson_score)(first, second)
    x_t, y_t = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if resamples < 1 or not 0 < level < 1 or not 1 <= block <= max(1, len(x_t)):
        raise ValueError(
            f"need resamples >= 1, 0 < level < 1 and 1 <= block <= {len(x_t)} steps; "
            f"got {resamples}, {level} and {block}"
        )
    if math.isnan(score):
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    step = max(1, CORRELATION_CHUNK_CELLS // len(x_t))
    scores: list[FloatArray] = []
    for start in range(0, resamples, step):
        times_rt = _sample_blocks(len(x_t), block, min(step, resamples - start), rng)
        pair = [
            _rank_within_draws(v_t, times_rt) if ranked else _standardize(v_t) for v_t in (x_t, y_t)
        ]
        scores.append(_correlate_draws(times_rt, *pair))
    low, high = np.quantile(np.concatenate(scores), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def choose_resampling_groups(speakers: Sequence[str | None]) -> tuple[list[str], str]:
    """Choose what to resample: speakers, or utterances where there are too few speakers.

    Args:
        speakers: n speakers, one for each utterance; None for an unknown speaker.

    Returns:
        n names of groups, and a description of the method.

    >>> groups, method = choose_resampling_groups(["ann", "bob", "ann"])
    >>> print(method.replace(" (", chr(10) + "("))
    95 % percentile bootstrap over 3 utterances
    (2 speakers are too few to resample; likely too narrow)
    """
    known = [speaker for speaker in speakers if speaker is not None]
    count = len(set(known))
    if count >= MIN_SPEAKERS and len(known) == len(speakers):
        narrow = " (few: likely too narrow)" * (count < MIN_RELIABLE_SPEAKERS)
        return known, f"95 % percentile bootstrap over {count} speakers{narrow}"
    reason = f"{count} speaker{'s are' if count != 1 else ' is'} too few to resample"
    if len(known) < len(speakers):
        reason = f"the speaker of {len(speakers) - len(known)} is not known"
    method = (
        f"95 % percentile bootstrap over {len(speakers)} utterances ({reason}; likely too narrow)"
    )
    return [str(index) for index in range(len(speakers))], method


def sum_by_group(counts: ArrayLike, groups: Sequence[Any]) -> NDArray[np.float64]:
    """Sum the rows of each group.

    Args:
        counts: (n, C) counts of each utterance.
        groups: n names, such as each utterance's speaker.

    Returns:
        (G, C) sums, groups sorted.

    Raises:
        ValueError: lengths differ, or the counts are not (n, C).

    >>> sum_by_group([[1, 5], [0, 4], [2, 3]], ["ann", "bob", "ann"])
    array([[3., 8.],
           [0., 4.]])
    """
    rows = np.asarray(counts, dtype=float)
    if rows.ndim != 2 or len(rows) != len(groups):
        raise ValueError(f"need one group per row of (n, C); got {len(groups)} and {rows.shape}")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, group, rows)
    return sums


def confusion_by_group(
    truth: Iterable[Hashable],
    prediction: Iterable[Hashable],
    groups: Sequence[Any],
    classes: Sequence[Hashable],
) -> NDArray[np.int64]:
    """Compute a confusion matrix for each group.

    Args:
        truth: n gold labels.
        prediction: n predicted labels.
        groups: n names, such as each utterance's speaker.
        classes: all K labels, in the order of rows and columns.

    Returns:
        (G, K, K) counts, groups sorted.

    Raises:
        ValueError: lengths differ, or a label is not in ``classes``.

    >>> confusion_by_group([0, 1, 1], [0, 1, 0], ["ann", "ann", "bob"], classes=[0, 1])
    array([[[1, 0],
            [0, 1]],
    <BLANKLINE>
           [[0, 0],
            [1, 0]]])
    """
    rows, columns = class_indices(truth, classes), class_indices(prediction, classes)
    if not rows.size == columns.size == len(groups):
        lengths = f"{rows.size}, {columns.size}, {len(groups)}"
        raise ValueError(f"truth, prediction and groups differ in length: {lengths}")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    k = len(classes)
    cells = (group * k + rows) * k + columns
    return np.bincount(cells, minlength=len(names) * k * k).reshape(len(names), k, k)


def _check_sums(sums: ArrayLike) -> NDArray[np.float64]:
    groups = np.asarray(sums, dtype=float)
    if groups.ndim not in (2, 3) or (groups.ndim == 3 and groups.shape[1] != groups.shape[2]):
        raise ValueError(
            "need one confusion matrix or one row of counts per group, (G, K, K) or (G, C); got "
            f"{groups.shape}"
        )
    return groups


def _percentile_interval(
    groups: NDArray[np.float64], statistic: Statistic, resamples: int, level: float, seed: int
) -> tuple[float, float]:
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"need resamples >= 1 and 0 < level < 1; got {resamples} and {level}")
    if not len(groups):
        return float("nan"), float("nan")
    scores = _resample_scores(groups, statistic, resamples, np.random.default_rng(seed))
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resample_scores(
    groups: NDArray[np.float64], statistic: Statistic, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    # Groups of equal matrices are interchangeable: drawing the number of times that each distinct
    # matrix occurs has the same distribution, and single utterances have at most K * K of them.
    kinds, members = np.unique(groups, axis=0, return_counts=True)
    step = max(1, CHUNK_CELLS // max(len(kinds), kinds[0].size))
    scores = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        times = rng.multinomial(len(groups), members / len(groups), size=size)
        sums = times.astype(float) @ kinds.reshape(len(kinds), -1)
        scores.append(np.asarray(statistic(sums.reshape(size, *kinds[0].shape)), dtype=float))
    return np.concatenate(scores)


def _sample_blocks(count: int, block: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each step occurs in each draw of blocks, (R, T)."""
    blocks, positions = math.ceil(count / block), count - block + 1
    change_rt = np.zeros((draws, count + 1))
    row_rb = np.arange(draws)[:, None]
    start_rb = rng.integers(0, positions, size=(draws, blocks))
    np.add.at(change_rt, (row_rb, start_rb), 1)
    np.add.at(change_rt, (row_rb, start_rb + block), -1)
    return change_rt.cumsum(axis=1)[:, :-1]


def _rank_within_draws(value_t: FloatArray, times_rt: FloatArray) -> FloatArray:
    """Return the rank of each step within each draw, (R, T); equal values share their mean rank."""
    values, group_t = np.unique(value_t, return_inverse=True)
    order_t = np.argsort(group_t, kind="stable")
    starts = np.searchsorted(group_t[order_t], np.arange(len(values)))
    sizes = np.add.reduceat(times_rt[:, order_t], starts, axis=1)
    ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    middle = times_rt.shape[1] / 2  # centred ranks give the same correlation with less rounding
    return (ranks[:, group_t] - middle) / middle


def _standardize(value_t: FloatArray) -> FloatArray:
    return ((value_t - value_t.mean()) / value_t.std())[None]


def _correlate_draws(times_rt: FloatArray, x_rt: FloatArray, y_rt: FloatArray) -> FloatArray:
    """Return Pearson's correlation of each draw, (R,)."""

    def mean(value_rt: FloatArray) -> FloatArray:
        return np.asarray((times_rt * value_rt).sum(axis=1) / times_rt.sum(axis=1))

    x_r, y_r = mean(x_rt), mean(y_rt)
    spread_r = (mean(x_rt**2) - x_r**2) * (mean(y_rt**2) - y_r**2)
    # The variance of a constant is rounding: below a ten-millionth of the series' deviation.
    varies_r = spread_r > 1e-14
    root_r = np.sqrt(np.where(varies_r, spread_r, 1))
    score_r = np.clip((mean(x_rt * y_rt) - x_r * y_r) / root_r, -1, 1)
    return np.where(varies_r, score_r, np.nan)
