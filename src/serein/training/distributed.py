"""One training in several processes, on one machine or many: lightning-fabric's DDP.

Every process takes its share of each batch, all of them answer for the whole: answers are
gathered, the loss is that of the whole batch, and gradients are summed. Whatever a loss divides
by (labelled utterances, weights of classes, the variance within a batch), steps are those of
one process with the same batch, and no share needs to be as large as another.

B = utterances of a batch, over all processes; K = classes of a task, or 1 for a number.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor

from serein.errors import StorageError
from serein.system import Output
from serein.utils import distributed
from serein.utils.device import Precision, resolve_device

CONNECTION_ERROR_WORDS = ("gloo", "connection", "timed out")
"""Words of the errors that gloo raises where another process does not answer."""


def launch_fabric(device: str, precision: Precision) -> Fabric:
    """Meet the other processes of this training, where there are any.

    Args:
        device: where each of them computes: "cpu", "cuda" (its own one), or "auto".
        precision: that networks compute in.
    """
    mixed = _Autocast("bf16-mixed", resolve_device(device)) if precision == "bf16" else None
    world, local = distributed.get_world_size(), distributed.get_local_world_size()
    plugins: list[Any] = [_detect_environment(), *([mixed] if mixed else [])]
    fabric = Fabric(accelerator=device, devices=local, num_nodes=world // local, plugins=plugins)
    fabric.launch()
    return fabric


class _Autocast(MixedPrecision):
    """Only what a network computes is in bf16: frames are standardised as exactly as ever.

    Fabric would round them first, and a third of their digits is less than their means hold.
    """

    def convert_input(self, data: Any) -> Any:
        return data


def _detect_environment() -> ClusterEnvironment:
    """Who started the processes; within a job of SLURM there may be one that stands alone."""
    if distributed.get_world_size() == 1:
        return LightningEnvironment()
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else SLURMEnvironment()


def gather_output(output: Output, counts: Sequence[int], rank: int) -> Output:
    """The answers to all utterances of a step, of which this process can change its own alone.

    Args:
        output: (B', ...) logits of each task, of this process's own utterances.
        counts: how many utterances each process has.
        rank: which process this is.

    Returns:
        (B, ...) logits of each task: those of the first process, of the second one, and so on.
    """
    if len(counts) == 1:
        return output
    logits = {name: _gather_rows(x, counts, rank) for name, x in output.logits.items()}
    found = output.transcript
    if found is not None:
        words, steps, mask_bt = found.logits_blv, found.ctc_btv, found.mask_bt
        found = found._replace(
            logits_blv=None if words is None else _gather_rows(words, counts, rank),
            ctc_btv=None if steps is None else _gather_rows(steps, counts, rank),
            mask_bt=None if mask_bt is None else _gather_rows(mask_bt.int(), counts, rank).bool(),
        )
    return output._replace(logits=logits, transcript=found)


def _gather_rows(x: Tensor, counts: Sequence[int], rank: int) -> Tensor:
    """Rows of all processes; what is longer in one of them is filled with zeros in the others."""
    if x.ndim > 1:
        size = torch.tensor(x.shape[1:], device=x.device)
        dist.all_reduce(size, dist.ReduceOp.MAX)
        more = zip(size.tolist(), x.shape[1:], strict=True)
        x = F.pad(x, [end for new, old in reversed(list(more)) for end in (0, new - old)])
    x = x[: counts[rank]]
    sent = F.pad(x.detach(), [0, 0] * (x.ndim - 1) + [0, max(counts) - len(x)]).contiguous()
    parts = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(parts, sent)
    others = [part[:count] for part, count in zip(parts, counts, strict=True)]
    return torch.cat([*others[:rank], x, *others[rank + 1 :]])


@contextmanager
def handle_lost_processes() -> Iterator[None]:
    """Within it, a process that no longer answers is an error that says so; then they part.

    Raises:
        StorageError: another process was killed, or its machine is gone.
    """
    try:
        yield
        if dist.is_initialized():  # one that leaves while others talk may end in an abort
            dist.barrier()
            dist.destroy_process_group()
    except RuntimeError as error:
        words = str(error)
        gone = isinstance(error, dist.DistError) or any(
            one in words.lower() for one in CONNECTION_ERROR_WORDS
        )
        if distributed.get_world_size() == 1 or not gone:
            raise
        raise StorageError(
            f"process {distributed.get_rank()} of {distributed.get_world_size()} of this training lost another one "
            f"({words.splitlines()[0]}); what was written is kept: start them all again with the "
            "same command, and they go on from there"
        ) from error
