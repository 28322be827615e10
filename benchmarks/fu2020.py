"""Fu et al. 2020 beside the plain network of the paper's text, layer by layer in torch's modules.

A step is forward, backward and RMSprop over 64 utterances of 256 frames, without frames that
repeat unless said: there nothing can be laid once. The share of the ceiling is three times the
forward's operations, times utterances a second, over the fastest bf16 matrix product found in
turns with it.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.beside import VARIABLE, beside, keras, together
from benchmarks.timing import Row, paired
from serein import recipes
from serein.bundle import Bundle, Card
from serein.inference.recognizer import Recognizer
from serein.system import System
from serein.utils import device
from serein.utils.device import Precision, autocast_context, flush_denormals, has_bf16

BATCH, FRAMES, BANDS, RATE = 64, 256, 128, 16_000
SPOKEN = 112
"""Frames of a mean utterance of EMO-DB, 2.8 s."""
CLASSES = {"emotion": tuple("abcdefg")}
RECIPE = "fu2020-single-task"
PLAIN = "plain PyTorch, fp32"
LARGE = 2048
"""Rows and columns of the matrices that the ceiling is measured with."""


class Plain(nn.Module):
    """The same network, as its text reads."""

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
        x_btd = self._dropped(self.bottleneck(x_bdt.mT))
        for blstm in (self.blstm1, self.blstm2):
            x_btd = self._dropped(blstm(x_btd)[0])
        h_btd, _ = self.attend(x_btd, x_btd, x_btd, need_weights=False)
        weight_bt1 = self.local(h_btd).softmax(dim=1)
        return self.emotion((weight_bt1 * h_btd).sum(dim=1))

    def _dropped(self, x_btd: Tensor) -> Tensor:
        return F.dropout(x_btd, 0.35, self.training)


def main() -> list[Row]:
    torch.set_num_threads(2)
    device.keep_freed_memory()
    all_numbers: list[Precision] = ["fp32", "bf16"] if has_bf16("cpu") else ["fp32"]
    rows = [_step(numbers, FRAMES) for numbers in all_numbers]
    rows += [_step(all_numbers[-1], SPOKEN), _keras(all_numbers[-1])]
    if "bf16" in all_numbers:
        rows += [_share()]
    return [*rows, *(_warm(seconds) for seconds in (2.8, 6.375))]


def _step(numbers: Precision, spoken: int) -> Row:
    mine, theirs, ratio = paired(_ours(numbers, spoken), _plain(spoken), repeats=3)
    padded = "" if spoken == FRAMES else f", {spoken} of 256 frames spoken"
    return Row(
        what=f"training step of fu2020, 64 utterances{padded}, {numbers}, 2 threads",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name=PLAIN,
        peer=BATCH / theirs,
        ratio=ratio,
        asked="2 or more in the better precision",
    )


def _keras(numbers: Precision) -> Row:
    what = f"training step of fu2020, 64 utterances, {numbers}, 2 threads"
    ours, python = _ours(numbers, FRAMES), keras()
    if python is None:
        mine, _, _ = paired(ours, lambda: None, repeats=3)
        name = f"Keras: not installed, skipped; name its python in {VARIABLE}"
        return Row(what=what, ours=BATCH / mine, unit="utterances/s", peer_name=name)
    with beside(1, python, "benchmarks.keras_steps", "fu2020", "2") as theirs:
        mine, peer, ratio = paired(ours, together(theirs), repeats=5)
        name = f"{theirs[0].name}, fp32"
    return Row(
        what=what,
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name=name,
        peer=BATCH / peer,
        ratio=ratio,
        asked="1.7 or more",
    )


def _share() -> Row:
    one_bnn = torch.randn(2, LARGE, LARGE, dtype=torch.bfloat16)
    mine, product, _ = paired(_ours("bf16", FRAMES), lambda: one_bnn[0] @ one_bnn[1], repeats=5)
    done, most = 3 * BATCH * _operations() / mine, 2 * LARGE**3 / product
    return Row(
        what="share of the bf16 matrix product's speed in that step",
        ours=100 * done / most,
        unit="%",
        peer_name=f"{done / 1e9:,.0f} of {most / 1e9:,.0f} GFLOP/s",
        asked="45 or more",
    )


def _operations() -> int:
    """Floating-point operations of one utterance's forward, a product and its sum being two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        Plain().eval()(torch.randn(1, FRAMES, BANDS))
    cells = (FRAMES - 4) * 2 * 2 * 4 * 128 * (512 + 128 + 256 + 128)  # LSTMs are not counted
    return int(counter.get_total_flops()) + cells


def _warm(seconds: float) -> Row:
    system = System(recipes.load(RECIPE), CLASSES)
    bundle = Bundle(system.eval(), Card(name="fu2020"))
    recognizer = Recognizer(bundle, threads=2, answer_nonspeech=True)
    noise = np.random.default_rng(0).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)
    mine, _, _ = paired(lambda: recognizer((noise, RATE)), lambda: None, repeats=31)
    what = f"recognise {seconds} s with fu2020, warm, {recognizer.precision}, 2 threads"
    return Row(what=what, ours=mine * 1e3, unit="ms", asked="under 12 ms")


def _batch(spoken: int) -> Tensor:
    x_btf = torch.rand(BATCH, FRAMES, BANDS) * 2 - 1
    x_btf[:, spoken:] = -1
    return x_btf


def _ours(numbers: Precision, spoken: int) -> Callable[[], None]:
    torch.manual_seed(0)
    system = System(recipes.load(RECIPE), CLASSES)
    frames = _batch(spoken), torch.ones(BATCH, FRAMES, dtype=torch.bool)

    def logits() -> Tensor:
        with autocast_context(numbers, "cpu"):
            return system({"frames": frames}).logits["emotion"]

    step = _trained(system, logits)

    def flushing() -> None:
        with flush_denormals():  # as the training loop does
            step()

    return flushing


def _plain(spoken: int) -> Callable[[], None]:
    torch.manual_seed(0)
    plain, x_btf = Plain(), _batch(spoken)
    return _trained(plain, lambda: plain(x_btf))


def _trained(module: nn.Module, logits: Callable[[], Tensor]) -> Callable[[], None]:
    optimiser = torch.optim.RMSprop(module.parameters(), lr=1e-3)
    target_b = torch.arange(BATCH) % 7

    def step() -> None:
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits().float(), target_b))
        optimiser.step()

    return step
