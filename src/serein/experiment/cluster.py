"""Folds on a Ray cluster.

A fold whose process or machine is lost is given to another one, with the state that it sent last;
this process alone writes in the run's folder, so that the machines need no common disk.
"""

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serein.cluster import ready, room
from serein.errors import ConfigError, SereinError, StorageError
from serein.experiment.afar import News, packed, train
from serein.experiment.folder import forget, is_finished, locked
from serein.experiment.folds import Progress
from serein.experiment.plan import Plan
from serein.files import write_bytes
from serein.records import Fold
from serein.results import Epoch
from serein.training.course import Course

TRIES = 3
"""Times that a fold may fail without getting any further."""


@dataclass(eq=False)
class Job:
    """One fold.

    Attributes:
        todo: its plan.
        fold: which one.
        content: the plan, as it lies in the cluster.
        failures: since it last got any further.
        epoch: the last one that it told of.
        end: what came of it.
    """

    todo: Plan
    fold: Fold
    content: Any
    failures: int = 0
    epoch: Epoch | None = None
    end: Course | SereinError | None = None


class Cluster:
    """Trains the folds of several evaluations at a time, in the order in which they were begun."""

    def __init__(self, ray: Any, jobs: int | None) -> None:
        """Work in a cluster that was joined.

        Args:
            ray: what was joined.
            jobs: folds at a time; None is as many as there is room for.
        """
        self.ray = ray
        self.train = ray.remote(train)
        self.most = jobs
        self.jobs = room(ray) if jobs is None else jobs
        self.facts = {"jobs": self.jobs, "engine": "ray"}
        self.begun: dict[Path, list[Job]] = {}
        self.locks: dict[Path, ExitStack] = {}
        self.waiting: deque[Job] = deque()
        self.running: dict[Any, Job] = {}

    def has_room(self) -> bool:
        """Whether fewer folds are begun than twice those that can be trained at a time."""
        return len(self.waiting) + len(self.running) < 2 * self.jobs

    def begin(self, todo: Plan, fresh: bool) -> None:
        """Begin before an evaluation's turn has come, unless it was begun or is finished.

        Args:
            todo: its plan.
            fresh: forget what an earlier run left.

        Raises:
            ConfigError: no machine has what a fold needs.
            StorageError: another process is at work on it.
        """
        if todo.folder in self.begun:
            return
        with ExitStack() as held:
            held.enter_context(locked(todo.folder))
            if fresh:
                forget(todo)
            if not is_finished(todo):
                self._add(todo)
                self.locks[todo.folder] = held.pop_all()

    def has(self, todo: Plan) -> bool:
        """Whether it was begun so."""
        return todo.folder in self.locks

    def run(self, todo: Plan, progress: Progress) -> dict[str, Course]:
        """Train every fold of an evaluation.

        Args:
            todo: its plan.
            progress: is told of every epoch as it ends.

        Raises:
            StorageError: a fold failed again and again.
            SereinError: whatever is wrong with the audio.
        """
        if todo.folder not in self.begun:
            self._add(todo)
        own = self.begun[todo.folder]
        for job in own:
            if job.epoch is not None:
                progress(job.fold.name, job.epoch)
        while (courses := _courses(own)) is None:
            for job, epoch in self._heard():
                if job in own:
                    progress(job.fold.name, epoch)
        return courses

    def leave(self, todo: Plan) -> None:
        """Cancel what is left of an evaluation, and let others have its folder."""
        own = self.begun.pop(todo.folder, [])
        self.waiting = deque(job for job in self.waiting if job not in own)
        for task in [task for task, job in self.running.items() if job in own]:
            del self.running[task]
            self.ray.cancel(task, force=True)
        self.locks.pop(todo.folder, ExitStack()).close()

    def close(self) -> None:
        """Leave every evaluation."""
        for own in list(self.begun.values()):
            self.leave(own[0].todo)

    def _add(self, todo: Plan) -> None:
        if not room(self.ray, **_needs(todo)):
            raise ConfigError(
                f"no machine of the cluster has what one fold needs: {todo.training.threads} cores "
                f"(training.threads), device {todo.device}; change that, or take engine local"
            )
        content = self.ray.put(packed(todo))
        jobs = [Job(todo, fold, content) for fold in todo.protocol.folds]
        self.begun[todo.folder] = jobs
        self.waiting.extend(jobs)
        self._submit()

    def _submit(self) -> None:
        while self.waiting and (self.most is None or len(self.running) < self.most):
            job = self.waiting.popleft()
            needs = _needs(job.todo)
            # A fold that is tried again is to have its newest state, which Ray does not know.
            task = self.train.options(
                num_cpus=needs["cores"],
                num_gpus=needs["devices"],
                num_returns="streaming",
                max_retries=0,
            )
            self.running[task.remote(job.content, job.fold, _state(job))] = job

    def _heard(self) -> list[tuple[Job, Epoch]]:
        """Wait for news of any fold; keep them, and give the epochs among them."""
        told = []
        for task in ready(self.ray, list(self.running)):
            job = self.running[task]
            try:
                news: News = self.ray.get(next(task))
            except self.ray.exceptions.RayError as error:
                del self.running[task]
                self._failed(job, error)
                continue
            _keep(job, news)
            if news.end is not None:
                del self.running[task]
            if news.epoch is not None:
                told.append((job, news.epoch))
        self._submit()
        return told

    def _failed(self, job: Job, error: Exception) -> None:
        """Try again, or give up; where it was is on the disk."""
        job.failures += 1
        if job.failures < TRIES:
            self.waiting.appendleft(job)
            return
        cause = getattr(error, "cause", None) or error
        words = next(iter(str(cause).splitlines()), "")
        job.end = StorageError(
            f"fold {job.fold.name} of {job.todo.folder} failed {TRIES} times in a row, at last "
            f"with {type(cause).__name__}: {words.rstrip('.')}; what was finished is kept: run the "
            "same command again to go on, with more memory a core if it was short"
        )


def _needs(todo: Plan) -> dict[str, int]:
    return {"cores": todo.training.threads, "devices": int(todo.device == "cuda")}


def _state(job: Job) -> bytes | None:
    place = job.todo.state(job.fold)
    return place.read_bytes() if place.exists() else None


def _keep(job: Job, news: News) -> None:
    if news.state is not None:
        write_bytes(job.todo.state(job.fold), news.state)
        job.failures = 0
    job.epoch = news.epoch or job.epoch
    job.end = news.end


def _courses(own: list[Job]) -> dict[str, Course] | None:
    """What came of each fold; None where some are not done.

    Raises:
        SereinError: what is wrong with one.
    """
    courses = {}
    for job in own:
        if isinstance(job.end, SereinError):
            raise job.end
        if job.end is not None:
            courses[job.fold.name] = job.end
    return courses if len(courses) == len(own) else None
