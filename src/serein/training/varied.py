"""The training side of which every epoch hears something else; whoever watches hears the rest.

An epoch's draws depend on its seed and on places alone: never on batches, processes, or what was
drawn before.

n = utterances of a side, T = frames, F = bins, M = numbers that masks need of an utterance.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from serein.augment.masks import Masks
from serein.dataset import Batch, Frames, Side
from serein.errors import ConfigError
from serein.records import Utterance
from serein.training.settings import Kind, Settings


@dataclass(frozen=True)
class Varied(Side):
    """A training side; its own frames are the recordings as they are.

    Attributes:
        copies: frames of the same utterances in other forms.
        masks: what is hidden of frames.
        groups: for each utterance its part of what an epoch holds evenly, its part of that, and so
            on; empty where chance alone decides.
    """

    copies: tuple[Frames, ...] = ()
    masks: Masks | None = None
    groups: tuple[tuple[Hashable, ...], ...] = ()

    def drawn(self, seed: int) -> Side:
        """What one epoch hears: as many utterances, each in one form, with masks of its own."""
        place_n = np.arange(len(self.ids))
        if self.groups:
            place_n = evenly(self.groups, np.random.default_rng([seed, 1]))
        form_n = np.random.default_rng([seed, 2]).integers(len(self.copies) + 1, size=len(place_n))
        draws = len(place_n), self.masks.draws if self.masks else 0
        return _Drawn(
            ids=tuple(self.ids[place] for place in place_n),
            frames=self.frames,
            targets={name: target_n[place_n] for name, target_n in self.targets.items()},
            words=None if self.words is None else self.words[place_n],
            forms=tuple((self.frames, *self.copies)[form] for form in form_n),
            masks=self.masks,
            draw_nm=torch.from_numpy(np.random.default_rng([seed, 3]).random(draws)),
        )


@dataclass(frozen=True)
class _Drawn(Side):
    """What one epoch hears; an utterance may stand in several places, in several forms."""

    forms: tuple[Frames, ...] = ()
    masks: Masks | None = None
    draw_nm: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def at(self, place: int) -> np.ndarray:
        return self.forms[place][self.ids[place]]

    def length(self, place: int) -> int:
        return self.forms[place].length(self.ids[place])

    def batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        places = list(range(len(self.ids))) if order is None else list(order)
        for number, batch in enumerate(super().batches(size, places)):
            if self.masks:
                chosen = places[number * size : (number + 1) * size]
                self.masks(*batch.inputs["frames"], self.draw_nm[chosen])
            yield batch


def evenly(groups: Sequence[tuple[Hashable, ...]], rng: np.random.Generator) -> np.ndarray:
    """As many places as there are, so drawn that parts of the whole come equally often.

    Each group's count is within one of what is due to it, and so is that of all groups that begin
    alike, since places are taken at equal distances (systematic sampling; Madow & Madow 1944).

    Args:
        groups: of each place: its part, the part of this, and so on.
        rng: decides who of a group comes once more than others.

    Returns:
        (n,) places; some more than once.
    """
    share_n = _shares(groups)
    _, rank_n = np.unique([repr(group) for group in groups], return_inverse=True)
    order_n = rng.permutation(len(groups))
    order_n = order_n[np.argsort(rank_n[order_n], kind="stable")]
    edge_n = np.cumsum(share_n[order_n])
    point_n = (np.arange(len(groups)) + rng.random()) / len(groups) * edge_n[-1]
    taken_n = np.searchsorted(edge_n, point_n, side="right").clip(max=len(groups) - 1)
    return order_n[taken_n]


def _shares(groups: Sequence[tuple[Hashable, ...]]) -> np.ndarray:
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


def varied(
    side: Side,
    utterances: Sequence[Utterance],
    settings: Settings,
    copies: Sequence[Frames] = (),
    masks: Masks | None = None,
) -> Side:
    """A training side that every epoch draws from; the side itself where nothing varies.

    Args:
        side: its frames are those of the recordings as they are.
        utterances: in the order of its ids.
        settings: of the loop: what an epoch holds evenly.
        copies: frames of the same utterances in other forms.
        masks: what is hidden of frames.

    Raises:
        ConfigError: classes are to be balanced, and the leading task has none.
    """
    kinds = (settings.balance,) if isinstance(settings.balance, str) else settings.balance
    wanted = [kind for kind in kinds if kind != "none"]
    if not wanted and not copies and masks is None:
        return side
    groups = [_parts(side, utterances, kind) for kind in wanted]
    together = tuple(zip(*groups, strict=True))
    parts = side.ids, side.frames, side.targets, side.words
    return Varied(*parts, copies=tuple(copies), masks=masks, groups=together)


def _parts(side: Side, utterances: Sequence[Utterance], kind: Kind) -> list[Hashable]:
    """For each utterance, its part; those of whom nobody knows are one part more."""
    if kind != "class":
        return [one.label(kind) or "" for one in utterances]
    for task, target_n in side.targets.items():
        if target_n.is_floating_point() or target_n.dim() > 1:
            raise ConfigError(
                f"training.balance has 'class', and task {task}, the leading one, answers with "
                "none; leave it out"
            )
        return list(target_n.tolist())
    raise ConfigError("training.balance has 'class', and there is no task; leave it out")
