"""The folder of an evaluation: whose it is, and what an earlier run left there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from serein.errors import StorageError
from serein.evaluation.plan import Plan
from serein.results import io


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Let this process alone write there.

    Raises:
        StorageError: another one does, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(f"{folder} is in use by another evaluation; wait for it") from None
    except OSError as error:
        raise StorageError(f"cannot write in {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def is_finished(plan: Plan) -> bool:
    """Whether its results are there to be read."""
    return io.resolve_results_file(plan.folder).is_file()


def clear_run(plan: Plan) -> None:
    """Remove the results, and the state of every fold."""
    io.resolve_results_file(plan.folder).unlink(missing_ok=True)
    for fold in plan.protocol.folds:
        plan.state_path(fold).unlink(missing_ok=True)
