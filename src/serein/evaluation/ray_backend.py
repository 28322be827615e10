"""Folds on a Ray cluster.

A fold whose process or machine is lost is given to another one, with the state that it sent last;
this process alone writes in the run's folder, so that the machines need no common disk.
"""

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serein.cluster import count_task_slots, wait_for_tasks
from serein.errors import ConfigError, SereinError, StorageError
from serein.evaluation.folds import EpochCallback
from serein.evaluation.plan import Plan
from serein.experiment.afar import FoldUpdate, pack_plan, train_fold
from serein.experiment.folder import clear_run, is_finished, lock_folder
from serein.records import Fold
from serein.results.evaluation import Epoch
from serein.training.checkpoint import TrainingRun
from serein.utils.files import write_bytes

MAX_ATTEMPTS = 3
"""Times that a fold may fail without getting any further."""


@dataclass(eq=False)
class FoldJob:
    """One fold.

    Attributes:
        todo: its plan.
        fold: which one.
        content: the plan, as it lies in the cluster.
        failures: since it last got any further.
        epoch: the last one that it told of.
        end: what came of it.
    """

    plan: Plan
    fold: Fold
    plan_ref: Any
    failures: int = 0
    epoch: Epoch | None = None
    outcome: TrainingRun | SereinError | None = None


class RayEngine:
    """Trains the folds of several evaluations at a time, in the order in which they were begun."""

    def __init__(self, ray: Any, jobs: int | None) -> None:
        """Work in a cluster that was joined.

        Args:
            ray: what was joined.
            jobs: folds at a time; None is as many as there is room for.
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
        """Whether fewer folds are begun than twice those that can be trained at a time."""
        return len(self.pending) + len(self.running) < 2 * self.jobs

    def submit(self, plan: Plan, fresh: bool) -> None:
        """Begin before an evaluation's turn has come, unless it was begun or is finished.

        Args:
            plan: its plan.
            fresh: forget what an earlier run left.

        Raises:
            ConfigError: no machine has what a fold needs.
            StorageError: another process is at work on it.
        """
        if plan.folder in self.jobs_by_folder:
            return
        with ExitStack() as held:
            held.enter_context(lock_folder(plan.folder))
            if fresh:
                clear_run(plan)
            if not is_finished(plan):
                self._queue_folds(plan)
                self.locks[plan.folder] = held.pop_all()

    def is_submitted(self, plan: Plan) -> bool:
        """Whether it was begun so."""
        return plan.folder in self.locks

    def run(self, plan: Plan, progress: EpochCallback) -> dict[str, TrainingRun]:
        """Train every fold of an evaluation.

        Args:
            plan: its plan.
            progress: is told of every epoch as it ends.

        Raises:
            StorageError: a fold failed again and again.
            SereinError: whatever is wrong with the audio.
        """
        if plan.folder not in self.jobs_by_folder:
            self._queue_folds(plan)
        own = self.jobs_by_folder[plan.folder]
        for job in own:
            if job.epoch is not None:
                progress(job.fold.name, job.epoch)
        while (courses := _collect_training_runs(own)) is None:
            for job, epoch in self._wait_for_updates():
                if job in own:
                    progress(job.fold.name, epoch)
        return courses

    def release(self, plan: Plan) -> None:
        """Cancel what is left of an evaluation, and let others have its folder."""
        own = self.jobs_by_folder.pop(plan.folder, [])
        self.pending = deque(job for job in self.pending if job not in own)
        for task in [task for task, job in self.running.items() if job in own]:
            del self.running[task]
            self.ray.cancel(task, force=True)
        self.locks.pop(plan.folder, ExitStack()).close()

    def close(self) -> None:
        """Leave every evaluation."""
        for own in list(self.jobs_by_folder.values()):
            self.release(own[0].plan)

    def _queue_folds(self, plan: Plan) -> None:
        if not count_task_slots(self.ray, **_fold_resources(plan)):
            raise ConfigError(
                f"no machine of the cluster has what one fold needs: {plan.training.threads} cores "
                f"(training.threads), device {plan.device}; change that, or take engine local"
            )
        content = self.ray.put(pack_plan(plan))
        jobs = [FoldJob(plan, fold, content) for fold in plan.protocol.folds]
        self.jobs_by_folder[plan.folder] = jobs
        self.pending.extend(jobs)
        self._submit_pending()

    def _submit_pending(self) -> None:
        while self.pending and (self.max_jobs is None or len(self.running) < self.max_jobs):
            job = self.pending.popleft()
            needs = _fold_resources(job.plan)
            # A fold that is tried again is to have its newest state, which Ray does not know.
            task = self.train_task.options(
                num_cpus=needs["cores"],
                num_gpus=needs["devices"],
                num_returns="streaming",
                max_retries=0,
            )
            self.running[task.remote(job.plan_ref, job.fold, _read_state(job))] = job

    def _wait_for_updates(self) -> list[tuple[FoldJob, Epoch]]:
        """Wait for news of any fold; keep them, and give the epochs among them."""
        told = []
        for task in wait_for_tasks(self.ray, list(self.running)):
            job = self.running[task]
            try:
                news: FoldUpdate = self.ray.get(next(task))
            except self.ray.exceptions.RayError as error:
                del self.running[task]
                self._handle_failure(job, error)
                continue
            _store_update(job, news)
            if news.outcome is not None:
                del self.running[task]
            if news.epoch is not None:
                told.append((job, news.epoch))
        self._submit_pending()
        return told

    def _handle_failure(self, job: FoldJob, error: Exception) -> None:
        """Try again, or give up; where it was is on the disk."""
        job.failures += 1
        if job.failures < MAX_ATTEMPTS:
            self.pending.appendleft(job)
            return
        cause = getattr(error, "cause", None) or error
        words = next(iter(str(cause).splitlines()), "")
        job.outcome = StorageError(
            f"fold {job.fold.name} of {job.plan.folder} failed {MAX_ATTEMPTS} times in a row, at last "
            f"with {type(cause).__name__}: {words.rstrip('.')}; what was finished is kept: run the "
            "same command again to go on, with more memory a core if it was short"
        )


def _fold_resources(plan: Plan) -> dict[str, int]:
    return {"cores": plan.training.threads, "devices": int(plan.device == "cuda")}


def _read_state(job: FoldJob) -> bytes | None:
    place = job.plan.state_path(job.fold)
    return place.read_bytes() if place.exists() else None


def _store_update(job: FoldJob, update: FoldUpdate) -> None:
    if update.state is not None:
        write_bytes(job.plan.state_path(job.fold), update.state)
        job.failures = 0
    job.epoch = update.epoch or job.epoch
    job.outcome = update.outcome


def _collect_training_runs(jobs: list[FoldJob]) -> dict[str, TrainingRun] | None:
    """What came of each fold; None where some are not done.

    Raises:
        SereinError: what is wrong with one.
    """
    courses = {}
    for job in jobs:
        if isinstance(job.outcome, SereinError):
            raise job.outcome
        if job.outcome is not None:
            courses[job.fold.name] = job.outcome
    return courses if len(courses) == len(jobs) else None
