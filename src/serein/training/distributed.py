"""Training in several processes, on one machine or several: lightning-fabric's DDP.

Every process computes the outputs of its shard of a batch. Outputs are then gathered, each process
computes the loss of the whole batch, and gradients are summed. Steps therefore equal those of one
process with the same batch for any normalisation of the loss (number of labelled utterances, class
weights, variance within the batch), and shards may have different sizes.

B = utterances of a batch, over all processes; B' = utterances of one shard.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from serein.errors import StorageError
from serein.system import Output
from serein.utils import distributed
from serein.utils.device import Precision, resolve_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

CONNECTION_ERROR_WORDS = ("gloo", "connection", "timed out")
"""Words of gloo's error messages about a lost process."""


def launch_fabric(device: str, precision: Precision) -> "Fabric":
    """Launch Fabric and connect to the other processes of this training, if there are any.

    Args:
        device: of each process: "cpu", "cuda" (one GPU each), or "auto".
        precision: of the network's computation.
    """
    # Imported here, as lightning-fabric imports torch's compiler: a second that a plan saves.
    from lightning_fabric import Fabric

    mixed = _build_autocast(resolve_device(device)) if precision == "bf16" else None
    world, local = distributed.get_world_size(), distributed.get_local_world_size()
    plugins: list[Any] = [_detect_environment(), *([mixed] if mixed else [])]
    fabric = Fabric(accelerator=device, devices=local, num_nodes=world // local, plugins=plugins)
    fabric.launch()
    return fabric


def _build_autocast(device: str) -> "MixedPrecision":
    """Build autocast that leaves the inputs in fp32, so that frames are standardised exactly.

    Fabric would cast frames to bf16 first, which has too few digits for their means.
    """
    from lightning_fabric.plugins import MixedPrecision

    class Autocast(MixedPrecision):
        def convert_input(self, data: Any) -> Any:
            return data

    return Autocast("bf16-mixed", device)


def _detect_environment() -> "ClusterEnvironment":
    """Return what started the processes; a single process may also run within a SLURM job."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if distributed.get_world_size() == 1:
        return LightningEnvironment()
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else SLURMEnvironment()


def gather_output(output: Output, counts: Sequence[int], rank: int) -> Output:
    """Gather the outputs of all shards; gradients flow only into this process's own part.

    Args:
        output: (B', ...) logits of each task, and the transcript, of this process's shard.
        counts: number of utterances of each shard.
        rank: of this process.

    Returns:
        (B, ...) logits of each task, and the transcript, of all shards in the order of ranks.
    """
    if len(counts) == 1:
        return output
    logits = {name: _gather_rows(x, counts, rank) for name, x in output.logits.items()}
    transcript = output.transcript
    if transcript is not None:
        logits_blv, ctc_btv, mask_bt = (
            transcript.logits_blv,
            transcript.ctc_btv,
            transcript.mask_bt,
        )
        transcript = transcript._replace(
            logits_blv=None if logits_blv is None else _gather_rows(logits_blv, counts, rank),
            ctc_btv=None if ctc_btv is None else _gather_rows(ctc_btv, counts, rank),
            mask_bt=None if mask_bt is None else _gather_rows(mask_bt.int(), counts, rank).bool(),
        )
    return output._replace(logits=logits, transcript=transcript)


def _gather_rows(x: Tensor, counts: Sequence[int], rank: int) -> Tensor:
    """Gather the rows of all processes; zero-pad other dimensions to the largest size."""
    if x.ndim > 1:
        size = torch.tensor(x.shape[1:], device=x.device)
        dist.all_reduce(size, dist.ReduceOp.MAX)
        sizes = zip(size.tolist(), x.shape[1:], strict=True)
        x = F.pad(x, [end for new, old in reversed(list(sizes)) for end in (0, new - old)])
    x = x[: counts[rank]]
    sent = F.pad(x.detach(), [0, 0] * (x.ndim - 1) + [0, max(counts) - len(x)]).contiguous()
    received = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(received, sent)
    parts = [part[:count] for part, count in zip(received, counts, strict=True)]
    return torch.cat([*parts[:rank], x, *parts[rank + 1 :]])


@contextmanager
def handle_lost_processes() -> Iterator[None]:
    """Raise StorageError for a lost process, and destroy the process group at the end.

    Raises:
        StorageError: another process of this training was killed, or its machine is gone.
    """
    try:
        yield
        if dist.is_initialized():  # leaving while other processes communicate may abort them
            dist.barrier()
            dist.destroy_process_group()
    except RuntimeError as error:
        message = str(error)
        is_lost = isinstance(error, dist.DistError) or any(
            word in message.lower() for word in CONNECTION_ERROR_WORDS
        )
        rank, world = distributed.get_rank(), distributed.get_world_size()
        if world == 1 or not is_lost:
            raise
        raise StorageError(
            f"process {rank} of {world} of this training lost another one "
            f"({message.splitlines()[0]}); checkpoints are kept: start all processes again with "
            "the same command, and the training continues"
        ) from error
