"""Folds on a Ray cluster.

A fold whose process or machine is lost is given to another one, with the state that it sent last;
this process alone writes in the run's folder, so that the machines need no common disk.

A fold on another machine: what is sent there, what it does, and what it tells.

The state of its training lies there in a folder of its own and comes back whenever it changes, so
that whoever takes the fold over goes on from it.
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
from serein.utils.distributed import count_task_slots, wait_for_tasks
from serein.utils.files import write_bytes

UpdateQueue = SimpleQueue[Epoch | TrainingRun | BaseException]
STATE_POLL_SECONDS = 1.0
"""Seconds after which a state that has changed is sent, without the end of an epoch, too."""


class FoldUpdate(NamedTuple):
    """What a fold tells.

    Attributes:
        epoch: one that has ended, or that was done before.
        state: of the training, where it has changed.
        end: what came of the fold, or what is wrong with it wherever it is trained.
    """

    epoch: Epoch | None = None
    state: bytes | None = None
    outcome: TrainingRun | SereinError | None = None


def pack_plan(plan: Plan) -> bytes:
    """A plan as it is sent: its recordings by their whole paths, with what numbers depend on."""
    utterances = tuple(replace(u, path=u.path.absolute()) for u in plan.corpus.utterances)
    sent = replace(plan, corpus=replace(plan.corpus, utterances=utterances))
    return pickle.dumps((sent, collect_dependencies(plan)))


def collect_dependencies(plan: Plan) -> dict[str, str]:
    """What numbers depend on, as it is on this machine: versions, sources, precision."""
    own = {"source": system.hash_recipe_sources(plan.recipe), "precision": plan.precision}
    return package_versions() | system.collect_packages(plan.recipe) | own


def train_fold(content: bytes, fold: Fold, state: bytes | None) -> Iterator[FoldUpdate]:
    """Train a fold, and tell of it as it goes on; the last news are its end.

    Args:
        content: what ``packed`` gave.
        fold: of its plan.
        state: what an earlier training of the fold left.
    """
    todo, expected = pickle.loads(content)
    with TemporaryDirectory(prefix="serein-") as folder:
        here = replace(todo, folder=Path(folder))
        place = here.state(fold)
        if state is not None:
            write_bytes(place, state)
        told: UpdateQueue = SimpleQueue()
        known = _file_stamp(place)
        left = Event()
        thread = Thread(
            target=_train_in_thread, args=(here, expected, fold, told, left), daemon=True
        )
        thread.start()
        try:
            yield from _iter_updates(told, place, known)
        finally:
            left.set()
            thread.join()


class _Cancelled(BaseException):
    """Nobody listens any more."""


def _train_in_thread(
    plan: Plan, expected: dict[str, str], fold: Fold, updates: UpdateQueue, cancelled: Event
) -> None:
    def progress(name: str, epoch: Epoch) -> None:
        if cancelled.is_set():
            raise _Cancelled
        updates.put(epoch)

    try:
        _check_dependencies(plan, expected)
        _check_recordings(plan)
        updates.put(run_fold(plan, fold, progress))
    except BaseException as error:
        updates.put(error)


def _iter_updates(
    updates: UpdateQueue, state_path: Path, stamp: tuple[int, ...]
) -> Iterator[FoldUpdate]:
    while True:
        item: Epoch | TrainingRun | BaseException | None = None
        with suppress(Empty):
            item = updates.get(timeout=STATE_POLL_SECONDS)
        # The state is read after the news, and so never older than what they say.
        found = _file_stamp(state_path)
        state = state_path.read_bytes() if found != stamp else None
        stamp = found
        if isinstance(item, TrainingRun | SereinError):
            yield FoldUpdate(outcome=item, state=state)
            return
        if isinstance(item, BaseException):
            raise item
        if item is not None or state is not None:
            yield FoldUpdate(epoch=item, state=state)


def _file_stamp(path: Path) -> tuple[int, ...]:
    """What changes whenever the file is written."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check_dependencies(plan: Plan, expected: dict[str, str]) -> None:
    """Other versions would give other numbers under the run's name."""
    found = collect_dependencies(plan)
    for name, version in expected.items():
        if found.get(name) != version:
            raise ConfigError(
                f"{socket.gethostname()} has {name} {found.get(name)}, and the run began with "
                f"{version}; every machine of the cluster must have the same"
            )


def _check_recordings(plan: Plan) -> None:
    """The recordings must be those of the plan, unless their frames are in this machine's cache."""
    utterances = plan.corpus.utterances
    forms, front_end = (None, *plan.augmentations), plan.build_front_end()
    if all(is_cached(utterances, front_end, plan.contents, augmentation=form) for form in forms):
        return
    advice = (
        "every machine of the cluster needs the corpus at the same path, or SEREIN_CACHE on a disk "
        "that they share"
    )
    try:
        found = corpora.contents(utterances)
    except CorpusError as error:
        raise CorpusError(f"on {socket.gethostname()}: {error}; {advice}") from error
    other = [one.path for one in utterances if found[one.id] != plan.contents[one.id]]
    if other:
        raise CorpusError(
            f"on {socket.gethostname()} {len(other)} of {len(utterances)} recordings differ from "
            f"those that the run began with, {other[0]} first; {advice}"
        )


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
