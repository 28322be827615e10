"""Who trains the folds of an evaluation: this machine, or a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from serein.errors import ConfigError, UnknownName
from serein.evaluation import folds
from serein.evaluation.plan import Plan
from serein.evaluation.ray_backend import RayEngine
from serein.training.checkpoint import TrainingRun
from serein.utils.distributed import join_ray_cluster

ENGINES = ("local", "ray")
"""By the names that a user gives them."""


class Engine(Protocol):
    """Trains folds, of one evaluation or of several at a time; the numbers are the same.

    Attributes:
        facts: what results say of it.
    """

    provenance: dict[str, Any]

    def has_room(self) -> bool:
        """Whether it would be idle soon, if no other evaluation were begun."""

    def submit(self, plan: Plan, fresh: bool) -> None:
        """Begin before this evaluation's turn has come; its folder is this engine's then."""

    def is_submitted(self, plan: Plan) -> bool:
        """Whether it was begun so."""

    def run(self, plan: Plan, progress: folds.EpochCallback) -> dict[str, TrainingRun]:
        """Train every fold of an evaluation, and tell of every epoch."""

    def release(self, plan: Plan) -> None:
        """Have no more to do with an evaluation, whether it is done or not."""


class LocalEngine:
    """This process, or others beside it; one evaluation after the other."""

    def __init__(self, jobs: int) -> None:
        """Train so many folds at a time."""
        self.jobs = jobs
        self.provenance = {"jobs": jobs}

    def has_room(self) -> bool:
        """Never."""
        return False

    def submit(self, plan: Plan, fresh: bool) -> None:
        """Wait for its turn."""

    def is_submitted(self, plan: Plan) -> bool:
        """Never."""
        return False

    def run(self, plan: Plan, progress: folds.EpochCallback) -> dict[str, TrainingRun]:
        """Train every fold."""
        return folds.run_folds(plan, self.jobs, progress)

    def release(self, plan: Plan) -> None:
        """Nothing is left to do."""


@contextmanager
def open_engine(engine: str | Engine, jobs: int | None, address: str | None) -> Iterator[Engine]:
    """An engine by its name, at work within a ``with`` block; or one that is at work already.

    Args:
        engine: "local" or "ray".
        jobs: folds at a time; None is 1 here, and as many as there is room for in a cluster.
        address: of the cluster's head; None is ``RAY_ADDRESS``, or else this machine.

    Raises:
        UnknownName: there is no such engine.
        ConfigError: there is no such cluster, or an address of none.
    """
    if not isinstance(engine, str):
        yield engine
        return
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if engine == "local" and address is not None:
        raise ConfigError(f"address {address} is of a cluster: set the engine to ray, too")
    if engine == "local":
        yield LocalEngine(jobs or 1)
        return
    with join_ray_cluster(address) as ray:
        cluster = RayEngine(ray, jobs)
        try:
            yield cluster
        finally:
            cluster.close()
