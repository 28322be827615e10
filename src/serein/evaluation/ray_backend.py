"""Train folds on a Ray cluster.

`RayEngine` runs in the process of the evaluation, and only this process writes in the run folder:
the machines need no common disk. `train_fold` runs on a machine of the cluster, keeps its
checkpoint in a folder there, and sends it back whenever it changes. If a process or machine is
lost, another one continues the fold from the checkpoint that was sent last.
"""

import pickle
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, NamedTuple

from serein import corpora, system
from serein.errors import ConfigError, CorpusError, SereinError, StorageError
from serein.evaluation.folds import EpochCallback, run_fold
from serein.evaluation.plan import Plan, clear_run, is_finished, lock_folder
from serein.evaluation.provenance import package_versions
from serein.records import Fold
from serein.results.evaluation import Epoch
from serein.training.checkpoint import TrainingRun
from serein.training.dataset import is_cached
from serein.utils.distributed import count_task_slots, tune_process, wait_for_tasks
from serein.utils.files import write_bytes

MAX_ATTEMPTS = 3
"""Failures of a fold in a row, without progress between them, after which it is given up."""
CHECKPOINT_POLL_SECONDS = 1.0
"""Interval at which a changed checkpoint is sent within an epoch."""

UpdateQueue = SimpleQueue[Epoch | TrainingRun | BaseException]


class FoldUpdate(NamedTuple):
    """A message from the machine that trains a fold.

    Attributes:
        epoch: one that has just ended, or the last one of an earlier attempt.
        checkpoint: of the training, if it has changed.
        outcome: the finished training run, or an error that every machine would raise.
    """

    epoch: Epoch | None = None
    checkpoint: bytes | None = None
    outcome: TrainingRun | SereinError | None = None


@dataclass(eq=False)
class FoldJob:
    """One fold that is to be trained.

    Attributes:
        plan: of the evaluation.
        fold: the fold.
        plan_ref: reference to the packed plan in the cluster.
        failures: number of failures since the last checkpoint.
        epoch: the last epoch that was reported.
        outcome: the finished training run, or the error.
    """

    plan: Plan
    fold: Fold
    plan_ref: Any
    failures: int = 0
    epoch: Epoch | None = None
    outcome: TrainingRun | SereinError | None = None


class RayEngine:
    """Trains the folds of several evaluations at a time, in the order of their submission."""

    def __init__(self, ray: Any, jobs: int | None) -> None:
        """Use a cluster that this process has joined.

        Args:
            ray: the module, connected to the cluster.
            jobs: folds at a time; None is all that fit into the cluster.
        """
        self.ray = ray
        self.train_task = ray.remote(train_fold)
        self.max_jobs = jobs
        self.jobs = count_task_slots(ray) if jobs is None else jobs
        self.provenance = {"jobs": self.jobs, "engine": "ray"}
        self.jobs_by_folder: dict[Path, list[FoldJob]] = {}
        self.locks: dict[Path, ExitStack] = {}
        self.pending: deque[FoldJob] = deque()
        self.running: dict[Any, FoldJob] = {}

    def has_room(self) -> bool:
        """Return whether fewer folds are submitted than twice those that train at a time."""
        return len(self.pending) + len(self.running) < 2 * self.jobs

    def submit(self, plan: Plan, fresh: bool) -> None:
        """Start an evaluation ahead of its `run`, unless it was started or is finished.

        Args:
            plan: of the evaluation.
            fresh: delete the results and checkpoints of an earlier run.

        Raises:
            ConfigError: no machine has the resources of a fold.
            StorageError: another process holds the lock of the run folder.
        """
        if plan.folder in self.jobs_by_folder:
            return
        with ExitStack() as stack:
            stack.enter_context(lock_folder(plan.folder))
            if fresh:
                clear_run(plan)
            if not is_finished(plan):
                self._queue_folds(plan)
                self.locks[plan.folder] = stack.pop_all()

    def is_submitted(self, plan: Plan) -> bool:
        """Return whether an evaluation was started by `submit`."""
        return plan.folder in self.locks

    def run(self, plan: Plan, on_epoch: EpochCallback) -> dict[str, TrainingRun]:
        """Train every fold of an evaluation.

        Args:
            plan: of the evaluation.
            on_epoch: called after every epoch.

        Raises:
            StorageError: a fold failed `MAX_ATTEMPTS` times in a row.
            SereinError: the audio has a fault.
        """
        if plan.folder not in self.jobs_by_folder:
            self._queue_folds(plan)
        jobs = self.jobs_by_folder[plan.folder]
        for job in jobs:
            if job.epoch is not None:
                on_epoch(job.fold.name, job.epoch)
        while (training_runs := _collect_training_runs(jobs)) is None:
            for job, epoch in self._wait_for_updates():
                if job in jobs:
                    on_epoch(job.fold.name, epoch)
        return training_runs

    def release(self, plan: Plan) -> None:
        """Cancel the folds of an evaluation that are left, and unlock its folder."""
        jobs = self.jobs_by_folder.pop(plan.folder, [])
        self.pending = deque(job for job in self.pending if job not in jobs)
        for task in [task for task, job in self.running.items() if job in jobs]:
            del self.running[task]
            self.ray.cancel(task, force=True)
        self.locks.pop(plan.folder, ExitStack()).close()

    def close(self) -> None:
        """Release every evaluation."""
        for jobs in list(self.jobs_by_folder.values()):
            self.release(jobs[0].plan)

    def _queue_folds(self, plan: Plan) -> None:
        if not count_task_slots(self.ray, **_fold_resources(plan)):
            raise ConfigError(
                f"no machine of the cluster has what one fold needs: {plan.training.threads} cores "
                f"(training.threads), device {plan.device}; change that, or take engine local"
            )
        plan_ref = self.ray.put(pack_plan(plan))
        jobs = [FoldJob(plan, fold, plan_ref) for fold in plan.protocol.folds]
        self.jobs_by_folder[plan.folder] = jobs
        self.pending.extend(jobs)
        self._submit_pending()

    def _submit_pending(self) -> None:
        while self.pending and (self.max_jobs is None or len(self.running) < self.max_jobs):
            job = self.pending.popleft()
            resources = _fold_resources(job.plan)
            # Ray does not retry: it would start again from the checkpoint of the first attempt.
            task = self.train_task.options(
                num_cpus=resources["cores"],
                num_gpus=resources["devices"],
                num_returns="streaming",
                max_retries=0,
            )
            self.running[task.remote(job.plan_ref, job.fold, _read_checkpoint(job))] = job

    def _wait_for_updates(self) -> list[tuple[FoldJob, Epoch]]:
        """Wait for updates of any fold, store them, and return the epochs among them."""
        epochs = []
        for task in wait_for_tasks(self.ray, list(self.running)):
            job = self.running[task]
            try:
                update: FoldUpdate = self.ray.get(next(task))
            except self.ray.exceptions.RayError as error:
                del self.running[task]
                self._handle_failure(job, error)
                continue
            _store_update(job, update)
            if update.outcome is not None:
                del self.running[task]
            if update.epoch is not None:
                epochs.append((job, update.epoch))
        self._submit_pending()
        return epochs

    def _handle_failure(self, job: FoldJob, error: Exception) -> None:
        """Queue the fold again, from its checkpoint on disk, or give it up."""
        job.failures += 1
        if job.failures < MAX_ATTEMPTS:
            self.pending.appendleft(job)
            return
        cause = getattr(error, "cause", None) or error
        first_line = next(iter(str(cause).splitlines()), "")
        job.outcome = StorageError(
            f"fold {job.fold.name} of {job.plan.folder} failed {MAX_ATTEMPTS} times in a row, last "
            f"with {type(cause).__name__}: {first_line.rstrip('.')}; finished epochs are kept: run "
            "the same command again to resume, with more memory per core if it was short"
        )


def _fold_resources(plan: Plan) -> dict[str, int]:
    return {"cores": plan.training.threads, "devices": int(plan.device == "cuda")}


def _read_checkpoint(job: FoldJob) -> bytes | None:
    path = job.plan.checkpoint_path(job.fold)
    return path.read_bytes() if path.exists() else None


def _store_update(job: FoldJob, update: FoldUpdate) -> None:
    if update.checkpoint is not None:
        write_bytes(job.plan.checkpoint_path(job.fold), update.checkpoint)
        job.failures = 0
    job.epoch = update.epoch or job.epoch
    job.outcome = update.outcome


def _collect_training_runs(jobs: list[FoldJob]) -> dict[str, TrainingRun] | None:
    """Return the training run of each fold, or None if some are not finished.

    Raises:
        SereinError: a fold failed.
    """
    training_runs = {}
    for job in jobs:
        if isinstance(job.outcome, SereinError):
            raise job.outcome
        if job.outcome is not None:
            training_runs[job.fold.name] = job.outcome
    return training_runs if len(training_runs) == len(jobs) else None


def pack_plan(plan: Plan) -> bytes:
    """Pickle a plan with absolute paths of the recordings, and its dependencies."""
    utterances = tuple(replace(u, path=u.path.absolute()) for u in plan.corpus.utterances)
    packed = replace(plan, corpus=replace(plan.corpus, utterances=utterances))
    return pickle.dumps((packed, collect_dependencies(plan)))


def collect_dependencies(plan: Plan) -> dict[str, str]:
    """Collect what the numbers depend on at this machine: versions, source code, precision."""
    own = {"source": system.hash_recipe_sources(plan.recipe), "precision": plan.precision}
    return package_versions() | system.collect_packages(plan.recipe) | own


def train_fold(content: bytes, fold: Fold, checkpoint: bytes | None) -> Iterator[FoldUpdate]:
    """Train a fold on a machine of the cluster, and yield updates; the last one has the outcome.

    Args:
        content: the result of `pack_plan`.
        fold: of the plan.
        checkpoint: of an earlier attempt.
    """
    tune_process(trains=True)
    plan: Plan
    plan, expected = pickle.loads(content)
    with TemporaryDirectory(prefix="serein-") as folder:
        plan = replace(plan, folder=Path(folder))
        path = plan.checkpoint_path(fold)
        if checkpoint is not None:
            write_bytes(path, checkpoint)
        updates: UpdateQueue = SimpleQueue()
        stamp = _file_stamp(path)
        cancelled = Event()
        thread = Thread(
            target=_train_in_thread, args=(plan, expected, fold, updates, cancelled), daemon=True
        )
        thread.start()
        try:
            yield from _iter_updates(updates, path, stamp)
        finally:
            cancelled.set()
            thread.join()


class _Cancelled(BaseException):
    """Ends the training thread when its updates are no longer read."""


def _train_in_thread(
    plan: Plan, expected: dict[str, str], fold: Fold, updates: UpdateQueue, cancelled: Event
) -> None:
    def on_epoch(name: str, epoch: Epoch) -> None:
        if cancelled.is_set():
            raise _Cancelled
        updates.put(epoch)

    try:
        _check_dependencies(plan, expected)
        _check_recordings(plan)
        updates.put(run_fold(plan, fold, on_epoch))
    except BaseException as error:
        updates.put(error)


def _iter_updates(
    updates: UpdateQueue, path: Path, sent_stamp: tuple[int, ...]
) -> Iterator[FoldUpdate]:
    while True:
        item: Epoch | TrainingRun | BaseException | None = None
        with suppress(Empty):
            item = updates.get(timeout=CHECKPOINT_POLL_SECONDS)
        # The checkpoint is read after the item, so that it is never older than the epoch.
        stamp = _file_stamp(path)
        checkpoint = path.read_bytes() if stamp != sent_stamp else None
        sent_stamp = stamp
        if isinstance(item, TrainingRun | SereinError):
            yield FoldUpdate(outcome=item, checkpoint=checkpoint)
            return
        if isinstance(item, BaseException):
            raise item
        if item is not None or checkpoint is not None:
            yield FoldUpdate(epoch=item, checkpoint=checkpoint)


def _file_stamp(path: Path) -> tuple[int, ...]:
    """Return inode, time and size of a file, which change whenever it is written."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _check_dependencies(plan: Plan, expected: dict[str, str]) -> None:
    """Raise an error if this machine would compute other numbers under the run's name."""
    dependencies = collect_dependencies(plan)
    for name, version in expected.items():
        if dependencies.get(name) != version:
            raise ConfigError(
                f"{socket.gethostname()} has {name} {dependencies.get(name)}, and the run began "
                f"with {version}; every machine of the cluster must have the same"
            )


def _check_recordings(plan: Plan) -> None:
    """Raise an error if recordings here differ from the plan's and their frames are not cached."""
    utterances = plan.corpus.utterances
    front_end = plan.build_front_end()
    if all(
        is_cached(utterances, front_end, plan.content_hashes, augmentation=augmentation)
        for augmentation in (None, *plan.augmentations)
    ):
        return
    advice = (
        "every machine of the cluster needs the corpus at the same path, or SEREIN_CACHE on a disk "
        "that they share"
    )
    try:
        content_hashes = corpora.hash_contents(utterances)
    except CorpusError as error:
        raise CorpusError(f"on {socket.gethostname()}: {error}; {advice}") from error
    different = [u.path for u in utterances if content_hashes[u.id] != plan.content_hashes[u.id]]
    if different:
        raise CorpusError(
            f"on {socket.gethostname()} {len(different)} of {len(utterances)} recordings differ "
            f"from those that the run began with, {different[0]} first; {advice}"
        )
