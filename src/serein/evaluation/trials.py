"""The trials of a search in Optuna's storage, shared by processes and machines.

Trial n of a study is draw n of its space in every process, and Optuna gives out each number once. A
process that dies leaves its trial "running"; another process finds its lock free and puts the trial
back under the same number, so that every trial is run and counted once.
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
TRIAL_ATTRIBUTES = ("folds", "run", "seconds", "fault")
"""Fields of a trial's record that the storage holds besides its score."""
CLAIM_TIMEOUT = timedelta(minutes=1)
"""A running trial without the name of its worker counts as orphaned after this time."""


class TrialStore:
    """The trials of one search, in a storage that several processes share."""

    def __init__(
        self, folder: Path, name: str, space: Space, points: list[Point], storage: str | None
    ) -> None:
        """Open the storage, and create the study if it does not exist.

        Args:
            folder: of the search.
            name: of the study.
            space: the space of the points.
            points: one for each trial, in order of their numbers.
            storage: a URL for Optuna, or a file; None is a file in the folder.

        Raises:
            ConfigError: the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.workers = folder / "workers"
        self.workers.mkdir(parents=True, exist_ok=True)
        self.worker = uuid4().hex
        self.lock = FileLock(folder / ".lock")
        self.space = space
        self.points = points
        location = str(folder / "trials.log") if storage is None else storage
        try:
            self.storage = _open_storage(location)
            self.study = optuna.create_study(
                storage=self.storage,
                sampler=FixedPointSampler(points),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
            )
        except Exception as error:  # each kind of storage raises errors of its own
            fault = " ".join(str(error).split())
            raise ConfigError(
                f"cannot open the storage {location}: {fault}; give a file, or a URL such as "
                "sqlite:///search.db"
            ) from error

    @contextmanager
    def mark_alive(self) -> Iterator[None]:
        """Hold this worker's lock, which shows other processes that it is alive."""
        file = self._lock_path(self.worker)
        with FileLock(file):
            yield
        file.unlink(missing_ok=True)

    def claim_trial(self) -> optuna.Trial | None:
        """Claim the next trial for this process; return None if all are finished or running."""
        with self.lock:
            self._release_orphans()
            trial = self.study.ask()
            if trial.number >= len(self.points):
                self.release_trial(trial)
                return None
            trial.set_user_attr("worker", self.worker)
            for dimension in self.space:
                suggest_value(trial, dimension)
            return trial

    def release_trial(self, trial: optuna.Trial | FrozenTrial) -> None:
        """Put a trial back under its number, for any process to claim."""
        trial_id = trial._trial_id
        self.storage.set_trial_user_attr(trial_id, "worker", "")
        self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def finish_trial(
        self, trial: optuna.Trial, score: float, attributes: Mapping[str, Any]
    ) -> None:
        """Store the score and the attributes of a finished trial."""
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, score)

    def fail_trial(self, trial: optuna.Trial, fault: str) -> None:
        """Store the reason why a trial has no score."""
        trial.set_user_attr("fault", fault)
        self.study.tell(trial, state=TrialState.FAIL)

    def list_trials(self) -> list[Trial]:
        """Return every trial so far, in order of their numbers."""
        trials = self.study.get_trials(deepcopy=False)[: len(self.points)]
        return [self._build_record(trial) for trial in trials]

    def _build_record(self, trial: FrozenTrial) -> Trial:
        attributes = trial.user_attrs
        return Trial(
            number=trial.number,
            settings=self.points[trial.number],
            state=STATES[trial.state],
            score=trial.value if trial.state == TrialState.COMPLETE else None,
            **{key: attributes[key] for key in TRIAL_ATTRIBUTES if key in attributes},
        )

    def _release_orphans(self) -> None:
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            if self._is_orphan(trial):
                self.release_trial(trial)

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker", "")
        if not worker:
            start = trial.datetime_start
            return start is not None and datetime.now() - start > CLAIM_TIMEOUT
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


class FixedPointSampler(BaseSampler):
    """Sampler that gives trial n the n-th point of a list."""

    def __init__(self, points: list[Point]) -> None:
        """Use these points."""
        self.points = points

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return an empty space: no parameter depends on other trials."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no values: no parameter depends on other trials."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the value of the trial's point."""
        return to_storable(self.points[trial.number][param_name])


class ProcessLock(JournalFileOpenLock):
    """Lock of a journal that the system releases when its process dies, unlike Optuna's own."""

    def __init__(self, path: str) -> None:
        """Create the lock of a journal file."""
        super().__init__(path)
        self.file_lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        """Wait for the lock."""
        self.file_lock.acquire()
        return True

    def release(self) -> None:
        """Release the lock."""
        self.file_lock.release()


def _open_storage(location: str) -> optuna.storages.BaseStorage:
    if "://" in location:
        try:
            return optuna.storages.RDBStorage(location)
        except DBAPIError:  # another process was creating the same tables
            sleep(1)
            return optuna.storages.RDBStorage(location)
    Path(location).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(location, ProcessLock(location)))


def suggest_value(trial: optuna.Trial, dimension: Range | Choice) -> None:
    """Store a trial's value as an Optuna parameter, for Optuna's own tools."""
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
    """Return a value as Optuna stores it: lists and tables as text."""
    return value if isinstance(value, str | bool | int | float) else str(value)
