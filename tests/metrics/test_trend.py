"""Trends: slopes, their permutation test, and draws over seeds and speakers."""

from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from serein.metrics.bootstrap import bootstrap_interval
from serein.metrics.classification import (
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.statistical_tests import (
    bootstrap_over_seeds,
    count_arrangements,
    slope,
    slope_test,
)

SHARES = (0, 0.25, 0.5, 0.75, 1)


def test_slope_equals_least_squares() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4, 5))
    expected = [np.polyfit(SHARES, row, 1)[0] for row in scores]
    np.testing.assert_allclose(slope(SHARES, scores), expected, atol=1e-12)
    assert float(slope([3, 1], [0.5, 0.9])) == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("values", "scores"), [([1, 1], [0, 1]), ([1], [0]), ([1, 2], [0, 1, 2]), ([[1, 2]], [0, 1])]
)
def test_slope_of_bad_input_is_an_error(values: ArrayLike, scores: ArrayLike) -> None:
    with pytest.raises(ValueError, match="two or more different values"):
        slope(values, scores)


def test_small_slope_tests_enumerate_permutations() -> None:
    scores = np.random.default_rng(1).normal(size=(2, 3)) + np.arange(3)
    observed = abs(np.polyfit(range(3), scores.mean(axis=0), 1)[0])
    found = [
        abs(np.polyfit(range(3), np.mean(rows, axis=0), 1)[0])
        for rows in product(*(permutations(row) for row in scores.tolist()))
    ]
    expected = np.mean([value >= observed - 1e-9 for value in found])
    assert slope_test(range(3), scores) == pytest.approx(expected)
    assert len(found) == count_arrangements(2, 3) == 36


def test_large_slope_tests_draw_permutations() -> None:
    rising = np.tile(SHARES, (3, 1)) + np.random.default_rng(2).normal(size=(3, 5)) / 50
    assert count_arrangements(3, 5) > 10_000
    assert slope_test(SHARES, rising, draws=500) == pytest.approx(1 / 501)
    assert slope_test(SHARES, rising) == slope_test(SHARES, rising)
    flat = np.random.default_rng(3).normal(size=(3, 5))
    exact = slope_test(SHARES[:3], flat[:, :3])
    drawn = slope_test(SHARES[:3], flat[:, :3], draws=215)
    assert drawn == pytest.approx(exact, abs=0.1)


def test_slope_test_without_a_trend() -> None:
    assert slope_test([0, 1, 2], np.full((2, 3), 0.4)) == 1
    assert np.isnan(slope_test([0, 1, 2], [[0.1, np.nan, 0.3]]))
    generator = np.random.default_rng(4)
    found = [slope_test([0, 1, 2, 3], generator.normal(size=(1, 4))) for _ in range(300)]
    assert np.mean(np.array(found) <= 0.25) == pytest.approx(0.25, abs=0.06)
    with pytest.raises(ValueError, match="draws >= 1; got 0"):
        slope_test([0, 1], [[0, 1]], draws=0)


def counts(seeds: int, systems: int = 2, groups: int = 9, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(1, 9, size=(systems, seeds, groups, 3, 3))


def test_bootstrap_over_one_seed_equals_the_plain_bootstrap() -> None:
    one = counts(1, systems=1)
    draws = bootstrap_over_seeds(one, unweighted_accuracy_from_confusion)
    assert draws.shape == (10_000, 1)
    usual = bootstrap_interval(one[0, 0], unweighted_accuracy_from_confusion, seed=1)
    np.testing.assert_allclose(np.quantile(draws[:, 0], [0.025, 0.975]), usual, atol=0.004)


def test_systems_share_the_resampled_speakers() -> None:
    same = np.repeat(counts(1, systems=1), 2, axis=0)
    draws = bootstrap_over_seeds(same, weighted_accuracy_from_confusion, resamples=200)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    assert draws.std() > 0


def test_seeds_that_differ_widen_the_interval() -> None:
    perfect, wrong = np.eye(2, dtype=int) * 5, (1 - np.eye(2, dtype=int)) * 5
    same = np.stack([perfect, perfect])[None, :, None].repeat(4, axis=2)
    mixed = np.stack([perfect, wrong])[None, :, None].repeat(4, axis=2)
    steady, swinging = (
        bootstrap_over_seeds(one, weighted_accuracy_from_confusion, resamples=4000)[:, 0]
        for one in (same, mixed)
    )
    assert set(steady) == {1.0}
    shares = {value: np.mean(swinging == value) for value in (0.0, 0.5, 1.0)}
    assert list(shares.values()) == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_draws_are_independent_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_over_seeds(counts(3), unweighted_accuracy_from_confusion, resamples=50)
    monkeypatch.setattr("serein.metrics.statistical_tests.CHUNK_CELLS", 7 * 54)
    again = bootstrap_over_seeds(counts(3), unweighted_accuracy_from_confusion, resamples=50)
    assert whole.shape == again.shape == (50, 2)
    np.testing.assert_array_equal(whole, again)


@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (0, 1, 4, 2, 2), (1, 1, 0, 2, 2)])
def test_counts_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"need counts \(P, S, G, K, K\)"):
        bootstrap_over_seeds(np.ones(shape), weighted_accuracy_from_confusion)
    with pytest.raises(ValueError, match=r"resamples >= 1; got .* and 0"):
        bootstrap_over_seeds(counts(1), weighted_accuracy_from_confusion, resamples=0)
