"""A run over a folder, as it lies on the disk while it goes on.

Beside ``out.parquet`` there is the folder ``out.parquet.run``:

- ``lock``: held by the process that writes;
- ``plan.json``: what is run, so that nothing else is mixed with it;
- ``part-000007.parquet``: rows as they came, answers and failures; whole or not there at all;
- ``base-000007.parquet``: all rows up to part 7, which it makes superfluous;
- ``summary.json``: there when ``out.parquet`` holds all of it.

So a file is done when its row is in a part, and at no other time: whatever kills the process, no
row is lost and none is there twice.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from serein.errors import ConfigError, StorageError
from serein.inference.tables import REASON_COLUMN, Row
from serein.utils.files import replace_atomically, write_text

PLAN_FILE = "plan.json"
PART_NAME = re.compile(r"(part|base)-(\d{6,})\.parquet")


class PartStore:
    """Rows in parts. Only who holds the lock may make one."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Look at what is there.

        Args:
            folder: of the run.
            schema: of the rows.
        """
        self.folder, self.schema = folder, schema
        found = sorted(_list_parts(folder))
        bases = [number for number, kind, _ in found if kind == "base"]
        self.base = bases[-1] if bases else -1
        self.next_number = found[-1][0] + 1 if found else 0

    def remove_leftovers(self) -> None:
        """Remove what a process was writing when it was killed."""
        begun = [*self.folder.glob(".part-*"), *self.folder.glob(".base-*")]
        for place in [*begun, *self._list_superseded()]:
            place.unlink()

    def read_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows.

        Raises:
            StorageError: a part is damaged.
        """
        paths = sorted(_list_parts(self.folder))
        parts = [_read_part(path, columns) for *key, path in paths if key >= [self.base, "base"]]
        if not parts:
            empty = self.schema.empty_table()
            return empty.select(columns) if columns else empty
        return pa.concat_tables(parts)

    def read_done(self) -> dict[str, bool]:
        """The files that have a row, and whether that is an answer."""
        table = self.read_table(["file", REASON_COLUMN])
        return dict(
            zip(table["file"].to_pylist(), table[REASON_COLUMN].is_null().to_pylist(), strict=True)
        )

    def add(self, rows: list[Row]) -> None:
        """Keep some rows, all of them or none.

        Raises:
            StorageError: the part could not be written.
        """
        self._write_part(
            f"part-{self.next_number:06d}.parquet", pa.Table.from_pylist(rows, self.schema)
        )
        self.next_number += 1

    def replace(self, table: pa.Table) -> None:
        """Put one table in the place of all parts.

        Raises:
            StorageError: it could not be written; the parts are still there.
        """
        self.base = self.next_number
        self._write_part(f"base-{self.base:06d}.parquet", table)
        self.next_number += 1
        for path in self._list_superseded():
            path.unlink()

    def _write_part(self, name: str, table: pa.Table) -> None:
        with replace_atomically(self.folder / name) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def _list_superseded(self) -> list[Path]:
        current = self.base, "base"
        return [p for number, kind, p in _list_parts(self.folder) if (number, kind) < current]


def _list_parts(folder: Path) -> Iterator[tuple[int, str, Path]]:
    for path in folder.iterdir():
        if match := PART_NAME.fullmatch(path.name):
            yield int(match[2]), match[1], path


def _read_part(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}): delete it and run the same command "
            "again; what it held will be recognised again"
        ) from error


@contextmanager
def lock_run(folder: Path, output: Path) -> Iterator[None]:
    """Let this process alone write to a run.

    Raises:
        ConfigError: the output is there, and is not of a run.
        StorageError: another process writes, or the folder cannot be made.
    """
    if output.exists() and not (folder / PLAN_FILE).exists():
        raise ConfigError(
            f"{output} is there already, and there is no {folder.name} beside it, by which a run "
            "could go on. Remove it, or choose another output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"another process is writing {output}: wait until it has ended, or give this one "
            "another output"
        ) from None
    except OSError as error:
        raise StorageError(
            f"could not make {folder}: {error.strerror}; choose an output that you may write to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_plan(folder: Path, output: Path, plan: Mapping[str, Any]) -> None:
    """Begin a plan, or see that it is the one that was begun.

    Args:
        folder: of the run.
        output: where its answers go.
        plan: what decides the answers, as JSON has it; keys are words for people.

    Raises:
        ConfigError: another plan was begun there.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        write_text(path, json.dumps(plan, indent=1))
        return
    begun: Any = None
    with suppress(ValueError, RecursionError):
        begun = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(begun, dict):
        raise ConfigError(f"{path} is damaged; remove {folder} and {output}, and begin anew")
    for key in [*plan, *(begun.keys() - plan.keys())]:
        if begun.get(key) != plan.get(key):
            raise ConfigError(
                f"{output} was begun with the {key} {begun.get(key)}; now it is {plan.get(key)}. "
                f"Choose another output, or remove {folder.name} and {output.name} to begin anew"
            )
