"""The fraction of training that waits for data, and that saves checkpoints; synthetic subsets.

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
"""Utterances of the training subset, and number of epochs; each epoch saves a checkpoint."""


def main() -> list[Row]:
    return [row for recipe in CASES for row in _rows(recipe)]


def _rows(name: str) -> list[Row]:
    recipe = recipes.load(name)
    count, epochs = CASES[name]
    seconds: dict[str, float] = {"waiting": 0.0, "saving": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        system = System(recipe, {task: CLASSES[task] for task in recipe.tasks})
        subset = _build_subset(system, count, Path(folder) / "frames")
        config = replace(build_training_config(recipe), epochs=epochs)
        with (
            patch.object(loop, "shard_batches", _time_batches(shard_batches, seconds)),
            patch.object(checkpoint, "save_checkpoint", _time_calls(save_checkpoint, seconds)),
        ):
            start = perf_counter()
            run = fit(system, subset, {}, config, checkpoint=Path(folder) / "state.pt")
            total_seconds = perf_counter() - start
    epoch_seconds = sum(epoch.seconds for epoch in run.epochs)
    what = f"training {name}, {count} utterances an epoch"
    return [
        Row(
            what=f"{what}: time spent waiting for data",
            ours=100 * seconds["waiting"] / epoch_seconds,
            unit="%",
            target="under 5",
        ),
        Row(
            what=f"{what}: time spent saving states",
            ours=100 * seconds["saving"] / total_seconds,
            unit="%",
            target="under 2",
        ),
    ]


def _build_subset(system: System, count: int, file: Path) -> Subset:
    """Build a subset of noise in a memory-mapped file."""
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


def _time_batches(inner: Any, seconds: dict[str, float]) -> Any:
    """Wrap an iterator of batches to add up the time that each batch takes."""

    def outer(*arguments: Any) -> Any:
        batches = inner(*arguments)
        while True:
            start = perf_counter()
            batch = next(batches, None)
            seconds["waiting"] += perf_counter() - start
            if batch is None:
                return
            yield batch

    return outer


def _time_calls(inner: Any, seconds: dict[str, float]) -> Any:
    """Wrap a function to add up the time of its calls."""

    def outer(*arguments: Any) -> None:
        start = perf_counter()
        inner(*arguments)
        seconds["saving"] += perf_counter() - start

    return outer
