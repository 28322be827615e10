"""Folds, one after the other or in parallel processes, with the same numbers either way."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

import torch

from serein import workers
from serein.errors import StorageError
from serein.experiment import heldout
from serein.experiment.plan import Plan
from serein.experiment.scores import enough, quoted
from serein.records import Fold
from serein.results import Epoch
from serein.system import is_fitted
from serein.training.course import Course
from serein.training.estimator import fit_estimator
from serein.training.loop import fit
from serein.training.start import start

Progress = Callable[[str, Epoch], None]
"""Is told of every epoch of every fold: the fold's name, and the epoch."""


def run_fold(plan: Plan, fold: Fold, progress: Progress) -> Course:
    """Train on one fold and score its other sides after every epoch."""
    frames = plan.frames()
    torch.manual_seed(plan.seed)
    system = plan.untrained(fold)
    start(system, plan.training.init)
    train, watched = heldout.sides(plan, fold, frames, system)
    learn = fit_estimator if is_fitted(plan.recipe) else fit
    return learn(
        system,
        plan.varied(train),
        watched,
        plan.training,
        seed=plan.seed,
        device=plan.device,
        state=plan.state(fold),
        progress=lambda epoch: progress(fold.name, epoch),
        keep=lambda course: quoted(plan, fold, course) == len(course.epochs),
        enough=lambda course: enough(plan, fold, course),
    )


def run(plan: Plan, jobs: int, progress: Progress) -> dict[str, Course]:
    """Run every fold.

    Args:
        plan: what to do.
        jobs: folds at a time; 1 stays in this process.
        progress: is told of every epoch as it ends.

    Raises:
        StorageError: a worker process was killed from outside.
    """
    folds = plan.protocol.folds
    jobs = min(jobs, len(folds))
    if jobs == 1:
        return {fold.name: run_fold(plan, fold, progress) for fold in folds}
    with _workers(jobs) as (pool, news):
        futures = {fold.name: pool.submit(_work, plan, fold) for fold in folds}
        try:
            _follow(list(futures.values()), news, progress)
            return {name: future.result() for name, future in futures.items()}
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker process ended; finished epochs are kept: run the same command again, "
                "with fewer jobs if memory was short. In a script of your own, call evaluate "
                "under `if __name__ == '__main__':`, or with jobs=1"
            ) from error


def _follow(futures: list[Future[Course]], news: "Queue[Any]", progress: Progress) -> None:
    """Pass news on until all is done; a failed fold ends the wait with its error."""
    while True:
        ended = all(future.done() for future in futures)
        failed = any(future.done() and future.exception() for future in futures)
        try:
            while True:
                progress(*news.get(timeout=0 if ended or failed else 0.2))
        except Empty:
            if ended or failed:
                break
    for future in futures:
        if future.done():
            future.result()


@contextmanager
def _workers(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, "Queue[Any]"]]:
    """Processes that stop after their epoch when this one fails, and at once when it is gone."""
    context = multiprocessing.get_context("spawn")
    news, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(jobs, context, _begin, (news, stop))
    try:
        yield pool, news
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_WORKER: dict[str, Any] = {}


def _begin(news: "Queue[Any]", stop: Any) -> None:
    workers.begin()
    _WORKER.update(news=news, stop=stop)


def _work(plan: Plan, fold: Fold) -> Course:
    return run_fold(plan, fold, _tell)


def _tell(fold: str, epoch: Epoch) -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)
    _WORKER["news"].put((fold, epoch))
