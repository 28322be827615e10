"""The interval of the correlation of two series, against literal sums."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from serein.metrics.correlation import correlation_interval, effective_steps

Array = NDArray[np.float64]


def smooth(seed: int, count: int, width: int = 8) -> Array:
    noise = np.random.default_rng(seed).standard_normal(count + width - 1)
    return np.convolve(noise, np.ones(width) / np.sqrt(width), mode="valid")


def literal_effective_steps(first: Array, second: Array) -> float:
    count = len(first)
    total = 0.0
    for lag in range(1, count // 4 + 1):
        product = 1.0
        for series in (first, second):
            centred = series - series.mean()
            pairs = sum(centred[step] * centred[step + lag] for step in range(count - lag))
            product *= pairs / sum(centred**2)
        total += (1 - lag / count) * product
    return count / max(1.0, 1 + 2 * total)


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("width", [1, 3, 12])
def test_interval_equals_literal_sums(ranked: bool, width: int) -> None:
    first = smooth(0, 70, width)
    second = 0.5 * first + smooth(1, 70, width).round(1)  # ties
    pair = [stats.rankdata(one) for one in (first, second)] if ranked else [first, second]
    steps = literal_effective_steps(*pair)
    assert effective_steps(first, second, ranked=ranked) == pytest.approx(steps)
    score = np.corrcoef(pair[0], pair[1])[0, 1]
    half = stats.t.ppf(0.975, math.floor(steps - 2)) / math.sqrt(steps - 3)
    expected = np.tanh(np.arctanh(score) - half), np.tanh(np.arctanh(score) + half)
    assert correlation_interval(first, second, ranked=ranked) == pytest.approx(expected)


def test_alike_neighbours_widen_the_interval() -> None:
    widths = []
    for width in (1, 4, 16):
        low, high = correlation_interval(smooth(2, 200, width), smooth(3, 200, width))
        widths.append(high - low)
    assert widths[0] < widths[1] < widths[2]
    assert widths[0] == pytest.approx(2 * 1.96 / math.sqrt(197), rel=0.1)


def test_interval_is_undefined_for_constants_and_for_few_effective_steps() -> None:
    rising = np.arange(40.0)
    assert np.isnan(correlation_interval(rising, np.ones(40))).all()
    assert math.isnan(effective_steps(rising, np.ones(40)))
    assert np.isnan(correlation_interval(rising[:8], rising[:8] ** 2)).all()
    assert np.isnan(correlation_interval([1, 2], [2, 1])).all()
    noise = smooth(0, 40, 1)
    assert correlation_interval(noise, 2 * noise + 1) == pytest.approx((1, 1))
    assert correlation_interval(noise, -np.exp(noise), ranked=True) == pytest.approx((-1, -1))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="level within 0 and 1; got 95"):
        correlation_interval([1, 2, 3], [1, 3, 2], level=95)
    with pytest.raises(ValueError, match="length"):
        correlation_interval([1, 2, 3], [1, 3])
