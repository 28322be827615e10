"""Calibration, against scikit-learn, SciPy and second formulas."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from serein.metrics.calibration import (
    COVERAGES,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    apply_temperature,
    area_under_risk_coverage,
    brier_score_loss,
    confidence_auroc,
    coverage_curve,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_bins,
)
from serein.metrics.classification import unweighted_accuracy_score, weighted_accuracy_score

Drawn = tuple[NDArray[np.float64], NDArray[np.int64]]


def drawn(seed: int, n: int = 400, k: int = 4, heat: float = 1.0) -> Drawn:
    """Classes drawn from a softmax, and probabilities of a model ``heat`` times as confident."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, size=(n, k))
    cumulated = special.softmax(logits, axis=1).cumsum(axis=1)
    truth = (cumulated < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    return special.softmax(logits * heat, axis=1), truth


def ece(probabilities: NDArray[np.float64], truth: NDArray[np.int64], bins: int) -> float:
    """Guo's equation 3, bin by bin and utterance by utterance."""
    gaps = 0.0
    for m in range(bins):
        inside = [
            (row.max(), float(row.argmax() == label))
            for row, label in zip(probabilities, truth, strict=True)
            if m / bins < row.max() <= (m + 1) / bins
        ]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            gaps += len(inside) / len(truth) * abs(accuracy - confidence)
    return gaps


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_and_bins(seed: int, bins: int) -> None:
    probabilities, truth = drawn(seed, heat=2)
    error = expected_calibration_error(probabilities, truth, bins=bins)
    assert error == pytest.approx(ece(probabilities, truth, bins))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    accuracies, confidences = calibration_curve(right, confidence, n_bins=bins)
    rows = reliability_bins(probabilities, truth, bins=bins)
    assert [row[1] for row in rows] == pytest.approx(confidences)
    assert [row[2] for row in rows] == pytest.approx(accuracies)
    assert sum(row[0] for row in rows) == len(truth)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    probabilities = [[0.6, 0.4], [0.4, 0.6], [0.8, 0.2], [1.0, 0.0], [0.5, 0.5]]
    rows = reliability_bins(probabilities, [0, 0, 0, 0, 1], bins=5)
    assert rows == [
        (3, pytest.approx(1.7 / 3), pytest.approx(1 / 3)),
        (1, 0.8, 1.0),
        (1, 1.0, 1.0),
    ]
    assert expected_calibration_error([[0.7, 0.3]], [1]) == 0.7
    sure = np.eye(3)
    assert expected_calibration_error(sure, [0, 1, 2]) == 0


@pytest.mark.parametrize("k", [2, 4])
def test_brier_and_likelihood_equal_scikit_learn(k: int) -> None:
    probabilities, truth = drawn(1, k=k)
    labels = list(range(k))
    theirs = sklearn_metrics.brier_score_loss(
        truth, probabilities, labels=labels, scale_by_half=False
    )
    assert brier_score_loss(probabilities, truth) == pytest.approx(theirs)
    loss = sklearn_metrics.log_loss(truth, probabilities, labels=labels)
    assert negative_log_likelihood(probabilities, truth) == pytest.approx(loss)
    # Where the definitions part: one probability's own square is half the sum over two classes.
    one = float(np.mean((probabilities[:, 1] - truth) ** 2))
    assert (brier_score_loss(probabilities, truth) == pytest.approx(2 * one)) == (k == 2)


def test_worst_possible_probabilities() -> None:
    wrong = np.eye(3)[[1, 2, 0]]
    assert brier_score_loss(wrong, [0, 1, 2]) == 2
    assert expected_calibration_error(wrong, [0, 1, 2]) == 1
    assert negative_log_likelihood(wrong, [0, 1, 2]) == np.inf
    assert np.isfinite(sklearn_metrics.log_loss([0, 1, 2], wrong))  # scikit-learn cuts off


@pytest.mark.parametrize("heat", [0.3, 1.0, 2.5, 8.0])
def test_temperature_equals_minimising_the_likelihood(heat: float) -> None:
    probabilities, truth = drawn(3, n=1500, heat=heat)
    logits = np.log(probabilities)

    def loss(log_t: float) -> float:
        scaled = special.log_softmax(logits / np.exp(log_t), axis=1)
        return -float(scaled[np.arange(len(truth)), truth].mean())

    best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    fitted = fit_temperature(probabilities, truth)
    assert np.log(fitted) == pytest.approx(best.x, abs=1e-6)
    assert fitted == pytest.approx(heat, rel=0.1)
    calm = apply_temperature(probabilities, fitted)
    np.testing.assert_allclose(calm, special.softmax(logits / fitted, axis=1), rtol=1e-12)
    np.testing.assert_array_equal(calm.argmax(axis=1), probabilities.argmax(axis=1))
    assert negative_log_likelihood(calm, truth) <= negative_log_likelihood(probabilities, truth)
    assert fit_temperature(calm, truth) == pytest.approx(1)


def test_temperature_is_bounded() -> None:
    assert fit_temperature([[0.8, 0.2]] * 5, [0] * 5) == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature([[0.8, 0.2]] * 5, [1] * 5) == pytest.approx(MAX_TEMPERATURE)


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        ([[0.25] * 4] * 3, [0, 1, 2]),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1]),
        ([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], [1, 1]),
        ([[0.7, 0.3, 0.0], [0.6, 0.3, 0.1]], [2, 0]),
    ],
    ids=["nothing", "uniform", "one-hot", "uniform where possible", "impossible truth"],
)
def test_temperature_undefined(probabilities: ArrayLike, truth: ArrayLike) -> None:
    assert np.isnan(fit_temperature(probabilities, truth))


def test_temperature_with_a_zero_for_a_false_class() -> None:
    probabilities, truth = drawn(5, k=3, heat=3)
    padded = np.hstack([probabilities, np.zeros((len(truth), 1))])
    assert fit_temperature(padded, truth) == pytest.approx(fit_temperature(probabilities, truth))
    flat = apply_temperature(padded, 4.0)
    np.testing.assert_allclose(flat[:, :3], apply_temperature(probabilities, 4.0))
    assert not flat[:, 3].any()


def test_extreme_temperatures_stay_finite() -> None:
    rows = [[1 - 1e-300, 1e-300], [0.6, 0.4]]
    for heat in (1e-3, 1e3):
        assert apply_temperature(rows, heat).sum(axis=1) == pytest.approx(1)
    assert apply_temperature(rows, 1e-3)[1] == pytest.approx([1, 0])


def literal_curve(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], tenths: int
) -> tuple[float, float, float, float]:
    """Add predictions one by one, the most confident first, including ties at the end."""
    confidence, n = probabilities.max(axis=1), len(truth)
    order = sorted(range(n), key=lambda place: -confidence[place])
    kept: list[int] = []
    for place in order:
        if 10 * len(kept) >= tenths * n and confidence[place] < confidence[kept[-1]]:
            break
        kept.append(place)
    label, answer = truth[kept].tolist(), probabilities[kept].argmax(axis=1).tolist()
    wa, ua = weighted_accuracy_score(label, answer), unweighted_accuracy_score(label, answer)
    return confidence[kept[-1]], len(kept) / n, wa, ua


@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([1, 2, 6]))
def test_coverage_equals_a_literal_curve(seed: int, n: int, digits: int) -> None:
    """Rounded to one digit, most confidences are tied."""
    probabilities, truth = drawn(seed, n=n, k=3)
    probabilities = probabilities.round(digits)
    probabilities[:, 0] = 1 - probabilities[:, 1:].sum(axis=1)
    probabilities = probabilities.clip(0, 1)
    rows = coverage_curve(probabilities, truth)
    for row, tenths in zip(rows, range(10, 0, -1), strict=True):
        assert row == pytest.approx(literal_curve(probabilities, truth, tenths))


def test_lower_coverage_raises_the_accuracy_of_a_calibrated_model() -> None:
    probabilities, truth = drawn(0, n=4000)
    rows = coverage_curve(probabilities, truth)
    assert [row[1] for row in rows] == pytest.approx(COVERAGES, abs=1e-3)
    assert rows[0][2] == weighted_accuracy_score(truth, probabilities.argmax(axis=1))
    assert all(later[2] > sooner[2] for sooner, later in pairwise(rows))


def test_coverage_is_not_rounded_up() -> None:
    """0.55 of 100 is 55, though the floating-point product is a little more."""
    confidence = np.linspace(0.6, 0.9, 100)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    ((_, share, _, _),) = coverage_curve(probabilities, np.zeros(100, int), coverages=[0.55])
    assert np.ceil(0.55 * 100) == 56
    assert share == 0.55


def test_nothing_to_score_is_undefined() -> None:
    nothing = np.zeros((0, 3)), np.zeros(0, int)
    assert reliability_bins(*nothing) == []
    assert np.isnan(expected_calibration_error(*nothing))
    assert np.isnan(brier_score_loss(*nothing))
    assert np.isnan(negative_log_likelihood(*nothing))
    assert np.isnan(coverage_curve(*nothing)).all()
    assert apply_temperature(nothing[0], 2.0).shape == (0, 3)


def test_bad_input_is_refused() -> None:
    fair = [[0.5, 0.5]]
    with pytest.raises(ValueError, match="logits need a softmax"):
        brier_score_loss([[2.0, -1.0]], [0])
    with pytest.raises(ValueError, match="sum to 1"):
        brier_score_loss([[0.5, 0.4]], [0])
    with pytest.raises(ValueError, match="sum to 1"):
        apply_temperature([[np.nan, 0.5]], 1.0)
    with pytest.raises(ValueError, match=r"\(n, K\); got \(2,\)"):
        brier_score_loss([0.5, 0.5], [0])
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(2,\)"):
        brier_score_loss(fair, [0, 1])
    for label in (2, -1, 0.0, "joy"):
        with pytest.raises(ValueError, match="class indices below 2"):
            brier_score_loss(fair, [label])
    with pytest.raises(ValueError, match="bins >= 1"):
        reliability_bins(fair, [0], bins=0)
    for heat in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature > 0"):
            apply_temperature(fair, heat)
    with pytest.raises(ValueError, match=r"coverages in \(0, 1\]; got \[0.0\]"):
        coverage_curve(fair, [0], coverages=[0.0])


@pytest.mark.parametrize("decimals", [16, 1])  # rounded confidences have many ties
def test_auroc_is_that_of_scikit_learn(decimals: int) -> None:
    p_nk, truth_n = drawn(3)
    p_nk = p_nk.round(decimals)
    p_nk /= p_nk.sum(axis=1, keepdims=True)
    is_correct_n = p_nk.argmax(axis=1) == truth_n
    wanted = sklearn_metrics.roc_auc_score(is_correct_n, p_nk.max(axis=1))
    assert confidence_auroc(p_nk, truth_n) == pytest.approx(wanted)


def test_auroc_is_undefined_without_both_kinds() -> None:
    assert np.isnan(confidence_auroc([[0.9, 0.1]], [0]))
    assert np.isnan(confidence_auroc([[0.9, 0.1]], [1]))


def test_area_under_risk_coverage_is_the_mean_of_error_rates() -> None:
    p_nk, truth_n = drawn(4)
    order = np.argsort(-p_nk.max(axis=1), kind="stable")
    risks = [
        1 - sklearn_metrics.accuracy_score(truth_n[order[:k]], p_nk[order[:k]].argmax(axis=1))
        for k in range(1, len(order) + 1)
    ]
    assert area_under_risk_coverage(p_nk, truth_n) == pytest.approx(np.mean(risks))
    flat = np.full((4, 2), 0.5)
    assert area_under_risk_coverage(flat, [0, 1, 1, 0]) == pytest.approx(0.5)
    assert np.isnan(area_under_risk_coverage(np.empty((0, 2)), np.empty(0, dtype=int)))
