"""What an evaluation tells while it runs, and what it leaves."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from serein.evaluation.evaluate import OpenProgress
from serein.evaluation.plan import Plan
from serein.results.evaluation import Epoch

Told = list[tuple[str, int]]


def telling(
    told: Told, act: Callable[[str, Epoch], None] = lambda fold, epoch: None
) -> OpenProgress:
    def started(todo: Plan) -> AbstractContextManager[Callable[[str, Epoch], None]]:
        def progress(fold: str, epoch: Epoch) -> None:
            told.append((fold, epoch.epoch))
            act(fold, epoch)

        @contextmanager
        def shown() -> Iterator[Callable[[str, Epoch], None]]:
            yield progress

        return shown()

    return started


def numbers(folder: Path) -> dict[str, Any]:
    """What ``results.json`` holds, less what a clock, a keyboard or an engine gave."""
    table: dict[str, Any] = json.loads((folder / "results.json").read_text())
    for name in ("created", "command", "seconds"):
        del table[name]
    for name in ("elapsed_seconds", "engine", "jobs", "peak_megabytes"):
        table["environment"].pop(name, None)
    for fold in table["folds"]:
        for epoch in fold["history"]:
            del epoch["seconds"]
    return table
