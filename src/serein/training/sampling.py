"""Sampling of training data: augmented and balanced epochs, and each process's part of a batch.

The random draws of an epoch depend only on its seed and on indices of utterances: not on batches,
processes, or earlier draws.

B = utterances of a batch, over all processes; n = utterances of a subset, T = frames, F = bins,
M = random numbers per utterance of SpecAugment, L = words.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from serein.augment.specaugment import SpecAugment
from serein.errors import ConfigError
from serein.records import Utterance
from serein.training.config import BalanceKey, TrainingConfig
from serein.training.dataset import Batch, Frames, Subset, trim_padding


@dataclass(frozen=True)
class AugmentedSubset(Subset):
    """A training subset that draws augmentations and balanced utterances for each epoch.

    As a ``Subset``, it holds the original recordings.

    Attributes:
        augmented_frames: frames of augmented copies of the same utterances.
        spec_augment: masks frames; None masks none.
        groups: for each utterance, the groups by which an epoch is balanced, from the outer to the
            inner one; empty if nothing is balanced.
    """

    augmented_frames: tuple[Frames, ...] = ()
    spec_augment: SpecAugment | None = None
    groups: tuple[tuple[Hashable, ...], ...] = ()

    def draw_epoch(self, seed: int) -> Subset:
        """Draw as many utterances, and for each the original or a copy, and its masks."""
        index_n = np.arange(len(self.ids))
        if self.groups:
            index_n = systematic_sample(self.groups, np.random.default_rng([seed, 1]))
        source_n = np.random.default_rng([seed, 2]).integers(
            len(self.augmented_frames) + 1, size=len(index_n)
        )
        draws = len(index_n), self.spec_augment.draws_per_utterance if self.spec_augment else 0
        return EpochView(
            ids=tuple(self.ids[index] for index in index_n),
            frames=self.frames,
            targets={name: target_n[index_n] for name, target_n in self.targets.items()},
            words=None if self.words is None else self.words[index_n],
            frame_sources=tuple((self.frames, *self.augmented_frames)[k] for k in source_n),
            spec_augment=self.spec_augment,
            draw_nm=torch.from_numpy(np.random.default_rng([seed, 3]).random(draws)),
        )


@dataclass(frozen=True)
class EpochView(Subset):
    """The utterances of one epoch; one utterance may occur several times, in different copies.

    Attributes:
        frame_sources: for each utterance, the original frames or those of an augmented copy.
        spec_augment: masks frames; None masks none.
        draw_nm: (n, M) random numbers of the masks.
    """

    frame_sources: tuple[Frames, ...] = ()
    spec_augment: SpecAugment | None = None
    draw_nm: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def frames_at(self, index: int) -> np.ndarray:
        """Return the (T, F) frames at an index, without masks."""
        return self.frame_sources[index][self.ids[index]]

    def length(self, index: int) -> int:
        """Return the number of frames at an index."""
        return self.frame_sources[index].length(self.ids[index])

    def iter_batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield batches with masked frames."""
        indices = list(range(len(self.ids))) if order is None else list(order)
        for number, batch in enumerate(super().iter_batches(size, indices)):
            if self.spec_augment:
                rows = indices[number * size : (number + 1) * size]
                self.spec_augment(*batch.inputs["frames"], self.draw_nm[rows])
            yield batch


def augment_subset(
    subset: Subset,
    utterances: Sequence[Utterance],
    config: TrainingConfig,
    augmented_frames: Sequence[Frames] = (),
    spec_augment: SpecAugment | None = None,
) -> Subset:
    """Return a training subset that draws each epoch anew, or ``subset`` if nothing is drawn.

    Args:
        subset: with the frames of the original recordings.
        utterances: in the order of the subset's ids.
        config: settings of training; ``balance`` is used.
        augmented_frames: frames of augmented copies of the same utterances.
        spec_augment: masks frames; None masks none.

    Raises:
        ConfigError: classes are to be balanced, and the first task has none.
    """
    setting = (config.balance,) if isinstance(config.balance, str) else config.balance
    keys = [key for key in setting if key != "none"]
    if not keys and not augmented_frames and spec_augment is None:
        return subset
    groups = tuple(zip(*(_group_keys(subset, utterances, key) for key in keys), strict=True))
    return AugmentedSubset(
        subset.ids,
        subset.frames,
        subset.targets,
        subset.words,
        augmented_frames=tuple(augmented_frames),
        spec_augment=spec_augment,
        groups=groups,
    )


def _group_keys(subset: Subset, utterances: Sequence[Utterance], key: BalanceKey) -> list[Hashable]:
    """Return the group of each utterance; utterances without one form a group of their own."""
    if key != "class":
        return [utterance.label(key) or "" for utterance in utterances]
    for task, target_n in subset.targets.items():
        if target_n.is_floating_point() or target_n.dim() > 1:
            raise ConfigError(
                f"training.balance has 'class', and the first task, {task}, has no classes; "
                "remove 'class'"
            )
        return list(target_n.tolist())
    raise ConfigError("training.balance has 'class', and there is no task; remove 'class'")


def systematic_sample(
    groups: Sequence[tuple[Hashable, ...]], rng: np.random.Generator
) -> np.ndarray:
    """Draw n of n utterances so that all groups occur equally often.

    The count of each group, and of all groups with a common outer group, differs from its
    expectation by less than one: utterances are taken at equal distances along the cumulated
    weights (systematic sampling; Madow & Madow 1944).

    Args:
        groups: of each utterance, from the outer to the inner one.
        rng: decides which utterances of a group occur once more than others.

    Returns:
        (n,) indices of utterances; some occur more than once.
    """
    weight_n = _balanced_weights(groups)
    _, rank_n = np.unique([repr(group) for group in groups], return_inverse=True)
    order_n = rng.permutation(len(groups))
    order_n = order_n[np.argsort(rank_n[order_n], kind="stable")]
    edge_n = np.cumsum(weight_n[order_n])
    point_n = (np.arange(len(groups)) + rng.random()) / len(groups) * edge_n[-1]
    index_n = np.searchsorted(edge_n, point_n, side="right").clip(max=len(groups) - 1)
    return order_n[index_n]


def _balanced_weights(groups: Sequence[tuple[Hashable, ...]]) -> np.ndarray:
    """Return the weight of each utterance: the weight of a group, divided equally at each level."""
    children: dict[tuple[Hashable, ...], dict[Hashable, int]] = {}
    for group in groups:
        for level, key in enumerate(group):
            counts = children.setdefault(group[:level], {})
            counts[key] = counts.get(key, 0) + 1
    weight_n = np.ones(len(groups))
    for index, group in enumerate(groups):
        for level in range(len(group)):
            weight_n[index] /= len(children[group[:level]])
        weight_n[index] /= children[group[:-1]][group[-1]]
    return weight_n


@dataclass(frozen=True)
class BatchShard:
    """One process's part of a batch.

    Attributes:
        inputs: of the model, for the utterances of this process.
        targets: for each task, (B,), or (B, L) word ids, of all processes in the order of ranks.
        counts: number of utterances of each process. A process without any gets the inputs of
            another one's utterance, and its output is dropped: all processes must take every step
            together.
    """

    inputs: dict[str, tuple[Tensor, Tensor]]
    targets: dict[str, Tensor]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """Return B."""
        return sum(self.counts)


def shard_batches(
    subset: Subset, order: Sequence[int], size: int, first: int = 0, rank: int = 0, world: int = 1
) -> Iterator[BatchShard]:
    """Yield one process's shard of every batch.

    Args:
        subset: of all processes.
        order: indices of utterances; the same in all processes.
        size: utterances of a batch, over all processes.
        first: number of batches to skip without reading them.
        rank: of this process.
        world: number of processes.
    """
    for start in range(first * size, len(order), size):
        batch = order[start : start + size]
        shards = [batch[k::world] for k in range(world)]
        all_indices = [index for shard in shards for index in shard]
        own_indices = shards[rank] or batch[:1]
        (own_batch,) = subset.iter_batches(len(own_indices), own_indices)
        targets = {
            name: trim_padding(target[all_indices]) for name, target in subset.targets.items()
        }
        yield BatchShard(own_batch.inputs, targets, tuple(map(len, shards)))
