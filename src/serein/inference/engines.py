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

from serein import workers
from serein.errors import StorageError
from serein.inference.batches import Chunk, Heard, Result, Work, recognise
from serein.inference.cluster import cluster

Engine = Callable[[Work, Iterator[Chunk], int | None], Iterator[Result]]
"""Work, chunks, and how many of these are heard at a time; None is for the engine to say."""


def here(work: Work, chunks: Iterator[Chunk], jobs: int | None) -> Iterator[Result]:
    """Do all in this process."""
    for chunk in chunks:
        yield chunk, recognise(work, chunk)


def processes(work: Work, chunks: Iterator[Chunk], jobs: int | None) -> Iterator[Result]:
    """Work in processes on this machine, one if no number is given; others take over for the dead.

    Raises:
        StorageError: no process can be started.
    """
    jobs, broken = jobs or 1, True
    while broken:
        with _pool(work, jobs) as pool:
            broken = yield from _fed(pool, chunks, jobs if jobs == 1 else 2 * jobs)


def _fed(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], most: int
) -> Generator[Result, None, bool]:
    """Keep a pool busy until no chunk is left, or it broke, which is the value returned."""
    running: dict[Future[Heard], Chunk] = {}
    broken = False
    while True:
        for chunk in islice(chunks, 0 if broken else most - len(running)):
            running[_submitted(pool, chunk)] = chunk
        if not running:
            return broken
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            lost = isinstance(future.exception(), BrokenProcessPool)
            broken = broken or lost
            yield running.pop(future), None if lost else future.result()


def _submitted(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[Heard]:
    try:
        return pool.submit(_hear, chunk)
    except BrokenProcessPool as error:
        future: Future[Heard] = Future()
        future.set_exception(error)
        return future


@contextmanager
def _pool(work: Work, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that stop soon when this one fails, and at once when it is gone."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    # As bytes: torch would share the weights' memory with each process, one file a weight.
    content = pickle.dumps(work)
    pool = ProcessPoolExecutor(jobs, context, _begin, (content, stop))
    try:
        _started(pool)
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _started(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise StorageError(
            "no worker process could be started; take fewer jobs if memory is short. In a script "
            "of your own, call folder under `if __name__ == '__main__':`, or with jobs=1"
        ) from error


_WORKER: dict[str, Any] = {}


def _begin(content: bytes, stop: Any) -> None:
    workers.begin()
    _WORKER.update(work=pickle.loads(content), stop=stop)


def _hear(chunk: Chunk) -> Heard:
    return recognise(_WORKER["work"], chunk, _obey)


def _obey() -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)


ENGINES: dict[str, Engine] = {"processes": processes, "ray": cluster}
"""By the names that a user gives them."""
