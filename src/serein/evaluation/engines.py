"""Engines that train the folds of an evaluation: local processes, or a Ray cluster."""

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
"""Names of the engines in options."""


class Engine(Protocol):
    """Interface of an engine, which trains the folds of one evaluation or of several at a time.

    The numbers do not depend on the engine.

    Attributes:
        provenance: entries for the environment in the results.
    """

    provenance: dict[str, Any]

    def has_room(self) -> bool:
        """Return whether another evaluation should be submitted now, to keep the engine busy."""

    def submit(self, plan: Plan, fresh: bool) -> None:
        """Start an evaluation ahead of its `run`; the engine then holds the lock of its folder."""

    def is_submitted(self, plan: Plan) -> bool:
        """Return whether an evaluation was started by `submit`."""

    def run(self, plan: Plan, on_epoch: folds.EpochCallback) -> dict[str, TrainingRun]:
        """Train every fold of an evaluation, and report every epoch."""

    def release(self, plan: Plan) -> None:
        """Drop an evaluation, finished or not, and release its folder."""


class LocalEngine:
    """Trains in this process or in local worker processes, one evaluation after the other."""

    def __init__(self, jobs: int) -> None:
        """Train ``jobs`` folds at a time."""
        self.jobs = jobs
        self.provenance = {"jobs": jobs}

    def has_room(self) -> bool:
        """Return False: nothing is started ahead."""
        return False

    def submit(self, plan: Plan, fresh: bool) -> None:
        """Do nothing: `run` trains the evaluation."""

    def is_submitted(self, plan: Plan) -> bool:
        """Return False."""
        return False

    def run(self, plan: Plan, on_epoch: folds.EpochCallback) -> dict[str, TrainingRun]:
        """Train every fold of an evaluation, and report every epoch."""
        return folds.run_folds(plan, self.jobs, on_epoch)

    def release(self, plan: Plan) -> None:
        """Do nothing."""


@contextmanager
def open_engine(engine: str | Engine, jobs: int | None, address: str | None) -> Iterator[Engine]:
    """Open an engine for a ``with`` block.

    Args:
        engine: "local" or "ray"; or an engine that is open already.
        jobs: folds at a time; None is 1 for "local", and all that fit into the cluster for "ray".
        address: of the cluster's head; None is ``RAY_ADDRESS``, or else this machine.

    Raises:
        UnknownName: there is no engine of that name.
        ConfigError: the cluster cannot be reached, or "local" was given an address.
    """
    if not isinstance(engine, str):
        yield engine
        return
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if engine == "local" and address is not None:
        raise ConfigError(
            f"address {address} needs a cluster, and the engine is local; set the engine to ray"
        )
    if engine == "local":
        yield LocalEngine(jobs or 1)
        return
    with join_ray_cluster(address) as ray:
        cluster = RayEngine(ray, jobs)
        try:
            yield cluster
        finally:
            cluster.close()
