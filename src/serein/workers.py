"""What a process does that works for another one, or beside others in one training."""

import multiprocessing
import os
import signal
from threading import Thread


def begin() -> None:
    """Leave Ctrl-C to the process that this one works for, and end when that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def world() -> int:
    """How many processes train together, as torchrun or srun started them; 1 for one alone."""
    return _told("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", 1)


def rank() -> int:
    """Which of them this is; 0 is the one that writes."""
    return _told("RANK", "SLURM_PROCID", 0) if world() > 1 else 0


def local() -> int:
    """How many of them are on this machine."""
    machines = max(1, int(os.environ.get("SLURM_NNODES", "1")))
    return _told("LOCAL_WORLD_SIZE", "", world() // machines) if world() > 1 else 1


def _told(torchrun: str, slurm: str, otherwise: int) -> int:
    """A number from the environment; a job of SLURM may hold what torchrun has started."""
    elastic = "TORCHELASTIC_RUN_ID" in os.environ
    return int(os.environ.get(torchrun if elastic else slurm, otherwise))
