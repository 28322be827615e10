"""Coverage of the intervals in simulations; `python -m benchmarks.intervals` prints all of it."""

import numpy as np
import pytest

from benchmarks import intervals
from benchmarks.intervals import (
    HIGH_RECALLS,
    SPEAKERS,
    Coverage,
    simulate_class_scores,
    simulate_correlations,
    simulate_seeds,
    simulate_values,
)

SLACK = 0.03
"""Four standard errors of a coverage of 95 % in 1,000 simulations are 2.8 points."""


def test_simulation_is_reproducible_and_counts_are_those_of_emodb() -> None:
    assert intervals.COUNTS_GK.sum() == 535
    found = simulate_class_scores(4, simulations=60)
    assert list(found) == ["jackknife", "bootstrap over speakers", "bootstrap over utterances"]
    assert found == simulate_class_scores(4, simulations=60)
    assert found["jackknife"].share > 0.85
    assert found["bootstrap over utterances"].width < found["jackknife"].width / 2


def test_undefined_intervals_do_not_cover() -> None:
    bounds = np.array([0.0, np.nan]), np.array([1.0, np.nan])
    assert intervals.measure_coverage(bounds, 0.5) == Coverage(0.5, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("speakers", SPEAKERS)
@pytest.mark.parametrize(
    "options", [{}, {"recalls": HIGH_RECALLS}, {"difference": 0.5}], ids=["middle", "high", "gap"]
)
def test_jackknife_of_class_scores_holds(speakers: int, options: dict[str, float]) -> None:
    found = simulate_class_scores(speakers, **options)  # type: ignore[arg-type]
    # Of few speakers with a score near 1, many make no error: the interval is wider than needed.
    assert (
        0.95 - SLACK
        <= found["jackknife"].share
        <= 0.95 + (0.045 if "recalls" in options else SLACK)
    )
    assert found["bootstrap over utterances"].share < 0.90
    if speakers <= 12:
        assert found["bootstrap over speakers"].share < 0.92


@pytest.mark.slow
@pytest.mark.parametrize("speakers", SPEAKERS)
def test_jackknife_of_values_and_words_holds(speakers: int) -> None:
    found = simulate_values(speakers)
    for name in ("CCC, Fisher's z", "RMSE, log", "WER, log"):
        assert 0.91 <= found[name].share <= 0.95 + SLACK


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [4, 10, 24])
def test_seeds_are_covered_from_three_on(speakers: int) -> None:
    for seeds in (3, 5):
        found = simulate_seeds(speakers, seeds)
        assert 0.92 <= found["speakers and seeds"].share <= 0.99
        assert found["speakers"].share < found["speakers and seeds"].share


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("series", intervals.SERIES)
def test_correlations_over_time_hold_better_than_blocks(series: str, correlation: float) -> None:
    found = simulate_correlations(3, series, correlation)
    for name in ("Pearson", "Spearman"):
        assert found[name].share >= 0.90
    assert found["Pearson, blocks of 0.2 s"].share < found["Pearson"].share
