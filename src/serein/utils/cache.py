"""The cache folder: what is in it, how large it is, and how to keep it below a limit.

It holds features of corpora (one folder each), transcripts, predictions of the nuisance baseline,
hashes of files, and files of onnxruntime-web. Everything in it is computed or fetched again when it
is missing.
"""

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serein.errors import ConfigError
from serein.utils.files import cache_folder

LIMIT_VARIABLE = "SEREIN_CACHE_LIMIT"
"""Environment variable with the largest size of the cache, such as "5GB"; without it, none."""
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", re.IGNORECASE)
ENTRY_PATTERN = re.compile(r"[0-9a-f]{32}")
STALE_SECONDS = 86_400
"""Age of an unfinished entry from which on no process is writing it any more."""


@dataclass(frozen=True)
class CacheEntry:
    """A folder or file of the cache.

    Attributes:
        path: of the entry.
        kind: "features", "transcripts", "nuisance baseline", "onnxruntime-web", "unfinished" or
            "hashes of files".
        size: in bytes.
        used_at: time of its last use, in seconds since 1970.
    """

    path: Path
    kind: str
    size: int
    used_at: float


def list_entries(folder: Path | None = None) -> list[CacheEntry]:
    """Return the entries of the cache, the least recently used first.

    Args:
        folder: of the cache; None is the user's.
    """
    folder = folder or cache_folder()
    entries = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix == ".lock":
            continue
        with suppress(OSError):  # removed by another process
            entries.append(CacheEntry(path, _find_kind(path), _measure(path), path.stat().st_mtime))
    return sorted(entries, key=lambda entry: (entry.used_at, entry.path.name))


def _find_kind(path: Path) -> str:
    if path.name.startswith("."):
        return "unfinished"
    if path.name.startswith("nuisance-"):
        return "nuisance baseline"
    if path.name.startswith("onnxruntime-web-"):
        return "onnxruntime-web"
    if ENTRY_PATTERN.fullmatch(path.name) and path.is_dir():
        return "features"
    return "transcripts" if ENTRY_PATTERN.fullmatch(path.stem) else "hashes of files"


def _measure(path: Path) -> int:
    """Return the size of a file, or of all files of a folder, in bytes."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def mark_used(entry: Path) -> None:
    """Record that an entry was used now."""
    with suppress(OSError):
        os.utime(entry)


def clear(
    *,
    keep_bytes: int = 0,
    older_than_seconds: float = 0.0,
    folder: Path | None = None,
    spare: Sequence[Path] = (),
) -> list[CacheEntry]:
    """Remove entries, the least recently used first.

    Args:
        keep_bytes: entries are removed until the others are at most this large.
        older_than_seconds: only entries that were not used for so long.
        folder: of the cache; None is the user's.
        spare: entries that stay.

    Returns:
        What was removed.
    """
    entries, now = list_entries(folder), time.time()
    total, removed = sum(entry.size for entry in entries), []
    for entry in entries:
        age = now - entry.used_at
        is_written = entry.kind == "unfinished" and age < STALE_SECONDS
        if total <= keep_bytes or is_written or age < older_than_seconds or entry.path in spare:
            continue
        if _remove(entry.path):
            total -= entry.size
            removed.append(entry)
    return removed


def _remove(path: Path) -> bool:
    """Remove an entry; return whether it is gone, which it is not where a process holds it."""
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError:
        return False
    with suppress(OSError):
        path.with_suffix(".lock").unlink(missing_ok=True)
    return True


def read_limit() -> int | None:
    """Return the largest size of the cache in bytes, from ``SEREIN_CACHE_LIMIT``; None without it.

    Raises:
        ConfigError: the variable is no size.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    return parse_size(text, LIMIT_VARIABLE) if text else None


def enforce_limit(entry: Path, limit: int | None) -> list[CacheEntry]:
    """Remove the least recently used entries until the cache is not larger than a limit.

    Args:
        entry: that was just written, and stays.
        limit: in bytes; None removes nothing.

    Returns:
        What was removed.
    """
    if limit is None:
        return []
    return clear(keep_bytes=limit, folder=entry.parent, spare=(entry,))


def parse_size(text: str, what: str) -> int:
    """Parse a size in bytes.

    >>> parse_size("2.5 GB", "--keep"), parse_size("300mb", "--keep")
    (2500000000, 300000000)

    Args:
        text: a number with a unit.
        what: name of the setting, for errors.

    Raises:
        ConfigError: it is no size.
    """
    match = SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{what} is {text!r}; expected a size such as 5GB or 300MB")
    unit = match[2].upper()
    return int(float(match[1]) * UNITS[unit if unit in UNITS else f"{unit}B"])


def format_size(size: int) -> str:
    """Format a size in bytes.

    >>> format_size(5_123_000_000), format_size(730_000), format_size(12)
    ('5.1 GB', '730.0 kB', '12 B')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
