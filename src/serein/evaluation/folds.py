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

from serein.errors import StorageError
from serein.evaluation import held_out
from serein.evaluation.plan import Plan
from serein.evaluation.scores import headline_epoch, should_stop
from serein.records import Fold
from serein.results.evaluation import Epoch
from serein.system import is_estimator
from serein.training.checkpoint import TrainingRun
from serein.training.estimator import fit_estimator
from serein.training.finetune import load_initial_weights
from serein.training.loop import fit
from serein.utils import distributed

EpochCallback = Callable[[str, Epoch], None]
"""Is told of every epoch of every fold: the fold's name, and the epoch."""


def run_fold(plan: Plan, fold: Fold, progress: EpochCallback) -> TrainingRun:
    """Train on one fold and score its other sides after every epoch."""
    frames = plan.load_frames()
    torch.manual_seed(plan.seed)
    system = plan.build_system(fold)
    load_initial_weights(system, plan.training.init)
    train, watched = held_out.build_subsets(plan, fold, frames, system)
    learn = fit_estimator if is_estimator(plan.recipe) else fit
    return learn(
        system,
        plan.augment_subset(train),
        watched,
        plan.training,
        seed=plan.seed,
        device=plan.device,
        checkpoint=plan.state_path(fold),
        on_epoch_end=lambda epoch: progress(fold.name, epoch),
        keep_weights=lambda course: headline_epoch(plan, fold, course) == len(course.epochs),
        should_stop=lambda course: should_stop(plan, fold, course),
    )


def run_folds(plan: Plan, jobs: int, progress: EpochCallback) -> dict[str, TrainingRun]:
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
    with _worker_pool(jobs) as (pool, news):
        futures = {fold.name: pool.submit(_run_fold_in_worker, plan, fold) for fold in folds}
        try:
            _relay_epochs(list(futures.values()), news, progress)
            return {name: future.result() for name, future in futures.items()}
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker process ended; finished epochs are kept: run the same command again, "
                "with fewer jobs if memory was short. In a script of your own, call evaluate "
                "under `if __name__ == '__main__':`, or with jobs=1"
            ) from error


def _relay_epochs(
    futures: list[Future[TrainingRun]], epochs: "Queue[Any]", progress: EpochCallback
) -> None:
    """Pass news on until all is done; a failed fold ends the wait with its error."""
    while True:
        ended = all(future.done() for future in futures)
        failed = any(future.done() and future.exception() for future in futures)
        try:
            while True:
                progress(*epochs.get(timeout=0 if ended or failed else 0.2))
        except Empty:
            if ended or failed:
                break
    for future in futures:
        if future.done():
            future.result()


@contextmanager
def _worker_pool(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, "Queue[Any]"]]:
    """Processes that stop after their epoch when this one fails, and at once when it is gone."""
    context = multiprocessing.get_context("spawn")
    news, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(jobs, context, _init_worker, (news, stop))
    try:
        yield pool, news
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_WORKER: dict[str, Any] = {}


def _init_worker(epochs: "Queue[Any]", stop: Any) -> None:
    distributed.init_worker()
    _WORKER.update(news=epochs, stop=stop)


def _run_fold_in_worker(plan: Plan, fold: Fold) -> TrainingRun:
    return run_fold(plan, fold, _report_epoch)


def _report_epoch(fold: str, epoch: Epoch) -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)
    _WORKER["news"].put((fold, epoch))
