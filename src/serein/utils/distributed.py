"""What a process does that works for another one, or beside others in one training.

A Ray cluster: how it is joined, what has room in it, and how one waits for it.

It is the cluster of an address, or of ``RAY_ADDRESS``, or the one that this process has joined
already, or that runs on this machine, or else a new one of this machine alone.
"""

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


CONNECT_TIMEOUT = 10.0
"""Seconds that the head of a cluster has to answer."""
POLL_INTERVAL = 0.5
"""Seconds until Ctrl-C is heard."""


@contextmanager
def join_ray_cluster(address: str | None = None) -> Iterator[Any]:
    """Ray, in a cluster; left again if it was not joined before.

    Args:
        address: of its head, ``"head:6379"``.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
    try:
        import ray
    except ImportError as error:
        raise ConfigError('engine ray needs Ray: pip install "serein[ray]"') from error
    if ray.is_initialized():
        yield ray
        return
    meant = address or os.environ.get("RAY_ADDRESS")
    try:
        _check_reachable(meant or "")
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {meant} ({error}); start one with `ray start --head`, or "
            "leave the address (RAY_ADDRESS) out to work on this machine alone"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """See whether anybody answers there: Ray itself tries for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()


def count_task_slots(ray: Any, cores: int = 1, devices: int = 0) -> int:
    """How many tasks of so many cores and GPUs a cluster can do at a time."""
    needs = {"CPU": cores, "GPU": devices}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(
        min(int(node.get(kind, 0)) // need for kind, need in needs.items() if need)
        for node in nodes
    )


def wait_for_tasks(ray: Any, tasks: Sequence[Any]) -> list[Any]:
    """The tasks that have something to give, as soon as one has."""
    while True:
        with _defer_interrupt():
            found = ray.wait(list(tasks), timeout=POLL_INTERVAL)[0]
        if found:
            return found


@contextmanager
def _defer_interrupt() -> Iterator[None]:
    """Keep Ctrl-C until Ray has done waiting: it swallows what a handler raises meanwhile."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    kept: list[Any] = []
    signal.signal(signal.SIGINT, lambda *told: kept.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if kept:
            before(*kept[0])
