"""Who tries what: Optuna's storage, shared by processes and machines.

Trial n of a study is draw n of its space, whoever runs it. Optuna hands every number out once. A
process that dies leaves its trial "running"; whoever comes next sees that its lock is free, and
puts the trial back under its own number, so that none is lost and none counts twice.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from serein.errors import ConfigError
from serein.evaluation.search_space import Choice, Point, Range, Space
from serein.results.studies import Trial

STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
CLAIM_TIMEOUT = timedelta(minutes=1)
"""A trial that has been running so long without saying whose it is has lost its process."""


class TrialStore:
    """The trials of one search."""

    def __init__(
        self, folder: Path, name: str, space: Space, points: list[Point], storage: str | None
    ) -> None:
        """Open the storage, and make the study unless another process has.

        Args:
            folder: the search's own.
            name: of the study.
            space: what points were drawn from.
            points: one for each trial, in order of their numbers.
            storage: a URL that Optuna understands, or a file; None is a file in the folder.

        Raises:
            ConfigError: there is no such storage.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.workers = folder / "workers"
        self.workers.mkdir(parents=True, exist_ok=True)
        self.worker = uuid4().hex
        self.lock = FileLock(folder / ".lock")
        self.space = space
        self.points = points
        place = str(folder / "trials.log") if storage is None else storage
        try:
            self.storage = _open_storage(place)
            self.study = optuna.create_study(
                storage=self.storage,
                sampler=FixedPointSampler(points),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
            )
        except Exception as error:  # each kind of storage has errors of its own
            fault = " ".join(str(error).split())
            raise ConfigError(
                f"cannot open the storage {place}: {fault}; give a file, or a URL such as "
                "sqlite:///search.db"
            ) from error

    @contextmanager
    def mark_alive(self) -> Iterator[None]:
        """Let others see that this process lives."""
        file = self._lock_path(self.worker)
        with FileLock(file):
            yield
        file.unlink(missing_ok=True)

    def claim_trial(self) -> optuna.Trial | None:
        """The next trial, now this process's own; None where all are finished or running."""
        with self.lock:
            self._release_orphans()
            trial = self.study.ask()
            if trial.number >= len(self.points):
                self.release_trial(trial)
                return None
            trial.set_user_attr("worker", self.worker)
            for one in self.space:
                suggest_value(trial, one)
            return trial

    def release_trial(self, trial: optuna.Trial | FrozenTrial) -> None:
        """Put a trial back for others, under its number."""
        trial_id = trial._trial_id
        self.storage.set_trial_user_attr(trial_id, "worker", "")
        self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def finish_trial(
        self, trial: optuna.Trial, score: float, attributes: Mapping[str, Any]
    ) -> None:
        """Write down what a trial scored."""
        for name, fact in attributes.items():
            trial.set_user_attr(name, fact)
        self.study.tell(trial, score)

    def fail_trial(self, trial: optuna.Trial, fault: str) -> None:
        """Write down why a trial has no score."""
        trial.set_user_attr("fault", fault)
        self.study.tell(trial, state=TrialState.FAIL)

    def list_trials(self) -> list[Trial]:
        """Every trial so far, in order of their numbers."""
        found = self.study.get_trials(deepcopy=False)[: len(self.points)]
        return [self._build_record(one) for one in found]

    def _build_record(self, one: FrozenTrial) -> Trial:
        facts = {key: one.user_attrs[key] for key in TRIAL_ATTRIBUTES if key in one.user_attrs}
        score = one.value if one.state == TrialState.COMPLETE else None
        settings = self.points[one.number]
        state = STATES[one.state]
        return Trial(number=one.number, settings=settings, state=state, score=score, **facts)

    def _release_orphans(self) -> None:
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            if self._is_orphan(trial):
                self.release_trial(trial)

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker", "")
        if not worker:
            begun = trial.datetime_start
            return begun is not None and datetime.now() - begun > CLAIM_TIMEOUT
        file = self._lock_path(worker)
        if not file.is_file():
            return False  # a machine that shares the storage but not this folder
        try:
            with FileLock(file).acquire(timeout=0):
                return True
        except Timeout:
            return False

    def _lock_path(self, worker: str) -> Path:
        return self.workers / f"{worker}.lock"


TRIAL_ATTRIBUTES = ("folds", "run", "seconds", "fault")
"""What a trial's record holds besides its score."""


class FixedPointSampler(BaseSampler):
    """Gives trial n the n-th of some points."""

    def __init__(self, points: list[Point]) -> None:
        """Take the points."""
        self.points = points

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is drawn by what other trials gave."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn by what other trials gave."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value of the trial's own point."""
        return to_storable(self.points[trial.number][param_name])


class ProcessLock(JournalFileOpenLock):
    """Locks a journal; the system frees it when its process dies, where Optuna's own waits."""

    def __init__(self, path: str) -> None:
        """Lock the journal of that path."""
        super().__init__(path)
        self.file_lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        """Wait for it."""
        self.file_lock.acquire()
        return True

    def release(self) -> None:
        """Let others have it."""
        self.file_lock.release()


def _open_storage(location: str) -> optuna.storages.BaseStorage:
    if "://" in location:
        try:
            return optuna.storages.RDBStorage(location)
        except DBAPIError:  # another process was making the same tables
            sleep(1)
            return optuna.storages.RDBStorage(location)
    Path(location).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(location, ProcessLock(location)))


def suggest_value(trial: optuna.Trial, dimension: Range | Choice) -> None:
    """Write a trial's value into the storage, for Optuna's own tools."""
    if isinstance(dimension, Choice):
        trial.suggest_categorical(
            dimension.name, [to_storable(value) for value in dimension.values]
        )
    elif dimension.integer:
        trial.suggest_int(
            dimension.name, int(dimension.low), int(dimension.high), log=dimension.log
        )
    else:
        trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def to_storable(value: Any) -> Any:
    """Itself, or words where it is a list or table, which Optuna does not keep."""
    return value if isinstance(value, str | bool | int | float) else str(value)
