"""Calibration of probabilities, and scores when the least confident predictions are rejected.

``probabilities`` is (n, K) with rows that sum to 1; ``truth`` holds n class indices. The prediction
is the most probable class (the first of equally probable ones), the confidence its probability. An
undefined value is nan.
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
"""Shares of utterances whose prediction is kept: 1, 0.9, ... 0.1."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Bounds of a fitted temperature."""


def reliability_bins(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> list[tuple[int, float, float]]:
    r"""Compute mean confidence and accuracy in bins of confidence.

    Bin m of M holds confidences in :math:`((m - 1) / M, m / M]`.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.
        bins: M, of equal width.

    Returns:
        Utterances, mean confidence and accuracy of each non-empty bin, in order of confidence.

    Raises:
        ValueError: shapes do not match, or the rows are no probabilities.

    >>> reliability_bins([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], [0, 0, 0], bins=2)
    [(1, 0.5, 1.0), (2, 0.75, 0.5)]
    """
    rows, labels = _check_inputs(probabilities, truth)
    if bins < 1:
        raise ValueError(f"need bins >= 1; got {bins}")
    confidence, correct = rows.max(axis=1), rows.argmax(axis=1) == labels
    bin_index = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    counts = np.bincount(bin_index, minlength=bins)
    confidences = np.bincount(bin_index, weights=confidence, minlength=bins)
    hits = np.bincount(bin_index, weights=correct, minlength=bins)
    return [
        (int(n), float(total / n), float(right / n))
        for n, total, right in zip(counts, confidences, hits, strict=True)
        if n
    ]


def expected_calibration_error(
    probabilities: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> float:
    r"""Expected calibration error (ECE): the mean gap between confidence and accuracy.

    .. math:: \mathrm{ECE} = \sum_m \frac{n_m}{n} |\mathrm{acc}_m - \mathrm{conf}_m|

    Guo, Pleiss, Sun & Weinberger (2017): On Calibration of Modern Neural Networks, equation 3. It
    uses only the probability of the predicted class, depends on ``bins``, and is biased upwards
    where bins have few utterances.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.
        bins: how many, of equal width; see `reliability_bins`.

    Returns:
        A value in [0, 1], nan for n = 0.

    Raises:
        ValueError: shapes do not match, or the rows are no probabilities.

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
        ValueError: shapes do not match, or the rows are no probabilities.

    >>> brier_score_loss([[0.75, 0.25], [0.5, 0.5]], [0, 1])
    0.3125
    """
    rows, labels = _check_inputs(probabilities, truth)
    one_hot = np.eye(rows.shape[1])[labels]
    return _mean_or_nan(((rows - one_hot) ** 2).sum(axis=1))


def negative_log_likelihood(probabilities: ArrayLike, truth: ArrayLike) -> float:
    r"""Mean negative log-likelihood (NLL), or cross-entropy, in nats.

    .. math:: \mathrm{NLL} = -\frac{1}{n} \sum_u \ln p_{u t_u}

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.

    Returns:
        A value >= 0, nan for n = 0; infinite where a true class has probability 0.

    Raises:
        ValueError: shapes do not match, or the rows are no probabilities.

    >>> round(negative_log_likelihood([[0.75, 0.25], [0.5, 0.5]], [0, 1]), 4)
    0.4904
    """
    rows, labels = _check_inputs(probabilities, truth)
    return -_mean_or_nan(_log_or_minus_inf(rows[np.arange(len(labels)), labels]))


def fit_temperature(probabilities: ArrayLike, truth: ArrayLike) -> float:
    r"""Fit the temperature that minimises the negative log-likelihood.

    .. math:: \hat T = \arg\min_T \mathrm{NLL}(\mathrm{softmax}(\ln p / T))

    Guo et al. (2017), section 4.2; logarithms of probabilities are logits up to a shift, which
    does not change the softmax. The NLL is convex in 1 / T: its slope is bisected to rounding. Fit
    it on utterances that are neither trained on nor tested.

    Args:
        probabilities: (n, K) probability of each class, as the model returns them.
        truth: (n,) class indices.

    Returns:
        T between 0.05 and 20, above 1 for an overconfident model; the bound where the optimum is
        beyond it, such as 0.05 where every prediction is correct. Nan for n = 0, where all
        temperatures fit equally (all rows uniform), and where a true class has probability 0 at
        any temperature.

    Raises:
        ValueError: shapes do not match, or the rows are no probabilities.

    >>> overconfident = [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]
    >>> round(fit_temperature(overconfident, [0, 0, 0, 1]), 4)
    2.0
    """
    rows, labels = _check_inputs(probabilities, truth)
    true = rows[np.arange(len(labels)), labels]
    peak, possible = rows.max(axis=1, keepdims=True), rows > 0
    uniform = not (possible & (rows < peak)).any()
    if uniform or not true.all():
        return float("nan")
    logs = _log_or_minus_inf(rows)
    finite = np.where(possible, logs, 0.0)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(60):
        middle = (low + high) / 2
        slope = np.mean((_softmax(logs * middle) * finite).sum(axis=1) - np.log(true))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)


def apply_temperature(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    r"""Apply a temperature to probabilities; above 1 they become flatter, below 1 sharper.

    .. math:: p'_k = p_k^{1/T} / \sum_j p_j^{1/T}

    Guo et al. (2017), section 4.2. Predictions stay the same, and so do probabilities of 0.

    Args:
        probabilities: (n, K) probability of each class, as the model returns them.
        temperature: T > 0, the divisor of the logits.

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


def normalize_probabilities(p_nk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows sum to 1 in double precision, and raise zeros of single precision to 1e-12."""
    lifted = np.maximum(p_nk, 1e-12)
    return np.asarray(lifted / lifted.sum(axis=1, keepdims=True))


def apply_temperatures(
    p_nk: NDArray[np.float64], temperatures: Sequence[float]
) -> NDArray[np.float64]:
    """Apply to each row its own temperature; see `apply_temperature`."""
    calibrated_nk = np.empty_like(p_nk)
    for temperature in set(temperatures):
        rows = np.array(temperatures) == temperature
        calibrated_nk[rows] = apply_temperature(p_nk[rows], temperature)
    return calibrated_nk


def coverage_curve(
    probabilities: ArrayLike, truth: ArrayLike, *, coverages: Sequence[float] = COVERAGES
) -> list[tuple[float, float, float, float]]:
    """Compute scores of the most confident predictions at several coverages.

    The threshold of each coverage is the highest confidence that keeps this share of the
    utterances. Predictions tied with it are kept too, so the share may be larger, never smaller.

    El-Yaniv & Wiener (2010): On the Foundations of Noise-free Selective Classification.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.
        coverages: shares of utterances whose prediction is kept, each in (0, 1].

    Returns:
        For each coverage: the lowest confidence kept, the share kept, and WA and UA of the kept
        predictions; all nan for n = 0. UA is the mean over the classes that remain.

    Raises:
        ValueError: a coverage is out of range, shapes do not match, or the rows are no
            probabilities.

    >>> coverage_curve([[0.75, 0.25], [0.5, 0.5]], [0, 1], coverages=(1.0, 0.5))
    [(0.5, 1.0, 0.5, 0.5), (0.75, 0.5, 1.0, 1.0)]
    """
    rows, labels = _check_inputs(probabilities, truth)
    if not all(0 < coverage <= 1 for coverage in coverages):
        raise ValueError(f"need coverages in (0, 1]; got {list(coverages)}")
    return [_score_at_coverage(rows, labels, coverage) for coverage in coverages]


def confidence_auroc(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Compute how well confidence separates correct from wrong predictions.

    It is the probability that a correct prediction is more confident than a wrong one, where equal
    confidences count half: the area under the ROC curve (Fawcett 2006). 0.5 is chance.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.

    Returns:
        The area; nan if all predictions are correct, or all wrong.

    Raises:
        ValueError: shapes do not match, or the rows are no probabilities.

    >>> confidence_auroc([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 1, 1])
    1.0
    """
    rows, labels = _check_inputs(probabilities, truth)
    is_correct_n = rows.argmax(axis=1) == labels
    _, group_n, count_g = np.unique(rows.max(axis=1), return_inverse=True, return_counts=True)
    rank_g = np.cumsum(count_g) - (count_g - 1) / 2
    correct, wrong = int(is_correct_n.sum()), int((~is_correct_n).sum())
    if not correct or not wrong:
        return float("nan")
    excess = rank_g[group_n][is_correct_n].sum() - correct * (correct + 1) / 2
    return float(excess / (correct * wrong))


def area_under_risk_coverage(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Compute the area under the risk-coverage curve, the lower the better.

    It is the mean, over all k, of the error rate of the k most confident predictions (Geifman &
    El-Yaniv 2017). Predictions of equal confidence count by their mean error rate. A confidence
    that says nothing gives the error rate of all predictions.

    Args:
        probabilities: (n, K) probability of each class.
        truth: (n,) class indices.

    Returns:
        The area; nan for n = 0.

    Raises:
        ValueError: shapes do not match, or the rows are no probabilities.

    >>> area_under_risk_coverage([[0.9, 0.1], [0.6, 0.4]], [0, 1])
    0.25
    """
    rows, labels = _check_inputs(probabilities, truth)
    is_wrong_n = (rows.argmax(axis=1) != labels).astype(np.float64)
    _, group_n, count_g = np.unique(-rows.max(axis=1), return_inverse=True, return_counts=True)
    risk_g = np.bincount(group_n, weights=is_wrong_n, minlength=len(count_g)) / count_g
    errors_n = np.cumsum(np.repeat(risk_g, count_g))
    return _mean_or_nan(errors_n / np.arange(1, len(errors_n) + 1))


def _score_at_coverage(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], coverage: float
) -> tuple[float, float, float, float]:
    n = len(labels)
    if not n:
        return (float("nan"),) * 4
    confidence = probabilities.max(axis=1)
    # 0.55 of 100 is 55, though the floating-point product is a little more.
    count = int(np.ceil(coverage * n * (1 - 1e-12)))
    threshold = np.sort(confidence)[n - count]
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
        raise ValueError(f"need one class index per row; got {rows.shape} and {labels.shape}")
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
