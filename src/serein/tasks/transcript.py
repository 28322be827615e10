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

from serein.labels import vocabulary
from serein.labels.vocabulary import Vocabulary
from serein.layers.outputs import END_ID, START_ID, TranscriptOutput

IGNORE_INDEX = -1
"""Behind the end of a transcript, and in place of one that nobody wrote."""


@dataclass(frozen=True)
class Config(vocabulary.VocabularyConfig):
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
    transcripts_from: str = ""
    train_on_transcripts: bool = False


class Task:
    """Transcripts to numbers, and the loss of what a model makes of them."""

    def __init__(self, config: Config, known: Vocabulary) -> None:
        self.config = config
        self.vocabulary = known

    def targets(self, texts: Sequence[str | None]) -> Tensor:
        """Texts -> (B, L) numbers, the end's among them; only ``NOBODY`` where there is no text."""
        return _pad_ids([[] if x is None else [*self.vocabulary.encode(x), END_ID] for x in texts])

    def encode_texts(self, texts: Sequence[str | None]) -> Tensor:
        """Texts -> (B, L) numbers of what is said; ``NOBODY`` behind each end."""
        return _pad_ids([[] if text is None else self.vocabulary.encode(text) for text in texts])

    def loss(self, output: TranscriptOutput, target_bl: Tensor) -> Tensor:
        """Mean cross-entropy over the words of the batch; 0 if nobody wrote down any."""
        assert output.logits_blv is not None, "a model in training foretells the words it is given"
        target_bl = target_bl[:, : output.logits_blv.shape[1]].long()
        count = (target_bl != IGNORE_INDEX).sum().clamp(min=1)
        cost = F.cross_entropy(
            output.logits_blv.flatten(0, 1).float(),
            target_bl.flatten(),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.config.smoothing,
        )
        share = self.config.ctc
        if not share or output.ctc_btv is None:
            return cost / count
        return (1 - share) * cost / count + share * _ctc_loss(output, target_bl) / count

    def decode(self, output: TranscriptOutput) -> Tensor:
        """(B, L) numbers of the words that were found, ``NOBODY`` behind each end."""
        if output.id_bl is not None:
            return output.id_bl
        assert output.logits_blv is not None
        return _cut_at_end(output.logits_blv.argmax(dim=-1))


def _pad_ids(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows), default=0)
    return torch.tensor(
        [[*row, *[IGNORE_INDEX] * (width - len(row))] for row in rows], dtype=torch.int32
    )


def _cut_at_end(id_bl: Tensor) -> Tensor:
    """Words up to each first end."""
    over_bl = (id_bl == END_ID).cumsum(dim=1) > 0
    return id_bl.masked_fill(over_bl, IGNORE_INDEX)


def _ctc_loss(output: TranscriptOutput, target_bl: Tensor) -> Tensor:
    """The CTC loss (Graves et al. 2006), summed over the batch.

    A transcript of more words than frames cannot be aligned and costs nothing.
    """
    assert output.ctc_btv is not None
    assert output.mask_bt is not None
    said_bl = (target_bl != IGNORE_INDEX) & (target_bl != END_ID)
    return F.ctc_loss(
        output.ctc_btv.float().log_softmax(dim=-1).transpose(0, 1),
        target_bl.masked_fill(~said_bl, 0),
        output.mask_bt.sum(dim=1),
        said_bl.sum(dim=1),
        blank=START_ID,
        reduction="sum",
        zero_infinity=True,
    )
