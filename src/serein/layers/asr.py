"""A recogniser of words: stacked frames, layers of BLSTMs, and a decoder that attends to them.

B = batch, T = frames, F = bins, T' = stacks of frames, H = channels of the encoder, L = steps of
the decoder, one for each word and one for </s>, D = channels of its states.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from serein.layers.beam_search import BeamSearchResult, beam_search
from serein.layers.decoder import AttentionDecoder, DecoderOutput
from serein.layers.outputs import END_ID, START_ID, TranscriptOutput
from serein.layers.recurrent import StackedBLSTM
from serein.layers.stacking import stack_frames

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class ASRConfig:
    """What may vary.

    Attributes:
        stack: neighbouring frames that are laid side by side as one.
        encoder_hidden: units of each direction of its BLSTMs.
        encoder_layers: of BLSTMs.
        decoder_hidden: units of its LSTM and of its tanh layer.
        decoder_words: channels of a word that the decoder is fed.
        decoder_attention: channels of its attention.
        decoder_filters: over its attention of the step before.
        decoder_taps: frames that one of these sees.
        state: what others read of a step: "hidden", the tanh layer, or "lstm".
        ctc: whether an auxiliary CTC reads the encoder.
        sampling: how often training goes on from the likeliest word instead of the true one.
        forced: whether true words are followed in evaluation, where they are known, as in training.
        beam: hypotheses of an utterance that the search keeps.
        longest: steps after which it stops.
        length_bonus: what it adds to the score of a hypothesis for each word.
        dropout: between two layers of BLSTMs.
    """

    stack: Count = 3
    encoder_hidden: Count = 320
    encoder_layers: Count = 5
    decoder_hidden: Count = 320
    decoder_words: Count = 320
    decoder_attention: Count = 320
    decoder_filters: Count = 10
    decoder_taps: Count = 100
    state: Literal["hidden", "lstm"] = "hidden"
    ctc: bool = False
    sampling: Annotated[float, Ge(0), Le(1)] = 0.0
    forced: bool = False
    beam: Count = 4
    longest: Count = 200
    length_bonus: float = 0.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


class ASROutput(NamedTuple):
    """What a recogniser makes of a batch.

    Attributes:
        transcript: of each utterance.
        state_bld: (B, L, D), the decoder's, over the words given or found.
        mask_bl: (B, L), its steps up to that of </s>: one for an utterance without words.
        weight_blt: (B, L, T'), where each step looked; zeros behind the last one.
    """

    transcript: TranscriptOutput
    state_bld: Tensor
    mask_bl: Tensor
    weight_blt: Tensor


class Seq2SeqASR(nn.Module):
    """Frames in; words, and the states of their decoder, out."""

    def __init__(self, config: ASRConfig, width: int, vocabulary: int) -> None:
        """Build it.

        Args:
            config: sizes.
            width: F.
            vocabulary: how many words there are, <s> and </s> among them.
        """
        super().__init__()
        self.config = config
        heard = 2 * config.encoder_hidden
        sizes = config.encoder_hidden, config.encoder_layers, config.dropout
        self.encoder = StackedBLSTM(config.stack * width, *sizes)
        self.decoder = AttentionDecoder(
            heard,
            vocabulary,
            hidden=config.decoder_hidden,
            words=config.decoder_words,
            attention=config.decoder_attention,
            filters=config.decoder_filters,
            taps=config.decoder_taps,
        )
        self.ctc = nn.Linear(heard, vocabulary) if config.ctc else None

    def forward(
        self, frames: tuple[Tensor, Tensor], words: tuple[Tensor, Tensor] | None = None
    ) -> ASROutput:
        """Frames (B, T, F) and mask, words (B, L - 1) and mask -> what was heard.

        Words are followed in training, and where the setting ``forced`` says so; else they are
        searched for.
        """
        h_bth, mask_bt = self.encode(*frames)
        if words is not None and (self.training or self.config.forced):
            passed, mask_bl = self._run_decoder(h_bth, mask_bt, *words)
            logits_blv = self.decoder.output(passed.y_bld)
            ctc_btv = None if self.ctc is None else self.ctc(h_bth)
            told = TranscriptOutput(logits_blv, None, None, ctc_btv, mask_bt)
        else:
            found = self.search(h_bth, mask_bt)
            passed, mask_bl = self._run_decoder(h_bth, mask_bt, found.id_bl, found.id_bl >= 0)
            told = TranscriptOutput(None, found.id_bl, found.score_b, None, mask_bt, found.ended_b)
        state_bld = passed.y_bld if self.config.state == "hidden" else passed.s_bld
        return ASROutput(told, state_bld, mask_bl, passed.weight_blt * mask_bl[..., None])

    def encode(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F) and mask -> (B, T', H) and mask."""
        x_btf, mask_bt = stack_frames(x_btf, mask_bt, self.config.stack)
        return self.encoder(x_btf, mask_bt), mask_bt

    @torch.no_grad()
    def search(self, h_bth: Tensor, mask_bt: Tensor) -> BeamSearchResult:
        """The likeliest words of what was encoded, (B, T', H) and mask."""
        return beam_search(
            self.decoder.step,
            self.decoder.initial_state(h_bth, mask_bt),
            start=START_ID,
            end=END_ID,
            width=self.config.beam,
            max_length=self.config.longest,
            bonus=self.config.length_bonus,
        )

    def _run_decoder(
        self, h_bth: Tensor, mask_bt: Tensor, id_bl: Tensor, token_mask_bl: Tensor
    ) -> tuple[DecoderOutput, Tensor]:
        """Through the decoder over words: what it went through, and which steps are of words."""
        previous_bl = F.pad(id_bl.masked_fill(~token_mask_bl, END_ID), (1, 0), value=START_ID)
        own = self.config.sampling if self.training else 0.0
        passed = self.decoder(h_bth, mask_bt, previous_bl, own=own)
        return passed, F.pad(token_mask_bl, (1, 0), value=True)
