"""Worker processes, the environment of distributed training, and connections to a Ray cluster."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

from serein.errors import ConfigError

CONNECT_TIMEOUT = 10.0
"""Seconds within which the head of a Ray cluster must accept a connection."""
POLL_INTERVAL = 0.5
"""Seconds until an interrupt (Ctrl-C) takes effect while waiting for Ray."""


def init_worker() -> None:
    """Make a worker process ignore Ctrl-C, which its parent handles, and end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports to Ray's makers
    try:
        import ray
    except ImportError as error:
        raise ConfigError('engine ray needs Ray: pip install "serein[ray]"') from error
    if ray.is_initialized():
        yield ray
        return
    head = address or os.environ.get("RAY_ADDRESS")
    try:
        _check_reachable(head or "")
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {head} ({error}); start one with `ray start --head`, or "
            "leave the address (RAY_ADDRESS) out to work on this machine alone"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


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
