"""What a recogniser makes of what is said, and the words that every vocabulary has.

B = batch, L = steps of words, V = words of the vocabulary, T' = frames of the encoder.

What an estimator is fitted on.

n = utterances, D = channels.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from serein.labels import vocabulary

START_ID, END_ID = map(vocabulary.SPECIAL_TOKENS.index, (vocabulary.START, vocabulary.END))
"""The numbers of <s>, which is CTC's blank too, and of </s>."""

ASR_ATTENTION = "recogniser"
"""The attention map (B, L, T') of each word over the frames."""
WORD_ATTENTION = "words"
"""The attention map (B, H, L) of heads over words, which has no frames: its stride is 0."""


class TranscriptOutput(NamedTuple):
    """What a recogniser says of a batch; what was not asked for is None.

    Attributes:
        logits_blv: (B, L, V), of each next word where the words before it were given; the last step
            of an utterance is for </s>.
        id_bl: (B, L), the words that the search found, without <s> and </s>; -1 behind each end.
        score_b: (B,), the log-probability of what was found, and what its length adds to it.
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
    """Utterances as an estimator sees them, and what they stand for.

    Attributes:
        vectors: for each task, (n, D): what the estimator itself made of them.
        targets: for each task, (n,).
    """

    vectors: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
