"""A recogniser of words inside a recogniser of emotion.

Feng, Ueno, Kawahara: "End-to-End Speech Emotion Recognition Combined with Acoustic-to-Word ASR
Model", Interspeech 2020, sections 2 to 5, equations 1-12, Figures 1 and 2; equation 13 is the
system's. Which rows of Table 1 a model is, ``audio`` and ``text`` say: audio-based (true, "none"),
text-based (false, "words"), combined (true, "words"), ASR-SER (true, "states"); with the task
``transcript`` alone it is the recogniser of section 3.

Where the paper is silent or unclear, ours:
- "the hidden state of the decoder s_l", which "is fed into the last fully connected layer" (section
  4.1), is the tanh hidden layer of section 5.3, as in the authors' code; ``state = "lstm"`` is s_l;
- w_l in equation 6 is the word before, <s> first: the word that a step gives (equation 11) cannot
  enter its own state. g_l and s_l enter the hidden layer, and that alone the softmax;
- the attention looks back by 10 filters of 100 taps, as in the authors' code, from zeros on, and
  has 320 channels, as a word that enters the decoder has;
- there is a state for each word and one for </s>, so that silence has one, too; a text-based
  model reads </s> where there is no word;
- true words are followed in training; the emotion of a recording is heard from the states over the
  words that the search finds (``forced`` follows true words there, too);
- the search ends when the best hypothesis has ended, and is not normalised by length;
- 7.5 s are 750 frames: of 25 ms every 10 ms, as in the authors' code; ``pad`` fills up with zeros
  unmasked, as section 5.2 says; without it padding is masked;
- dropout is between the two, or five, layers of BLSTMs, as in torch's;
- the vector for the tasks is that of the fully connected layer, behind its ReLU.

Maps of attention: "audio" over frames; "words" over the steps of words, its stride 0; "recogniser"
for each of these steps over stacks of frames, zeros behind the last one.

B = batch, T = frames, F = bins, L = words, or steps of the decoder, D = channels, H = heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.asr import ASRConfig, ASROutput, Count, Seq2SeqASR
from serein.layers.attention import AttentionWeights, ModelOutput, StructuredAttention
from serein.layers.outputs import ASR_ATTENTION, END_ID, WORD_ATTENTION
from serein.layers.recurrent import StackedBLSTM

TRANSCRIPT = "transcript"
"""The task that the recogniser is for; all others read the vector."""


@dataclass(frozen=True)
class Config(ASRConfig):
    """What section 5.3 sets, and which of the systems it is.

    Attributes:
        audio: whether emotion is heard in frames.
        text: what else it is told by: "words", the decoder's "states", or "none".
        flow: whether what emotion learns reaches the recogniser.
        hidden: units of each direction of the BLSTMs of a branch.
        layers: of BLSTMs.
        attention_hidden: nodes of the self-attention.
        heads: of the self-attention.
        embedding: channels of a word that emotion reads.
        dense: nodes of the fully connected layer, behind which the tasks are.
        frames: that emotion is heard in, from the start; 0 is all.
        pad: whether shorter recordings are filled up with zeros to so many, without a mask.
    """

    audio: bool = True
    text: Literal["none", "words", "states"] = "states"
    asr_gradient: bool = True
    hidden: Count = 256
    layers: Count = 2
    attention_hidden: Count = 512
    heads: Count = 8
    embedding: Count = 300
    dense: Count = 2048
    frames: Annotated[int, Ge(0)] = 750
    pad: bool = False


class Model(nn.Module):
    """Frames and words in, one vector per utterance out, and a transcript."""

    READS = "words"
    BY_WORDS = (
        "words.weight",
        "recogniser.decoder.words.weight",
        "recogniser.decoder.output.weight",
        "recogniser.decoder.output.bias",
        "recogniser.ctc.weight",
        "recogniser.ctc.bias",
    )
    """The weights of which each row is a word."""

    def __init__(
        self, config: Config, width: int, tasks: Sequence[str], vocabulary: int = 0
    ) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: bins of a frame.
            tasks: names of those who read the vector, and perhaps ``transcript``.
            vocabulary: how many words there are; 0 is no text.

        Raises:
            ConfigError: it has nothing to hear emotion by, or needs words that there are not.
        """
        super().__init__()
        self.config = config
        self.tasks = tuple(task for task in tasks if task != TRANSCRIPT)
        self.width = config.dense
        _check_config(config, tuple(tasks), vocabulary)
        transcribes = TRANSCRIPT in tasks or config.text == "states"
        self.recogniser = Seq2SeqASR(config, width, vocabulary) if transcribes else None
        self.audio = _Branch(width, config) if self.tasks and config.audio else None
        self.words: nn.Embedding | None = None
        self.text: _Branch | None = None
        if self.tasks and config.text == "words":
            self.words = nn.Embedding(vocabulary, config.embedding)
            self.text = _Branch(config.embedding, config)
        if self.tasks and config.text == "states":
            self.text = _Branch(config.decoder_hidden, config)
        branches = sum(branch is not None for branch in (self.audio, self.text))
        sums = branches * config.heads * 2 * config.hidden
        self.dense = nn.Linear(sums, config.dense) if self.tasks else None

    def forward(
        self,
        frames: tuple[Tensor, Tensor] | None = None,
        words: tuple[Tensor, Tensor] | None = None,
    ) -> ModelOutput:
        """What is heard and said -> a vector (B, D), maps of attention, and a transcript.

        Args:
            frames: (B, T, F) and mask (B, T).
            words: (B, L), without <s> and </s>, and mask (B, L); all False for an empty text.

        Raises:
            ConfigError: what the model reads was not given.
        """
        sums_bd, maps, heard = [], {}, None
        if self.recogniser is not None:
            heard = self.recogniser(_require_input(frames, "frames"), words)
            maps[ASR_ATTENTION] = AttentionWeights(heard.weight_blt, self.config.stack)
        if self.audio is not None:
            z_bd, weight_bht = self.audio(*self._crop_or_pad(*_require_input(frames, "frames")))
            sums_bd.append(z_bd)
            maps["audio"] = AttentionWeights(weight_bht, stride=1)
        if self.text is not None:
            z_bd, weight_bhl = self.text(*self._select_text_input(heard, words))
            sums_bd.append(z_bd)
            maps[WORD_ATTENTION] = AttentionWeights(weight_bhl, stride=0)
        vectors = {}
        if self.dense is not None:
            x_bd = self.dense(torch.cat(sums_bd, dim=1)).relu()
            vectors = dict.fromkeys(self.tasks, x_bd)
        return ModelOutput(vectors, maps, None if heard is None else heard.transcript)

    def _crop_or_pad(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Section 5.2: the first 7.5 seconds, and zeros where the paper's padding is asked for."""
        frames = self.config.frames or x_btf.shape[1]
        x_btf, mask_bt = x_btf[:, :frames], mask_bt[:, :frames]
        if not self.config.pad:
            return x_btf, mask_bt
        x_btf = F.pad(
            x_btf.masked_fill(~mask_bt[..., None], 0), (0, 0, 0, frames - mask_bt.shape[1])
        )
        return x_btf, torch.ones_like(x_btf[..., 0], dtype=torch.bool)

    def _select_text_input(
        self, heard: ASROutput | None, words: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What the branch of words reads, (B, L, D) and mask: equation 2 or 12."""
        if self.words is None:
            assert heard is not None
            state_bld = heard.state_bld if self.config.asr_gradient else heard.state_bld.detach()
            return state_bld, heard.mask_bl
        id_bl, said_bl = _require_input(words, "words")
        if not id_bl.shape[1]:
            id_bl, said_bl = F.pad(id_bl, (0, 1)), F.pad(said_bl, (0, 1))
        id_bl = id_bl.masked_fill(~said_bl, END_ID)
        first_l = torch.arange(id_bl.shape[1], device=id_bl.device) == 0
        return self.words(id_bl), said_bl | first_l


class _Branch(nn.Module):
    """BLSTMs and self-attention: equations 1 to 5."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        self.blstms = StackedBLSTM(channels, config.hidden, config.layers, config.dropout)
        sizes = config.attention_hidden, config.heads
        self.attend = StructuredAttention(2 * config.hidden, *sizes)

    def forward(self, x_btd: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and mask -> the sums, (B, H x 2 hidden), and the weights (B, H, T)."""
        return self.attend(self.blstms(x_btd, mask_bt), mask_bt)


def _check_config(config: Config, tasks: Sequence[str], vocabulary: int) -> None:
    others = [task for task in tasks if task != TRANSCRIPT]
    if others and not config.audio and config.text == "none":
        raise ConfigError(
            f'model.audio = false and model.text = "none": {", ".join(others)} would hear nothing; '
            'set model.audio = true, or model.text to "words" or "states"'
        )
    if config.pad and not config.frames:
        raise ConfigError("model.pad = true fills up to model.frames, which is 0: set how many")
    needs = TRANSCRIPT in tasks or (bool(others) and config.text != "none")
    if needs and vocabulary <= END_ID:
        reader = f'model.text = "{config.text}"' if others else f"task {TRANSCRIPT}"
        raise ConfigError(
            f"{reader} reads or writes words, and this recipe's vocabulary has {vocabulary}: train "
            'on a corpus with text, or set model.text = "none" and remove the task transcript'
        )


def _require_input(one: tuple[Tensor, Tensor] | None, name: str) -> tuple[Tensor, Tensor]:
    if one is None:
        raise ConfigError(
            f"this model reads {name}, and none were given: pass them with their mask"
        )
    return one
