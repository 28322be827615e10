"""Tests of one system against another, against SciPy, statsmodels and enumeration by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize, proportions_ztest

from serein.metrics.bootstrap import bootstrap_difference, bootstrap_interval, confusion_by_group
from serein.metrics.classification import (
    macro_f1_from_confusion,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.statistical_tests import (
    cohens_h,
    discordant_counts,
    holm_correction,
    mcnemar_test,
    permutation_test,
    two_proportion_test,
)

Matrices = tuple[NDArray[np.int64], NDArray[np.int64]]


def answered(
    seed: int, n: int = 400, speakers: int = 8
) -> tuple[list[int], list[int], list[int], list[str]]:
    """Truth, predictions of two systems, and speakers of different difficulty."""
    rng = np.random.default_rng(seed)
    truth, speaker = rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1]), rng.integers(speakers, size=n)
    ease = rng.uniform(-0.2, 0.2, size=speakers)[speaker]
    sides = [
        np.where(rng.random(n) < skill + ease, truth, rng.integers(4, size=n))
        for skill in (0.6, 0.5)
    ]
    names = [f"s{index:02}" for index in speaker]
    return truth.tolist(), sides[0].tolist(), sides[1].tolist(), names


def matrices(seed: int, **options: int) -> Matrices:
    truth, first, second, speakers = answered(seed, **options)
    return (
        confusion_by_group(truth, first, speakers, range(4)),
        confusion_by_group(truth, second, speakers, range(4)),
    )


def test_discordant_utterances_are_counted() -> None:
    truth, first, second, _ = answered(0)
    a, b = np.array(first) == truth, np.array(second) == truth
    assert discordant_counts(truth, first, second) == ((a & ~b).sum(), (~a & b).sum())
    assert discordant_counts([], [], []) == (0, 0)
    with pytest.raises(ValueError, match=r"differ in length: \[2, 2, 1\]"):
        discordant_counts([1, 2], [1, 2], [1])


@pytest.mark.parametrize("counts", [(9, 2), (2, 9), (1, 0), (5, 5), (60, 41), (1300, 1210)])
def test_mcnemar_equals_scipy_and_statsmodels(counts: tuple[int, int]) -> None:
    p = mcnemar_test(*counts)
    assert p == pytest.approx(stats.binomtest(counts[0], sum(counts), 0.5).pvalue, rel=1e-9)
    table = [[100, counts[0]], [counts[1], 100]]
    assert p == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_mcnemar_edge_cases() -> None:
    assert mcnemar_test(0, 0) == 1
    assert mcnemar_test(0, 5) == 2 / 32
    assert 0 < mcnemar_test(0, 1000) < 1e-300
    # Where the definitions part: the usual approximation, even corrected, is not exact.
    approximated = mcnemar([[0, 9], [2, 0]], exact=False, correction=True).pvalue
    assert mcnemar_test(9, 2) != pytest.approx(approximated, abs=1e-3)
    with pytest.raises(ValueError, match="need counts; got -1 and 2"):
        mcnemar_test(-1, 2)


def ua(confusion: NDArray[np.int64]) -> float:
    return float(np.mean([row[i] / row.sum() for i, row in enumerate(confusion) if row.sum()]))


@pytest.mark.parametrize("speakers", [1, 5, 10])
def test_permutation_equals_enumeration_by_hand(speakers: int) -> None:
    first, second = matrices(speakers, speakers=speakers)
    observed = abs(ua(first.sum(axis=0)) - ua(second.sum(axis=0)))
    reached = []
    for swaps in itertools.product([False, True], repeat=speakers):
        kept = np.array(swaps)[:, None, None]
        one, other = np.where(kept, second, first), np.where(kept, first, second)
        gap = abs(ua(one.sum(axis=0)) - ua(other.sum(axis=0)))
        reached.append(gap >= observed - 1e-12)
    p = permutation_test(first, second, unweighted_accuracy_from_confusion)
    assert p == np.mean(reached)
    assert p >= 2 / 2**speakers


def test_permutation_equals_scipy() -> None:
    """For WA a swap changes the sign of a speaker's difference: SciPy has that sign test."""
    first, second = matrices(3, speakers=9)
    surplus = np.trace(first, axis1=1, axis2=2) - np.trace(second, axis1=1, axis2=2)
    theirs = stats.permutation_test(
        (surplus,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    p = permutation_test(first, second, weighted_accuracy_from_confusion)
    assert p == pytest.approx(theirs.pvalue)


def test_drawn_swaps_agree_with_all_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = matrices(1, speakers=12)
    statistic = unweighted_accuracy_from_confusion
    exact = permutation_test(first, second, statistic)
    monkeypatch.setattr("serein.metrics.statistical_tests.MAX_ENUMERATED", 4)
    drawn = permutation_test(first, second, statistic, draws=40_000, seed=1)
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn == permutation_test(first, second, statistic, draws=40_000, seed=1)
    assert drawn != permutation_test(first, second, statistic, draws=40_000, seed=2)
    monkeypatch.setattr("serein.metrics.statistical_tests.CHUNK_CELLS", 333)
    assert drawn == permutation_test(first, second, statistic, draws=40_000, seed=1)


def test_p_value_of_drawn_swaps_is_never_zero() -> None:
    good, bad = np.tile([[9, 0], [0, 9]], (30, 1, 1)), np.tile([[0, 9], [9, 0]], (30, 1, 1))
    p = permutation_test(good, bad, weighted_accuracy_from_confusion, draws=99)
    assert p == 1 / 100


def test_groups_without_difference_have_no_effect() -> None:
    first, second = matrices(2, speakers=6)
    p = permutation_test(first, second, unweighted_accuracy_from_confusion)
    same = np.tile(np.diag([3, 0, 0, 0]), (40, 1, 1))
    more = permutation_test(
        np.concatenate([first, same]), np.concatenate([second, same]), macro_f1_from_confusion
    )
    assert 0 < more <= 1
    one, other = (np.concatenate([side, np.zeros((20, 4, 4))]) for side in (first, second))
    assert permutation_test(one, other, unweighted_accuracy_from_confusion) == p


def test_permutation_is_symmetric_and_one_where_nothing_differs() -> None:
    first, second = matrices(4)
    statistic = unweighted_accuracy_from_confusion
    assert permutation_test(first, second, statistic) == permutation_test(second, first, statistic)
    assert permutation_test(first, first, statistic) == 1


def test_permutation_undefined_and_bad_input() -> None:
    first, second = matrices(5)
    nothing = np.zeros((0, 4, 4))
    assert np.isnan(permutation_test(nothing, nothing, weighted_accuracy_from_confusion))
    empty = np.zeros((2, 4, 4))
    assert np.isnan(permutation_test(empty, empty, weighted_accuracy_from_confusion))
    first[:, 3], second[:, 3] = 0, 0  # no utterance of the last class
    last = permutation_test(first, second, lambda sums: recalls_from_confusion(sums)[..., 3])
    assert np.isnan(last)
    with pytest.raises(ValueError, match=r"got \(8, 4, 4\) and \(7, 4, 4\)"):
        permutation_test(first, second[1:], weighted_accuracy_from_confusion)
    with pytest.raises(ValueError, match="the same utterances"):
        permutation_test(first, second[::-1], weighted_accuracy_from_confusion)
    with pytest.raises(ValueError, match="draws >= 1"):
        permutation_test(first, second, weighted_accuracy_from_confusion, draws=0)


def test_permutation_keeps_its_level_for_correlated_utterances() -> None:
    """Two equal systems, each better on some speakers: only McNemar gives false alarms."""
    rng = np.random.default_rng(0)
    alarms = {"permutation": 0, "mcnemar": 0}
    for _ in range(200):
        rights = rng.binomial(60, rng.uniform(0.3, 0.9, size=(2, 8)))
        first, second = (np.array([[[r, 60 - r], [0, 0]] for r in side]) for side in rights)
        p = permutation_test(first, second, weighted_accuracy_from_confusion)
        alarms["permutation"] += p < 0.05
        # As if the two erred independently within a speaker.
        only_first = round(float((rights[0] * (60 - rights[1]) / 60).sum()))
        only_second = round(float((rights[1] * (60 - rights[0]) / 60).sum()))
        alarms["mcnemar"] += mcnemar_test(only_first, only_second) < 0.05
    assert alarms["permutation"] <= 20
    assert alarms["mcnemar"] > 60


@pytest.mark.parametrize(("first", "second"), [(0.485, 0.451), (0.44, 0.451), (1.0, 0.99)])
def test_proportions_equal_statsmodels(first: float, second: float) -> None:
    n = 1000
    z, p = proportions_ztest([first * n, second * n], [n, n], alternative="larger")
    assert two_proportion_test(first, second, n) == pytest.approx((z, p))


def test_proportions_undefined_and_bad_input() -> None:
    for arguments in ((0.0, 0.0, 9), (1.0, 1.0, 9), (0.5, 0.4, 0)):
        assert np.isnan(two_proportion_test(*arguments)).all()
    assert two_proportion_test(0.5, 0.5, 9) == (0, 0.5)
    with pytest.raises(ValueError, match=r"within 0 and 1 and n >= 0; got 48.5, 0.4, 9"):
        two_proportion_test(48.5, 0.4, 9)


@pytest.mark.parametrize("m", [1, 2, 3, 8, 20])
def test_holm_equals_statsmodels(m: int) -> None:
    p_values = np.random.default_rng(m).beta(0.3, 3, size=m).round(2)
    theirs = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm_correction(p_values), theirs, rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    """Holm's own procedure: reject the smallest while it is at most level / tests left."""
    rejected, left = set(), len(p_values)
    for place in sorted(range(len(p_values)), key=lambda place: p_values[place]):
        if p_values[place] * left > 0.05:
            break
        rejected.add(place)
        left -= 1
    adjusted = holm_correction(p_values)
    assert set(np.flatnonzero(adjusted <= 0.05)) == rejected
    assert (adjusted >= p_values).all()


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(
        holm_correction([0.04, 0.01, np.nan, 0.03]), [0.06, 0.03, np.nan, 0.06]
    )
    assert holm_correction([0.7, 0.6]).tolist() == [1, 1]
    assert holm_correction([]).shape == (0,)
    with pytest.raises(ValueError, match="within 0 and 1"):
        holm_correction([1.2])


@given(st.floats(0, 1), st.floats(0, 1))
def test_cohens_h_equals_statsmodels(first: float, second: float) -> None:
    theirs = proportion_effectsize(first, second)
    assert cohens_h(first, second) == pytest.approx(theirs, abs=1e-12)
    assert abs(cohens_h(first, second)) <= np.pi


def test_cohens_h_is_larger_near_0_and_1() -> None:
    assert cohens_h(0.99, 0.94) > 2 * cohens_h(0.55, 0.5)
    assert np.isnan(cohens_h(float("nan"), 0.5))
    with pytest.raises(ValueError, match=r"got 81\.6 and 0\.5"):
        cohens_h(81.6, 0.5)


def test_all_tests_at_the_size_of_iemocap() -> None:
    truth, first, second, speakers = answered(0, n=5531, speakers=10)
    ours = confusion_by_group(truth, first, speakers, range(4))
    theirs = confusion_by_group(truth, second, speakers, range(4))
    p = mcnemar_test(*discordant_counts(truth, first, second))
    for statistic in (weighted_accuracy_from_confusion, unweighted_accuracy_from_confusion):
        score = float(statistic(ours.sum(axis=0)))
        low, high = bootstrap_interval(ours, statistic)
        assert low < score < high
        lower, upper = bootstrap_difference(ours, theirs, statistic)
        assert lower < score - float(statistic(theirs.sum(axis=0))) < upper
        assert permutation_test(ours, theirs, statistic) < 0.05
    one, other = (
        confusion_by_group(truth, side, range(5531), range(4)) for side in (first, second)
    )
    assert permutation_test(one, other, unweighted_accuracy_from_confusion) < 0.05
    assert p < 1e-6
