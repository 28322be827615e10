"""Progress messages of an evaluation, and the reproducible part of its results."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from serein.evaluation.evaluate import OpenProgress
from serein.evaluation.plan import Plan
from serein.results.evaluation import Epoch

EpochLog = list[tuple[str, int]]


def log_epochs(
    log: EpochLog, act: Callable[[str, Epoch], None] = lambda fold, epoch: None
) -> OpenProgress:
    def open_progress(plan: Plan) -> AbstractContextManager[Callable[[str, Epoch], None]]:
        def progress(fold: str, epoch: Epoch) -> None:
            log.append((fold, epoch.epoch))
            act(fold, epoch)

        @contextmanager
        def shown() -> Iterator[Callable[[str, Epoch], None]]:
            yield progress

        return shown()

    return open_progress


def load_reproducible_part(folder: Path) -> dict[str, Any]:
    """Load ``results.json`` without the times, the command and the engine."""
    table: dict[str, Any] = json.loads((folder / "results.json").read_text())
    for name in ("created", "command", "seconds"):
        del table[name]
    for name in ("elapsed_seconds", "engine", "jobs", "peak_megabytes"):
        table["environment"].pop(name, None)
    for fold in table["folds"]:
        for epoch in fold["history"]:
            del epoch["seconds"]
    return table
