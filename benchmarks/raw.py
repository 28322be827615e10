"""Zhang et al. 2019 beside the obvious way, which convolves every segment by itself in torch.

A step is forward, backward and Adam over 8 utterances of 4 s, in fp32. Peak memory is what a
process of its own needs for one step more than it had before it (VmHWM, so on Linux alone).
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import Row, paired, peak
from serein import recipes
from serein.bundle import Bundle, Card
from serein.inference.recognizer import Recognizer
from serein.models.zhang2019 import Config, Model
from serein.system import System

HOUSE = Path(__file__).parent.parent
BATCH, FRAMES, HOP, RATE = 8, 400, 160, 16_000
TASKS = ("arousal", "valence", "dominance")
OBVIOUS = "plain PyTorch, segment by segment"
CLASSES = dict.fromkeys(("arousal", "valence", "dominance"), ("low", "middle", "high"))


def main() -> list[Row]:
    torch.set_num_threads(2)
    rows = [_memory(), _step()]
    torch.set_num_threads(1)
    return [*rows, _warm()]


def _step() -> Row:
    mine, theirs, ratio = paired(_steps("ours"), _steps("obvious"), repeats=3)
    return Row(
        what="training step of zhang2019, 8 utterances of 4 s, fp32, 2 threads",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name=OBVIOUS,
        peer=BATCH / theirs,
        ratio=ratio,
        asked="3 or more, aim for 6",
    )


def _memory() -> Row:
    mine, theirs = (_peak_of(whose) for whose in ("ours", "obvious"))
    return Row(
        what="peak memory of that step",
        ours=mine,
        unit="MiB",
        peer_name=OBVIOUS,
        peer=theirs,
        ratio=theirs / mine,
        asked="2 or more",
    )


def _warm() -> Row:
    system = System(recipes.load("zhang2019"), CLASSES)
    recognizer = Recognizer(Bundle(system, Card(name="zhang2019")), answer_nonspeech=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    mine, _, _ = paired(lambda: recognizer((noise, RATE)), lambda: None, repeats=31)
    what = "recognise 4 s with zhang2019, warm"
    return Row(what=what, ours=mine * 1e3, unit="ms", asked="under 60 ms")


def _steps(whose: str) -> Callable[[], None]:
    """One training step of ours, or of the obvious model with the same weights."""
    torch.manual_seed(0)
    model = Model(Config(), HOP, TASKS)
    x_btf, mask_bt = torch.randn(BATCH, FRAMES, HOP), torch.ones(BATCH, FRAMES, dtype=torch.bool)
    if whose == "ours":
        return _trained(model, lambda: torch.stack(list(model((x_btf, mask_bt)).vectors.values())))
    sys.path.append(str(HOUSE / "tests"))
    from builders.zhang2019_per_segment import PerSegment

    obvious = PerSegment(model, HOP)
    return _trained(obvious, lambda: obvious(x_btf.flatten(1)))


def _trained(model: nn.Module, vectors: Callable[[], Tensor]) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        torch.autograd.backward(vectors().square().mean())
        optimiser.step()

    return step


def _peak_of(whose: str) -> float:
    command = [sys.executable, "-m", "benchmarks.raw", whose]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HOUSE)
    return float(done.stdout)


if __name__ == "__main__":
    torch.set_num_threads(2)
    step, before = _steps(sys.argv[1]), peak()
    step()
    print(peak() - before)
