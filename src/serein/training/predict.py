"""Prediction of all utterances of a subset.

n = utterances of a subset, K = classes of a task, or 1 for a value, L = words.
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
    """Predict probabilities, or values, of every utterance of a subset.

    Args:
        system: is set to evaluation mode.
        subset: to predict.
        batch_size: utterances of a batch; utterances of similar length share one.
        precision: of the computation.

    Returns:
        (n, K) for each task, on the CPU, in the order of the subset's ids; of a model that
        transcribes, (n, L) word ids, padded with -1.
    """
    order = np.argsort([subset.frames.length(id_) for id_ in subset.ids], kind="stable")
    batches = []
    for batch in subset.iter_batches(batch_size, order.tolist()):
        inputs = {
            name: (x.to(system.device), mask.to(system.device))
            for name, (x, mask) in batch.inputs.items()
        }
        batches.append(predict_batch(system, inputs, precision)[0])
    inverse = torch.from_numpy(np.argsort(order, kind="stable"))
    return {
        name: _concat_padded([batch[name] for batch in batches])[inverse].cpu()
        for name in batches[0]
    }


def _concat_padded(batches: Sequence[Tensor]) -> Tensor:
    """Concatenate batches; pad transcripts with -1 to the longest one."""
    width = max(batch.shape[1] for batch in batches)
    return torch.cat([F.pad(batch, (0, width - batch.shape[1]), value=-1) for batch in batches])
