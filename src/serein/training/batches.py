"""The batches of an epoch, of which every process sees its own share.

B = utterances of a batch, over all processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from serein.training.dataset import Subset, trim_padding


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
