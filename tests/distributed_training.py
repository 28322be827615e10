"""One process of a distributed training: ``python distributed_training.py FOLDER [MODE]``."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builders.small_systems import CLASSES, random_subset, small_recipe

from serein.system import System
from serein.training import checkpoint
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.loop import fit
from serein.utils import distributed

CONFIG = TrainingConfig(
    epochs=3, batch=4, bucket=2, optimiser="rmsprop", rate=1e-3, clip=0.5, checkpoint=1e-9
)
"""The last batch of 13 utterances has one: one of two processes has an empty shard."""
TASKS = ("tasks.arousal.name=dimensions", "tasks.arousal.scheme=values")
BALANCED = "tasks.emotion.class_weights=balanced"


def build_subset(lengths: list[int], seed: int) -> Subset:
    subset = random_subset(lengths, seed=seed)
    generator = np.random.default_rng(seed + 2)
    value_n = torch.tensor(generator.normal(3, 1, len(lengths)), dtype=torch.float32)
    value_n[::5] = float("nan")
    return replace(subset, targets={**subset.targets, "arousal": value_n})


def train(folder: Path, mode: str = "", **options: Any) -> tuple[System, TrainingRun]:
    """Train a small system with three kinds of loss; mode "killed" kills rank 1 on the way."""
    checkpoint.MAX_WRITE_SHARE = float("inf")
    torch.manual_seed(distributed.get_rank())  # fit must make the initial weights equal
    recipe = small_recipe("model.dropout=0", "model.init=torch", BALANCED, *TASKS)
    system = System(recipe, {**CLASSES, "arousal": ()})
    train_subset = build_subset([9, 30, 12, 5, 21, 17, 3, 40, 8, 26, 14, 11, 33], seed=1)
    eval_subsets = {"test": build_subset([13, 4, 19], seed=9)}
    if mode == "killed" and distributed.get_rank() == 1:
        _kill_after(6)
    run = fit(system, train_subset, eval_subsets, CONFIG, checkpoint=folder / "state.pt", **options)
    return system, run


def _kill_after(steps: int) -> None:
    from serein.training import loop
    from serein.training.sampling import shard_batches

    def kill_after_steps(*arguments: Any) -> Any:
        nonlocal steps
        for shard in shard_batches(*arguments):
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield shard

    vars(loop)["shard_batches"] = kill_after_steps


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    seen: list[int] = []
    system, run = train(folder, *sys.argv[2:], on_epoch_end=lambda epoch: seen.append(epoch.epoch))
    outcome = {
        "weights": system.state_dict(),
        "losses": [epoch.loss for epoch in run.epochs],
        "scores": [epoch.scores for epoch in run.epochs],
        "epochs": seen,
    }
    torch.save(outcome, folder / f"rank{distributed.get_rank()}.pt")


if __name__ == "__main__":
    main()
