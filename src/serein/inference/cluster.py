"""The files of a folder, recognised by a Ray cluster.

The cluster is that of ``RAY_ADDRESS``, or the one that this process has joined already, or one of
this machine alone. Its machines need serein, and the folder at the same path.
"""

import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from serein.errors import ConfigError
from serein.inference.batches import Chunk, Heard, Result, Work, recognise


def cluster(work: Work, chunks: Iterator[Chunk], jobs: int | None) -> Iterator[Result]:
    """Work on a cluster; a task whose machine is lost is given to another one, once.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    with _joined() as ray:
        hear = ray.remote(_hear).options(max_retries=1)
        content = ray.put(pickle.dumps(work))
        most = jobs or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: dict[Any, Chunk] = {}
        while True:
            for chunk in islice(chunks, most - len(running)):
                running[hear.remote(content, chunk)] = chunk
            if not running:
                return
            for task in ray.wait(list(running))[0]:
                yield running.pop(task), _result(ray, task)


def _result(ray: Any, task: Any) -> Heard | None:
    """What a task heard; None where its process died."""
    try:
        return ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        return None


@contextmanager
def _joined() -> Iterator[Any]:
    """Ray, in a cluster; left again if it was not joined before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
    try:
        import ray
    except ImportError as error:
        raise ConfigError('engine ray needs Ray: pip install "serein[ray]"') from error
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        address = os.environ.get("RAY_ADDRESS")
        raise ConfigError(
            f"there is no Ray cluster at RAY_ADDRESS={address}; start one with `ray start --head`, "
            "or unset it to work on this machine alone"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _hear(content: bytes, chunk: Chunk) -> Heard:
    work: Work = pickle.loads(content)
    return recognise(work.recognizer, work.root, chunk)
