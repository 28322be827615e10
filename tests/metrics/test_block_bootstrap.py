"""Spearman's correlation and the moving-block bootstrap, against SciPy and literal loops."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from serein.metrics.bootstrap import block_bootstrap_correlation
from serein.metrics.regression import pearson_score, spearman_score


def smooth(seed: int, n: int, keep: float = 0.8) -> NDArray[np.float64]:
    """Noise whose neighbouring steps are correlated."""
    noise = np.random.default_rng(seed).normal(size=n + 100)
    for step in range(1, n + 100):
        noise[step] += keep * noise[step - 1]
    return noise[100:]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [1, 6])
def test_spearman_equals_scipy_with_ties_and_without(seed: int, digits: int) -> None:
    first, second = smooth(seed, 60).round(digits), smooth(seed + 10, 60).round(digits)
    expected = stats.spearmanr(first, second).statistic
    assert spearman_score(first, second) == pytest.approx(expected, rel=1e-12)


def test_spearman_depends_on_order_only() -> None:
    rising = np.arange(1.0, 20)
    assert spearman_score(rising, np.exp(rising)) == pytest.approx(1)
    assert spearman_score(rising, -(rising**3)) == pytest.approx(-1)
    assert np.isnan(spearman_score(rising, np.ones(19)))
    assert np.isnan(spearman_score([1.0], [2.0]))
    with pytest.raises(ValueError, match="one length"):
        spearman_score([1.0, 2.0], [1.0])


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("digits", [1, 6])
def test_interval_equals_a_literal_loop(ranked: bool, digits: int) -> None:
    first, second = smooth(0, 50).round(digits), (smooth(0, 50) + smooth(1, 50)).round(digits)
    found = block_bootstrap_correlation(
        first, second, block=6, ranked=ranked, resamples=300, seed=3
    )
    draw, scores = np.random.default_rng(3), []
    begins = draw.integers(0, 45, size=(300, 9))
    for row in begins:
        steps = (row[:, None] + np.arange(6)).ravel()
        score = stats.spearmanr if ranked else stats.pearsonr
        scores.append(score(first[steps], second[steps]).statistic)
    assert found == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=1e-9)


def test_interval_is_independent_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = smooth(2, 80), smooth(3, 80)
    whole = block_bootstrap_correlation(first, second, block=8, resamples=100)
    monkeypatch.setattr("serein.metrics.bootstrap.CORRELATION_CHUNK_CELLS", 800)
    parts = block_bootstrap_correlation(first, second, block=8, resamples=100)
    assert parts == pytest.approx(whole, abs=1e-12)


def test_blocks_cover_where_single_steps_do_not() -> None:
    """Independent smooth series: resampled steps give too narrow intervals, blocks do not."""
    missed = {1: 0, 12: 0}
    for seed in range(60):
        first, second = smooth(2 * seed, 150, 0.9), smooth(2 * seed + 1, 150, 0.9)
        for block in missed:
            low, high = block_bootstrap_correlation(first, second, block=block, resamples=200)
            missed[block] += not low <= 0 <= high
    assert missed[12] <= 15 < missed[1]


def test_interval_of_a_line_and_of_a_constant() -> None:
    rising = smooth(5, 40)
    assert block_bootstrap_correlation(rising, 3 * rising - 1, block=4) == pytest.approx((1, 1))
    assert np.isnan(block_bootstrap_correlation(rising, np.ones(40), block=4)).all()
    mostly = np.r_[np.zeros(39), 1.0]  # in some draws it is constant
    for ranked in (False, True):
        found = block_bootstrap_correlation(rising, mostly, block=4, ranked=ranked)
        assert np.isnan(found).all()


@pytest.mark.parametrize(
    "change", [{"block": 0}, {"block": 41}, {"resamples": 0}, {"level": 1.0}, {"level": 0.0}]
)
def test_options_out_of_range_are_refused(change: dict[str, float]) -> None:
    options = {"block": 4, **change}
    with pytest.raises(ValueError, match="need resamples"):
        block_bootstrap_correlation(smooth(0, 40), smooth(1, 40), **options)  # type: ignore[arg-type]


def test_pearson_is_the_default() -> None:
    first = smooth(7, 60)
    second = np.exp(2 * first)
    plain = block_bootstrap_correlation(first, second, block=5)
    assert plain[0] <= pearson_score(first, second) <= plain[1] < 0.999
    assert block_bootstrap_correlation(first, second, block=5, ranked=True) == pytest.approx((1, 1))
