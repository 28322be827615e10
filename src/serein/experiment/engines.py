"""Who trains the folds of an evaluation: this machine, or a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from serein.cluster import joined
from serein.errors import ConfigError, UnknownName
from serein.experiment import folds
from serein.experiment.cluster import Cluster
from serein.experiment.plan import Plan
from serein.training.course import Course

ENGINES = ("local", "ray")
"""By the names that a user gives them."""


class Engine(Protocol):
    """Trains folds, of one evaluation or of several at a time; the numbers are the same.

    Attributes:
        facts: what results say of it.
    """

    facts: dict[str, Any]

    def has_room(self) -> bool:
        """Whether it would be idle soon, if no other evaluation were begun."""

    def begin(self, todo: Plan, fresh: bool) -> None:
        """Begin before this evaluation's turn has come; its folder is this engine's then."""

    def has(self, todo: Plan) -> bool:
        """Whether it was begun so."""

    def run(self, todo: Plan, progress: folds.Progress) -> dict[str, Course]:
        """Train every fold of an evaluation, and tell of every epoch."""

    def leave(self, todo: Plan) -> None:
        """Have no more to do with an evaluation, whether it is done or not."""


class Local:
    """This process, or others beside it; one evaluation after the other."""

    def __init__(self, jobs: int) -> None:
        """Train so many folds at a time."""
        self.jobs = jobs
        self.facts = {"jobs": jobs}

    def has_room(self) -> bool:
        """Never."""
        return False

    def begin(self, todo: Plan, fresh: bool) -> None:
        """Wait for its turn."""

    def has(self, todo: Plan) -> bool:
        """Never."""
        return False

    def run(self, todo: Plan, progress: folds.Progress) -> dict[str, Course]:
        """Train every fold."""
        return folds.run(todo, self.jobs, progress)

    def leave(self, todo: Plan) -> None:
        """Nothing is left to do."""


@contextmanager
def engaged(engine: str | Engine, jobs: int | None, address: str | None) -> Iterator[Engine]:
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
        yield Local(jobs or 1)
        return
    with joined(address) as ray:
        cluster = Cluster(ray, jobs)
        try:
            yield cluster
        finally:
            cluster.close()
