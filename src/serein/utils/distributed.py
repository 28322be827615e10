"""Processes: settings of a whole process, workers, distributed training, and a Ray cluster.

Some settings hold for a whole process: how much memory malloc keeps, and how many kernels oneDNN.
They are made by ``tune_process`` for commands and for worker processes, and for no others: a call
from Python leaves the user's process as it was.
"""

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Thread
from typing import Any

from serein.errors import ConfigError

CONNECT_TIMEOUT = 10.0
"""Seconds within which the head of a Ray cluster must accept a connection."""
POLL_INTERVAL = 0.5
"""Seconds until an interrupt (Ctrl-C) takes effect while waiting for Ray."""
MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables with which a user sets malloc's thresholds."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from glibc's ``malloc.h``."""
MAX_KEPT_BYTES = 2**30
"""Value of both thresholds: size of one block, and unused memory at the end of the heap."""
OLD_GLIBC_MAX_BYTES = 2**25
"""The largest mmap threshold that glibc before 2.35 accepts."""
ONEDNN_CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""Environment variable: how many compiled kernels oneDNN keeps, one for each input shape."""
ONEDNN_CACHE_CAPACITY = "64"


def tune_process(*, trains: bool = False) -> None:
    """Make the settings of a process that serein has for itself: of a command, or of a worker.

    Args:
        trains: whether networks are trained in it.
    """
    limit_onednn_cache()
    if trains:
        keep_freed_memory()


def limit_onednn_cache() -> None:
    """Make oneDNN keep at most 64 kernels; its default of 1,024 takes up to 100 MiB.

    Windows of long recordings have many shapes that do not occur again. The setting must be made
    before the first computation. A value that the user has set in the environment is kept.
    """
    os.environ.setdefault(ONEDNN_CACHE_VARIABLE, ONEDNN_CACHE_CAPACITY)


@cache
def keep_freed_memory() -> bool:
    """Make malloc keep freed memory in this process, up to 1 GiB, from now on.

    By default, glibc returns large blocks to the system as soon as they are free, and the next
    training step has to fault them in again, page by page. Keeping them makes training faster and
    its resident memory larger.

    Returns:
        Whether the setting was made: not if the user has set one of ``MALLOC_VARIABLES``, nor if
        libc is not glibc.
    """
    if any(name in os.environ for name in MALLOC_VARIABLES) or not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # The trim threshold alone would be worse than nothing: setting any threshold turns off the
    # automatic growth of both.
    is_mmap_set = mallopt(M_MMAP_THRESHOLD, MAX_KEPT_BYTES) or mallopt(
        M_MMAP_THRESHOLD, OLD_GLIBC_MAX_BYTES
    )
    return bool(is_mmap_set and mallopt(M_TRIM_THRESHOLD, MAX_KEPT_BYTES))


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # no such function, or no such name
        return False


def init_worker(*, trains: bool = False) -> None:
    """Make a worker process ignore Ctrl-C, which its parent handles, and end with its parent.

    Args:
        trains: whether networks are trained in it.
    """
    tune_process(trains=trains)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    import multiprocessing  # here, as every command imports this module

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def get_world_size() -> int:
    """Return the number of processes of a training that torchrun or srun started; or else 1."""
    return _read_env_int("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", 1)


def get_rank() -> int:
    """Return the index of this process in the training; rank 0 writes the files."""
    return _read_env_int("RANK", "SLURM_PROCID", 0) if get_world_size() > 1 else 0


def get_local_world_size() -> int:
    """Return the number of processes of the training on this machine."""
    world = get_world_size()
    if world == 1:
        return 1
    machines = max(1, int(os.environ.get("SLURM_NNODES", "1")))
    return _read_env_int("LOCAL_WORLD_SIZE", "", world // machines)


def _read_env_int(torchrun_name: str, slurm_name: str, default: int) -> int:
    """Read torchrun's variable if torchrun started this process (even within a job), or SLURM's."""
    is_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    return int(os.environ.get(torchrun_name if is_torchrun else slurm_name, default))


@contextmanager
def join_ray_cluster(address: str | None = None) -> Iterator[Any]:
    """Connect to a Ray cluster and yield the ``ray`` module; disconnect at the end.

    The cluster is the first of: the one that this process is connected to (which stays connected),
    the one at ``address`` or ``RAY_ADDRESS``, one that runs on this machine, a new one on this
    machine.

    Args:
        address: of the cluster's head, ``"head:6379"``.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError('engine ray needs Ray: pip install "serein[ray]"') from error
    if ray.is_initialized():
        yield ray
        return
    with _set_default_variable("RAY_USAGE_STATS_ENABLED", "0"):  # no usage reports to Ray's makers
        _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _set_default_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment that is not set, within the context."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    import logging  # here, as every command imports this module

    head = address or os.environ.get("RAY_ADDRESS")
    try:
        _check_reachable(head or "")
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {head} ({error}); start one with `ray start --head`, or "
            "leave the address (RAY_ADDRESS) out to work on this machine alone"
        ) from error


def _check_reachable(address: str) -> None:
    """Check that an address accepts connections; Ray itself would try for minutes.

    Raises:
        OSError: it does not.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()


def count_task_slots(ray: Any, cores: int = 1, devices: int = 0) -> int:
    """Return how many tasks a cluster can run at a time.

    Args:
        ray: the connected module.
        cores: CPU cores of each task.
        devices: GPUs of each task.
    """
    needs = {"CPU": cores, "GPU": devices}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(
        min(int(node.get(kind, 0)) // need for kind, need in needs.items() if need)
        for node in nodes
    )


def wait_for_tasks(ray: Any, tasks: Sequence[Any]) -> list[Any]:
    """Wait until at least one task has a result; return all tasks that have one."""
    while True:
        with _defer_interrupt():
            ready = ray.wait(list(tasks), timeout=POLL_INTERVAL)[0]
        if ready:
            return ready


@contextmanager
def _defer_interrupt() -> Iterator[None]:
    """Handle Ctrl-C at the end of the block: Ray swallows exceptions of a signal handler."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    interrupts: list[Any] = []
    signal.signal(signal.SIGINT, lambda *arguments: interrupts.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts:
            handler(*interrupts[0])
