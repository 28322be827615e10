"""A training step of Li et al. 2019, compared with plain PyTorch and with Keras, one thread.

The plain network follows the paper's text layer by layer in torch's modules: convolutions,
bidirectional LSTMs and dropout on inputs padded to 7.5 s. The network in Keras is in
``keras_steps``. Two folds in parallel are two processes of one thread each. Lengths are EMO-DB's.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.step_process import (
    KERAS_VARIABLE,
    find_keras_python,
    serve_steps,
    start_processes,
    step_together,
)
from benchmarks.timing import Row, time_alternately
from serein import recipes
from serein.system import System
from serein.utils import device, distributed

BATCH = 40
FRAMES = 301
CLASSES = {"emotion": tuple("abcdefg"), "gender": ("female", "male")}
RECIPES = {"li2019": True, "li2019-emodb": False}
"""Whether a recipe pads its input without a mask."""
PRECISIONS = sorted(
    {device.resolve_precision("fp32", "cpu"), device.resolve_precision("auto", "cpu")}, reverse=True
)
"""The values of ``training.precision`` that this machine supports."""


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
    distributed.keep_freed_memory()
    return [
        row
        for recipe in RECIPES
        for row in (
            _compare_plain(recipe),
            *(
                _compare_keras(recipe, folds, precision)
                for precision in PRECISIONS
                for folds in (1, 2)
            ),
        )
    ]


def _compare_plain(recipe: str) -> Row:
    x_btf, _ = _batch()
    targets, plain = _targets(), Plain()

    def plain_loss() -> Tensor:
        pairs = zip(plain(x_btf), targets.values(), strict=True)
        return torch.stack([F.cross_entropy(logits, target) for logits, target in pairs]).sum()

    mine, peer, ratio = time_alternately(
        _build_our_step(recipe), _build_step(plain, plain_loss), repeats=11
    )
    return Row(
        what=f"training step of {recipe}, 40 utterances of EMO-DB's lengths",
        ours=BATCH / mine,
        unit="utterances/s",
        peer_name="plain PyTorch, padded to 7.5 s",
        peer=BATCH / peer,
        ratio=ratio,
    )


def _compare_keras(recipe: str, folds: int, precision: device.Precision) -> Row:
    """Compare processes of ours, alternately, with as many of Keras."""
    python, parallel = find_keras_python(), ", 2 folds in parallel" if folds > 1 else ""
    what = f"training step of {recipe}, {precision}{parallel}"
    with start_processes(folds, sys.executable, "benchmarks.li2019", recipe, precision) as ours:
        if python is None:
            mine, _, _ = time_alternately(step_together(ours), lambda: None)
            name = f"Keras: not installed, skipped; name its python in {KERAS_VARIABLE}"
            return Row(what=what, ours=folds * BATCH / mine, unit="utterances/s", peer_name=name)
        with start_processes(folds, python, "benchmarks.keras_steps", "li2019", "1") as theirs:
            mine, peer, ratio = time_alternately(
                step_together(ours), step_together(theirs), repeats=11
            )
            name = f"{theirs[0].name}, fp32, padded to 7.5 s"
    return Row(
        what=what,
        ours=folds * BATCH / mine,
        unit="utterances/s",
        peer_name=name,
        peer=folds * BATCH / peer,
        ratio=ratio,
        target="1.8 or more" if folds > 1 else "1.5 or more",
    )


def _build_our_step(recipe: str, precision: device.Precision = "fp32") -> Callable[[], object]:
    torch.manual_seed(0)
    x_btf, mask_bt = _batch()
    if RECIPES[recipe]:
        mask_bt = torch.ones_like(mask_bt)
    max_length = int(mask_bt.sum(dim=1).max())
    frames = x_btf[:, :max_length].contiguous(), mask_bt[:, :max_length]
    targets, system = _targets(), System(recipes.load(recipe), CLASSES)

    def loss() -> Tensor:
        with device.autocast_context(precision, "cpu"):
            return system.loss(system({"frames": frames}), targets)

    return _build_step(system, loss)


def _targets() -> dict[str, Tensor]:
    return {task: torch.arange(BATCH) % len(names) for task, names in CLASSES.items()}


def _build_step(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        nn.utils.clip_grad_value_(module.parameters(), 1.0)
        optimizer.step()

    return step


def _batch() -> tuple[Tensor, Tensor]:
    """Return random frames of EMO-DB's lengths (mean 2.8 s, deviation 1.0 s), padded with zeros."""
    generator = np.random.default_rng(0)
    length_b = np.clip(generator.normal(2.78, 1.03, BATCH) * 40, 40, FRAMES).astype(int)
    mask_bt = torch.arange(FRAMES) < torch.from_numpy(length_b)[:, None]
    return torch.randn(BATCH, FRAMES, 384) * mask_bt[..., None], mask_bt


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve_steps("serein", _build_our_step(sys.argv[1], "bf16" if "bf16" in sys.argv else "fp32"))
