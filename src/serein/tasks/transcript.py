"""Task: which words are said, by a model that finds them itself.

The head, a softmax over words, is the model's own: its search asks it at every step. What is left
is the loss (Feng et al. 2020, section 4.2) and what the words are scored by.

B = batch, L = words of the longest transcript and one for its end, V = numbers of the vocabulary,
T' = frames of the auxiliary CTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from serein import vocabulary
from serein.layers.transcript import END, START, Transcript
from serein.vocabulary import Vocabulary

NOBODY = -1
"""Behind the end of a transcript, and in place of one that nobody wrote."""


@dataclass(frozen=True)
class Config(vocabulary.Config):
    """What may vary; `[text]` of a recipe.

    Attributes:
        weight: of the words' loss beside the tasks'; 0 where words are only read.
        smoothing: share of the probability that the loss wants spread over all words.
        ctc: share of the words' loss that the auxiliary CTC has; 0 without one.
        recogniser: whose transcripts are read instead of the corpus's own on validation and test
            sides: a saved model, or results of an evaluation by the same folds, of which each
            utterance's was written by the fold that tested it; empty reads the corpus's own.
        trained: whose transcripts are read in training: those too, or else the corpus's own.
    """

    weight: Annotated[float, Ge(0)] = 0.0
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    ctc: Annotated[float, Ge(0), Lt(1)] = 0.0
    recogniser: str = ""
    trained: bool = False


class Task:
    """Transcripts to numbers, and the loss of what a model makes of them."""

    def __init__(self, config: Config, known: Vocabulary) -> None:
        self.config = config
        self.vocabulary = known

    def targets(self, texts: Sequence[str | None]) -> Tensor:
        """Texts -> (B, L) numbers, the end's among them; only ``NOBODY`` where there is no text."""
        return _padded([[] if x is None else [*self.vocabulary.ids(x), END] for x in texts])

    def words(self, texts: Sequence[str | None]) -> Tensor:
        """Texts -> (B, L) numbers of what is said; ``NOBODY`` behind each end."""
        return _padded([[] if text is None else self.vocabulary.ids(text) for text in texts])

    def loss(self, found: Transcript, target_bl: Tensor) -> Tensor:
        """Mean cross-entropy over the words of the batch; 0 if nobody wrote down any."""
        assert found.logits_blv is not None, "a model in training foretells the words it is given"
        target_bl = target_bl[:, : found.logits_blv.shape[1]].long()
        count = (target_bl != NOBODY).sum().clamp(min=1)
        cost = F.cross_entropy(
            found.logits_blv.flatten(0, 1).float(),
            target_bl.flatten(),
            ignore_index=NOBODY,
            reduction="sum",
            label_smoothing=self.config.smoothing,
        )
        share = self.config.ctc
        if not share or found.ctc_btv is None:
            return cost / count
        return (1 - share) * cost / count + share * _aligned(found, target_bl) / count

    def decode(self, found: Transcript) -> Tensor:
        """(B, L) numbers of the words that were found, ``NOBODY`` behind each end."""
        if found.id_bl is not None:
            return found.id_bl
        assert found.logits_blv is not None
        return _cut(found.logits_blv.argmax(dim=-1))


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[NOBODY] * (width - len(row))] for row in rows], dtype=torch.int32)


def _cut(id_bl: Tensor) -> Tensor:
    """Words up to each first end."""
    over_bl = (id_bl == END).cumsum(dim=1) > 0
    return id_bl.masked_fill(over_bl, NOBODY)


def _aligned(found: Transcript, target_bl: Tensor) -> Tensor:
    """The CTC loss (Graves et al. 2006), summed over the batch.

    A transcript of more words than frames cannot be aligned and costs nothing.
    """
    assert found.ctc_btv is not None
    assert found.mask_bt is not None
    said_bl = (target_bl != NOBODY) & (target_bl != END)
    return F.ctc_loss(
        found.ctc_btv.float().log_softmax(dim=-1).transpose(0, 1),
        target_bl.masked_fill(~said_bl, 0),
        found.mask_bt.sum(dim=1),
        said_bl.sum(dim=1),
        blank=START,
        reduction="sum",
        zero_infinity=True,
    )
