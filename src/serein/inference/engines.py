"""Who recognises the files of a folder: this process, others beside it, or a Ray cluster.

An engine takes chunks of file names and gives each back with what was heard in it, or with None
where the process that had it is gone. It asks for no more chunks than it needs to be busy.
"""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any

from serein.errors import StorageError
from serein.inference.cluster import run_ray
from serein.inference.workers import (
    Chunk,
    ChunkResult,
    FinishedChunk,
    RecognitionContext,
    recognize_files,
)
from serein.utils import distributed

Engine = Callable[[RecognitionContext, Iterator[Chunk], int | None], Iterator[FinishedChunk]]
"""Work, chunks, and how many of these are heard at a time; None is for the engine to say."""


def run_inline(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Do all in this process."""
    for chunk in chunks:
        yield chunk, recognize_files(context, chunk)


def run_processes(
    context: RecognitionContext, chunks: Iterator[Chunk], jobs: int | None
) -> Iterator[FinishedChunk]:
    """Work in processes on this machine, one if no number is given; others take over for the dead.

    Raises:
        StorageError: no process can be started.
    """
    jobs, broken = jobs or 1, True
    while broken:
        with _open_pool(context, jobs) as pool:
            broken = yield from _feed_pool(pool, chunks, jobs if jobs == 1 else 2 * jobs)


def _feed_pool(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], max_chunks: int
) -> Generator[FinishedChunk, None, bool]:
    """Keep a pool busy until no chunk is left, or it broke, which is the value returned."""
    running: dict[Future[ChunkResult], Chunk] = {}
    broken = False
    while True:
        for chunk in islice(chunks, 0 if broken else max_chunks - len(running)):
            running[_submit_chunk(pool, chunk)] = chunk
        if not running:
            return broken
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            lost = isinstance(future.exception(), BrokenProcessPool)
            broken = broken or lost
            yield running.pop(future), None if lost else future.result()


def _submit_chunk(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[ChunkResult]:
    try:
        return pool.submit(_recognize_chunk, chunk)
    except BrokenProcessPool as error:
        future: Future[ChunkResult] = Future()
        future.set_exception(error)
        return future


@contextmanager
def _open_pool(context: RecognitionContext, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that stop soon when this one fails, and at once when it is gone."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    # As bytes: torch would share the weights' memory with each process, one file a weight.
    content = pickle.dumps(context)
    pool = ProcessPoolExecutor(jobs, spawn, _init_worker, (content, stop))
    try:
        _check_pool(pool)
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _check_pool(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise StorageError(
            "no worker process could be started; take fewer jobs if memory is short. In a script "
            "of your own, call folder under `if __name__ == '__main__':`, or with jobs=1"
        ) from error


_WORKER: dict[str, Any] = {}


def _init_worker(content: bytes, stop: Any) -> None:
    distributed.init_worker()
    _WORKER.update(work=pickle.loads(content), stop=stop)


def _recognize_chunk(chunk: Chunk) -> ChunkResult:
    return recognize_files(_WORKER["work"], chunk, _exit_if_stopped)


def _exit_if_stopped() -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)


ENGINES: dict[str, Engine] = {"processes": run_processes, "ray": run_ray}
"""By the names that a user gives them."""
