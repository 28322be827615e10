"""Small recipes, systems and subsets without audio."""

from collections.abc import Sequence

import numpy as np
import torch

from serein import recipes
from serein.records import Recipe
from serein.system import System
from serein.training.dataset import Frames, Subset

SIZES = (
    "features.bands=16",
    "features.window=400",
    "model.filters=8",
    "model.hidden=4",
    "model.attention_hidden=8",
    "model.heads=2",
    "training.epochs=2",
    "tasks.emotion.scheme=own",
    "protocol.name=leave-one-speaker-out",
    "protocol.validation=1",
)
"""Settings that make li2019 small, for any corpus with speakers."""
QUICK = (*SIZES, "features.pad=false")
VALUE_TASKS = (
    "tasks.emotion=remove",
    "tasks.gender=remove",
    "tasks.arousal={name='dimensions', scheme='values'}",
    "tasks.valence={name='dimensions', scheme='values'}",
)
"""Two tasks with values, and no others."""
CLASSES = {"emotion": ("anger", "neutral", "sadness"), "gender": ("female", "male")}


def small_recipe(*settings: str) -> Recipe:
    return recipes.load("li2019", [*SIZES, *settings])


def small_system(*settings: str, seed: int = 0) -> System:
    torch.manual_seed(seed)
    recipe = small_recipe(*settings)
    names = {task: table.get("name", task) for task, table in recipe.tasks.items()}
    return System(recipe, {task: CLASSES.get(name, ()) for task, name in names.items()})


def random_frames(lengths: Sequence[int], width: int = 48, seed: int = 0) -> Frames:
    """Return frames of noise; utterance i is "u00i"."""
    ends = np.cumsum(lengths).tolist()
    x_nf = np.random.default_rng(seed).normal(size=(ends[-1], width)).astype(np.float32)
    spans = zip([0, *ends[:-1]], ends, strict=True)
    return Frames(x_nf, {f"u{i:03}": span for i, span in enumerate(spans)})


def random_subset(lengths: Sequence[int], *, width: int = 48, seed: int = 0) -> Subset:
    """Return a subset whose frames' mean depends on the emotion; one in six labels is unknown."""
    frames = random_frames(lengths, width, seed)
    generator = np.random.default_rng(seed + 1)
    emotion = generator.choice([0, 0, 0, 1, 2, -1], len(lengths))
    for (start, end), label in zip(frames.index.values(), emotion, strict=True):
        frames.x_nf[start:end] += label
    gender = generator.integers(0, 2, len(lengths))
    targets = {"emotion": torch.tensor(emotion), "gender": torch.tensor(gender)}
    return Subset(tuple(frames.index), frames, targets)
