"""A system and utterances to probabilities, or values: what experiment and inference share.

n = utterances of a side, K = classes of a task, or 1 for a number.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serein.system import System, predict_batch
from serein.training.dataset import Subset
from serein.utils.device import Precision


def predict_subset(
    system: System, subset: Subset, batch_size: int, precision: Precision = "fp32"
) -> dict[str, Tensor]:
    """The probabilities, or values, of every utterance of a side.

    Args:
        system: in whatever mode; it is left in evaluation mode.
        subset: its frames and targets.
        batch_size: utterances at a time; those of like length go together.
        precision: that the system computes in.

    Returns:
        (n, K) for each task, on the CPU, in the order of the side's ids; (n, L) numbers of the
        words of a model that finds some, -1 behind each end.
    """
    order = np.argsort([subset.frames.length(id_) for id_ in subset.ids], kind="stable")
    parts = []
    for batch in subset.iter_batches(batch_size, order.tolist()):
        inputs = {
            name: (x.to(system.device), mask.to(system.device))
            for name, (x, mask) in batch.inputs.items()
        }
        parts.append(predict_batch(system, inputs, precision)[0])
    place = torch.from_numpy(np.argsort(order, kind="stable"))
    return {name: _concat_padded([part[name] for part in parts])[place].cpu() for name in parts[0]}


def _concat_padded(parts: Sequence[Tensor]) -> Tensor:
    """Batches end to end; transcripts as wide as the longest one."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=-1) for part in parts])
