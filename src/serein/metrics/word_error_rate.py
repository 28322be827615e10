"""Word error rate of transcripts, with its interval; lower is better.

Transcripts are strings that are split at white space and compared as they are. The caller
normalises case and punctuation, which should be stated beside any published rate.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.labels.vocabulary import normalize_text, tokenize
from serein.metrics.bootstrap import sum_by_group
from serein.metrics.intervals import JACKKNIFE, choose_groups, compute_interval
from serein.metrics.jackknife import LOG
from serein.metrics.scoring import nan_to_none

_EDIT_COST = 1 << 32
"""Cost of an edit. A deletion costs one more, so that the lowest cost contains their number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordScores:
    """Word error rate of transcripts.

    Attributes:
        utterances: number of utterances with a reference transcript.
        words: number of words in the references.
        substitutions: words that were replaced by another.
        deletions: words that were left out.
        insertions: words that were added.
        wer: word error rate, pooled over utterances; None if the references have no words.
        wer_interval: 95 % interval of ``wer``.
        interval: description of how it was computed.
        unknown: words of the references that are not in the vocabulary.
        sentences: number of different sentences among the references.
        closed: how many of these are sentences of the training data, too; None if unknown.
    """

    utterances: int
    words: int
    substitutions: int
    deletions: int
    insertions: int
    wer: float | None
    wer_interval: tuple[float, float] | None
    interval: str
    unknown: int
    sentences: int
    closed: int | None = None


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    r"""Word error rate (WER), pooled over utterances.

    .. math:: \mathrm{WER} = \frac{\sum_u S_u + D_u + I_u}{\sum_u N_u}

    with the substitutions, deletions and insertions that turn a reference into its hypothesis, and
    N the words of the reference. Long utterances weigh more than in a mean of rates. Insertions can
    raise it above 1.

    Args:
        references: n transcripts by people.
        hypotheses: n transcripts by a recogniser.

    Returns:
        The rate, nan where the references have no words.

    Raises:
        ValueError: the arguments differ in length.

    >>> word_error_rate(["so it goes", "yes"], ["so he goes on", "yes"])
    0.5
    """
    return float(word_error_rate_from_counts(count_word_errors(references, hypotheses).sum(axis=0)))


def word_error_rate_from_counts(counts: ArrayLike) -> NDArray[np.float64]:
    """Word error rate of counts, such as the sum of `count_word_errors` over utterances.

    Args:
        counts: (..., 4) substitutions, deletions, insertions and words of the reference.

    Returns:
        (...) rates, without axes for one row; nan where the reference has no words.

    Raises:
        ValueError: the last axis does not have four counts.

    >>> float(word_error_rate_from_counts([1, 0, 1, 4]))
    0.5
    """
    numbers = np.asarray(counts, dtype=float)
    if numbers.ndim < 1 or numbers.shape[-1] != 4:
        raise ValueError(f"need four counts per row, (..., 4); got {numbers.shape}")
    words, edits = numbers[..., 3], numbers[..., :3].sum(axis=-1)
    return np.divide(edits, words, out=np.full(words.shape, np.nan), where=words > 0)


def count_word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.int64]:
    """Count each utterance's errors on a shortest path from reference to hypothesis.

    Levenshtein (1966), over words. Several paths may be shortest; the counts are those of one with
    the fewest deletions and insertions, so ``a b`` for ``b a`` is two substitutions.

    Args:
        references: n transcripts by people.
        hypotheses: n transcripts by a recogniser.

    Returns:
        (n, 4) substitutions, deletions, insertions and words of the reference.

    Raises:
        ValueError: the arguments differ in length.

    >>> count_word_errors(["so it goes", "yes"], ["so he goes on", "yes"])
    array([[1, 0, 1, 3],
           [0, 0, 0, 1]])
    """
    if len(references) != len(hypotheses):
        lengths = f"{len(references)} != {len(hypotheses)}"
        raise ValueError(f"references and hypotheses differ in length: {lengths}")
    pairs = zip(references, hypotheses, strict=True)
    rows = [_count_edits(reference.split(), hypothesis.split()) for reference, hypothesis in pairs]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _count_edits(reference: list[str], hypothesis: list[str]) -> tuple[int, int, int, int]:
    distance, deletions = divmod(_compute_edit_cost(reference, hypothesis), _EDIT_COST)
    insertions = deletions + len(hypothesis) - len(reference)
    return distance - deletions - insertions, deletions, insertions, len(reference)


def _compute_edit_cost(reference: list[str], hypothesis: list[str]) -> int:
    index_of = {word: index for index, word in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    words = np.array([index_of[word] for word in hypothesis], dtype=np.int64)
    insert = np.arange(len(hypothesis) + 1, dtype=np.int64) * _EDIT_COST
    row = insert
    for word in reference:
        best = row + _EDIT_COST + 1
        best[1:] = np.minimum(best[1:], row[:-1] + _EDIT_COST * (words != index_of[word]))
        # An insertion moves along the row: take the best start further left.
        row = np.minimum.accumulate(best - insert) + insert
    return int(row[-1])


def count_unknown_words(references: Sequence[str], vocabulary: Collection[str]) -> int:
    """Count the words of transcripts that are not in a recogniser's vocabulary.

    >>> count_unknown_words(["So it goes.", "Goes it?"], {"it", "goes"})
    1
    """
    return sum(word not in vocabulary for text in references for word in tokenize(text))


def compute_word_scores(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None],
    *,
    closed: int | None = None,
    unknown: int = 0,
    method: str = JACKKNIFE,
) -> WordScores:
    """Score transcripts in lower case and without punctuation, with an interval over speakers.

    Args:
        references: n transcripts by people.
        hypotheses: n transcripts by a recogniser.
        speakers: n speakers, over which the interval is computed.
        closed: number of test sentences that are also in the training subset, summed over folds.
        unknown: words of the references that are not in the recogniser's vocabulary.
        method: of the interval, one of `serein.metrics.intervals.INTERVAL_METHODS`.
    """
    normalized = [normalize_text(text) for text in references]
    counts = count_word_errors(normalized, hypotheses)
    groups, description = choose_groups(speakers, method)
    sums = sum_by_group(counts, groups)
    substitutions, deletions, insertions, total = map(int, counts.sum(axis=0))
    return WordScores(
        utterances=len(normalized),
        words=total,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        wer=nan_to_none(word_error_rate_from_counts(counts.sum(axis=0))),
        wer_interval=compute_interval(sums, word_error_rate_from_counts, scale=LOG, method=method),
        interval=description,
        unknown=unknown,
        sentences=len(set(normalized)),
        closed=closed,
    )
