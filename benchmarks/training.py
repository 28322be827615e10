"""A training step of Li et al. 2019 beside the plain one and beside Keras's, one thread.

The plain one is what the paper's text asks for, layer by layer, in torch's own modules: padded to
7.5 s, convolutions, bidirectional LSTMs and dropout over all of it. Keras's is in
``keras_steps.py``. Two folds side by side are two processes of one thread each. Lengths are
EMO-DB's.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.beside import VARIABLE, beside, keras, serve, together
from benchmarks.timing import Row, paired
from serein import recipes
from serein.system import System
from serein.utils import device

BATCH = 40
FRAMES = 301
CLASSES = {"emotion": tuple("abcdefg"), "gender": ("female", "male")}
RECIPES = {"li2019": True, "li2019-emodb": False}
"""Whether a recipe pads."""
ASKED: tuple[device.PrecisionSetting, ...] = ("fp32", "auto")
NUMBERS = sorted({device.resolve_precision(one, "cpu") for one in ASKED}, reverse=True)
"""What ``training.precision`` may be on this machine."""


class Plain(nn.Module):
    """Li et al. 2019 in torch's own modules, without masks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(384, 64, 3, padding=1, padding_mode="replicate")
        self.conv2 = nn.Conv1d(64, 64, 3, padding=1, padding_mode="replicate")
        self.blstm1 = nn.LSTM(64, 60, batch_first=True, bidirectional=True)
        self.blstm2 = nn.LSTM(120, 60, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(120, 512, bias=False)
        self.heads = nn.Linear(512, 8, bias=False)
        self.tasks = nn.ModuleList([nn.Linear(960, 7), nn.Linear(960, 2)])

    def forward(self, x_btf: Tensor) -> list[Tensor]:
        x_btd = F.max_pool1d(self.conv2(self.conv1(x_btf.mT).relu()).relu(), 3).mT
        for blstm in (self.blstm1, self.blstm2):
            x_btd = F.dropout(blstm(x_btd)[0], 0.5, self.training)
        weight_bth = self.heads(torch.tanh(self.hidden(x_btd))).softmax(dim=1)
        z_bd = (weight_bth.mT @ x_btd).flatten(1)
        return [task(z_bd) for task in self.tasks]


def main() -> list[Row]:
    torch.set_num_threads(1)
    device.keep_freed_memory()
    return [
        row
        for recipe in RECIPES
        for row in (
            _row(recipe),
            *(_keras(recipe, folds, numbers) for numbers in NUMBERS for folds in (1, 2)),
        )
    ]


def _row(recipe: str) -> Row:
    x_btf, _ = _batch()
    targets, plain = _targets(), Plain()

    def theirs() -> Tensor:
        pairs = zip(plain(x_btf), targets.values(), strict=True)
        return torch.stack([F.cross_entropy(logits, target) for logits, target in pairs]).sum()

    mine, peer, ratio = paired(_ours(recipe), _step(plain, theirs), repeats=11)
    return Row(
        what=f"training step of {recipe}, 40 utterances of EMO-DB's lengths",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name="plain PyTorch, padded to 7.5 s",
        peer=BATCH / peer,
        ratio=ratio,
    )


def _keras(recipe: str, folds: int, numbers: device.Precision) -> Row:
    """So many processes of ours in turns with as many of Keras's."""
    python, side = keras(), ", 2 folds side by side" if folds > 1 else ""
    what = f"training step of {recipe}, {numbers}{side}"
    with beside(folds, sys.executable, "benchmarks.training", recipe, numbers) as own:
        if python is None:
            mine, _, _ = paired(together(own), lambda: None)
            name = f"Keras: not installed, skipped; name its python in {VARIABLE}"
            return Row(what=what, ours=folds * BATCH / mine, unit="utterances/s", peer_name=name)
        with beside(folds, python, "benchmarks.keras_steps", "li2019", "1") as theirs:
            mine, peer, ratio = paired(together(own), together(theirs), repeats=11)
            name = f"{theirs[0].name}, fp32, padded to 7.5 s"
    return Row(
        what=what,
        ours=folds * BATCH / mine,
        unit="utterances/s",
        peer_name=name,
        peer=folds * BATCH / peer,
        ratio=ratio,
        asked="1.8 or more" if folds > 1 else "1.5 or more",
    )


def _ours(recipe: str, numbers: device.Precision = "fp32") -> Callable[[], object]:
    torch.manual_seed(0)
    x_btf, mask_bt = _batch()
    if RECIPES[recipe]:
        mask_bt = torch.ones_like(mask_bt)
    longest = int(mask_bt.sum(dim=1).max())
    frames = x_btf[:, :longest].contiguous(), mask_bt[:, :longest]
    targets, system = _targets(), System(recipes.load(recipe), CLASSES)

    def loss() -> Tensor:
        with device.autocast_context(numbers, "cpu"):
            return system.loss(system({"frames": frames}), targets)

    return _step(system, loss)


def _targets() -> dict[str, Tensor]:
    return {task: torch.arange(BATCH) % len(names) for task, names in CLASSES.items()}


def _step(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        torch.autograd.backward(loss())
        nn.utils.clip_grad_value_(module.parameters(), 1.0)
        optimiser.step()

    return step


def _batch() -> tuple[Tensor, Tensor]:
    """Random frames of EMO-DB's lengths (mean 2.8 s, deviation 1.0 s), constant behind the end."""
    generator = np.random.default_rng(0)
    length_b = np.clip(generator.normal(2.78, 1.03, BATCH) * 40, 40, FRAMES).astype(int)
    mask_bt = torch.arange(FRAMES) < torch.from_numpy(length_b)[:, None]
    return torch.randn(BATCH, FRAMES, 384) * mask_bt[..., None], mask_bt


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve("serein", _ours(sys.argv[1], "bf16" if "bf16" in sys.argv else "fp32"))
