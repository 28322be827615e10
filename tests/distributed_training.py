"""One process of a training in several, as torchrun would start it: ``several.py FOLDER MODE``."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builders.small_systems import CLASSES, random_side, small_recipe

from serein.system import System
from serein.training import checkpoint
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.loop import fit
from serein.utils import distributed

SETTINGS = TrainingConfig(
    epochs=3, batch=4, bucket=2, optimiser="rmsprop", rate=1e-3, clip=0.5, checkpoint=1e-9
)
"""Of 13 utterances the last batch holds one: a process of two has nothing of it."""
TASKS = ("tasks.arousal.name=dimensions", "tasks.arousal.scheme=values")
WEIGHED = "tasks.emotion.class_weights=balanced"


def side(lengths: list[int], seed: int) -> Subset:
    made = random_side(lengths, seed=seed)
    generator = np.random.default_rng(seed + 2)
    value_n = torch.tensor(generator.normal(3, 1, len(lengths)), dtype=torch.float32)
    value_n[::5] = float("nan")
    return replace(made, targets={**made.targets, "arousal": value_n})


def train(folder: Path, mode: str = "", **options: Any) -> tuple[System, TrainingRun]:
    """Train a small system of three kinds of loss; "killed" ends the second process on its way."""
    checkpoint.MAX_WRITE_SHARE = float("inf")
    torch.manual_seed(
        distributed.get_rank()
    )  # that weights are alike is not to be the user's worry
    recipe = small_recipe("model.dropout=0", WEIGHED, *TASKS)
    system = System(recipe, {**CLASSES, "arousal": ()})
    learnt = side([9, 30, 12, 5, 21, 17, 3, 40, 8, 26, 14, 11, 33], seed=1)
    watched = {"test": side([13, 4, 19], seed=9)}
    if mode == "killed" and distributed.get_rank() == 1:
        _die_at(6)
    course = fit(system, learnt, watched, SETTINGS, checkpoint=folder / "state.pt", **options)
    return system, course


def _die_at(steps: int) -> None:
    from serein.training import loop
    from serein.training.sampling import shard_batches

    def some(*arguments: Any) -> Any:
        nonlocal steps
        for share in shard_batches(*arguments):
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield share

    vars(loop)["shares"] = some


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    told: list[int] = []
    system, course = train(folder, *sys.argv[2:], progress=lambda epoch: told.append(epoch.epoch))
    facts = {
        "weights": system.state_dict(),
        "losses": [epoch.loss for epoch in course.epochs],
        "scores": [epoch.scores for epoch in course.epochs],
        "told": told,
    }
    torch.save(facts, folder / f"rank{distributed.get_rank()}.pt")


if __name__ == "__main__":
    main()
