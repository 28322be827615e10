"""Intervals by resampling speakers, against literal loops."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serein.metrics.bootstrap import (
    bootstrap_difference,
    bootstrap_interval,
    choose_resampling_groups,
    confusion_by_group,
    sum_by_group,
)
from serein.metrics.classification import (
    confusion_matrix,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.word_error_rate import word_error_rate_from_counts

EMOTIONS = ["anger", "boredom", "fear", "joy", "sadness"]


def speakers_confusions(groups: int, classes: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    confusions = rng.poisson(2, size=(groups, classes, classes))
    for index, confusion in enumerate(confusions):
        confusion[np.diag_indices(classes)] += 4 + index % 9
    return confusions


def test_confusion_by_group() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.choice(EMOTIONS, size=(2, 300)).tolist()
    speakers = np.random.default_rng(1).choice(["ann", "bob", "eve"], size=len(truth)).tolist()
    grouped = confusion_by_group(truth, prediction, speakers, EMOTIONS)
    for name, matrix in zip(["ann", "bob", "eve"], grouped, strict=True):
        own = [i for i, speaker in enumerate(speakers) if speaker == name]
        expected = confusion_matrix([truth[i] for i in own], [prediction[i] for i in own], EMOTIONS)
        np.testing.assert_array_equal(matrix, expected)
    assert confusion_by_group([], [], [], EMOTIONS).shape == (0, 5, 5)
    with pytest.raises(ValueError, match="differ in length: 300, 300, 1"):
        confusion_by_group(truth, prediction, ["ann"], EMOTIONS)


def test_bootstrap_equals_a_literal_loop() -> None:
    confusions = speakers_confusions(10, 4)
    rng = np.random.default_rng(7)
    kinds = np.unique(confusions, axis=0)
    scores = []
    for _ in range(500):
        times = rng.multinomial(10, np.full(10, 0.1))
        chosen = np.repeat(kinds, times, axis=0)
        assert len(chosen) == 10
        total = chosen.sum(axis=0)
        scores.append(np.mean([total[i, i] / total[i].sum() for i in range(4)]))
    interval = bootstrap_interval(
        confusions, unweighted_accuracy_from_confusion, resamples=500, seed=7
    )
    assert interval == pytest.approx(np.quantile(scores, [0.025, 0.975]))


def test_bootstrap_equals_drawing_groups_by_index_in_distribution() -> None:
    confusions = speakers_confusions(12, 3)
    confusions[6:] = confusions[:6]  # equal groups, which the fast way counts as one kind
    chosen = np.random.default_rng(1).integers(12, size=(20_000, 12))
    scores = weighted_accuracy_from_confusion(confusions[chosen].sum(axis=1))
    interval = bootstrap_interval(confusions, weighted_accuracy_from_confusion, resamples=20_000)
    assert interval == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.002)


def test_difference_equals_a_literal_loop_over_pairs() -> None:
    first, second = speakers_confusions(10, 4, 0), speakers_confusions(10, 4, 1)
    pairs = sorted(zip(first.tolist(), second.tolist(), strict=True))
    rng = np.random.default_rng(7)
    gaps = []
    for _ in range(500):
        times = rng.multinomial(10, np.full(10, 0.1))
        chosen = [pair for pair, count in zip(pairs, times, strict=True) for _ in range(count)]
        recalls = []
        for side in (0, 1):
            total = np.sum([pair[side] for pair in chosen], axis=0)
            recalls.append(np.mean([total[i, i] / total[i].sum() for i in range(4)]))
        gaps.append(recalls[0] - recalls[1])
    interval = bootstrap_difference(
        first, second, unweighted_accuracy_from_confusion, resamples=500, seed=7
    )
    assert interval == pytest.approx(np.quantile(gaps, [0.025, 0.975]))


def test_difference_keeps_pairs_together() -> None:
    """Both systems are equally good on every speaker, though speakers differ."""
    confusions = speakers_confusions(10, 4)
    same = bootstrap_difference(confusions, confusions, unweighted_accuracy_from_confusion)
    assert same == (0, 0)
    nothing = np.zeros((0, 4, 4))
    assert np.isnan(bootstrap_difference(nothing, nothing, weighted_accuracy_from_confusion)).all()
    with pytest.raises(ValueError, match=r"equal shapes; got \(10, 4, 4\) and \(9, 4, 4\)"):
        bootstrap_difference(confusions, confusions[1:], weighted_accuracy_from_confusion)


def test_bootstrap_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    confusions = speakers_confusions(10, 4)
    whole = bootstrap_interval(confusions, weighted_accuracy_from_confusion, resamples=1000)
    monkeypatch.setattr("serein.metrics.bootstrap.CHUNK_CELLS", 333)
    chunked = bootstrap_interval(confusions, weighted_accuracy_from_confusion, resamples=1000)
    assert whole == chunked


def test_bootstrap_over_speakers_covers_correlated_utterances() -> None:
    """Speakers differ; the interval over speakers covers, the one over utterances does not."""
    rng = np.random.default_rng(0)
    covered = {"speakers": 0, "utterances": 0}
    for _ in range(100):
        right = rng.binomial(50, rng.uniform(0.4, 0.9, size=20))
        speakers = np.array([[[r, 50 - r], [0, 0]] for r in right])
        one = np.array([[[1, 0], [0, 0]], [[0, 1], [0, 0]]])
        utterances = np.repeat(one, [right.sum(), 1000 - right.sum()], axis=0)
        for name, groups in {"speakers": speakers, "utterances": utterances}.items():
            low, high = bootstrap_interval(groups, weighted_accuracy_from_confusion, resamples=500)
            covered[name] += low <= 0.65 <= high
    assert 86 <= covered["speakers"] <= 99
    assert covered["utterances"] < 75


def test_bootstrap_edge_cases() -> None:
    one = speakers_confusions(1, 3)
    score = float(weighted_accuracy_from_confusion(one[0]))
    assert bootstrap_interval(one, weighted_accuracy_from_confusion) == (score, score)
    nothing = bootstrap_interval(np.zeros((0, 3, 3)), weighted_accuracy_from_confusion)
    assert np.isnan(nothing).all()
    with pytest.raises(ValueError, match="square"):
        bootstrap_interval(one[0], weighted_accuracy_from_confusion)
    with pytest.raises(ValueError, match="0 < level < 1"):
        bootstrap_interval(one, weighted_accuracy_from_confusion, level=95)


def test_bootstrap_is_undefined_where_a_draw_is_undefined() -> None:
    """Class 1 has one speaker: a third of the draws leave it without any recall."""
    confusions = np.array([[[5, 1], [0, 0]]] * 9 + [[[5, 1], [2, 3]]])
    interval = bootstrap_interval(confusions, lambda c: recalls_from_confusion(c)[:, 1])
    assert np.isnan(interval).all()
    assert np.isfinite(bootstrap_interval(confusions, unweighted_accuracy_from_confusion)).all()


@pytest.mark.parametrize("groups", [10, 535])
def test_bootstrap_needs_little_memory(groups: int) -> None:
    confusions = speakers_confusions(groups, 7)
    tracemalloc.start()
    low, high = bootstrap_interval(confusions, unweighted_accuracy_from_confusion)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert low < float(unweighted_accuracy_from_confusion(confusions.sum(axis=0))) < high
    assert peak < 200e6


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 100))
def test_interval_contains_the_median(groups: int, seed: int) -> None:
    confusions = speakers_confusions(groups, 3, seed)
    options = {"resamples": 200, "seed": seed}
    low, high = bootstrap_interval(confusions, weighted_accuracy_from_confusion, **options)
    inner = bootstrap_interval(confusions, weighted_accuracy_from_confusion, level=0.5, **options)
    assert 0 <= low <= inner[0] <= inner[1] <= high <= 1


def test_speakers_are_resampled_from_eight_on() -> None:
    eight = [f"s{index % 8}" for index in range(20)]
    words = "95 % percentile bootstrap over 8 speakers (few: likely too narrow)"
    assert choose_resampling_groups(eight) == (eight, words)
    twenty = [f"s{index}" for index in range(20)]
    assert choose_resampling_groups(twenty) == (
        twenty,
        "95 % percentile bootstrap over 20 speakers",
    )
    groups, words = choose_resampling_groups(eight[:7] * 2)
    assert len(set(groups)) == 14
    assert words.startswith("95 % percentile bootstrap over 14 utterances (7 speakers are too few")
    groups, words = choose_resampling_groups([*eight, None])
    assert len(set(groups)) == 21
    assert "the speaker of 1 is not known" in words


def test_interval_of_counts_equals_that_of_matrices() -> None:
    counts = np.random.default_rng(3).integers(1, 9, size=(12, 4))
    rate = word_error_rate_from_counts
    interval = bootstrap_interval(counts, rate, resamples=500, seed=1)
    square = bootstrap_interval(
        counts.reshape(-1, 2, 2), lambda sums: rate(sums.reshape(-1, 4)), resamples=500, seed=1
    )
    assert interval == square
    assert interval[0] < float(rate(counts.sum(axis=0))) < interval[1]
    with pytest.raises(ValueError, match=r"\(G, C\); got \(4,\)"):
        bootstrap_interval(counts[0], rate)


def test_sum_by_group() -> None:
    counts = np.arange(12).reshape(6, 2)
    sums = sum_by_group(counts, ["bob", "ann", "bob", "eve", "ann", "bob"])
    np.testing.assert_array_equal(sums, [[10, 12], [14, 17], [6, 7]])
    assert sum_by_group(np.zeros((0, 4)), []).shape == (0, 4)
    with pytest.raises(ValueError, match=r"got 2 and \(6, 2\)"):
        sum_by_group(counts, ["ann", "bob"])
