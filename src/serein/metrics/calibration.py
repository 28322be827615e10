"""How far a probability can be believed, and what refusing to answer would buy.

Conventions: ``probabilities`` is (n, K), its rows sum to 1; ``truth`` holds n class indices. The
answer is the most probable class (of equally probable ones the first), the confidence its
probability. What is undefined is nan.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.metrics.classification import (
    confusion_matrix,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)

BINS = 15
"""As Guo et al. (2017)."""

COVERAGES = tuple(tenths / 10 for tenths in range(10, 0, -1))
"""Of utterances answered: all, nine in ten, ... one in ten."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Bounds of a fitted temperature."""


def reliability_bins(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> list[tuple[int, float, float]]:
    r"""Confidence beside accuracy, by confidence.

    Bin m of M holds confidences in :math:`((m - 1) / M, m / M]`.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.
        bins: M, of equal width.

    Returns:
        Utterances, mean confidence and accuracy of each bin that is not empty, from the least
        confident.

    Raises:
        ValueError: the inputs do not fit each other, or are no probabilities.

    >>> reliability_bins([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], [0, 0, 0], bins=2)
    [(1, 0.5, 1.0), (2, 0.75, 0.5)]
    """
    shares, labels = _check_inputs(probabilities, truth)
    if bins < 1:
        raise ValueError(f"need bins >= 1; got {bins}")
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    place = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    count = np.bincount(place, minlength=bins)
    confidences = np.bincount(place, weights=confidence, minlength=bins)
    rights = np.bincount(place, weights=right, minlength=bins)
    return [
        (int(n), float(total / n), float(hits / n))
        for n, total, hits in zip(count, confidences, rights, strict=True)
        if n
    ]


def expected_calibration_error(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> float:
    r"""Expected calibration error (ECE): the mean gap between confidence and accuracy.

    .. math:: \mathrm{ECE} = \sum_m \frac{n_m}{n} |\mathrm{acc}_m - \mathrm{conf}_m|

    Guo, Pleiss, Sun & Weinberger (2017): On Calibration of Modern Neural Networks, equation 3. It
    looks at the answer's probability alone, depends on ``bins``, and is biased upwards where bins
    hold few utterances.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.
        bins: how many, of equal width; see `reliability_bins`.

    Returns:
        A value in [0, 1], nan for n = 0.

    Raises:
        ValueError: the inputs do not fit each other, or are no probabilities.

    >>> expected_calibration_error([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], [0, 0, 0], bins=2)
    0.3333333333333333
    """
    rows = reliability_bins(probabilities, truth, bins=bins)
    n = sum(count for count, _, _ in rows)
    gaps = sum(count * abs(accuracy - confidence) for count, confidence, accuracy in rows)
    return gaps / n if n else float("nan")


def brier_score_loss(probabilities: ArrayLike, truth: ArrayLike) -> float:
    r"""Brier score: mean squared distance of the probabilities from the truth.

    .. math:: \mathrm{BS} = \frac{1}{n} \sum_u \sum_k (p_{uk} - [t_u = k])^2

    Brier (1950): Verification of Forecasts Expressed in Terms of Probability, equation 2: summed
    over all K classes, so two classes give twice what is common for a single probability.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.

    Returns:
        A value in [0, 2], nan for n = 0.

    Raises:
        ValueError: the inputs do not fit each other, or are no probabilities.

    >>> brier_score_loss([[0.75, 0.25], [0.5, 0.5]], [0, 1])
    0.3125
    """
    shares, labels = _check_inputs(probabilities, truth)
    wanted = np.eye(shares.shape[1])[labels]
    return _mean_or_nan(((shares - wanted) ** 2).sum(axis=1))


def negative_log_likelihood(probabilities: ArrayLike, truth: ArrayLike) -> float:
    r"""Mean negative log-likelihood (NLL), or cross-entropy, in nats.

    .. math:: \mathrm{NLL} = -\frac{1}{n} \sum_u \ln p_{u t_u}

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.

    Returns:
        A value >= 0, nan for n = 0; infinite where a true class was given probability 0.

    Raises:
        ValueError: the inputs do not fit each other, or are no probabilities.

    >>> round(negative_log_likelihood([[0.75, 0.25], [0.5, 0.5]], [0, 1]), 4)
    0.4904
    """
    shares, labels = _check_inputs(probabilities, truth)
    return -_mean_or_nan(_log_or_minus_inf(shares[np.arange(len(labels)), labels]))


def fit_temperature(probabilities: ArrayLike, truth: ArrayLike) -> float:
    r"""The temperature that makes probabilities fit the truth best.

    .. math:: \hat T = \arg\min_T \mathrm{NLL}(\mathrm{softmax}(\ln p / T))

    Guo et al. (2017), section 4.2; logarithms of probabilities are logits up to a shift, which the
    softmax forgets. The NLL is convex in 1 / T: its slope is bisected to rounding. Fit it on
    utterances that are neither trained on nor tested.

    Args:
        probabilities: (n, K) probability of each class, as the model says.
        truth: (n,) class indices.

    Returns:
        T between 0.05 and 20, over 1 for an overconfident model; the bound where the optimum lies
        beyond, such as 0.05 where every answer is right. Nan for n = 0, where all temperatures
        fit alike (all rows uniform), and where a true class has probability 0, which no
        temperature mends.

    Raises:
        ValueError: the inputs do not fit each other, or are no probabilities.

    >>> overconfident = [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]
    >>> round(fit_temperature(overconfident, [0, 0, 0, 1]), 4)
    2.0
    """
    shares, labels = _check_inputs(probabilities, truth)
    true = shares[np.arange(len(labels)), labels]
    peak, possible = shares.max(axis=1, keepdims=True), shares > 0
    alike = not (possible & (shares < peak)).any()
    if alike or not true.all():
        return float("nan")
    logs = _log_or_minus_inf(shares)
    finite = np.where(possible, logs, 0.0)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(60):
        middle = (low + high) / 2
        slope = np.mean((_softmax(logs * middle) * finite).sum(axis=1) - np.log(true))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)


def apply_temperature(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    r"""Probabilities at another temperature; over 1 they are flatter, under 1 sharper.

    .. math:: p'_k = p_k^{1/T} / \sum_j p_j^{1/T}

    Guo et al. (2017), section 4.2. Answers stay what they are; 0 stays 0.

    Args:
        probabilities: (n, K) probability of each class, as the model says.
        temperature: T > 0, what its logits are divided by.

    Returns:
        (n, K) probabilities.

    Raises:
        ValueError: the temperature is not positive, or the rows are no probabilities.

    >>> apply_temperature([[0.9, 0.1]], 2.0).round(4)
    array([[0.75, 0.25]])
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"need a temperature > 0; got {temperature}")
    return _softmax(_log_or_minus_inf(_check_probabilities(probabilities)) / temperature)


def coverage_curve(
    probabilities: ArrayLike, truth: ArrayLike, *, coverages: Sequence[float] = COVERAGES
) -> list[tuple[float, float, float, float]]:
    """What remains right when the least confident utterances are refused.

    For each share, the threshold is the highest confidence that still lets that share of the
    utterances be answered. Utterances tied with it are answered too, so more may be answered than
    was asked for, never fewer.

    El-Yaniv & Wiener (2010): On the Foundations of Noise-free Selective Classification.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.
        coverages: of utterances to answer, each in (0, 1].

    Returns:
        For each share: the lowest confidence that is answered, the share answered, WA and UA of
        what is answered; all nan for n = 0. UA is the mean over the classes that are left.

    Raises:
        ValueError: a share is out of range, the inputs do not fit, or are no probabilities.

    >>> coverage_curve([[0.75, 0.25], [0.5, 0.5]], [0, 1], shares=(1.0, 0.5))
    [(0.5, 1.0, 0.5, 0.5), (0.75, 0.5, 1.0, 1.0)]
    """
    rows, labels = _check_inputs(probabilities, truth)
    if not all(0 < share <= 1 for share in coverages):
        raise ValueError(f"need shares in (0, 1]; got {list(coverages)}")
    return [_score_at_coverage(rows, labels, share) for share in coverages]


def _score_at_coverage(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], coverage: float
) -> tuple[float, float, float, float]:
    n = len(labels)
    if not n:
        return (float("nan"),) * 4
    confidence = probabilities.max(axis=1)
    # 0.55 of 100 are 55, though the product is a little more.
    asked = int(np.ceil(coverage * n * (1 - 1e-12)))
    threshold = np.sort(confidence)[n - asked]
    kept = confidence >= threshold
    confusion = confusion_matrix(
        labels[kept], probabilities[kept].argmax(axis=1), range(probabilities.shape[1])
    )
    wa = weighted_accuracy_from_confusion(confusion)
    ua = unweighted_accuracy_from_confusion(confusion)
    return float(threshold), float(kept.mean()), float(wa), float(ua)


def _check_inputs(
    probabilities: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows, labels = _check_probabilities(probabilities), np.asarray(truth)
    if labels.shape != rows.shape[:1]:
        raise ValueError(f"need one class index a row; got {rows.shape} and {labels.shape}")
    known = np.isin(labels, np.arange(rows.shape[1])).all() and labels.dtype.kind in "iu"
    if labels.size and not known:
        raise ValueError(f"need class indices below {rows.shape[1]}; got {np.unique(labels)}")
    return rows, labels.astype(np.int64)


def _check_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(probabilities, dtype=float)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"need probabilities (n, K); got {rows.shape}")
    if not ((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("each row must hold probabilities that sum to 1; logits need a softmax")
    return rows


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _log_or_minus_inf(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(probabilities, out=np.full(probabilities.shape, -np.inf), where=probabilities > 0)


def _mean_or_nan(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
