"""Fu et al. 2020, compared with a plain network that follows the paper layer by layer in torch.

A step is forward, backward and RMSprop on 64 utterances of 256 frames, all different unless stated
otherwise, so that no repeated frames can be skipped. The share of the matrix product's speed is
three times the operations of the forward pass per second, divided by those of a bf16 matrix product
that is timed alternately.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.step_process import (
    KERAS_VARIABLE,
    find_keras_python,
    start_processes,
    step_together,
)
from benchmarks.timing import Row, time_alternately
from serein import recipes
from serein.bundle import Bundle, Card
from serein.inference.recognizer import Recognizer
from serein.system import System
from serein.utils import distributed
from serein.utils.device import Precision, autocast_context, flush_denormals, has_bf16

BATCH, FRAMES, BANDS, RATE = 64, 256, 128, 16_000
SPEECH_FRAMES = 112
"""Frames of an utterance of EMO-DB's mean duration, 2.8 s."""
CLASSES = {"emotion": tuple("abcdefg")}
HOP_SECONDS = 0.025
RECIPE = "fu2020-single-task"
PLAIN = "plain PyTorch, fp32"
MATRIX_SIZE = 2048
"""Rows and columns of the matrices of the product."""


class Plain(nn.Module):
    """The network of the paper's text."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, 512, 3)
        self.conv2 = nn.Conv1d(512, 1024, 1)
        self.conv3 = nn.Conv1d(1024, 2048, 3)
        self.bottleneck = nn.Linear(2048, 512)
        self.blstm1 = nn.LSTM(512, 128, batch_first=True, bidirectional=True)
        self.blstm2 = nn.LSTM(256, 128, batch_first=True, bidirectional=True)
        self.attend = nn.MultiheadAttention(256, 16, bias=False, batch_first=True)
        self.local = nn.Linear(256, 1, bias=False)
        self.emotion = nn.Linear(256, 7)

    def forward(self, x_btf: Tensor) -> Tensor:
        x_bdt = x_btf.mT
        for convolution in (self.conv1, self.conv2, self.conv3):
            x_bdt = convolution(x_bdt).relu()
        x_btd = self._dropout(self.bottleneck(x_bdt.mT))
        for blstm in (self.blstm1, self.blstm2):
            x_btd = self._dropout(blstm(x_btd)[0])
        h_btd, _ = self.attend(x_btd, x_btd, x_btd, need_weights=False)
        weight_bt1 = self.local(h_btd).softmax(dim=1)
        return self.emotion((weight_bt1 * h_btd).sum(dim=1))

    def _dropout(self, x_btd: Tensor) -> Tensor:
        return F.dropout(x_btd, 0.35, self.training)


def main() -> list[Row]:
    torch.set_num_threads(2)
    distributed.keep_freed_memory()
    precisions: list[Precision] = ["fp32", "bf16"] if has_bf16("cpu") else ["fp32"]
    rows = [_compare_plain(precision, FRAMES) for precision in precisions]
    rows += [_compare_plain(precisions[-1], SPEECH_FRAMES), _compare_keras(precisions[-1])]
    if "bf16" in precisions:
        rows += [_measure_share()]
    return [*rows, *(_time_recognition(seconds) for seconds in (2.8, 6.375))]


def _compare_plain(precision: Precision, speech_frames: int) -> Row:
    mine, theirs, ratio = time_alternately(
        _build_our_step(precision, speech_frames), _build_plain_step(speech_frames), repeats=3
    )
    padded = "" if speech_frames == FRAMES else f", {speech_frames} of 256 frames with speech"
    return Row(
        what=f"training step of fu2020, 64 utterances{padded}, {precision}, 2 threads",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name=PLAIN,
        peer=BATCH / theirs,
        ratio=ratio,
        target="2 or more in the better precision",
    )


def _compare_keras(precision: Precision) -> Row:
    what = f"training step of fu2020, 64 utterances, {precision}, 2 threads"
    ours, python = _build_our_step(precision, FRAMES), find_keras_python()
    if python is None:
        mine, _, _ = time_alternately(ours, lambda: None, repeats=3)
        name = f"Keras: not installed, skipped; name its python in {KERAS_VARIABLE}"
        return Row(what=what, ours=BATCH / mine, unit="utterances/s", peer_name=name)
    with start_processes(1, python, "benchmarks.keras_steps", "fu2020", "2") as theirs:
        mine, peer, ratio = time_alternately(ours, step_together(theirs), repeats=5)
        name = f"{theirs[0].name}, fp32"
    return Row(
        what=what,
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name=name,
        peer=BATCH / peer,
        ratio=ratio,
        target="1.7 or more",
    )


def _measure_share() -> Row:
    x_nn, y_nn = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE, dtype=torch.bfloat16)
    mine, product, _ = time_alternately(
        _build_our_step("bf16", FRAMES), lambda: x_nn @ y_nn, repeats=5
    )
    speed, max_speed = 3 * BATCH * _count_operations() / mine, 2 * MATRIX_SIZE**3 / product
    return Row(
        what="training step of fu2020, 64 utterances, bf16, 2 threads: share of the bf16 matrix "
        "product's speed",
        ours=100 * speed / max_speed,
        unit="%",
        peer_name=f"{speed / 1e9:,.0f} of {max_speed / 1e9:,.0f} GFLOP/s",
        target="45 or more",
    )


def _count_operations(frames: int = FRAMES) -> int:
    """Return the operations of one utterance's forward pass; a multiply-add counts as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        Plain().eval()(torch.randn(1, frames, BANDS))
    # The counter ignores LSTMs.
    lstms = (frames - 4) * 2 * 2 * 4 * 128 * (512 + 128 + 256 + 128)
    return int(counter.get_total_flops()) + lstms


def _time_recognition(seconds: float) -> Row:
    system = System(recipes.load(RECIPE), CLASSES)
    bundle = Bundle(system.eval(), Card(name="fu2020"))
    recognizer = Recognizer(bundle, threads=2, answer_nonspeech=True)
    noise = np.random.default_rng(0).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)
    dtype = torch.bfloat16 if recognizer.precision == "bf16" else torch.float32
    x_nn, y_nn = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE, dtype=dtype)
    mine, product, _ = time_alternately(
        lambda: recognizer((noise, RATE)), lambda: x_nn @ y_nn, repeats=31
    )
    operations = _count_operations(1 + int(seconds / HOP_SECONDS))
    least = operations / (2 * MATRIX_SIZE**3) * product
    return Row(
        what=f"recognize {seconds} s with fu2020, warm, {recognizer.precision}, 2 threads",
        ours=mine * 1e3,
        unit="ms",
        target="under 12 ms",
        bound=f"its {operations / 1e9:.1f} billion operations would take {least * 1e3:.1f} ms at "
        f"the speed of the {recognizer.precision} matrix product",
    )


def _batch(speech_frames: int) -> Tensor:
    x_btf = torch.rand(BATCH, FRAMES, BANDS) * 2 - 1
    x_btf[:, speech_frames:] = -1
    return x_btf


def _build_our_step(precision: Precision, speech_frames: int) -> Callable[[], None]:
    torch.manual_seed(0)
    system = System(recipes.load(RECIPE), CLASSES)
    frames = _batch(speech_frames), torch.ones(BATCH, FRAMES, dtype=torch.bool)

    def logits() -> Tensor:
        with autocast_context(precision, "cpu"):
            return system({"frames": frames}).logits["emotion"]

    step = _build_step(system, logits)

    def flushed_step() -> None:
        with flush_denormals():  # as the training loop does
            step()

    return flushed_step


def _build_plain_step(speech_frames: int) -> Callable[[], None]:
    torch.manual_seed(0)
    plain, x_btf = Plain(), _batch(speech_frames)
    return _build_step(plain, lambda: plain(x_btf))


def _build_step(module: nn.Module, logits: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.RMSprop(module.parameters(), lr=1e-3)
    target_b = torch.arange(BATCH) % 7

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits().float(), target_b))
        optimizer.step()

    return step
