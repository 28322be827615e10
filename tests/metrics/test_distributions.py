"""Scores against raters' distributions, compared with SciPy."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cityblock

from serein.metrics import distributions, scoring
from serein.metrics.bootstrap import bootstrap_interval


def draw(count: int = 60, classes: int = 6, seed: int = 0) -> NDArray[np.float64]:
    """Return distributions, some of them of one class or with zeros."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(9, rng.dirichlet(np.full(classes, 0.4), count))
    return votes / votes.sum(axis=1, keepdims=True)


TRUTH = draw()
PREDICTION = 0.9 * draw(seed=1) + 0.1 / 6


def test_entropy_and_cross_entropy_equal_those_of_scipy() -> None:
    assert distributions.entropy(TRUTH) == pytest.approx(stats.entropy(TRUTH, axis=1))
    expected = stats.entropy(TRUTH, axis=1) + stats.entropy(TRUTH, PREDICTION, axis=1)
    assert distributions.cross_entropy(TRUTH, PREDICTION) == pytest.approx(expected)
    assert (expected >= distributions.entropy(TRUTH) - 1e-12).all()


def test_total_variation_is_half_the_city_block_distance_of_scipy() -> None:
    expected = [cityblock(q, p) / 2 for q, p in zip(TRUTH, PREDICTION, strict=True)]
    assert distributions.total_variation(TRUTH, PREDICTION) == pytest.approx(expected)
    one_hot = np.eye(6)
    assert distributions.total_variation(one_hot, one_hot).tolist() == [0] * 6
    assert distributions.total_variation(one_hot, one_hot[::-1]).tolist() == [1] * 6


def test_a_predicted_zero_gives_a_finite_score() -> None:
    found = distributions.cross_entropy([[0.5, 0.5]], [[1.0, 0.0]])
    assert found == pytest.approx([-0.5 * np.log(1e-12)])
    assert distributions.cross_entropy([[1.0, 0.0]], [[1.0, 0.0]]).tolist() == [0.0]


def test_mean_scores_and_intervals_over_groups() -> None:
    groups = [f"speaker {n % 12}" for n in range(60)]
    tallies = scoring.VOTES_SCORER.tally(TRUTH.tolist(), PREDICTION.tolist(), groups, ())
    assert tallies.shape == (12, 3)
    scores = scoring.VOTES_SCORER.compute_scores(tallies.sum(axis=0))
    for metric, function in (
        (scoring.CROSS_ENTROPY, distributions.cross_entropy),
        (scoring.TOTAL_VARIATION, distributions.total_variation),
    ):
        mean = function(TRUTH, PREDICTION).mean()
        assert scores[metric.name] == pytest.approx(mean)
        low, high = bootstrap_interval(tallies, metric.statistic)
        assert low < mean < high
    nothing = scoring.VOTES_SCORER.compute_scores(np.zeros(3))
    assert nothing == {"cross_entropy": None, "total_variation": None}


def test_a_prediction_with_nan_is_undefined() -> None:
    sums = distributions.score_sums([[1.0, 0.0]], [[np.nan, np.nan]])
    assert np.isnan(sums[0, 1:]).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[1.0, 0.0]], [[0.5, 0.25, 0.25]], "over the same classes"),
        ([[3.0, 1.0]], [[0.5, 0.5]], "sum to 1"),
        ([[1.5, -0.5]], [[0.5, 0.5]], "sum to 1"),
        ([[np.nan, 1.0]], [[0.5, 0.5]], "sum to 1"),
        ([1.0, 0.0], [0.5, 0.5], "need distributions"),
    ],
)
def test_other_rows_are_errors(truth: object, prediction: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distributions.cross_entropy(truth, prediction)  # type: ignore[arg-type]


def test_sums_need_three_columns() -> None:
    with pytest.raises(ValueError, match="need three sums"):
        distributions.mean_cross_entropy_from_sums([1.0, 2.0])
