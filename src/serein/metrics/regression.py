"""Metrics of continuous labels such as arousal and valence.

``truth`` and ``prediction`` are (n,) values on one scale. An undefined value is nan.

``*_from_moments`` takes (..., 6): one row of sums or a stack of rows. Moments of groups can be
summed like confusion matrices, so that whole speakers can be resampled or swapped.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

VARIANCE_TOLERANCE = 1e-12
"""A variance below this fraction of the mean square counts as 0."""


def concordance_score(truth: ArrayLike, prediction: ArrayLike) -> float:
    r"""Concordance correlation coefficient (CCC): agreement of the pairs with the line of equality.

    .. math:: \rho_c = \frac{2 s_{tp}}{s_t^2 + s_p^2 + (\bar t - \bar p)^2}

    Lin (1989): A Concordance Correlation Coefficient to Evaluate Reproducibility. Variances and
    covariance divide by n, as there. Dividing by n - 1 is also common and gives other values, since
    it does not scale the squared difference of the means: 0.6923 in the example.

    Args:
        truth: (n,) gold values.
        prediction: (n,) predicted values.

    Returns:
        A value in [-1, 1]; nan where both are constant and equal, and for n < 2.

    Raises:
        ValueError: the arguments are not vectors of one length, or have an undefined value.

    >>> round(concordance_score([0, 1, 2], [0, 1, 1]), 4)
    0.6667
    """
    t, p = _check_pair(truth, prediction)
    if t.size < 2:
        return float("nan")
    t_off, p_off = _deviations(t), _deviations(p)
    spread = np.mean(t_off**2) + np.mean(p_off**2) + (t.mean() - p.mean()) ** 2
    return float(2 * np.mean(t_off * p_off) / spread) if spread else float("nan")


def pearson_score(truth: ArrayLike, prediction: ArrayLike) -> float:
    r"""Pearson's correlation: how close the pairs are to a rising line.

    .. math:: r = \frac{s_{tp}}{s_t s_p}

    Dividing variances by n or by n - 1 gives the same value. It is independent of shift and scale:
    a prediction that is off by a constant still scores 1; see `concordance_score`.

    Args:
        truth: (n,) gold values.
        prediction: (n,) predicted values.

    Returns:
        A value in [-1, 1]; nan where either is constant, and for n < 2.

    Raises:
        ValueError: the arguments are not vectors of one length, or have an undefined value.

    >>> round(pearson_score([0, 1, 2], [0, 1, 1]), 4)
    0.866
    """
    t, p = _check_pair(truth, prediction)
    if t.size < 2:
        return float("nan")
    t_off, p_off = _deviations(t), _deviations(p)
    scale = np.linalg.norm(t_off) * np.linalg.norm(p_off)
    return float(np.clip(t_off @ p_off / scale, -1, 1)) if scale else float("nan")


def spearman_score(truth: ArrayLike, prediction: ArrayLike) -> float:
    r"""Spearman's rank correlation: how close the pairs are to a common order.

    .. math:: \rho = \frac{s_{rq}}{s_r s_q}, \quad r, q \text{ the ranks of } t \text{ and } p

    Equal values share the mean of their ranks. Unlike `pearson_score` it does not depend on the
    shape of the relation, and a few extreme values do not dominate it.

    Args:
        truth: (n,) gold values.
        prediction: (n,) predicted values.

    Returns:
        A value in [-1, 1]; nan where either is constant, and for n < 2.

    Raises:
        ValueError: the arguments are not vectors of one length, or have an undefined value.

    >>> round(spearman_score([0, 1, 2, 3], [0, 1, 1, 100]), 4)
    0.9487
    """
    t, p = _check_pair(truth, prediction)
    return pearson_score(rank_values(t), rank_values(p))


def rank_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank values from 1; equal values share the mean of their ranks.

    >>> rank_values(np.array([0.5, 0.1, 0.5]))
    array([2.5, 1. , 2.5])
    """
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[group])


def root_mean_squared_error(truth: ArrayLike, prediction: ArrayLike) -> float:
    r"""Root of the mean squared error (RMSE), in the unit of the labels; lower is better.

    .. math:: \mathrm{RMSE} = \sqrt{\frac{1}{n} \sum_i (t_i - p_i)^2}

    Args:
        truth: (n,) gold values.
        prediction: (n,) predicted values.

    Returns:
        The error, nan for n = 0.

    Raises:
        ValueError: the arguments are not vectors of one length, or have an undefined value.

    >>> round(root_mean_squared_error([0, 1, 2], [0, 1, 1]), 4)
    0.5774
    """
    t, p = _check_pair(truth, prediction)
    return float(np.sqrt(np.mean((t - p) ** 2))) if t.size else float("nan")


def moments(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return the moments of each utterance, whose sums the metrics are computed from.

    Args:
        truth: (n,) gold values.
        prediction: (n,) predicted values; may have nan, which makes every score undefined.

    Returns:
        (n, 6): 1, truth, prediction, their squares, and the square of their difference.

    Raises:
        ValueError: the arguments are not vectors of one length.

    >>> moments([0, 1, 2], [0, 1, 1]).sum(axis=0)
    array([3., 3., 2., 5., 2., 1.])
    """
    t, p = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    if t.ndim != 1 or t.shape != p.shape:
        raise ValueError(f"need two vectors of one length; got {t.shape} and {p.shape}")
    return np.stack([np.ones_like(t), t, p, t**2, p**2, (t - p) ** 2], axis=1)


def concordance_from_moments(sums: ArrayLike) -> NDArray[np.float64]:
    r"""`concordance_score` of summed `moments`, as Lin's ratio of squared errors.

    .. math:: \rho_c = 1 - \frac{\overline{(t - p)^2}}{s_t^2 + s_p^2 + (\bar t - \bar p)^2}

    Args:
        sums: (..., 6).

    Returns:
        (...) scores, without axes for one row; nan as there.

    >>> round(float(concordance_from_moments([3, 3, 2, 5, 2, 1])), 4)
    0.6667
    """
    n, error, variance_t, variance_p, shift = _mean_statistics(sums)
    spread = variance_t + variance_p + shift
    return 1 - _divide(error, np.where(n > 1, spread, 0.0))


def pearson_from_moments(sums: ArrayLike) -> NDArray[np.float64]:
    """`pearson_score` of summed `moments`.

    Args:
        sums: (..., 6).

    Returns:
        (...) scores, without axes for one row; nan as there.

    >>> round(float(pearson_from_moments([3, 3, 2, 5, 2, 1])), 4)
    0.866
    """
    _, error, variance_t, variance_p, shift = _mean_statistics(sums)
    covariance = (variance_t + variance_p + shift - error) / 2
    return np.clip(_divide(covariance, np.sqrt(variance_t * variance_p)), -1, 1)


def root_mean_squared_error_from_moments(sums: ArrayLike) -> NDArray[np.float64]:
    """`root_mean_squared_error` of summed `moments`.

    Args:
        sums: (..., 6).

    Returns:
        (...) errors, without axes for one row; nan as there.

    >>> round(float(root_mean_squared_error_from_moments([3, 3, 2, 5, 2, 1])), 4)
    0.5774
    """
    return np.sqrt(_mean_statistics(sums)[1])


def _mean_statistics(sums: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Return n, mean squared error, both variances and the squared difference of the means."""
    rows = np.asarray(sums, dtype=float)
    if rows.shape[-1:] != (6,):
        raise ValueError(f"need six sums, (..., 6); got {rows.shape}")
    n, *_ = parts = np.moveaxis(rows, -1, 0)
    mean_t, mean_p, square_t, square_p, error = (_divide(part, n) for part in parts[1:])
    variances = (_variance(square_t, mean_t), _variance(square_p, mean_p))
    return n, error, *variances, (mean_t - mean_p) ** 2


def _variance(square: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    variance = square - mean**2
    return np.where(variance <= VARIANCE_TOLERANCE * square, 0.0, variance)


def _divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _check_pair(
    truth: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    t, p = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    if t.ndim != 1 or t.shape != p.shape:
        raise ValueError(f"need two vectors of one length; got {t.shape} and {p.shape}")
    if not (np.isfinite(t).all() and np.isfinite(p).all()):
        raise ValueError("need finite values; leave out utterances without a label")
    return t, p


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # The mean of equal values may differ from them by rounding; a constant has no deviations.
    return values - values.mean() if np.ptp(values) else np.zeros_like(values)
