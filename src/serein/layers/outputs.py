"""Output of a speech recogniser (ASR), and the data that an estimator is fitted on.

B = batch, L = steps of words, V = words of the vocabulary, T' = frames of the encoder, n =
utterances, D = channels.
"""

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from serein.labels import vocabulary
from serein.utils.attention_maps import ASR_ATTENTION as ASR_ATTENTION
from serein.utils.attention_maps import WORD_ATTENTION as WORD_ATTENTION

START_ID, END_ID = map(vocabulary.SPECIAL_TOKENS.index, (vocabulary.START, vocabulary.END))
"""Ids of <s>, which is the blank of CTC too, and of </s>."""


class TranscriptOutput(NamedTuple):
    """Output of a speech recogniser for a batch; what was not computed is None.

    Attributes:
        logits_blv: (B, L, V), of each next word where the words before it were given; the last step
            of an utterance is for </s>.
        id_bl: (B, L), ids of the words that beam search found, without <s> and </s>; -1 after each
            end.
        score_b: (B,), the log-probability of these words, plus the bonus for their number.
        ctc_btv: (B, T', V), logits of the auxiliary CTC.
        mask_bt: (B, T'), of its frames.
        ended_b: (B,), whether the search found </s> before it had to stop.
    """

    logits_blv: Tensor | None
    id_bl: Tensor | None
    score_b: Tensor | None
    ctc_btv: Tensor | None
    mask_bt: Tensor | None
    ended_b: Tensor | None = None


class Examples(NamedTuple):
    """Data that an estimator is fitted on.

    Attributes:
        vectors: for each task, (n, D), the estimator's own vectors.
        targets: for each task, (n,).
        copies: the vectors of each set of augmented copies of the same utterances.
        groups: the corpus, or whatever the recipe balances, of each utterance; empty if it balances
            nothing.
        votes: for each task that trains on votes, the raters' distributions (n, K); nan without.
    """

    vectors: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    copies: Sequence[Mapping[str, Tensor]] = ()
    groups: Sequence[Hashable] = ()
    votes: Mapping[str, Tensor] = MappingProxyType({})
