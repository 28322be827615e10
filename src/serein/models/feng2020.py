"""Emotion recognition with a speech recogniser (ASR) inside.

Feng, Ueno, Kawahara: "End-to-End Speech Emotion Recognition Combined with Acoustic-to-Word ASR
Model", Interspeech 2020, sections 2 to 5, equations 1-12, Figures 1 and 2; equation 13 is in
``system.py``. The settings ``audio`` and ``text`` select a row of Table 1: audio-based (true,
"none"), text-based (false, "words"), combined (true, "words"), ASR-SER (true, "states"). With the
task ``transcript`` alone, the model is the recogniser of section 3. With "frames", the recogniser
is outside the model: the front end ``whisper_asr`` puts the state of its decoder beside those of
its encoder, which the audio branch reads in place of log-mel frames.

Our choices where the paper gives none or is unclear:
- "the hidden state of the decoder s_l", which "is fed into the last fully connected layer" (section
  4.1), is the tanh hidden layer of section 5.3, as in the authors' code; ``state = "lstm"`` is s_l;
- w_l in equation 6 is the previous word, <s> first: the word that a step predicts (equation 11)
  cannot be an input of its own state. g_l and s_l enter the hidden layer, and only that the
  softmax;
- the location-based attention has 10 filters of 100 taps, as in the authors' code, starts from
  zeros, and has 320 channels, as many as a word's embedding in the decoder;
- there is a state for each word and one for </s>, so that silence has one, too; a text-based
  model reads </s> where there is no word;
- the previous words are the true ones in training; in inference, the states are those over the
  words of the beam search (with ``teacher_forcing`` those over the true words, there too);
- beam search ends when the best hypothesis has ended; scores are not normalized by length;
- 7.5 s are 750 frames, of 25 ms every 10 ms, as in the authors' code; ``pad`` pads with unmasked
  zeros, as in section 5.2; without it padding is masked;
- dropout is between the two, or five, BLSTM layers, as in torch's;
- the vector for the tasks is that of the fully connected layer, after its ReLU.

Attention maps: "audio" over frames; "words" over the steps of words, with stride 0; "recogniser"
of each of these steps over stacks of frames, with zeros after the last one.

B = batch, T = frames, F = bins, L = words, or steps of the decoder, D = channels, H = heads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.asr import ASRConfig, ASROutput, Count, Seq2SeqASR
from serein.layers.attention import AttentionWeights, ModelOutput, StructuredAttention
from serein.layers.outputs import ASR_ATTENTION, END_ID, WORD_ATTENTION
from serein.layers.recurrent import BLSTM, ONNXRecurrence, StackedBLSTM

TRANSCRIPT = "transcript"
"""The task of the recogniser; all others read the vector."""


@dataclass(frozen=True)
class Config(ASRConfig):
    """Sizes of section 5.3, and the choice of a system.

    Attributes:
        audio: whether there is a branch for frames.
        text: input of the text branch: "words", the decoder's "states", "none", or "frames": the
            states of a decoder that are the last channels of each frame.
        asr_gradient: whether the loss of the emotion reaches the recogniser.
        hidden: units of each direction of the BLSTMs of a branch.
        layers: number of BLSTM layers.
        attention_hidden: nodes of the self-attention.
        heads: of the self-attention.
        embedding: channels of a word in the text branch.
        dense: nodes of the fully connected layer before the tasks.
        frames: most frames in the audio branch, from the start; 0 is all.
        pad: whether shorter recordings are padded to ``frames`` with unmasked zeros.
        decoder_channels: last channels of a frame, which are a decoder's state; the front end
            ``whisper_asr`` sets it. The audio branch reads the other channels.
    """

    audio: bool = True
    text: Literal["none", "words", "states", "frames"] = "states"
    asr_gradient: bool = True
    hidden: Count = 256
    layers: Count = 2
    attention_hidden: Count = 512
    heads: Count = 8
    embedding: Count = 300
    dense: Count = 2048
    frames: Annotated[int, Ge(0)] = 750
    pad: bool = False
    decoder_channels: Annotated[int, Ge(0)] = 0


class Model(nn.Module):
    """Frames and words in, one vector per utterance out, and a transcript."""

    READS = "words"
    WORD_WEIGHTS = (
        "words.weight",
        "recogniser.decoder.words.weight",
        "recogniser.decoder.output.weight",
        "recogniser.decoder.output.bias",
        "recogniser.ctc.weight",
        "recogniser.ctc.bias",
    )
    """Weights with one row for each word of the vocabulary."""

    def __init__(
        self, config: Config, width: int, tasks: Sequence[str], vocabulary: int = 0
    ) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: bins of a frame.
            tasks: names of the tasks that read the vector, and perhaps ``transcript``.
            vocabulary: number of words; 0 without text.

        Raises:
            ConfigError: the emotion has no input, or words are needed and there are none.
        """
        super().__init__()
        self.config = config
        self.tasks = tuple(task for task in tasks if task != TRANSCRIPT)
        self.width = config.dense
        _check_config(config, tuple(tasks), vocabulary)
        if not 0 <= config.decoder_channels < width:
            raise ConfigError(
                f"model.decoder_channels = {config.decoder_channels} of frames of {width} channels;"
                " do not set it, the front end whisper_asr sets it"
            )
        transcribes = TRANSCRIPT in tasks or config.text == "states"
        self.recogniser = Seq2SeqASR(config, width, vocabulary) if transcribes else None
        acoustic = width - config.decoder_channels
        self.audio = _Branch(acoustic, config) if self.tasks and config.audio else None
        self.words: nn.Embedding | None = None
        self.text: _Branch | None = None
        if self.tasks and config.text == "words":
            self.words = nn.Embedding(vocabulary, config.embedding)
            self.text = _Branch(config.embedding, config)
        if self.tasks and config.text == "states":
            self.text = _Branch(config.decoder_hidden, config)
        if self.tasks and config.text == "frames":
            self.text = _Branch(config.decoder_channels, config)
        branches = sum(branch is not None for branch in (self.audio, self.text))
        channels = branches * config.heads * 2 * config.hidden
        self.dense = nn.Linear(channels, config.dense) if self.tasks else None

    def forward(
        self,
        frames: tuple[Tensor, Tensor] | None = None,
        words: tuple[Tensor, Tensor] | None = None,
    ) -> ModelOutput:
        """Frames and words -> a vector (B, D), attention maps, and a transcript.

        Args:
            frames: (B, T, F) and mask (B, T).
            words: (B, L), without <s> and </s>, and mask (B, L); all False for an empty text.

        Raises:
            ConfigError: an input that the model needs was not given.
        """
        vectors_bd, maps, asr = [], {}, None
        if self.recogniser is not None:
            asr = self.recogniser(_require_input(frames, "frames"), words)
            maps[ASR_ATTENTION] = AttentionWeights(asr.weight_blt, self.config.stack)
        if self.audio is not None:
            x_btf, mask_bt = _require_input(frames, "frames")
            x_btf = x_btf[..., : x_btf.shape[2] - self.config.decoder_channels]
            z_bd, weight_bht = self.audio(*self._crop_or_pad(x_btf, mask_bt))
            vectors_bd.append(z_bd)
            maps["audio"] = AttentionWeights(weight_bht, stride=1)
        if self.text is not None and self.config.text == "frames":
            z_bd, weight_bht = self._attend_decoder_states(*_require_input(frames, "frames"))
            vectors_bd.append(z_bd)
            maps["decoder"] = AttentionWeights(weight_bht, stride=1)
        elif self.text is not None:
            z_bd, weight_bhl = self.text(*self._select_text_input(asr, words))
            vectors_bd.append(z_bd)
            maps[WORD_ATTENTION] = AttentionWeights(weight_bhl, stride=0)
        vectors = {}
        if self.dense is not None:
            x_bd = self.dense(torch.cat(vectors_bd, dim=1)).relu()
            vectors = dict.fromkeys(self.tasks, x_bd)
        return ModelOutput(vectors, maps, None if asr is None else asr.transcript)

    @property
    def needs_words(self) -> bool:
        """Whether the words of an utterance must be given: a branch reads them."""
        return self.words is not None

    def to_onnx_module(self) -> "ONNXAudioModel":
        """Return the model for export.

        Raises:
            ConfigError: it reads or recognises words.
        """
        if self.recogniser is not None:
            raise ConfigError(
                "feng2020 with a speech recogniser cannot be exported: its beam search runs word "
                "by word, for a number of steps that is not known before. Apply such a model with "
                "serein itself; one of the audio branch alone can be exported (feng2020-audio)"
            )
        if self.text is not None:
            raise ConfigError(
                "feng2020 with a text branch cannot be exported: it reads words, or the states of "
                "a decoder, beside the waveform. Apply such a model with serein itself; one of the "
                "audio branch alone can be exported (feng2020-audio)"
            )
        return ONNXAudioModel(self)

    def _crop_or_pad(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Section 5.2: keep the first 7.5 seconds, and pad with zeros where the settings say so."""
        frames = self.config.frames or x_btf.shape[1]
        x_btf, mask_bt = x_btf[:, :frames], mask_bt[:, :frames]
        if not self.config.pad:
            return x_btf, mask_bt
        x_btf = x_btf.masked_fill(~mask_bt[..., None], 0)
        x_btf = F.pad(x_btf, (0, 0, 0, frames - mask_bt.shape[1]))
        return x_btf, torch.ones_like(x_btf[..., 0], dtype=torch.bool)

    def _attend_decoder_states(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Equation 12 with the decoder states in the frames.

        Args:
            x_btf: frames; their last channels are the state of the token that is spoken there.
            mask_bt: of the frames.

        Returns:
            The sums, (B, H x 2 hidden), and the weights (B, H, T), each token's spread over its
            frames.
        """
        assert self.text is not None
        state_btd = x_btf[..., x_btf.shape[2] - self.config.decoder_channels :]
        first_bt = mask_bt.clone()
        first_bt[:, 1:] &= (state_btd[:, 1:] != state_btd[:, :-1]).any(dim=2)
        count_b = first_bt.sum(dim=1)
        mask_bl = torch.arange(int(count_b.max()), device=mask_bt.device) < count_b[:, None]
        state_bld = state_btd.new_zeros(*mask_bl.shape, state_btd.shape[2])
        state_bld[mask_bl] = state_btd[first_bt]
        z_bd, weight_bhl = self.text(state_bld, mask_bl)
        token_bt = (first_bt.cumsum(dim=1) - 1).clamp(min=0)
        frames_bl = torch.zeros_like(mask_bl, dtype=weight_bhl.dtype)
        frames_bl.scatter_add_(1, token_bt, mask_bt.to(weight_bhl.dtype))
        share_bhl = weight_bhl / frames_bl.clamp(min=1)[:, None]
        index_bht = token_bt[:, None].expand(-1, weight_bhl.shape[1], -1)
        return z_bd, share_bhl.gather(2, index_bht) * mask_bt[:, None]

    def _select_text_input(
        self, asr: ASROutput | None, words: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the input of the text branch, (B, L, D) and mask: equation 2 or 12."""
        if self.words is None:
            assert asr is not None
            state_bld = asr.state_bld if self.config.asr_gradient else asr.state_bld.detach()
            return state_bld, asr.mask_bl
        id_bl, mask_bl = _require_input(words, "words")
        if not id_bl.shape[1]:
            id_bl, mask_bl = F.pad(id_bl, (0, 1)), F.pad(mask_bl, (0, 1))
        id_bl = id_bl.masked_fill(~mask_bl, END_ID)
        is_first_l = torch.arange(id_bl.shape[1], device=id_bl.device) == 0
        return self.words(id_bl), mask_bl | is_first_l


class ONNXAudioModel(nn.Module):
    """The audio branch for one utterance, in operations of ONNX."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        assert model.audio is not None
        self.model, self.attend = model, model.audio.attend
        layers = cast(Iterable[BLSTM], model.audio.blstms.layers)
        self.blstms = nn.ModuleList(ONNXRecurrence.of_blstm(layer) for layer in layers)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (1, T, F) with their mask -> a vector (1, D) and weights (1, H, T)."""
        x_btd, config = frames[0], self.model.config
        if config.frames:
            padding = config.frames if config.pad else 0
            x_btd = F.pad(x_btd, (0, 0, 0, padding))[:, : config.frames]
        for blstm in self.blstms:
            x_btd = blstm(x_btd)
        mask_bt = torch.ones_like(x_btd[..., 0], dtype=torch.bool)
        z_bd, weight_bht = self.attend(x_btd, mask_bt)
        assert self.model.dense is not None
        x_bd = self.model.dense(z_bd).relu()
        maps = {"audio": AttentionWeights(weight_bht, stride=1)}
        return ModelOutput(dict.fromkeys(self.model.tasks, x_bd), maps)


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
            f'model.audio = false and model.text = "none": {", ".join(others)} would have no '
            'input; set model.audio = true, or model.text to "words" or "states"'
        )
    if config.pad and not config.frames:
        raise ConfigError(
            "model.pad = true pads to model.frames, which is 0; set the number of frames"
        )
    if others and config.text == "frames" and not config.decoder_channels:
        raise ConfigError(
            'model.text = "frames" reads the states of a decoder in the frames, and this front end '
            "has none; set features.name = whisper_asr"
        )
    reads_words = config.text in ("words", "states")
    needs_words = TRANSCRIPT in tasks or (bool(others) and reads_words)
    if needs_words and vocabulary <= END_ID:
        reader = f'model.text = "{config.text}"' if others else f"task {TRANSCRIPT}"
        raise ConfigError(
            f"{reader} reads or writes words, and this recipe's vocabulary has {vocabulary}: train "
            'on a corpus with text, or set model.text = "none" and remove the task transcript'
        )


def _require_input(value: tuple[Tensor, Tensor] | None, name: str) -> tuple[Tensor, Tensor]:
    if value is None:
        raise ConfigError(
            f"this model reads {name}, and none were given: pass them with their mask"
        )
    return value
