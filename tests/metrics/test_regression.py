"""Scores of values, against NumPy, SciPy, scikit-learn and second formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

from serein.metrics.regression import concordance_score, pearson_score, root_mean_squared_error

values = arrays(float, 12, elements=st.floats(-5, 5, width=16))


def ratings(seed: int, n: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 5, size=n).round(1)
    return truth, 0.6 * truth + rng.normal(0.8, 0.4, size=n)


@pytest.mark.parametrize("seed", range(5))
def test_equals_second_formulas(seed: int) -> None:
    truth, prediction = ratings(seed)
    correlation = stats.pearsonr(truth, prediction).statistic
    assert pearson_score(truth, prediction) == pytest.approx(correlation, rel=1e-12)
    # Lin's equation by way of the correlation.
    t, p = truth.std(), prediction.std()
    spread = t**2 + p**2 + (truth.mean() - prediction.mean()) ** 2
    by_correlation = 2 * correlation * t * p / spread
    assert concordance_score(truth, prediction) == pytest.approx(by_correlation, rel=1e-12)
    error = sklearn_metrics.root_mean_squared_error(truth, prediction)
    assert root_mean_squared_error(truth, prediction) == pytest.approx(error, rel=1e-12)


@pytest.mark.parametrize(("ddof", "expected"), [(0, 0.6667), (1, 0.6923)])
def test_concordance_where_definitions_differ(ddof: int, expected: float) -> None:
    truth, prediction = np.array([0.0, 1, 2]), np.array([0.0, 1, 1])
    covariance = np.cov(truth, prediction, ddof=ddof)
    gap = truth.mean() - prediction.mean()
    score = 2 * covariance[0, 1] / (np.trace(covariance) + gap**2)
    assert score == pytest.approx(expected, abs=5e-5)
    assert (concordance_score(truth, prediction) == pytest.approx(score)) == (ddof == 0)


def test_concordance_equals_lins_ratio_of_errors() -> None:
    """Lin's definition, for which variances divide by n."""
    truth, prediction = ratings(7)
    squares = np.mean((truth - prediction) ** 2)
    unrelated = np.mean((truth[:, None] - prediction[None, :]) ** 2)
    assert concordance_score(truth, prediction) == pytest.approx(1 - squares / unrelated)


def test_shift_and_scale_affect_each_score() -> None:
    truth = np.array([1.0, 2, 3, 4])
    assert concordance_score(truth, truth) == 1
    assert concordance_score(truth, 5 - truth) == pytest.approx(-1)
    assert pearson_score(truth, truth + 3) == pytest.approx(1)
    assert concordance_score(truth, truth + 3) < 0.5
    assert root_mean_squared_error(truth, truth + 3) == 3


@pytest.mark.parametrize("constant", [0.1, 1 / 3, 3.0, 1e8 + 0.1])
def test_constants_do_not_vary(constant: float) -> None:
    """The mean of three tenths is not 0.1 in floating point: a variance of 1e-34 counts as 0."""
    same = np.full(3, constant)
    assert np.isnan(concordance_score(same, same))
    assert np.isnan(pearson_score(same, same))
    assert np.isnan(pearson_score(same, [1, 2, 3]))
    assert concordance_score(same, [1, 2, 3]) == 0
    assert concordance_score(same, same + 1) == 0
    assert root_mean_squared_error(same, same) == 0


def test_undefined_scores_and_bad_input() -> None:
    assert np.isnan([concordance_score([], []), concordance_score([1], [2])]).all()
    assert np.isnan([pearson_score([], []), pearson_score([1], [2])]).all()
    assert np.isnan(root_mean_squared_error([], []))
    assert root_mean_squared_error([1], [3]) == 2
    for score in (concordance_score, pearson_score, root_mean_squared_error):
        with pytest.raises(ValueError, match=r"one length; got \(2,\) and \(1,\)"):
            score([1, 2], [1])
        with pytest.raises(ValueError, match=r"two vectors"):
            score([[1, 2]], [[1, 2]])
        with pytest.raises(ValueError, match="finite"):
            score([1, np.nan], [1, 2])


@given(values, values)
def test_bounds_and_symmetry(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> None:
    score, correlation = concordance_score(truth, prediction), pearson_score(truth, prediction)
    np.testing.assert_equal(score, concordance_score(prediction, truth))
    if not np.isnan(correlation):
        assert -1 <= correlation <= 1
        assert abs(score) <= abs(correlation) + 1e-12
