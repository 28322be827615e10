"""Word errors, against jiwer, a literal recursion, and by hand."""

from functools import cache

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serein.metrics.word_error_rate import (
    count_word_errors,
    word_error_rate,
    word_error_rate_from_counts,
)

sentences = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7).map(" ".join)
pairs = st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=8)


def shortest(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> tuple[int, int, int, int]:
    """Edits, deletions, insertions, substitutions: the minimum over all paths, in this order."""

    @cache
    def path(i: int, j: int) -> tuple[int, int, int, int]:
        ways = []
        if i and j:
            edits, deleted, inserted, replaced = path(i - 1, j - 1)
            other = reference[i - 1] != hypothesis[j - 1]
            ways.append((edits + other, deleted, inserted, replaced + other))
        if i:
            edits, deleted, inserted, replaced = path(i - 1, j)
            ways.append((edits + 1, deleted + 1, inserted, replaced))
        if j:
            edits, deleted, inserted, replaced = path(i, j - 1)
            ways.append((edits + 1, deleted, inserted + 1, replaced))
        return min(ways, default=(0, 0, 0, 0))

    return path(len(reference), len(hypothesis))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("excuse me", "excuse me", [0, 0, 0, 2]),
        ("excuse me", "", [0, 2, 0, 2]),
        ("", "excuse me", [0, 0, 2, 0]),
        ("b a", "a b", [2, 0, 0, 2]),
        ("a b c", "b c d", [0, 1, 1, 3]),
        ("i am  fine\n", "i'm fine", [1, 1, 0, 3]),
        ("Yes", "yes", [1, 0, 0, 1]),
    ],
)
def test_by_hand(reference: str, hypothesis: str, expected: list[int]) -> None:
    assert count_word_errors([reference], [hypothesis]).tolist() == [expected]


@given(pairs)
def test_equals_jiwer(texts: list[tuple[str, str]]) -> None:
    references, hypotheses = [r for r, _ in texts], [h for _, h in texts]
    theirs = jiwer.process_words(references, hypotheses)
    substitutions, deletions, insertions, words = count_word_errors(references, hypotheses).sum(
        axis=0
    )
    edits = theirs.substitutions + theirs.deletions + theirs.insertions
    assert substitutions + deletions + insertions == edits
    # Which of several shortest paths is counted may differ; the difference of lengths cannot.
    assert deletions - insertions == theirs.deletions - theirs.insertions
    assert words == theirs.hits + theirs.substitutions + theirs.deletions
    assert word_error_rate(references, hypotheses) == pytest.approx(theirs.wer)


@given(sentences, sentences)
def test_equals_a_literal_recursion(reference: str, hypothesis: str) -> None:
    _, deleted, inserted, replaced = shortest(tuple(reference.split()), tuple(hypothesis.split()))
    expected = [replaced, deleted, inserted, len(reference.split())]
    assert count_word_errors([reference], [hypothesis]).tolist() == [expected]


def test_rate_is_over_the_words_of_the_reference_and_pooled() -> None:
    references, hypotheses = ["a b c d e f g h", "yes"], ["a b c d e f g h", "no no no"]
    assert word_error_rate(references, hypotheses) == pytest.approx(3 / 9)
    # Where the definitions part: over the words of the hypothesis, and as a mean of rates.
    assert word_error_rate(hypotheses, references) == pytest.approx(3 / 11)
    rates = word_error_rate_from_counts(count_word_errors(references, hypotheses))
    assert rates.tolist() == [0, 3]
    assert rates.mean() == 1.5


def test_undefined_rate_and_bad_input() -> None:
    assert np.isnan(word_error_rate([], []))
    assert np.isnan(word_error_rate([""], ["a"]))
    assert count_word_errors([], []).shape == (0, 4)
    stack = np.array([[[1, 0, 0, 2], [0, 0, 3, 0]]])
    np.testing.assert_array_equal(word_error_rate_from_counts(stack), [[0.5, np.nan]])
    with pytest.raises(ValueError, match="differ in length: 1 != 2"):
        word_error_rate(["a"], ["a", "b"])
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        word_error_rate_from_counts([1, 2, 3])


def test_thousands_of_sentences() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), size=12)) for _ in range(2000)]
    assert 0 < word_error_rate(texts, texts[::-1]) < 1
