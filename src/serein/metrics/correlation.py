r"""Interval of the correlation of two series whose neighbouring values are alike.

T neighbouring steps are not T observations. The variance of a correlation of two independent
stationary series follows from their autocorrelations (Bartlett 1935; Pyper & Peterman 1998,
equation 1), which gives an effective number of steps:

.. math:: T_e = T \Big/ \Big(1 + 2 \sum_{k=1}^{T/4} (1 - k/T) \, \rho_x(k) \, \rho_y(k)\Big)

The interval is that of Fisher's z for as many independent steps, with Student's t:

.. math:: \tanh\left(\operatorname{artanh} r \pm t_{T_e - 2} / \sqrt{T_e - 3}\right)

`docs/metrics.md` has its measured coverage, which is better than that of resampled blocks
(`serein.metrics.bootstrap.block_bootstrap_correlation`).

T = steps.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.jackknife import student_t_quantile
from serein.metrics.regression import pearson_score, rank_values, spearman_score

MIN_EFFECTIVE_STEPS = 5.0
"""With fewer effective steps, a correlation has no interval."""
MAX_LAG_SHARE = 4
"""Autocorrelations up to a quarter of the series count; at longer lags they are mostly chance."""


def correlation_interval(
    first: ArrayLike, second: ArrayLike, *, ranked: bool = False, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the correlation of two stationary series.

    Args:
        first: (T,) values in order of time.
        second: (T,) values at the same steps.
        ranked: use Spearman's correlation instead of Pearson's.
        level: confidence level.

    Returns:
        Lower and upper bound; nan where the correlation is undefined, and with fewer than
        `MIN_EFFECTIVE_STEPS` effective steps.

    Raises:
        ValueError: the arguments are not series of one length, or ``level`` is not within 0 and 1.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).standard_normal((2, 100))
    >>> low, high = correlation_interval(*noise)
    >>> low < 0 < high
    True
    """
    if not 0 < level < 1:
        raise ValueError(f"need a level within 0 and 1; got {level}")
    score = (spearman_score if ranked else pearson_score)(first, second)
    if math.isnan(score):
        return math.nan, math.nan
    steps = effective_steps(first, second, ranked=ranked)
    if steps < MIN_EFFECTIVE_STEPS:
        return math.nan, math.nan
    if abs(score) >= 1:
        return score, score
    t = student_t_quantile((1 + level) / 2, math.floor(steps - 2))
    half = t / math.sqrt(steps - 3)
    return math.tanh(math.atanh(score) - half), math.tanh(math.atanh(score) + half)


def effective_steps(first: ArrayLike, second: ArrayLike, *, ranked: bool = False) -> float:
    """Number of independent steps whose correlation would vary as much as that of two series.

    Args:
        first: (T,) values in order of time.
        second: (T,) values at the same steps.
        ranked: use the ranks of the values.

    Returns:
        At most T; nan where a series is constant.

    >>> effective_steps([1, 2, 1, 2, 1, 2, 1, 2], [1, 1, 2, 2, 1, 1, 2, 2])
    8.0
    """
    pair = [np.asarray(values, dtype=float) for values in (first, second)]
    x_t, y_t = (rank_values(values) for values in pair) if ranked else pair
    count = len(x_t)
    lags = np.arange(1, count // MAX_LAG_SHARE + 1)
    products = _autocorrelation(x_t)[lags] * _autocorrelation(y_t)[lags]
    inflation = 1 + 2 * float(((1 - lags / count) * products).sum())
    # Negative products would make more steps of T: they are mostly chance.
    return count / max(1.0, inflation) if not math.isnan(inflation) else math.nan


def _autocorrelation(value_t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the autocorrelation at each lag, (T,); nan for a constant."""
    centred_t = value_t - value_t.mean()
    spectrum = np.fft.rfft(centred_t, 2 * len(value_t))
    products_t = np.fft.irfft(np.abs(spectrum) ** 2)[: len(value_t)]
    if np.ptp(value_t) == 0:
        return np.full(len(value_t), np.nan)
    return np.asarray(products_t / products_t[0])
