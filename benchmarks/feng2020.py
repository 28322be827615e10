"""Feng et al. 2020: a joint training step against plain PyTorch, beam search against SpeechBrain.

A step is forward, backward and Adam on 20 utterances of 510 frames (170 stacks of three for the
speech recogniser) with 20 words each. The plain network follows the paper's text in torch's
modules: packed bidirectional LSTMs, and a decoder that runs word by word.

The step of the speech recogniser alone has 20 utterances of LibriSpeech's mean length, 12.3 s and
33 words, and a vocabulary of 10,000 words; the training time of LibriSpeech-960 is computed from it
(docs/training.md). The recognition is of noise, so that the search runs to the maximum length.

The beam search runs 30 steps with 4 beams on the encoder states of 16 utterances; no beam may end
before. SpeechBrain's searcher has an LSTM of the same size and its own location-aware attention. If
SpeechBrain cannot be imported, the row gives the reason. It imports torchaudio, which has no build
for the newest CPU builds of torch, and which the search does not use: without torchaudio, an empty
module takes its place. `pip install --no-deps speechbrain hyperpyyaml ruamel.yaml sentencepiece
joblib` is enough.

Ours and the peers keep freed memory, as in training.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.timing import Row, time_alternately
from serein import recipes
from serein.labels.vocabulary import SPECIAL_TOKENS
from serein.layers.asr import ASRConfig, Seq2SeqASR
from serein.layers.outputs import END_ID, START_ID
from serein.models.feng2020 import Config, Model
from serein.system import System, predict_batch
from serein.utils import distributed
from serein.utils.device import Precision, autocast_context, flush_denormals, has_bf16, to_bf16

BATCH, FRAMES, BANDS, WORDS, CLASSES = 20, 510, 40, 20, 4
SEARCH_BATCH, STACKS, ENCODER_WIDTH, STEPS, BEAMS, VOCABULARY = 16, 170, 640, 30, 4, 1000
ASR_WEIGHT = 0.2  # lambda of equation 13
ASR_SECONDS, ASR_WORDS, ASR_VOCABULARY = 12.3, 33, 10_000
"""Mean duration and words of LibriSpeech's utterances, and the size of the vocabulary."""
Batch = tuple[Tensor, Tensor, Tensor]


def main() -> list[Row]:
    torch.set_num_threads(2)
    distributed.keep_freed_memory()
    precision: Precision = "bf16" if has_bf16("cpu") else "fp32"
    return [
        _compare_joint_step(1_000, precision),
        _compare_joint_step(10_000, precision),
        _time_asr_step(precision),
        _compare_search(precision),
        _time_recognition(precision),
    ]


class PlainBranch(nn.Module):
    """Equations 1 to 5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blstm = _build_blstm(channels, 256, 2)
        self.hidden = nn.Linear(512, 512, bias=False)
        self.heads = nn.Linear(512, 8, bias=False)

    def forward(self, x_btd: Tensor) -> Tensor:
        h_btd = _run_packed(self.blstm, x_btd)
        weight_bth = self.heads(torch.tanh(self.hidden(h_btd))).softmax(dim=1)
        return (weight_bth.mT @ h_btd).flatten(1)


class Plain(nn.Module):
    """Figure 2, with equations 6 to 11 for each word."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = _build_blstm(3 * BANDS, 320, 5)
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
        h_btd = _run_packed(self.encoder, x_btf.reshape(BATCH, -1, 3 * BANDS))
        s_bd = cell_bd = h_btd.new_zeros(BATCH, 320)
        weight_bt = h_btd.new_zeros(BATCH, h_btd.shape[1])
        states, logits = [], []
        for word_b in previous_bl.T:
            place_btk = self.location(weight_bt[:, None])[..., : h_btd.shape[1]].mT
            inner_bta = self.query(s_bd)[:, None] + self.key(h_btd) + self.place(place_btk)
            weight_bt = self.energy(torch.tanh(inner_bta))[..., 0].softmax(dim=1)
            g_bd = (weight_bt[:, None] @ h_btd)[:, 0]
            input_bd = torch.cat([self.embedding(word_b), g_bd], dim=1)
            s_bd, cell_bd = self.cell(input_bd, (s_bd, cell_bd))
            states.append(torch.tanh(self.context(g_bd) + self.state(s_bd)))
            logits.append(self.output(states[-1]))
        z_bd = torch.cat([self.audio(x_btf), self.text(torch.stack(states, dim=1))], dim=1)
        return self.emotion(self.dense(z_bd).relu()), torch.stack(logits, dim=1)


def _build_blstm(channels: int, hidden: int, layers: int) -> nn.LSTM:
    sizes = {"batch_first": True, "bidirectional": True, "dropout": 0.2}
    return nn.LSTM(channels, hidden, layers, **sizes)


def _run_packed(blstm: nn.LSTM, x_btd: Tensor) -> Tensor:
    length_b = torch.full((len(x_btd),), x_btd.shape[1])
    return pad_packed_sequence(blstm(pack_padded_sequence(x_btd, length_b, True))[0], True)[0]


def _compare_joint_step(vocabulary: int, precision: Precision) -> Row:
    torch.manual_seed(0)
    x_btf = torch.randn(BATCH, FRAMES, BANDS)
    id_bl = torch.randint(END_ID + 2, vocabulary, (BATCH, WORDS))
    target_bl = F.pad(id_bl, (0, 1), value=END_ID)
    steps = (
        _build_our_step(vocabulary, precision, (x_btf, id_bl, target_bl)),
        _build_plain_step(vocabulary, (x_btf, F.pad(id_bl, (1, 0), value=START_ID), target_bl)),
    )
    mine, theirs, ratio = time_alternately(*steps, repeats=3)
    return Row(
        what=f"joint training step of feng2020, 20 utterances, {vocabulary:,} words, {precision}, "
        "2 threads",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name="plain PyTorch, fp32",
        peer=BATCH / theirs,
        ratio=ratio,
        target="1.8 or more",
        bound="the speed of bf16 matrix products against fp32 ones: 2.2 on this AMD EPYC, and more "
        "on the first version's processor",
    )


def _build_our_step(vocabulary: int, precision: Precision, batch: Batch) -> Callable[[], None]:
    x_btf, id_bl, target_bl = batch
    model = Model(Config(), BANDS, ("emotion", "transcript"), vocabulary)
    emotion = nn.Linear(model.width, CLASSES)
    frames = x_btf, torch.ones(x_btf.shape[:2], dtype=torch.bool)
    words = id_bl, torch.ones_like(id_bl, dtype=torch.bool)

    def compute_logits() -> tuple[Tensor, Tensor]:
        with autocast_context(precision, "cpu"):
            encoded = model(frames, words)
            assert encoded.transcript is not None
            return emotion(encoded.vectors["emotion"]), encoded.transcript.logits_blv

    step = _build_step(nn.ModuleList([model, emotion]), compute_logits, target_bl)

    def flushed_step() -> None:
        with flush_denormals():  # as the training loop does
            step()

    return flushed_step


def _time_asr_step(precision: Precision) -> Row:
    torch.manual_seed(0)
    frames = round(100 * ASR_SECONDS)
    x_btf, mask_bt = torch.randn(BATCH, frames, BANDS), torch.ones(BATCH, frames, dtype=torch.bool)
    id_bl = torch.randint(END_ID + 2, ASR_VOCABULARY, (BATCH, ASR_WORDS))
    words = id_bl, torch.ones_like(id_bl, dtype=torch.bool)
    model = Model(Config(audio=False, text="none"), BANDS, ("transcript",), ASR_VOCABULARY)
    no_emotion = torch.zeros(BATCH, CLASSES)

    def compute_logits() -> tuple[Tensor, Tensor]:
        with autocast_context(precision, "cpu"):
            output = model((x_btf, mask_bt), words).transcript
            assert output is not None
            return no_emotion, output.logits_blv

    step = _build_step(model, compute_logits, F.pad(id_bl, (0, 1), value=END_ID))
    mine, _, _ = time_alternately(step, lambda: None, repeats=3)
    return Row(
        what=f"training step of feng2020-asr, {BATCH} utterances of {ASR_SECONDS:g} s, "
        f"{ASR_VOCABULARY:,} words, {precision}, 2 threads",
        ours=BATCH * ASR_SECONDS / mine,
        unit="x real time",
    )


def _time_recognition(precision: Precision) -> Row:
    torch.manual_seed(0)
    recipe = recipes.load("feng2020", ["training.init=", f"model.max_steps={WORDS}"])
    vocabulary = [*SPECIAL_TOKENS, *(f"word{number}" for number in range(VOCABULARY))]
    system = System(recipe, {"emotion": ("anger", "joy", "neutral", "sadness")}, vocabulary).eval()
    wave_bs, length_b = torch.randn(1, 64_000) / 10, torch.tensor([64_000])

    def recognize() -> None:
        with torch.inference_mode():
            predict_batch(system, system.extract_features(wave_bs, length_b), precision)

    mine, _, _ = time_alternately(recognize, lambda: None, repeats=5)
    return Row(
        what=f"recognize 4 s and {WORDS} words with feng2020, warm, {precision}, 2 threads",
        ours=1000 * mine,
        unit="ms",
        target="under 150 ms",
    )


def _build_plain_step(vocabulary: int, batch: Batch) -> Callable[[], None]:
    x_btf, previous_bl, target_bl = batch
    plain = Plain(vocabulary)
    return _build_step(plain, lambda: plain(x_btf, previous_bl), target_bl)


def _build_step(
    module: nn.Module, compute_logits: Callable[[], tuple[Tensor, Tensor]], target_bl: Tensor
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, weight_decay=1e-5)
    emotion_b = torch.arange(BATCH) % CLASSES

    def step() -> None:
        optimizer.zero_grad()
        emotion_bk, logits_blv = compute_logits()
        asr_loss = F.cross_entropy(logits_blv.float().flatten(0, 1), target_bl.flatten())
        emotion_loss = F.cross_entropy(emotion_bk.float(), emotion_b)
        torch.autograd.backward(ASR_WEIGHT * asr_loss + (1 - ASR_WEIGHT) * emotion_loss)
        nn.utils.clip_grad_value_(module.parameters(), 1.0)
        optimizer.step()

    return step


def _compare_search(precision: Precision) -> Row:
    torch.manual_seed(0)
    h_bth = torch.randn(SEARCH_BATCH, STACKS, ENCODER_WIDTH)
    ours = _build_search(precision, h_bth)
    try:
        peer, name = _build_speechbrain(h_bth), "SpeechBrain's S2SRNNBeamSearcher, LSTM"
    except (ImportError, OSError) as error:
        peer, name = None, f"SpeechBrain: cannot be imported here ({error})"
    mine, theirs, ratio = time_alternately(ours, peer or (lambda: None), repeats=5)
    return Row(
        what=f"beam search, width 4, 16 utterances, 30 steps, 1,000 words, {precision}, 2 threads",
        ours=SEARCH_BATCH / mine,
        unit="utterances/s",
        peer_name=name,
        peer=SEARCH_BATCH / theirs if peer else None,
        ratio=ratio if peer else None,
        target="2.5 or more",
        bound="threads wait for each other at each of many small products; on one thread it makes "
        "more utterances a second than on two, and 4.6 to 6 times as many as SpeechBrain",
    )


def _build_search(precision: Precision, h_bth: Tensor) -> Callable[[], object]:
    sizes = ASRConfig(beam=BEAMS, max_steps=STEPS)
    asr = Seq2SeqASR(sizes, BANDS, VOCABULARY).eval()
    asr.decoder.output.bias.data[END_ID] = -1e3
    if precision == "bf16":  # the types of loaded weights and of the encoder's output
        asr, h_bth = to_bf16(asr), h_bth.bfloat16()
    mask_bt = torch.ones(h_bth.shape[:2], dtype=torch.bool)

    def search() -> object:
        with torch.inference_mode(), autocast_context(precision, "cpu"):
            return asr.search(h_bth, mask_bt)

    return search


def _build_speechbrain(h_bth: Tensor) -> Callable[[], object]:
    has_torchaudio = "torchaudio" in sys.modules or find_spec("torchaudio") is not None
    if not has_torchaudio:
        torchaudio: Any = ModuleType("torchaudio")
        torchaudio.__version__, torchaudio.list_audio_backends = "2.1", lambda: ["soundfile"]
        sys.modules["torchaudio"] = torchaudio
    rnn: Any = import_module("speechbrain.nnet.RNN")
    linear: Any = import_module("speechbrain.nnet.linear")
    seq2seq: Any = import_module("speechbrain.decoders.seq2seq")
    if not has_torchaudio:
        del sys.modules["torchaudio"]  # transformers takes it for the real one
    decoder = rnn.AttentionalRNNDecoder(
        *("lstm", "location", 320, 320, 1, ENCODER_WIDTH, 320), channels=10, kernel_size=50
    )
    searcher = seq2seq.S2SRNNBeamSearcher(
        nn.Embedding(VOCABULARY, 320),
        decoder,
        linear.Linear(VOCABULARY, input_size=320),
        bos_index=START_ID,
        eos_index=END_ID,
        min_decode_ratio=STEPS / STACKS + 1e-6,
        max_decode_ratio=STEPS / STACKS + 1e-6,
        beam_size=BEAMS,
        using_eos_threshold=False,
        length_normalization=False,
    ).eval()
    relative_length_b = torch.ones(SEARCH_BATCH)

    def search() -> object:
        with torch.inference_mode():
            return searcher(h_bth, relative_length_b)

    return search
