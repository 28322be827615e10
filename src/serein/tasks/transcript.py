"""Task: the transcript, by a model with a speech recogniser (ASR).

The head, a softmax over words, is part of the model, as beam search applies it at every step. This
task has the loss (Feng et al. 2020, section 4.2) and the decoding of word ids.

B = batch, L = words of the longest transcript and its end token, V = size of the vocabulary,
T' = frames of the auxiliary CTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from serein.labels.vocabulary import Vocabulary, VocabularyConfig
from serein.layers.outputs import END_ID, START_ID, TranscriptOutput

IGNORE_INDEX = -1
"""Padding of word ids; a row of an utterance without transcript has nothing else."""


@dataclass(frozen=True)
class Config(VocabularyConfig):
    """Settings of transcripts: ``[text]`` of a recipe.

    Attributes:
        weight: of the transcript loss in the sum over tasks; 0 if the model only reads transcripts.
        smoothing: label smoothing: fraction of each target that is spread over all words.
        ctc: fraction of the transcript loss that is the auxiliary CTC; 0 has none.
        transcripts_from: source of the transcripts that the model reads on validation and test
            subsets: a saved ASR model; the folder of a Whisper; or results of an evaluation with
            the same folds, of which each utterance has the transcript of the fold that tested it.
            Empty reads those of the corpus.
        language: of the speech, such as "de", for Whisper; empty detects it in each recording.
        train_on_transcripts: read transcripts of this source in training, too, instead of those of
            the corpus.
    """

    weight: Annotated[float, Ge(0)] = 0.0
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    ctc: Annotated[float, Ge(0), Lt(1)] = 0.0
    transcripts_from: str = ""
    language: str = ""
    train_on_transcripts: bool = False


class Task:
    """Targets, loss and decoding of transcripts."""

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary

    def targets(self, texts: Sequence[str | None]) -> Tensor:
        """Return texts as word ids (B, L) with end tokens; rows without text are padding."""
        return _pad_ids([[] if x is None else [*self.vocabulary.encode(x), END_ID] for x in texts])

    def encode_texts(self, texts: Sequence[str | None]) -> Tensor:
        """Return texts as word ids (B, L) without end tokens, padded, as input of a model."""
        return _pad_ids([[] if text is None else self.vocabulary.encode(text) for text in texts])

    def loss(self, output: TranscriptOutput, target_bl: Tensor) -> Tensor:
        """Return the mean cross-entropy over the words of a batch; 0 if there are none."""
        assert output.logits_blv is not None, "a model in training computes logits of the targets"
        target_bl = target_bl[:, : output.logits_blv.shape[1]].long()
        count = (target_bl != IGNORE_INDEX).sum().clamp(min=1)
        loss = F.cross_entropy(
            output.logits_blv.flatten(0, 1).float(),
            target_bl.flatten(),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.config.smoothing,
        )
        ctc = self.config.ctc
        if not ctc or output.ctc_btv is None:
            return loss / count
        return (1 - ctc) * loss / count + ctc * _ctc_loss(output, target_bl) / count

    def decode(self, output: TranscriptOutput) -> Tensor:
        """Return the predicted word ids (B, L), padded after each end."""
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
    """Replace the first end token of each row, and all ids after it, by padding."""
    is_over_bl = (id_bl == END_ID).cumsum(dim=1) > 0
    return id_bl.masked_fill(is_over_bl, IGNORE_INDEX)


def _ctc_loss(output: TranscriptOutput, target_bl: Tensor) -> Tensor:
    """Return the CTC loss (Graves et al. 2006), summed over the batch.

    A transcript with more words than frames cannot be aligned; its loss is 0.
    """
    assert output.ctc_btv is not None
    assert output.mask_bt is not None
    is_word_bl = (target_bl != IGNORE_INDEX) & (target_bl != END_ID)
    return F.ctc_loss(
        output.ctc_btv.float().log_softmax(dim=-1).transpose(0, 1),
        target_bl.masked_fill(~is_word_bl, 0),
        output.mask_bt.sum(dim=1),
        is_word_bl.sum(dim=1),
        blank=START_ID,
        reduction="sum",
        zero_infinity=True,
    )
