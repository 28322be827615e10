"""A fake of Ray that runs tasks in this process, and loses tasks on request."""

from collections.abc import Callable, Generator, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from serein.records import Fold


class ProcessLost(Exception):
    """Raised as by Ray when a process has died."""


class FakeRay:
    """The part of Ray that ``ray_backend`` uses.

    Attributes:
        losses: for each fold, the number of messages after which each of its attempts dies.
        tries: for each fold, the state at the start of each of its attempts.
        running: the tasks that are running.
        max_running: the maximum number of tasks at a time.
    """

    exceptions = SimpleNamespace(RayError=ProcessLost)

    def __init__(self, cores: int = 2, losses: Mapping[str, list[int]] | None = None) -> None:
        self.cores = cores
        self.losses = {fold: list(counts) for fold, counts in (losses or {}).items()}
        self.tries: dict[str, list[bytes | None]] = {}
        self.running: list[Any] = []
        self.max_running = 0

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "Resources": {"CPU": float(self.cores)}},
            {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
        ]

    def put(self, content: bytes) -> bytes:
        return content

    def get(self, messages: Any) -> Any:
        return messages

    def remote(self, function: Callable[..., Generator[Any, None, None]]) -> "FakeRemote":
        return FakeRemote(self, function)

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        """Return the task of the most recent fold first: nothing may depend on the order."""
        self.max_running = max(self.max_running, len(tasks))
        return tasks[-1:], tasks[:-1]

    def cancel(self, task: Any, force: bool) -> None:
        assert force
        task.close()


class FakeRemote:
    def __init__(self, ray: FakeRay, function: Callable[..., Generator[Any, None, None]]) -> None:
        self.ray, self.function = ray, function

    def options(self, **options: Any) -> "FakeRemote":
        assert options["max_retries"] == 0
        return self

    def remote(self, content: bytes, fold: Fold, state: bytes | None) -> Iterator[Any]:
        self.ray.tries.setdefault(fold.name, []).append(state)
        counts = self.ray.losses.get(fold.name)
        return self._dying(self.function(content, fold, state), counts.pop(0) if counts else None)

    def _dying(self, messages: Generator[Any, None, None], count: int | None) -> Iterator[Any]:
        self.ray.running.append(self)
        try:
            for number, one in enumerate(messages):
                if number == count:
                    raise ProcessLost("a process died\nsee its log")
                yield one
        finally:
            self.ray.running.remove(self)
            messages.close()
