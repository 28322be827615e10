"""Train folds one after the other or in parallel processes; the numbers are the same."""

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
from serein.utils.device import restore_torch_state

EpochCallback = Callable[[str, Epoch], None]
"""Called with the fold's name and the epoch after every epoch of every fold."""


@restore_torch_state()
def run_fold(plan: Plan, fold: Fold, on_epoch: EpochCallback) -> TrainingRun:
    """Train on one fold and score its evaluation subsets after every epoch."""
    frames = plan.load_frames()
    torch.manual_seed(plan.seed)
    system = plan.build_system(fold)
    load_initial_weights(system, plan.training.init)
    train, eval_subsets = held_out.build_subsets(plan, fold, frames, system)
    fit_system = fit_estimator if is_estimator(plan.recipe) else fit
    return fit_system(
        system,
        plan.augment_subset(train),
        eval_subsets,
        plan.training,
        seed=plan.seed,
        device=plan.device,
        checkpoint=plan.checkpoint_path(fold),
        on_epoch_end=lambda epoch: on_epoch(fold.name, epoch),
        keep_weights=lambda run: headline_epoch(plan, fold, run) == len(run.epochs),
        should_stop=lambda run: should_stop(plan, fold, run),
    )


def run_folds(plan: Plan, jobs: int, on_epoch: EpochCallback) -> dict[str, TrainingRun]:
    """Train every fold of a plan.

    Args:
        plan: the plan.
        jobs: folds at a time; 1 trains in this process.
        on_epoch: called after every epoch.

    Raises:
        StorageError: a worker process was killed from outside.
    """
    folds = plan.protocol.folds
    jobs = min(jobs, len(folds))
    if jobs == 1:
        return {fold.name: run_fold(plan, fold, on_epoch) for fold in folds}
    with _worker_pool(jobs) as (pool, epochs):
        futures = {fold.name: pool.submit(_run_fold_in_worker, plan, fold) for fold in folds}
        try:
            _relay_epochs(list(futures.values()), epochs, on_epoch)
            return {name: future.result() for name, future in futures.items()}
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker process ended; finished epochs are kept: run the same command again, "
                "with fewer jobs if memory was short. In a script of your own, call evaluate "
                "under `if __name__ == '__main__':`, or with jobs=1"
            ) from error


def _relay_epochs(
    futures: list[Future[TrainingRun]], epochs: "Queue[Any]", on_epoch: EpochCallback
) -> None:
    """Report epochs until all folds are done; a failed fold raises its error."""
    while True:
        is_over = all(future.done() for future in futures) or any(
            future.done() and future.exception() for future in futures
        )
        try:
            while True:
                on_epoch(*epochs.get(timeout=0 if is_over else 0.2))
        except Empty:
            if is_over:
                break
    for future in futures:
        if future.done():
            future.result()


@contextmanager
def _worker_pool(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, "Queue[Any]"]]:
    """Open worker processes; they stop after their epoch if this process fails."""
    context = multiprocessing.get_context("spawn")
    epochs, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(jobs, context, _init_worker, (epochs, stop))
    try:
        yield pool, epochs
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_WORKER: dict[str, Any] = {}


def _init_worker(epochs: "Queue[Any]", stop: Any) -> None:
    distributed.init_worker(trains=True)
    _WORKER.update(epochs=epochs, stop=stop)


def _run_fold_in_worker(plan: Plan, fold: Fold) -> TrainingRun:
    return run_fold(plan, fold, _report_epoch)


def _report_epoch(fold: str, epoch: Epoch) -> None:
    if _WORKER["stop"].is_set():
        os._exit(1)
    _WORKER["epochs"].put((fold, epoch))
