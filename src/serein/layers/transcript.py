"""What a model that finds words makes of a batch.

B = batch, L = words and an end, V = numbers of the vocabulary, T' = steps of the encoder.
"""

from typing import NamedTuple

from torch import Tensor


class Transcript(NamedTuple):
    """Words, as they are foretold or as they were found.

    Attributes:
        logits_blv: (B, L, V) of the next word, where a transcript was given.
        id_bl: (B, L) words that a search found, without start and end, -1 behind each end.
        score_b: (B,) log-probability of what was found.
        bounded_b: (B,) whether the search was stopped before the words ended.
        ctc_btv: (B, T', V) logits of the auxiliary CTC.
        mask_bt: (B, T') of its steps.
    """

    logits_blv: Tensor | None = None
    id_bl: Tensor | None = None
    score_b: Tensor | None = None
    bounded_b: Tensor | None = None
    ctc_btv: Tensor | None = None
    mask_bt: Tensor | None = None
