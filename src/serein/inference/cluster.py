"""The files of a folder, recognised by a Ray cluster.

Its machines need serein, and the folder at the same path.
"""

import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

from serein.cluster import joined, ready, room
from serein.inference.batches import Chunk, Heard, Result, Work, recognise


def cluster(work: Work, chunks: Iterator[Chunk], jobs: int | None) -> Iterator[Result]:
    """Work on a cluster; a task whose machine is lost is given to another one, once.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    with joined() as ray:
        hear = ray.remote(_hear).options(max_retries=1)
        content = ray.put(pickle.dumps(work))
        most = jobs or 2 * max(1, room(ray))
        running: dict[Any, Chunk] = {}
        while True:
            for chunk in islice(chunks, most - len(running)):
                running[hear.remote(content, chunk)] = chunk
            if not running:
                return
            for task in ready(ray, list(running)):
                yield running.pop(task), _result(ray, task)


def _result(ray: Any, task: Any) -> Heard | None:
    """What a task heard; None where its process died."""
    try:
        return ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        return None


def _hear(content: bytes, chunk: Chunk) -> Heard:
    work: Work = pickle.loads(content)
    return recognise(work, chunk)
