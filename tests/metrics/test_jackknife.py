"""Jackknife intervals, against a literal formula and SciPy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from serein.metrics.bootstrap import Statistic, sum_by_group
from serein.metrics.classification import (
    macro_f1_from_confusion,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.intervals import (
    choose_groups,
    compute_difference_interval,
    compute_interval,
    find_method,
)
from serein.metrics.jackknife import (
    FISHER_Z,
    LOG,
    LOGIT,
    PLAIN,
    Scale,
    choose_jackknife_groups,
    compute_bounds,
    jackknife_difference,
    jackknife_interval,
    jackknife_over_seeds,
    student_t_quantile,
)
from serein.metrics.regression import (
    concordance_from_moments,
    moments,
    root_mean_squared_error_from_moments,
)
from serein.metrics.word_error_rate import word_error_rate_from_counts

Array = NDArray[np.float64]


def speakers_confusions(groups: int = 10, classes: int = 3, seed: int = 0) -> Array:
    """Confusion matrices of speakers that differ in number of utterances and in difficulty."""
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(groups):
        recall = rng.beta(6, 4, classes)
        rows = []
        for index in range(classes):
            shares = np.full(classes, (1 - recall[index]) / (classes - 1))
            shares[index] = recall[index]
            rows.append(rng.multinomial(rng.integers(1, 15), shares))
        matrices.append(rows)
    return np.array(matrices, dtype=float)


SCALES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "logit": (lambda p: math.log(p / (1 - p)), lambda x: 1 / (1 + math.exp(-x))),
    "z": (math.atanh, math.tanh),
    "log": (math.log, math.exp),
    "plain": (float, float),
}


def literal_interval(groups: Array, statistic: Statistic, scale: str) -> tuple[float, float]:
    """The formula of the module, step by step, with a numerical derivative."""
    count = len(groups)
    score = float(np.asarray(statistic(groups.sum(axis=0)[None]))[0])
    without = []
    for left_out in range(count):
        others = [groups[index] for index in range(count) if index != left_out]
        without.append(float(np.asarray(statistic(np.sum(others, axis=0)[None]))[0]))
    mean = sum(without) / count
    error = math.sqrt((count - 1) / count * sum((value - mean) ** 2 for value in without))
    transform, inverse = SCALES[scale]
    step = 1e-6
    slope = (transform(score + step) - transform(score - step)) / (2 * step)
    half = float(stats.t.ppf(0.975, count - 1)) * error * slope
    return inverse(transform(score) - half), inverse(transform(score) + half)


@pytest.mark.parametrize("groups", [2, 3, 10, 24])
@pytest.mark.parametrize(
    "statistic",
    [
        weighted_accuracy_from_confusion,
        unweighted_accuracy_from_confusion,
        macro_f1_from_confusion,
        lambda sums: recalls_from_confusion(sums)[..., 1],
    ],
)
def test_interval_of_class_scores_equals_the_literal_formula(
    groups: int, statistic: Statistic
) -> None:
    confusions = speakers_confusions(groups)
    expected = literal_interval(confusions, statistic, "logit")
    assert jackknife_interval(confusions, statistic) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("scale", "statistic"),
    [
        (FISHER_Z, concordance_from_moments),
        (LOG, root_mean_squared_error_from_moments),
        (PLAIN, concordance_from_moments),
    ],
)
def test_interval_of_values_equals_the_literal_formula(scale: Scale, statistic: Statistic) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=80)
    speaker = rng.integers(0, 8, size=80)
    answer = 0.6 * truth + 0.3 * rng.normal(size=8)[speaker] + 0.4 * rng.normal(size=80)
    sums = sum_by_group(moments(truth, answer), speaker.tolist())
    expected = literal_interval(sums, statistic, scale.name)
    assert jackknife_interval(sums, statistic, scale=scale) == pytest.approx(expected, abs=1e-6)


def test_interval_of_a_word_error_rate_equals_the_literal_formula() -> None:
    counts = np.random.default_rng(2).integers(1, 9, size=(6, 4)).astype(float)
    counts[:, 3] *= 10
    expected = literal_interval(counts, word_error_rate_from_counts, "log")
    found = jackknife_interval(counts, word_error_rate_from_counts, scale=LOG)
    assert found == pytest.approx(expected, abs=1e-7)


def test_interval_of_a_difference_equals_the_literal_formula() -> None:
    ours, theirs = speakers_confusions(seed=3), speakers_confusions(seed=4)

    def gap(sums: Array) -> Array:
        first = np.asarray(unweighted_accuracy_from_confusion(sums[:, 0]))
        return first - np.asarray(unweighted_accuracy_from_confusion(sums[:, 1]))

    expected = literal_interval(np.stack([ours, theirs], axis=1), gap, "plain")
    found = jackknife_difference(ours, theirs, unweighted_accuracy_from_confusion)
    assert found == pytest.approx(expected)
    mirrored = jackknife_difference(theirs, ours, unweighted_accuracy_from_confusion)
    assert mirrored == pytest.approx((-found[1], -found[0]))


def test_equal_predictions_have_no_difference() -> None:
    confusions = speakers_confusions(5)
    assert jackknife_difference(confusions, confusions, weighted_accuracy_from_confusion) == (0, 0)
    one = confusions[:1]
    assert np.isnan(jackknife_difference(one, one, weighted_accuracy_from_confusion)).all()
    with pytest.raises(ValueError, match="equal shapes; got"):
        jackknife_difference(confusions, one, weighted_accuracy_from_confusion)


def test_difference_ends_where_scores_do() -> None:
    """Two speakers have a t of 12.7: the interval is cut at the largest possible difference."""
    first = np.array([[[9, 1], [0, 10]], [[4, 6], [4, 6]]])
    second = np.array([[[5, 5], [5, 5]], [[4, 6], [5, 5]]])
    assert jackknife_difference(first, second, weighted_accuracy_from_confusion) == (-1, 1)


@pytest.mark.parametrize("groups", [2, 10])
def test_score_without_errors_has_the_bound_of_its_probability(groups: int) -> None:
    """With a mean of the bound, as many speakers without an error have a chance of 2.5 %."""
    perfect = np.repeat([[[4.0, 0], [0, 3]]], groups, axis=0)
    low, high = jackknife_interval(perfect, unweighted_accuracy_from_confusion)
    assert high == 1
    assert low**groups == pytest.approx(0.025)
    wrong = perfect[:, ::-1]
    low, high = jackknife_interval(wrong, weighted_accuracy_from_confusion)
    assert low == 0
    assert (1 - high) ** groups == pytest.approx(0.025)


def test_errors_of_one_speaker_do_not_need_an_infinite_logit() -> None:
    confusions = np.repeat([[[30.0, 0], [0, 20]]], 10, axis=0)
    confusions[0, 0] = 20, 10
    low, high = jackknife_interval(confusions, weighted_accuracy_from_confusion)
    assert 0.8 < low < 0.98 < high < 1


def test_cases_without_an_interval() -> None:
    score = weighted_accuracy_from_confusion
    confusions = speakers_confusions(4)
    for few in (confusions[:0], confusions[:1]):
        assert np.isnan(jackknife_interval(few, score)).all()
    # The same score without each speaker: nothing is known about its variation.
    same = np.repeat(confusions[:1], 5, axis=0)
    assert np.isnan(jackknife_interval(same, score)).all()
    # Only one speaker has the second class.
    confusions[1:, 1] = 0
    recall = jackknife_interval(confusions, lambda sums: recalls_from_confusion(sums)[..., 1])
    assert np.isnan(recall).all()
    perfect_words = np.array([[0, 0, 0, 5], [0, 0, 0, 6]])
    found = jackknife_interval(perfect_words, word_error_rate_from_counts, scale=LOG)
    assert np.isnan(found).all()
    with pytest.raises(ValueError, match="level within 0 and 1; got 95"):
        jackknife_interval(confusions, score, level=95)


def test_speakers_without_utterances_are_not_counted() -> None:
    confusions = speakers_confusions(6)
    padded = np.concatenate([confusions, np.zeros((3, 3, 3))])
    score = unweighted_accuracy_from_confusion
    assert jackknife_interval(padded, score) == jackknife_interval(confusions, score)
    other = speakers_confusions(6, seed=1)
    padded_other = np.concatenate([other, np.zeros((3, 3, 3))])
    found = jackknife_difference(padded, padded_other, score)
    assert found == jackknife_difference(confusions, other, score)


@given(groups=st.integers(2, 12), seed=st.integers(0, 50), level=st.floats(0.5, 0.99))
def test_interval_contains_the_score_and_grows_with_the_level(
    groups: int, seed: int, level: float
) -> None:
    confusions = speakers_confusions(groups, seed=seed)
    score = float(weighted_accuracy_from_confusion(confusions.sum(axis=0)))
    low, high = jackknife_interval(confusions, weighted_accuracy_from_confusion, level=level)
    wider = jackknife_interval(confusions, weighted_accuracy_from_confusion, level=0.995)
    assert 0 <= wider[0] <= low <= score <= high <= wider[1] <= 1


def test_bounds_of_many_scores_equal_those_of_each() -> None:
    confusions = np.stack([speakers_confusions(7, seed=seed) for seed in range(20)])
    total = confusions.sum(axis=1)
    score = np.asarray(weighted_accuracy_from_confusion(total))
    left_out = np.asarray(weighted_accuracy_from_confusion(total[:, None] - confusions))
    low, high = compute_bounds(score, left_out)
    each = [jackknife_interval(one, weighted_accuracy_from_confusion) for one in confusions]
    assert np.stack([low, high], axis=1) == pytest.approx(np.array(each))


def test_seeds_add_their_variance() -> None:
    rng = np.random.default_rng(5)
    counts = np.stack([speakers_confusions(8, seed=int(seed)) for seed in rng.integers(0, 99, 3)])

    def first_score(sums: Array) -> Array:
        return np.asarray(weighted_accuracy_from_confusion(sums[:, 0]))

    one_seed = jackknife_over_seeds(counts[None, :1], first_score)
    assert one_seed == jackknife_interval(counts[0], weighted_accuracy_from_confusion)

    groups, seeds = counts.shape[1], len(counts)
    total = counts.sum(axis=(0, 1))
    score = float(weighted_accuracy_from_confusion(total))
    without_group = [
        float(weighted_accuracy_from_confusion(total - counts[:, g].sum(axis=0)))
        for g in range(groups)
    ]
    without_seed = [
        float(weighted_accuracy_from_confusion(total - counts[s].sum(axis=0))) for s in range(seeds)
    ]
    parts = [np.var(without_group) * (groups - 1), np.var(without_seed) * (seeds - 1)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (groups - 1) + parts[1] ** 2 / (seeds - 1))
    half = stats.t.ppf(0.975, math.floor(freedom)) * math.sqrt(sum(parts)) / (score * (1 - score))
    middle = math.log(score / (1 - score))
    expected = [1 / (1 + math.exp(-side)) for side in (middle - half, middle + half)]
    assert jackknife_over_seeds(counts[None], first_score) == pytest.approx(expected)
    same = np.repeat(counts[:1], 3, axis=0)
    narrow = jackknife_over_seeds(same[None], first_score)
    assert narrow == pytest.approx(one_seed)
    with pytest.raises(ValueError, match=r"tallies \(P, S, G, \.\.\.\) that are not empty"):
        jackknife_over_seeds(counts[0], first_score)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 23, 100, 5531])
def test_quantiles_equal_scipy(freedom: int) -> None:
    for probability in (0.5, 0.6, 0.9, 0.975, 0.9995):
        expected = stats.t.ppf(probability, freedom)
        assert student_t_quantile(probability, freedom) == pytest.approx(expected, abs=1e-9)


def test_quantiles_out_of_range_are_errors() -> None:
    for probability, freedom in ((0.4, 3), (1.0, 3), (0.9, 0)):
        with pytest.raises(ValueError, match=r"need 0.5 <= probability < 1 and freedom >= 1"):
            student_t_quantile(probability, freedom)


def test_groups_are_speakers_where_all_are_known() -> None:
    assert choose_groups(["ann", "bob", "ann"]) == choose_jackknife_groups(["ann", "bob", "ann"])
    groups, words = choose_jackknife_groups(["ann", "bob", None])
    assert groups == ["0", "1", "2"]
    assert "over 3 utterances (the speaker of 1 is not known; likely too narrow)" in words
    assert choose_jackknife_groups(["ann"] * 3) == (
        ["ann"] * 3,
        "no interval (1 speaker; 2 are needed)",
    )
    assert choose_jackknife_groups([])[1] == "no interval (0 speakers; 2 are needed)"
    assert choose_groups(["ann", "bob"], "bootstrap")[1].startswith("95 % percentile bootstrap")
    with pytest.raises(ValueError, match="'bca' is no method of intervals; use jackknife or boot"):
        choose_groups(["ann"], "bca")


def test_method_is_chosen_by_name() -> None:
    first, second = speakers_confusions(9), speakers_confusions(9, seed=1)
    score = weighted_accuracy_from_confusion
    assert compute_interval(first, score) == jackknife_interval(first, score, scale=LOGIT)
    narrow = compute_interval(first, score, method="bootstrap")
    found = compute_interval(first, score)
    assert narrow is not None
    assert found is not None
    assert found[0] < narrow[0] < narrow[1] < found[1]
    gap = compute_difference_interval(first, second, score)
    assert gap == jackknife_difference(first, second, score)
    assert compute_difference_interval(first, second, score, method="bootstrap") != gap
    assert compute_interval(first[:1], score) is None
    for _, words in (choose_groups(["ann", "bob"], name) for name in ("jackknife", "bootstrap")):
        assert find_method(words) in words
