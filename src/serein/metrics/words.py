"""Word errors of a corpus, with an interval and what a reader must know beside it."""

from collections.abc import Sequence

import numpy as np

from serein.labels.vocabulary import normalize_text
from serein.metrics.bootstrap import bootstrap_counts, choose_resampling_groups, sum_by_group
from serein.metrics.scoring import nan_to_none
from serein.metrics.word_error_rate import count_word_errors, word_error_rate_from_counts
from serein.transcripts import WordScores


def compute_word_scores(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None],
    *,
    closed: int | None = None,
    unknown: int = 0,
) -> WordScores:
    """Word errors of transcripts, compared in lower case and without punctuation.

    Args:
        references: what was said.
        hypotheses: what was recognised.
        speakers: of each; whole speakers are resampled for the interval.
        closed: how many of the sentences were spoken in training too, each counted once a fold.
        unknown: words of the references that the recogniser has no number for.
    """
    said = [normalize_text(text) for text in references]
    counts = count_word_errors(said, hypotheses)
    groups, told = choose_resampling_groups(speakers)
    sums = sum_by_group(counts, groups)
    low, high = bootstrap_counts(sums, word_error_rate_from_counts)
    substitutions, deletions, insertions, total = map(int, counts.sum(axis=0))
    return WordScores(
        utterances=len(said),
        words=total,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        wer=nan_to_none(word_error_rate_from_counts(counts.sum(axis=0))),
        wer_interval=None if np.isnan(low) else (low, high),
        interval=told,
        unknown=unknown,
        sentences=len(set(said)),
        closed=closed,
    )
