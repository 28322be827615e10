"""A cluster that is this process, and loses tasks where it is told to."""

from collections.abc import Callable, Generator, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from serein.records import Fold


class Lost(Exception):
    """As Ray says that a process has died."""


class Alone:
    """What ``cluster.py`` asks of Ray.

    Attributes:
        losses: for each fold, after how many news each of its tries dies.
        tries: for each fold, the state that each of its tries began with.
        running: the tasks that train.
        most: the most tasks that there were at a time.
    """

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, cores: int = 2, losses: Mapping[str, list[int]] | None = None) -> None:
        self.cores = cores
        self.losses = {fold: list(counts) for fold, counts in (losses or {}).items()}
        self.tries: dict[str, list[bytes | None]] = {}
        self.running: list[Any] = []
        self.most = 0

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "Resources": {"CPU": float(self.cores)}},
            {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
        ]

    def put(self, content: bytes) -> bytes:
        return content

    def get(self, news: Any) -> Any:
        return news

    def remote(self, function: Callable[..., Generator[Any, None, None]]) -> "Remote":
        return Remote(self, function)

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        """Those of the most recent fold first: nothing may depend on the order."""
        self.most = max(self.most, len(tasks))
        return tasks[-1:], tasks[:-1]

    def cancel(self, task: Any, force: bool) -> None:
        assert force
        task.close()


class Remote:
    def __init__(self, ray: Alone, function: Callable[..., Generator[Any, None, None]]) -> None:
        self.ray, self.function = ray, function

    def options(self, **options: Any) -> "Remote":
        assert options["max_retries"] == 0
        return self

    def remote(self, content: bytes, fold: Fold, state: bytes | None) -> Iterator[Any]:
        self.ray.tries.setdefault(fold.name, []).append(state)
        counts = self.ray.losses.get(fold.name)
        return self._dying(self.function(content, fold, state), counts.pop(0) if counts else None)

    def _dying(self, news: Generator[Any, None, None], count: int | None) -> Iterator[Any]:
        self.ray.running.append(self)
        try:
            for number, one in enumerate(news):
                if number == count:
                    raise Lost("a process died\nsee its log")
                yield one
        finally:
            self.ray.running.remove(self)
            news.close()
