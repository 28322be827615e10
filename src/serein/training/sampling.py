"""The training side of which every epoch hears something else; whoever watches hears the rest.

An epoch's draws depend on its seed and on places alone: never on batches, processes, or what was
drawn before.

n = utterances of a side, T = frames, F = bins, M = numbers that masks need of an utterance.

The batches of an epoch, of which every process sees its own share.

B = utterances of a batch, over all processes.
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
    """A training side; its own frames are the recordings as they are.

    Attributes:
        copies: frames of the same utterances in other forms.
        masks: what is hidden of frames.
        groups: for each utterance its part of what an epoch holds evenly, its part of that, and so
            on; empty where chance alone decides.
    """

    augmented_frames: tuple[Frames, ...] = ()
    spec_augment: SpecAugment | None = None
    groups: tuple[tuple[Hashable, ...], ...] = ()

    def draw_epoch(self, seed: int) -> Subset:
        """What one epoch hears: as many utterances, each in one form, with masks of its own."""
        place_n = np.arange(len(self.ids))
        if self.groups:
            place_n = systematic_sample(self.groups, np.random.default_rng([seed, 1]))
        form_n = np.random.default_rng([seed, 2]).integers(
            len(self.augmented_frames) + 1, size=len(place_n)
        )
        draws = len(place_n), self.spec_augment.draws_per_utterance if self.spec_augment else 0
        return EpochView(
            ids=tuple(self.ids[place] for place in place_n),
            frames=self.frames,
            targets={name: target_n[place_n] for name, target_n in self.targets.items()},
            words=None if self.words is None else self.words[place_n],
            frame_sources=tuple((self.frames, *self.augmented_frames)[form] for form in form_n),
            spec_augment=self.spec_augment,
            draw_nm=torch.from_numpy(np.random.default_rng([seed, 3]).random(draws)),
        )


@dataclass(frozen=True)
class EpochView(Subset):
    """What one epoch hears; an utterance may stand in several places, in several forms."""

    frame_sources: tuple[Frames, ...] = ()
    spec_augment: SpecAugment | None = None
    draw_nm: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def frames_at(self, place: int) -> np.ndarray:
        return self.frame_sources[place][self.ids[place]]

    def length(self, place: int) -> int:
        return self.frame_sources[place].length(self.ids[place])

    def iter_batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        places = list(range(len(self.ids))) if order is None else list(order)
        for number, batch in enumerate(super().iter_batches(size, places)):
            if self.spec_augment:
                chosen = places[number * size : (number + 1) * size]
                self.spec_augment(*batch.inputs["frames"], self.draw_nm[chosen])
            yield batch


def systematic_sample(
    groups: Sequence[tuple[Hashable, ...]], rng: np.random.Generator
) -> np.ndarray:
    """As many places as there are, so drawn that parts of the whole come equally often.

    Each group's count is within one of what is due to it, and so is that of all groups that begin
    alike, since places are taken at equal distances (systematic sampling; Madow & Madow 1944).

    Args:
        groups: of each place: its part, the part of this, and so on.
        rng: decides who of a group comes once more than others.

    Returns:
        (n,) places; some more than once.
    """
    share_n = _balanced_weights(groups)
    _, rank_n = np.unique([repr(group) for group in groups], return_inverse=True)
    order_n = rng.permutation(len(groups))
    order_n = order_n[np.argsort(rank_n[order_n], kind="stable")]
    edge_n = np.cumsum(share_n[order_n])
    point_n = (np.arange(len(groups)) + rng.random()) / len(groups) * edge_n[-1]
    taken_n = np.searchsorted(edge_n, point_n, side="right").clip(max=len(groups) - 1)
    return order_n[taken_n]


def _balanced_weights(groups: Sequence[tuple[Hashable, ...]]) -> np.ndarray:
    """Of each place, its share: one over its siblings at every level."""
    below: dict[tuple[Hashable, ...], dict[Hashable, int]] = {}
    for group in groups:
        for level, part in enumerate(group):
            parts = below.setdefault(group[:level], {})
            parts[part] = parts.get(part, 0) + 1
    share_n = np.ones(len(groups))
    for place, group in enumerate(groups):
        for level in range(len(group)):
            share_n[place] /= len(below[group[:level]])
        share_n[place] /= below[group[:-1]][group[-1]]
    return share_n


def augment_subset(
    subset: Subset,
    utterances: Sequence[Utterance],
    config: TrainingConfig,
    augmented_frames: Sequence[Frames] = (),
    spec_augment: SpecAugment | None = None,
) -> Subset:
    """A training side that every epoch draws from; the side itself where nothing varies.

    Args:
        subset: its frames are those of the recordings as they are.
        utterances: in the order of its ids.
        config: of the loop: what an epoch holds evenly.
        augmented_frames: frames of the same utterances in other forms.
        spec_augment: what is hidden of frames.

    Raises:
        ConfigError: classes are to be balanced, and the leading task has none.
    """
    kinds = (config.balance,) if isinstance(config.balance, str) else config.balance
    wanted = [kind for kind in kinds if kind != "none"]
    if not wanted and not augmented_frames and spec_augment is None:
        return subset
    groups = [_group_keys(subset, utterances, kind) for kind in wanted]
    together = tuple(zip(*groups, strict=True))
    parts = subset.ids, subset.frames, subset.targets, subset.words
    return AugmentedSubset(
        *parts, augmented_frames=tuple(augmented_frames), spec_augment=spec_augment, groups=together
    )


def _group_keys(
    subset: Subset, utterances: Sequence[Utterance], kind: BalanceKey
) -> list[Hashable]:
    """For each utterance, its part; those of whom nobody knows are one part more."""
    if kind != "class":
        return [one.label(kind) or "" for one in utterances]
    for task, target_n in subset.targets.items():
        if target_n.is_floating_point() or target_n.dim() > 1:
            raise ConfigError(
                f"training.balance has 'class', and task {task}, the leading one, answers with "
                "none; leave it out"
            )
        return list(target_n.tolist())
    raise ConfigError("training.balance has 'class', and there is no task; leave it out")


@dataclass(frozen=True)
class BatchShard:
    """What one process sees of a step.

    Attributes:
        inputs: what its model receives, of its own utterances.
        targets: (B,), or (B, L) of words, for each task, of all utterances: those of the first
            process, of the second one, and so on.
        counts: how many utterances each process has. One without any has those inputs of
            another's, which count nothing: all processes must take every step together.
    """

    inputs: dict[str, tuple[Tensor, Tensor]]
    targets: dict[str, Tensor]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """B."""
        return sum(self.counts)


def shard_batches(
    subset: Subset, order: Sequence[int], size: int, first: int = 0, rank: int = 0, world: int = 1
) -> Iterator[BatchShard]:
    """Cut a side into batches, and take of each what one process is to see.

    Args:
        subset: all of it.
        order: the same in all processes.
        size: utterances of a batch, over all processes.
        first: how many batches to pass over, without reading them.
        rank: which process this is.
        world: how many there are.
    """
    for start in range(first * size, len(order), size):
        chosen = order[start : start + size]
        parts = [chosen[one::world] for one in range(world)]
        everyone = [place for part in parts for place in part]
        mine = parts[rank] or chosen[:1]
        (batch,) = subset.iter_batches(len(mine), mine)
        targets = {name: trim_padding(target[everyone]) for name, target in subset.targets.items()}
        yield BatchShard(batch.inputs, targets, tuple(map(len, parts)))
