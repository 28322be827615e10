"""Scores of classes, against scikit-learn, second formulas, and published matrices."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from serein.metrics.classification import (
    chance_scores,
    confusion_matrix,
    majority_class,
    majority_scores,
    recall_scores,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    unweighted_accuracy_score,
    weighted_accuracy_from_confusion,
    weighted_accuracy_score,
)
from serein.metrics.significance import (
    bootstrap_difference,
    bootstrap_interval,
    grouped_confusions,
    speaker_or_utterance_groups,
)

EMOTIONS = ["anger", "boredom", "fear", "joy", "sadness"]

LI2019 = [[939, 101, 63, 0], [271, 1283, 71, 11], [2, 107, 1300, 299], [8, 25, 57, 994]]

# As printed, rows happy, sad, neutral, angry. Their sums (1720, 1058, 1599, 1138) are not what
# IEMOCAP holds (about 1636, 1084, 1708, 1103); the sums of the columns are. The text confirms it:
# "neutral ... around 59.1 %" is 1009 over its column. So truth runs along the columns.
FENG2020 = [[1159, 83, 373, 105], [81, 752, 207, 18], [280, 197, 1009, 113], [113, 42, 118, 865]]

label_pairs = st.lists(
    st.tuples(st.sampled_from(EMOTIONS), st.sampled_from(EMOTIONS)), min_size=1, max_size=60
)


def drawn(seed: int, n: int = 300) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(EMOTIONS, size=n, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    prediction = np.where(rng.random(n) < 0.6, truth, rng.choice(EMOTIONS, size=n))
    return truth.tolist(), prediction.tolist()


def percent(score: float | NDArray[np.float64]) -> float:
    return round(100 * float(score), 1)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed: int) -> None:
    truth, prediction = drawn(seed)
    ours = confusion_matrix(truth, prediction, EMOTIONS)
    theirs = sklearn_metrics.confusion_matrix(truth, prediction, labels=EMOTIONS)
    np.testing.assert_array_equal(ours, theirs)
    wa = sklearn_metrics.accuracy_score(truth, prediction)
    ua = sklearn_metrics.balanced_accuracy_score(truth, prediction)
    recalls = sklearn_metrics.recall_score(truth, prediction, labels=EMOTIONS, average=None)
    assert weighted_accuracy_score(truth, prediction) == pytest.approx(wa)
    assert unweighted_accuracy_score(truth, prediction) == pytest.approx(ua)
    np.testing.assert_allclose(recall_scores(truth, prediction, EMOTIONS), recalls)


def test_class_without_truth_has_no_recall_and_is_left_out_of_ua() -> None:
    truth, prediction = ["joy", "joy", "anger"], ["joy", "fear", "anger"]
    np.testing.assert_array_equal(
        recall_scores(truth, prediction, EMOTIONS), [1.0, np.nan, np.nan, 0.5, np.nan]
    )
    assert unweighted_accuracy_score(truth, prediction) == 0.75
    with pytest.warns(UserWarning, match="not in y_true"):
        assert sklearn_metrics.balanced_accuracy_score(truth, prediction) == 0.75
    # Where the definitions part: scikit-learn's average recall counts an absent class as 0.
    uar = sklearn_metrics.recall_score(truth, prediction, average="macro", zero_division=0)
    assert uar == pytest.approx(0.5)


@given(label_pairs)
def test_second_formula(pairs: list[tuple[str, str]]) -> None:
    truth, prediction = [t for t, _ in pairs], [p for _, p in pairs]
    right = [t for t, p in pairs if t == p]
    recalls = [right.count(name) / truth.count(name) for name in set(truth)]
    ua = unweighted_accuracy_score(truth, prediction)
    assert weighted_accuracy_score(truth, prediction) == pytest.approx(len(right) / len(pairs))
    assert ua == pytest.approx(sum(recalls) / len(recalls))
    matrix = confusion_matrix(truth, prediction, EMOTIONS)
    assert matrix.sum() == len(pairs)
    assert matrix[0, 1] == pairs.count(("anger", "boredom"))
    assert float(unweighted_accuracy_from_confusion(matrix)) == pytest.approx(ua)


@given(label_pairs, st.permutations(EMOTIONS))
def test_order_of_classes_changes_no_score(
    pairs: list[tuple[str, str]], classes: list[str]
) -> None:
    truth, prediction = zip(*pairs, strict=True)
    one = confusion_matrix(truth, prediction, EMOTIONS)
    other = confusion_matrix(truth, prediction, classes)
    for score in (weighted_accuracy_from_confusion, unweighted_accuracy_from_confusion):
        assert float(score(one)) == pytest.approx(float(score(other)))


def test_stack_of_matrices_is_scored_one_by_one() -> None:
    stack = np.random.default_rng(0).integers(0, 5, size=(2, 3, 4, 4))
    stack[0, 0] = 0
    stack[1, 1, 2] = 0
    ua, wa = unweighted_accuracy_from_confusion(stack), weighted_accuracy_from_confusion(stack)
    assert ua.shape == wa.shape == (2, 3)
    assert recalls_from_confusion(stack).shape == (2, 3, 4)
    for at in np.ndindex(2, 3):
        np.testing.assert_equal(float(ua[at]), float(unweighted_accuracy_from_confusion(stack[at])))
        np.testing.assert_equal(float(wa[at]), float(weighted_accuracy_from_confusion(stack[at])))
    assert np.isnan(ua[0, 0])
    assert np.isnan(wa[0, 0])


def test_published_matrix_of_li2019() -> None:
    assert percent(weighted_accuracy_from_confusion(LI2019)) == 81.6
    assert percent(unweighted_accuracy_from_confusion(LI2019)) == 82.8


def test_published_matrix_of_feng2020() -> None:
    matrix = np.array(FENG2020).T
    assert matrix.sum() == 5515
    assert percent(weighted_accuracy_from_confusion(matrix)) == 68.6
    assert percent(unweighted_accuracy_from_confusion(matrix)) == 69.7
    assert percent(recalls_from_confusion(matrix)[2]) == 59.1
    assert percent(unweighted_accuracy_from_confusion(FENG2020)) != 69.7


def test_nothing_to_score_is_undefined() -> None:
    assert np.isnan(weighted_accuracy_score([], []))
    assert np.isnan(unweighted_accuracy_score([], []))
    assert np.isnan(recall_scores([], [], EMOTIONS)).all()
    assert np.isnan(chance_scores([])).all()
    assert np.isnan(majority_scores(["joy"], [])).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown labels 'bliss'; known are \['anger', 'joy'\]"):
        confusion_matrix(["joy"], ["bliss"], ["anger", "joy"])
    with pytest.raises(ValueError, match="differ in length: 1 != 2"):
        confusion_matrix(["joy"], ["joy", "joy"], ["joy"])
    with pytest.raises(ValueError, match="one label twice"):
        confusion_matrix(["joy"], ["joy"], ["joy", "joy"])
    with pytest.raises(ValueError, match=r"got \(2, 3\)"):
        weighted_accuracy_from_confusion(np.ones((2, 3)))
    with pytest.raises(ValueError, match="negative or undefined"):
        unweighted_accuracy_from_confusion(np.array([[1, np.nan], [0, 1]]))
    with pytest.raises(ValueError, match="at least one label"):
        majority_class([])


def test_baselines() -> None:
    assert majority_class([2, 1, 1, 2, 0]) == 1
    wa, ua = majority_scores(["joy", "joy", "fear"], ["fear", "fear", "joy", "anger"])
    assert [wa, ua] == pytest.approx([1 / 4, 1 / 3])
    assert majority_scores(["joy"], ["fear", "anger"]) == (0.0, 0.0)
    rng = np.random.default_rng(0)
    truth = rng.choice(4, size=20_000, p=[0.7, 0.1, 0.1, 0.1])
    guesses = rng.integers(4, size=20_000)
    expected = chance_scores(range(4))
    measured = weighted_accuracy_score(truth, guesses), unweighted_accuracy_score(truth, guesses)
    assert measured == pytest.approx(expected, abs=0.015)


def speakers_confusions(groups: int, classes: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    confusions = rng.poisson(2, size=(groups, classes, classes))
    for index, confusion in enumerate(confusions):
        confusion[np.diag_indices(classes)] += 4 + index % 9
    return confusions


def test_grouped_confusions_are_the_groups_own() -> None:
    truth, prediction = drawn(0)
    speakers = np.random.default_rng(1).choice(["ann", "bob", "eve"], size=len(truth)).tolist()
    grouped = grouped_confusions(truth, prediction, speakers, EMOTIONS)
    for name, matrix in zip(["ann", "bob", "eve"], grouped, strict=True):
        own = [i for i, speaker in enumerate(speakers) if speaker == name]
        expected = confusion_matrix([truth[i] for i in own], [prediction[i] for i in own], EMOTIONS)
        np.testing.assert_array_equal(matrix, expected)
    assert grouped_confusions([], [], [], EMOTIONS).shape == (0, 5, 5)
    with pytest.raises(ValueError, match="differ in length: 300, 300, 1"):
        grouped_confusions(truth, prediction, ["ann"], EMOTIONS)


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
    """Both ways are as good as each other on every speaker, however unlike the speakers are."""
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
    monkeypatch.setattr("serein.metrics.significance.CELLS_AT_A_TIME", 333)
    chunked = bootstrap_interval(confusions, weighted_accuracy_from_confusion, resamples=1000)
    assert whole == chunked


def test_bootstrap_covers_the_truth_where_utterances_hang_together() -> None:
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


def test_bootstrap_at_its_edges() -> None:
    one = speakers_confusions(1, 3)
    score = float(weighted_accuracy_from_confusion(one[0]))
    assert bootstrap_interval(one, weighted_accuracy_from_confusion) == (score, score)
    nothing = bootstrap_interval(np.zeros((0, 3, 3)), weighted_accuracy_from_confusion)
    assert np.isnan(nothing).all()
    with pytest.raises(ValueError, match=r"got \(3, 3\)"):
        bootstrap_interval(one[0], weighted_accuracy_from_confusion)
    with pytest.raises(ValueError, match="0 < level < 1"):
        bootstrap_interval(one, weighted_accuracy_from_confusion, level=95)


def test_bootstrap_is_undefined_where_a_draw_is() -> None:
    """Class 1 has one speaker: a third of the draws leave it without any recall."""
    confusions = np.array([[[5, 1], [0, 0]]] * 9 + [[[5, 1], [2, 3]]])
    interval = bootstrap_interval(confusions, lambda c: recalls_from_confusion(c)[:, 1])
    assert np.isnan(interval).all()
    assert np.isfinite(bootstrap_interval(confusions, unweighted_accuracy_from_confusion)).all()


@pytest.mark.parametrize("groups", [10, 535])
def test_bootstrap_is_quick_and_small(groups: int) -> None:
    confusions = speakers_confusions(groups, 7)
    tracemalloc.start()
    start = time.process_time()
    low, high = bootstrap_interval(confusions, unweighted_accuracy_from_confusion)
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert low < float(unweighted_accuracy_from_confusion(confusions.sum(axis=0))) < high
    assert seconds < 5
    assert peak < 200e6


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 100))
def test_interval_holds_its_median(groups: int, seed: int) -> None:
    confusions = speakers_confusions(groups, 3, seed)
    options = {"resamples": 200, "seed": seed}
    low, high = bootstrap_interval(confusions, weighted_accuracy_from_confusion, **options)
    inner = bootstrap_interval(confusions, weighted_accuracy_from_confusion, level=0.5, **options)
    assert 0 <= low <= inner[0] <= inner[1] <= high <= 1


def test_speakers_are_resampled_from_eight_on() -> None:
    eight = [f"s{index % 8}" for index in range(20)]
    words = "95 % bootstrap over 8 speakers (few: likely too narrow)"
    assert speaker_or_utterance_groups(eight) == (eight, words)
    twenty = [f"s{index}" for index in range(20)]
    assert speaker_or_utterance_groups(twenty) == (twenty, "95 % bootstrap over 20 speakers")
    groups, words = speaker_or_utterance_groups(eight[:7] * 2)
    assert len(set(groups)) == 14
    assert words.startswith("95 % bootstrap over 14 utterances (7 speakers are too few")
    groups, words = speaker_or_utterance_groups([*eight, None])
    assert len(set(groups)) == 21
    assert "the speaker of 1 is not known" in words
