"""Zhang et al. 2019, compared with plain PyTorch, which convolves every segment separately.

A step is forward, backward and Adam on 8 utterances of 4 s, in fp32. Peak memory is the increase
of the peak of a separate process by one step (VmHWM, so on Linux only).
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import Row, peak_memory, time_alternately
from serein import recipes
from serein.bundle import Bundle, Card
from serein.inference.recognizer import Recognizer
from serein.models.zhang2019 import Config, Model
from serein.system import System

ROOT = Path(__file__).parent.parent
BATCH, FRAMES, HOP, RATE = 8, 400, 160, 16_000
TASKS = ("arousal", "valence", "dominance")
PLAIN = "plain PyTorch, segment by segment"
CLASSES = dict.fromkeys(("arousal", "valence", "dominance"), ("low", "middle", "high"))


def main() -> list[Row]:
    torch.set_num_threads(2)
    rows = [_measure_memory(), _time_step()]
    torch.set_num_threads(1)
    return [*rows, _time_recognition()]


def _time_step() -> Row:
    mine, theirs, ratio = time_alternately(_build_step("ours"), _build_step("plain"), repeats=3)
    return Row(
        what="training step of zhang2019, 8 utterances of 4 s, fp32, 2 threads",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name=PLAIN,
        peer=BATCH / theirs,
        ratio=ratio,
        target="3 or more, 6 preferred",
    )


def _measure_memory() -> Row:
    mine, theirs = (_measure_peak(kind) for kind in ("ours", "plain"))
    return Row(
        what="peak memory of the training step of zhang2019, 8 utterances of 4 s, fp32, 2 threads",
        ours=mine,
        unit="MiB",
        peer_name=PLAIN,
        peer=theirs,
        ratio=theirs / mine,
        target="2 or more",
    )


def _time_recognition() -> Row:
    system = System(recipes.load("zhang2019"), CLASSES)
    recognizer = Recognizer(Bundle(system, Card(name="zhang2019")), answer_nonspeech=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    mine, _, _ = time_alternately(lambda: recognizer((noise, RATE)), lambda: None, repeats=31)
    what = "recognize 4 s with zhang2019, warm"
    return Row(what=what, ours=mine * 1e3, unit="ms", target="under 60 ms")


def _build_step(kind: str) -> Callable[[], None]:
    """Build a training step of ours, or of the plain model with the same weights."""
    torch.manual_seed(0)
    model = Model(Config(), HOP, TASKS)
    x_btf, mask_bt = torch.randn(BATCH, FRAMES, HOP), torch.ones(BATCH, FRAMES, dtype=torch.bool)
    if kind == "ours":
        return _build_update(
            model, lambda: torch.stack(list(model((x_btf, mask_bt)).vectors.values()))
        )
    sys.path.append(str(ROOT / "tests"))
    from builders.zhang2019_per_segment import PerSegment

    plain = PerSegment(model, HOP)
    return _build_update(plain, lambda: plain(x_btf.flatten(1)))


def _build_update(model: nn.Module, vectors: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(vectors().square().mean())
        optimizer.step()

    return step


def _measure_peak(kind: str) -> float:
    command = [sys.executable, "-m", "benchmarks.zhang2019", kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


if __name__ == "__main__":
    torch.set_num_threads(2)
    step, before = _build_step(sys.argv[1]), peak_memory()
    step()
    print(peak_memory() - before)
