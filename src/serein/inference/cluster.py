"""The files of a folder, recognised by a Ray cluster.

Its machines need serein, and the folder at the same path.
"""

import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

from serein.cluster import count_task_slots, join_ray_cluster, wait_for_tasks
from serein.inference.workers import (
    Chunk,
    ChunkResult,
    FinishedChunk,
    RecognitionContext,
    recognize_files,
)


def run_ray(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Work on a cluster; a task whose machine is lost is given to another one, once.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    with join_ray_cluster() as ray:
        hear = ray.remote(_recognize_remotely).options(max_retries=1)
        content = ray.put(pickle.dumps(context))
        most = jobs or 2 * max(1, count_task_slots(ray))
        running: dict[Any, Chunk] = {}
        while True:
            for chunk in islice(chunks, most - len(running)):
                running[hear.remote(content, chunk)] = chunk
            if not running:
                return
            for task in wait_for_tasks(ray, list(running)):
                yield running.pop(task), _fetch_result(ray, task)


def _fetch_result(ray: Any, task: Any) -> ChunkResult | None:
    """What a task heard; None where its process died."""
    try:
        return ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        return None


def _recognize_remotely(content: bytes, chunk: Chunk) -> ChunkResult:
    work: RecognitionContext = pickle.loads(content)
    return recognize_files(work, chunk)
