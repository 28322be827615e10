"""Feng et al. 2020: a joint training step beside plain PyTorch, beam search beside SpeechBrain.

A step is forward, backward and Adam over 20 utterances of 510 frames, 170 stacks of three for the
recogniser, of which emotion hears all, and 20 words each. The plain network is what the paper's
text asks for in torch's modules: packed bidirectional LSTMs, and a decoder that goes word by word.

The recogniser alone learns from 20 utterances of LibriSpeech's mean length, 12.3 s and 33 words,
with 10,000 words to choose from: the hours of LibriSpeech's 960 follow from it (docs/training.md).
What is recognised is noise, so that the search goes on to the word that it must end at.

The search goes 30 steps with 4 beams over what was heard of 16 utterances; no beam may end before.
SpeechBrain's searcher has an LSTM of the same size and its own location-aware attention. Where
SpeechBrain cannot be imported the row says why: it wants torchaudio, of which there is no build
beside the newest CPU builds of torch.

Both sides keep the memory that they free, as trainings do.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.timing import Row, paired
from serein import recipes
from serein.labels.vocabulary import SPECIAL_TOKENS
from serein.layers.asr import ASRConfig, Seq2SeqASR
from serein.layers.outputs import END_ID, START_ID
from serein.models.feng2020 import Config, Model
from serein.system import System, predict_batch
from serein.utils import device
from serein.utils.device import Precision, autocast_context, flush_denormals, has_bf16, to_bf16

BATCH, FRAMES, BANDS, WORDS, CLASSES = 20, 510, 40, 20, 4
SEARCHED, STACKS, HEARD, STEPS, BEAMS, VOCABULARY = 16, 170, 640, 30, 4, 1000
LAMBDA = 0.2
READ, READ_WORDS, READ_VOCABULARY = 12.3, 33, 10_000
"""Seconds and words of LibriSpeech's mean utterance."""
Batch = tuple[Tensor, Tensor, Tensor]


def main() -> list[Row]:
    torch.set_num_threads(2)
    device.keep_freed_memory()
    numbers: Precision = "bf16" if has_bf16("cpu") else "fp32"
    steps = [_step(1_000, numbers), _step(10_000, numbers), _alone(numbers)]
    return [*steps, _searches(numbers), _recognition(numbers)]


# Training


class PlainBranch(nn.Module):
    """Equations 1 to 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blstm = _blstm(channels, 256, 2)
        self.hidden = nn.Linear(512, 512, bias=False)
        self.heads = nn.Linear(512, 8, bias=False)

    def forward(self, x_btd: Tensor) -> Tensor:
        h_btd = _packed(self.blstm, x_btd)
        weight_bth = self.heads(torch.tanh(self.hidden(h_btd))).softmax(dim=1)
        return (weight_bth.mT @ h_btd).flatten(1)


class Plain(nn.Module):
    """Figure 2, with equations 6 to 11 word by word."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = _blstm(3 * BANDS, 320, 5)
        self.embedding = nn.Embedding(vocabulary, 320)
        self.query, self.key = nn.Linear(320, 320, bias=False), nn.Linear(640, 320)
        self.location = nn.Conv1d(1, 10, 100, padding=50, bias=False)
        self.place, self.energy = nn.Linear(10, 320, bias=False), nn.Linear(320, 1, bias=False)
        self.cell = nn.LSTMCell(320 + 640, 320)
        self.context, self.state = nn.Linear(640, 320), nn.Linear(320, 320, bias=False)
        self.output = nn.Linear(320, vocabulary)
        self.audio, self.text = PlainBranch(BANDS), PlainBranch(320)
        self.dense, self.emotion = nn.Linear(2 * 8 * 512, 2048), nn.Linear(2048, CLASSES)

    def forward(self, x_btf: Tensor, previous_bl: Tensor) -> tuple[Tensor, Tensor]:
        h_btd = _packed(self.encoder, x_btf.reshape(BATCH, -1, 3 * BANDS))
        s_bd = cell_bd = h_btd.new_zeros(BATCH, 320)
        weight_bt = h_btd.new_zeros(BATCH, h_btd.shape[1])
        states, logits = [], []
        for word_b in previous_bl.T:
            place_btk = self.location(weight_bt[:, None])[..., : h_btd.shape[1]].mT
            inner_bta = self.query(s_bd)[:, None] + self.key(h_btd) + self.place(place_btk)
            weight_bt = self.energy(torch.tanh(inner_bta))[..., 0].softmax(dim=1)
            g_bd = (weight_bt[:, None] @ h_btd)[:, 0]
            seen_bd = torch.cat([self.embedding(word_b), g_bd], dim=1)
            s_bd, cell_bd = self.cell(seen_bd, (s_bd, cell_bd))
            states.append(torch.tanh(self.context(g_bd) + self.state(s_bd)))
            logits.append(self.output(states[-1]))
        sums_bd = torch.cat([self.audio(x_btf), self.text(torch.stack(states, dim=1))], dim=1)
        return self.emotion(self.dense(sums_bd).relu()), torch.stack(logits, dim=1)


def _blstm(channels: int, hidden: int, layers: int) -> nn.LSTM:
    sizes = {"batch_first": True, "bidirectional": True, "dropout": 0.2}
    return nn.LSTM(channels, hidden, layers, **sizes)


def _packed(blstm: nn.LSTM, x_btd: Tensor) -> Tensor:
    length_b = torch.full((len(x_btd),), x_btd.shape[1])
    return pad_packed_sequence(blstm(pack_padded_sequence(x_btd, length_b, True))[0], True)[0]


def _step(vocabulary: int, numbers: Precision) -> Row:
    torch.manual_seed(0)
    x_btf = torch.randn(BATCH, FRAMES, BANDS)
    id_bl = torch.randint(END_ID + 2, vocabulary, (BATCH, WORDS))
    target_bl = F.pad(id_bl, (0, 1), value=END_ID)
    steps = (
        _ours(vocabulary, numbers, (x_btf, id_bl, target_bl)),
        _plain(vocabulary, (x_btf, F.pad(id_bl, (1, 0), value=START_ID), target_bl)),
    )
    mine, theirs, ratio = paired(*steps, repeats=3)
    return Row(
        what=f"joint training step of feng2020, 20 utterances, {vocabulary:,} words, {numbers}, "
        "2 threads",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name="plain PyTorch, fp32",
        peer=BATCH / theirs,
        ratio=ratio,
        asked="1.8 or more",
    )


def _ours(vocabulary: int, numbers: Precision, batch: Batch) -> Callable[[], None]:
    x_btf, id_bl, target_bl = batch
    model = Model(Config(), BANDS, ("emotion", "transcript"), vocabulary)
    emotion = nn.Linear(model.width, CLASSES)
    frames = x_btf, torch.ones(x_btf.shape[:2], dtype=torch.bool)
    words = id_bl, torch.ones_like(id_bl, dtype=torch.bool)

    def answers() -> tuple[Tensor, Tensor]:
        with autocast_context(numbers, "cpu"):
            encoded = model(frames, words)
            assert encoded.transcript is not None
            return emotion(encoded.vectors["emotion"]), encoded.transcript.logits_blv

    step = _trained(nn.ModuleList([model, emotion]), answers, target_bl)

    def flushing() -> None:
        with flush_denormals():  # as the training loop does
            step()

    return flushing


def _alone(numbers: Precision) -> Row:
    torch.manual_seed(0)
    frames = round(100 * READ)
    x_btf, mask_bt = torch.randn(BATCH, frames, BANDS), torch.ones(BATCH, frames, dtype=torch.bool)
    id_bl = torch.randint(END_ID + 2, READ_VOCABULARY, (BATCH, READ_WORDS))
    words = id_bl, torch.ones_like(id_bl, dtype=torch.bool)
    model = Model(Config(audio=False, text="none"), BANDS, ("transcript",), READ_VOCABULARY)
    nobody = torch.zeros(BATCH, CLASSES)

    def answers() -> tuple[Tensor, Tensor]:
        with autocast_context(numbers, "cpu"):
            found = model((x_btf, mask_bt), words).transcript
            assert found is not None
            return nobody, found.logits_blv

    step = _trained(model, answers, F.pad(id_bl, (0, 1), value=END_ID))
    mine, _, _ = paired(step, lambda: None, repeats=3)
    return Row(
        what=f"training step of feng2020-asr, {BATCH} utterances of {READ:g} s, "
        f"{READ_VOCABULARY:,} words, {numbers}, 2 threads",
        ours=BATCH * READ / mine,
        unit="x real time",
    )


def _recognition(numbers: Precision) -> Row:
    torch.manual_seed(0)
    recipe = recipes.load("feng2020", ["training.init=", f"model.max_steps={WORDS}"])
    known = [*SPECIAL_TOKENS, *(f"word{number}" for number in range(VOCABULARY))]
    system = System(recipe, {"emotion": ("anger", "joy", "neutral", "sadness")}, known).eval()
    wave_bs, length_b = torch.randn(1, 64_000) / 10, torch.tensor([64_000])

    def recognised() -> None:
        with torch.inference_mode():
            predict_batch(system, system.extract_features(wave_bs, length_b), numbers)

    mine, _, _ = paired(recognised, lambda: None, repeats=5)
    return Row(
        what=f"recognise 4 s and {WORDS} words with feng2020, warm, {numbers}, 2 threads",
        ours=1000 * mine,
        unit="ms",
        asked="under 150 ms",
    )


def _plain(vocabulary: int, batch: Batch) -> Callable[[], None]:
    x_btf, previous_bl, target_bl = batch
    plain = Plain(vocabulary)
    return _trained(plain, lambda: plain(x_btf, previous_bl), target_bl)


def _trained(
    module: nn.Module, answers: Callable[[], tuple[Tensor, Tensor]], target_bl: Tensor
) -> Callable[[], None]:
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-4, weight_decay=1e-5)
    emotion_b = torch.arange(BATCH) % CLASSES

    def step() -> None:
        optimiser.zero_grad()
        emotion_bk, logits_blv = answers()
        said = F.cross_entropy(logits_blv.float().flatten(0, 1), target_bl.flatten())
        felt = F.cross_entropy(emotion_bk.float(), emotion_b)
        torch.autograd.backward(LAMBDA * said + (1 - LAMBDA) * felt)
        nn.utils.clip_grad_value_(module.parameters(), 1.0)
        optimiser.step()

    return step


# Search


def _searches(numbers: Precision) -> Row:
    torch.manual_seed(0)
    h_bth = torch.randn(SEARCHED, STACKS, HEARD)
    ours = _search(numbers, h_bth)
    try:
        peer, name = _speechbrain(h_bth), "SpeechBrain's S2SRNNBeamSearcher, LSTM"
    except (ImportError, OSError) as error:
        peer, name = None, f"SpeechBrain: cannot be imported here ({error})"
    mine, theirs, ratio = paired(ours, peer or (lambda: None), repeats=5)
    return Row(
        what=f"beam search, width 4, 16 utterances, 30 steps, 1,000 words, {numbers}, 2 threads",
        ours=SEARCHED / mine,
        unit="utterances/s",
        peer_name=name,
        peer=SEARCHED / theirs if peer else None,
        ratio=ratio if peer else None,
        asked="2.5 or more",
    )


def _search(numbers: Precision, h_bth: Tensor) -> Callable[[], object]:
    sizes = ASRConfig(beam=BEAMS, max_steps=STEPS)
    recogniser = Seq2SeqASR(sizes, BANDS, VOCABULARY).eval()
    recogniser.decoder.output.bias.data[END_ID] = -1e3
    if numbers == "bf16":  # as a loaded recogniser has its weights, and its encoder answers
        recogniser, h_bth = to_bf16(recogniser), h_bth.bfloat16()
    mask_bt = torch.ones(h_bth.shape[:2], dtype=torch.bool)

    def found() -> object:
        with torch.inference_mode(), autocast_context(numbers, "cpu"):
            return recogniser.search(h_bth, mask_bt)

    return found


def _speechbrain(h_bth: Tensor) -> Callable[[], object]:
    recurrence: Any = import_module("speechbrain.nnet.RNN")
    products: Any = import_module("speechbrain.nnet.linear")
    searching: Any = import_module("speechbrain.decoders.seq2seq")
    decoder = recurrence.AttentionalRNNDecoder(
        *("lstm", "location", 320, 320, 1, HEARD, 320), channels=10, kernel_size=50
    )
    searcher = searching.S2SRNNBeamSearcher(
        nn.Embedding(VOCABULARY, 320),
        decoder,
        products.Linear(VOCABULARY, input_size=320),
        bos_index=START_ID,
        eos_index=END_ID,
        min_decode_ratio=STEPS / STACKS + 1e-6,
        max_decode_ratio=STEPS / STACKS + 1e-6,
        beam_size=BEAMS,
        using_eos_threshold=False,
        length_normalization=False,
    ).eval()
    whole_b = torch.ones(SEARCHED)

    def found() -> object:
        with torch.inference_mode():
            return searcher(h_bth, whole_b)

    return found
