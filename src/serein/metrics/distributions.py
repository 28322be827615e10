"""Metrics of predicted distributions over classes against those of several raters.

Rows are distributions that sum to 1; ``truth`` and ``prediction`` have the same shape. The scores
of a prediction with nan are nan.

n = utterances, K = classes.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_PROBABILITY = 1e-12
"""Lower predicted probabilities count as this one: a 0 would make the cross-entropy infinite."""


def entropy(truth: ArrayLike) -> NDArray[np.float64]:
    r"""Entropy of each row, in nats: the lowest possible cross-entropy.

    .. math:: H(q) = -\sum_k q_k \ln q_k

    Args:
        truth: (n, K) shares of the votes.

    Returns:
        (n,) values between 0, where all raters agree, and ln K.

    Raises:
        ValueError: the rows are no distributions.

    >>> entropy([[1, 0], [0.5, 0.5]]).round(4).tolist()
    [0.0, 0.6931]
    """
    rows = _check_rows(truth)
    return _cross_entropy(rows, rows)


def cross_entropy(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    r"""Cross-entropy of each pair of rows, in nats; lower is better.

    .. math:: H(q, p) = -\sum_k q_k \ln p_k = H(q) + D_\mathrm{KL}(q \| p)

    Cover & Thomas 2006: Elements of Information Theory, section 2.3. It is the loss of training on
    votes. Predicted zeros count as 1e-12.

    Args:
        truth: (n, K) shares of the votes.
        prediction: (n, K) probabilities.

    Returns:
        (n,) values, at least the entropy of the votes.

    Raises:
        ValueError: the shapes differ, or the rows are no distributions.

    >>> cross_entropy([[1, 0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]).round(4).tolist()
    [0.6931, 0.6931]
    """
    q_nk, p_nk = _check_pair(truth, prediction)
    return _cross_entropy(q_nk, p_nk)


def total_variation(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    r"""Total variation distance of each pair of rows; lower is better.

    .. math:: \mathrm{TV}(q, p) = \tfrac{1}{2} \sum_k |q_k - p_k|

    Levin, Peres & Wilmer 2009: Markov Chains and Mixing Times, proposition 4.2. It is the share of
    the votes that would have to go to other classes for both to be equal.

    Args:
        truth: (n, K) shares of the votes.
        prediction: (n, K) probabilities.

    Returns:
        (n,) values from 0, equal, to 1, no class in common.

    Raises:
        ValueError: the shapes differ, or the rows are no distributions.

    >>> total_variation([[1, 0, 0]], [[0.5, 0.25, 0.25]]).tolist()
    [0.5]
    """
    q_nk, p_nk = _check_pair(truth, prediction)
    return np.abs(q_nk - p_nk).sum(axis=1) / 2


def score_sums(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Return (n, 3) summands of the mean scores: 1, cross-entropy, total variation."""
    q_nk, p_nk = _check_pair(truth, prediction)
    ones_n = np.ones(len(q_nk))
    return np.stack([ones_n, cross_entropy(q_nk, p_nk), total_variation(q_nk, p_nk)], axis=1)


def mean_cross_entropy_from_sums(sums: ArrayLike) -> NDArray[np.float64]:
    """Mean cross-entropy from (..., 3) sums of ``score_sums``; nan without utterances."""
    return _mean_from_sums(sums, 1)


def mean_total_variation_from_sums(sums: ArrayLike) -> NDArray[np.float64]:
    """Mean total variation distance from (..., 3) sums of ``score_sums``; nan without any."""
    return _mean_from_sums(sums, 2)


def _mean_from_sums(sums: ArrayLike, column: int) -> NDArray[np.float64]:
    total = np.asarray(sums, dtype=float)
    if total.shape[-1] != 3:
        raise ValueError(f"need three sums, (..., 3); got {total.shape}")
    count = total[..., 0]
    return np.divide(total[..., column], count, out=np.full(count.shape, np.nan), where=count > 0)


def _cross_entropy(q_nk: NDArray[np.float64], p_nk: NDArray[np.float64]) -> NDArray[np.float64]:
    terms_nk = q_nk * np.log(np.maximum(p_nk, MIN_PROBABILITY))
    return np.abs(-np.where(q_nk > 0, terms_nk, 0.0).sum(axis=1))  # 0, not -0


def _check_pair(
    truth: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    q_nk, p_nk = _check_rows(truth), _check_rows(prediction, allow_nan=True)
    if q_nk.shape != p_nk.shape:
        raise ValueError(
            f"need distributions over the same classes; got {q_nk.shape}, {p_nk.shape}"
        )
    return q_nk, p_nk


def _check_rows(distributions: ArrayLike, *, allow_nan: bool = False) -> NDArray[np.float64]:
    rows = np.asarray(distributions, dtype=float)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"need distributions (n, K); got {rows.shape}")
    defined = rows[~np.isnan(rows).any(axis=1)] if allow_nan else rows
    if not ((defined >= 0).all() and np.allclose(defined.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("each row must hold shares that sum to 1")
    return rows
