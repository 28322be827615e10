"""How sure the correlation of two series is, whose neighbouring steps resemble each other.

A hundred steps of a tenth of a second are not a hundred observations: what is loud now was loud a
moment ago. Resampling single steps would tear that apart and give far too narrow an interval;
whole blocks of neighbours keep it (Künsch 1989, "The jackknife and the bootstrap for general
stationary observations", Annals of Statistics 17). A block must outlast the resemblance, and
there must be many of them: with few blocks the interval is narrower than its name.

R = draws, T = steps.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.regression import pearson_score, spearman_score

CORRELATION_CHUNK_CELLS = 1_000_000
"""Bounds the memory: 8 bytes a cell, a handful of copies."""

FloatArray = NDArray[np.float64]


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
    """Percentile interval of the correlation of two series, blocks of steps being resampled.

    As many blocks as cover T steps are drawn with replacement from the T - ``block`` + 1 that
    there are, the same ones of both series, laid end to end and correlated.

    Args:
        first: (T,) values in the order of time.
        second: (T,) values at the same steps.
        block: steps of a block.
        ranked: whether the correlation is Spearman's, ranked anew in each draw; or else Pearson's.
        resamples: how many draws.
        level: share of the draws inside the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        Lower and upper bound; nan where the correlation is undefined, in the series or in a draw.

    Raises:
        ValueError: the two are not series of one length, or an option is out of range.

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
    draw = np.random.default_rng(seed)
    step = max(1, CORRELATION_CHUNK_CELLS // len(x_t))
    scores: list[FloatArray] = []
    for start in range(0, resamples, step):
        times_rt = _sample_blocks(len(x_t), block, min(step, resamples - start), draw)
        pair = [
            _rank_within_draws(v_t, times_rt) if ranked else _standardize(v_t) for v_t in (x_t, y_t)
        ]
        scores.append(_correlate_draws(times_rt, *pair))
    low, high = np.quantile(np.concatenate(scores), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sample_blocks(count: int, block: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """How often each step comes up in each draw of blocks: (R, T)."""
    blocks, places = math.ceil(count / block), count - block + 1
    change_rt = np.zeros((draws, count + 1))
    row_rb = np.arange(draws)[:, None]
    begin_rb = rng.integers(0, places, size=(draws, blocks))
    np.add.at(change_rt, (row_rb, begin_rb), 1)
    np.add.at(change_rt, (row_rb, begin_rb + block), -1)
    return change_rt.cumsum(axis=1)[:, :-1]


def _rank_within_draws(value_t: FloatArray, times_rt: FloatArray) -> FloatArray:
    """Each step's rank within each draw, equal values sharing the middle one: (R, T)."""
    values, group_t = np.unique(value_t, return_inverse=True)
    order_t = np.argsort(group_t, kind="stable")
    starts = np.searchsorted(group_t[order_t], np.arange(len(values)))
    sizes = np.add.reduceat(times_rt[:, order_t], starts, axis=1)
    ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    middle = times_rt.shape[1] / 2  # a correlation has no zero; near it, sums round less
    return (ranks[:, group_t] - middle) / middle


def _standardize(value_t: FloatArray) -> FloatArray:
    return ((value_t - value_t.mean()) / value_t.std())[None]


def _correlate_draws(times_rt: FloatArray, x_rt: FloatArray, y_rt: FloatArray) -> FloatArray:
    """Pearson's correlation of each draw: (R,)."""

    def mean(value_rt: FloatArray) -> FloatArray:
        return np.asarray((times_rt * value_rt).sum(axis=1) / times_rt.sum(axis=1))

    x_r, y_r = mean(x_rt), mean(y_rt)
    spread_r = (mean(x_rt**2) - x_r**2) * (mean(y_rt**2) - y_r**2)
    # What is left of a constant is rounding: a ten-millionth of the whole series' deviation.
    varies_r = spread_r > 1e-14
    root_r = np.sqrt(np.where(varies_r, spread_r, 1))
    score_r = np.clip((mean(x_rt * y_rt) - x_r * y_r) / root_r, -1, 1)
    return np.where(varies_r, score_r, np.nan)
