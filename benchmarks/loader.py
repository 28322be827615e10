"""The share of training that waits for data, and what keeping a state costs; synthetic sides.

Lengths are EMO-DB's (li2019: 40 utterances a step) and 4 s of raw samples (zhang2019: 8).
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.timing import Row
from serein import recipes
from serein.evaluation.plan import build_training_config
from serein.system import System
from serein.training import checkpoint, loop
from serein.training.checkpoint import save_checkpoint
from serein.training.dataset import Frames, Subset
from serein.training.loop import fit
from serein.training.sampling import shard_batches

CLASSES = {
    "emotion": tuple("abcdefg"),
    "gender": ("female", "male"),
    **dict.fromkeys(("arousal", "valence", "dominance"), ("low", "middle", "high")),
}
CASES = {"li2019": (480, 2), "zhang2019": (24, 1)}
"""Utterances of a side, and epochs, after each of which the state is written."""


def main() -> list[Row]:
    return [row for recipe in CASES for row in _rows(recipe)]


def _rows(name: str) -> list[Row]:
    recipe = recipes.load(name)
    count, epochs = CASES[name]
    spent: dict[str, float] = {"waiting": 0.0, "writing": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        system = System(recipe, {task: CLASSES[task] for task in recipe.tasks})
        side = _side(system, count, Path(folder) / "frames")
        how = replace(build_training_config(recipe), epochs=epochs)
        with (
            patch.object(loop, "shares", _timed(shard_batches, spent)),
            patch.object(checkpoint, "save", _noted(save_checkpoint, spent)),
        ):
            begun = perf_counter()
            course = fit(system, side, {}, how, checkpoint=Path(folder) / "state.pt")
            seconds = perf_counter() - begun
    trained = sum(epoch.seconds for epoch in course.epochs)
    what = f"training {name}, {count} utterances an epoch"
    return [
        Row(
            what=f"{what}: time waiting for data",
            ours=100 * spent["waiting"] / trained,
            unit="%",
            asked="under 5",
        ),
        Row(
            what=f"{what}: time writing states",
            ours=100 * spent["writing"] / seconds,
            unit="%",
            asked="under 2",
        ),
    ]


def _side(system: System, count: int, file: Path) -> Subset:
    """Noise in a mapped file."""
    width, hop = system.front_end.width, system.front_end.hop
    generator = np.random.default_rng(0)
    seconds_n = np.clip(generator.normal(2.78, 1.03, count), 1.0, 7.5)
    length_n = (seconds_n / hop).astype(int)
    ends = length_n.cumsum().tolist()
    x_nf = np.memmap(file, np.float32, "w+", shape=(ends[-1], width))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        x_nf[start:end] = generator.standard_normal((end - start, width), np.float32)
    spans = zip([0, *ends[:-1]], ends, strict=True)
    frames = Frames(x_nf, {f"u{i}": span for i, span in enumerate(spans)})
    targets = {name: torch.arange(count) % len(system.classes[name]) for name in system.tasks}
    return Subset(tuple(frames.index), frames, targets)


def _timed(inner: Any, spent: dict[str, float]) -> Any:
    """The same batches, and how long each was waited for."""

    def outer(*arguments: Any) -> Any:
        batches = inner(*arguments)
        while True:
            begun = perf_counter()
            batch = next(batches, None)
            spent["waiting"] += perf_counter() - begun
            if batch is None:
                return
            yield batch

    return outer


def _noted(inner: Any, spent: dict[str, float]) -> Any:
    def outer(*arguments: Any) -> None:
        begun = perf_counter()
        inner(*arguments)
        spent["writing"] += perf_counter() - begun

    return outer
