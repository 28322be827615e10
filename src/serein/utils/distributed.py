"""What a process does that works for another one, or beside others in one training."""

import multiprocessing
import os
import signal
from threading import Thread


def init_worker() -> None:
    """Leave Ctrl-C to the process that this one works for, and end when that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def get_world_size() -> int:
    """How many processes train together, as torchrun or srun started them; 1 for one alone."""
    return _read_env_int("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", 1)


def get_rank() -> int:
    """Which of them this is; 0 is the one that writes."""
    return _read_env_int("RANK", "SLURM_PROCID", 0) if get_world_size() > 1 else 0


def get_local_world_size() -> int:
    """How many of them are on this machine."""
    machines = max(1, int(os.environ.get("SLURM_NNODES", "1")))
    return (
        _read_env_int("LOCAL_WORLD_SIZE", "", get_world_size() // machines)
        if get_world_size() > 1
        else 1
    )


def _read_env_int(torchrun: str, slurm: str, otherwise: int) -> int:
    """A number from the environment; a job of SLURM may hold what torchrun has started."""
    elastic = "TORCHELASTIC_RUN_ID" in os.environ
    return int(os.environ.get(torchrun if elastic else slurm, otherwise))
