"""A small system and its training, and comparisons of two trainings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from builders.small_systems import random_subset, small_system
from torch import Tensor

from serein.system import System
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.loop import fit

TRAIN = random_subset([9, 30, 12, 5, 21, 17, 3, 40, 8, 26, 14, 11, 33, 7])
VALIDATION = random_subset([10, 20, 6, 15], seed=5)
TEST = random_subset([13, 4, 19], seed=9)
EVAL_SUBSETS = {"validation": VALIDATION, "test": TEST}
CONFIG = TrainingConfig(epochs=4, batch=4, bucket=2, rate=1e-2, decay=0.01, clip=0.5)
FULL_BATCH_CONFIG = TrainingConfig(epochs=5, batch=100, rate=1e-2)
"""All utterances in one batch."""


class Interrupted(Exception):
    """Raised by a test in the middle of a training."""


def train_small(
    config: TrainingConfig = CONFIG,
    *,
    seed: int = 0,
    weights: int = 0,
    train: Subset = TRAIN,
    eval_subsets: Mapping[str, Subset] = EVAL_SUBSETS,
    changes: tuple[str, ...] = (),
    **options: Any,
) -> tuple[System, TrainingRun]:
    system = small_system(*changes, seed=weights)
    return system, fit(system, train, eval_subsets, config, seed=seed, **options)


def assert_same_weights(one: System, other: System) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert list(a) == list(b)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def assert_same_history(one: TrainingRun, other: TrainingRun) -> None:
    """Compare two histories bit by bit, but not their durations."""
    assert [replace(e, seconds=0) for e in one.epochs] == [
        replace(e, seconds=0) for e in other.epochs
    ]
    assert len(one.predictions) == len(other.predictions) == len(one.epochs)
    for a, b in zip(one.predictions, other.predictions, strict=True):
        assert {name: list(tasks) for name, tasks in a.items()} == {
            name: list(tasks) for name, tasks in b.items()
        }
        for name, tasks in a.items():
            for task, probabilities in tasks.items():
                assert torch.equal(probabilities, b[name][task])


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)
