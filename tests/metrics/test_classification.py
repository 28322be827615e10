"""Scores of classes, against scikit-learn, and second formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from serein.metrics.classification import (
    chance_scores,
    confusion_matrix,
    macro_f1_from_confusion,
    macro_f1_score,
    majority_class,
    precisions_from_confusion,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    unweighted_accuracy_score,
    weighted_accuracy_from_confusion,
    weighted_accuracy_score,
)

EMOTIONS = ["anger", "boredom", "fear", "joy", "sadness"]

label_pairs = st.lists(
    st.tuples(st.sampled_from(EMOTIONS), st.sampled_from(EMOTIONS)), min_size=1, max_size=60
)


def drawn(seed: int, n: int = 300) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(EMOTIONS, size=n, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    prediction = np.where(rng.random(n) < 0.6, truth, rng.choice(EMOTIONS, size=n))
    return truth.tolist(), prediction.tolist()


def recalls_of(truth: list[str], prediction: list[str]) -> NDArray[np.float64]:
    return recalls_from_confusion(confusion_matrix(truth, prediction, EMOTIONS))


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
    np.testing.assert_allclose(recalls_of(truth, prediction), recalls)


def test_class_without_truth_has_no_recall_and_is_left_out_of_ua() -> None:
    truth, prediction = ["joy", "joy", "anger"], ["joy", "fear", "anger"]
    np.testing.assert_array_equal(recalls_of(truth, prediction), [1.0, np.nan, np.nan, 0.5, np.nan])
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


@pytest.mark.parametrize("seed", range(5))
def test_f1_and_precision_equal_scikit_learn(seed: int) -> None:
    truth, prediction = drawn(seed)
    f1 = sklearn_metrics.f1_score(truth, prediction, average="macro")
    assert macro_f1_score(truth, prediction) == pytest.approx(f1)
    matrix = confusion_matrix(truth, prediction, EMOTIONS)
    precisions = sklearn_metrics.precision_score(truth, prediction, labels=EMOTIONS, average=None)
    np.testing.assert_allclose(precisions_from_confusion(matrix), precisions)


def test_f1_where_definitions_differ() -> None:
    truth, prediction = ["joy", "joy", "joy", "anger"], ["joy", "joy", "anger", "fear"]
    joy = 2 * (1 * 2 / 3) / (1 + 2 / 3)
    # anger is never found and fear never true: both count 0, the two others do not occur.
    assert macro_f1_score(truth, prediction) == pytest.approx(joy / 3)
    matrix = confusion_matrix(truth, prediction, EMOTIONS)
    assert float(macro_f1_from_confusion(matrix)) == pytest.approx(joy / 3)
    assert sklearn_metrics.f1_score(truth, prediction, average="macro") == pytest.approx(joy / 3)
    # Told of all five classes, scikit-learn counts those that never occur as 0.
    theirs = sklearn_metrics.f1_score(
        truth, prediction, labels=EMOTIONS, average="macro", zero_division=0
    )
    assert theirs == pytest.approx(joy / 5)
    np.testing.assert_array_equal(precisions_from_confusion(matrix), [0, np.nan, 0, 1, np.nan])


@given(label_pairs)
def test_f1_second_formula(pairs: list[tuple[str, str]]) -> None:
    scores, precisions, recalls = [], [], []
    for name in {label for pair in pairs for label in pair}:
        hits = pairs.count((name, name))
        true, answered = [t for t, _ in pairs].count(name), [p for _, p in pairs].count(name)
        precisions.append(hits / answered if answered else 0)
        recalls.append(hits / true if true else 0)
        both = precisions[-1] + recalls[-1]
        scores.append(2 * precisions[-1] * recalls[-1] / both if both else 0)
    macro = macro_f1_score([t for t, _ in pairs], [p for _, p in pairs])
    assert macro == pytest.approx(np.mean(scores))
    precision, recall = np.mean(precisions), np.mean(recalls)
    if precision + recall:  # the other definition
        assert macro <= 2 * precision * recall / (precision + recall) + 1e-12


@given(label_pairs, st.permutations(EMOTIONS))
def test_order_of_classes_changes_no_score(
    pairs: list[tuple[str, str]], classes: list[str]
) -> None:
    truth, prediction = zip(*pairs, strict=True)
    one = confusion_matrix(truth, prediction, EMOTIONS)
    other = confusion_matrix(truth, prediction, classes)
    for score in (
        macro_f1_from_confusion,
        weighted_accuracy_from_confusion,
        unweighted_accuracy_from_confusion,
    ):
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


def test_nothing_to_score_is_undefined() -> None:
    assert np.isnan(weighted_accuracy_score([], []))
    assert np.isnan(unweighted_accuracy_score([], []))
    assert np.isnan(recalls_of([], [])).all()
    assert np.isnan(chance_scores([])).all()
    assert np.isnan(macro_f1_score([], []))


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
    assert majority_class(["joy", "joy", "fear"]) == "joy"
    rng = np.random.default_rng(0)
    truth = rng.choice(4, size=20_000, p=[0.7, 0.1, 0.1, 0.1])
    guesses = rng.integers(4, size=20_000)
    expected = chance_scores(range(4))
    measured = weighted_accuracy_score(truth, guesses), unweighted_accuracy_score(truth, guesses)
    assert measured == pytest.approx(expected, abs=0.015)
