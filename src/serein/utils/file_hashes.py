"""Hashes and other values of files, cached for as long as the files do not change.

A file counts as unchanged while its size, inode and times of modification and status change stay
the same. A file that changed within the last two seconds is not cached: it may change again within
the same tick of the file system's clock (git's index has the same rule).
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from serein.errors import CorpusError, StorageError
from serein.utils.files import cache_folder, write_bytes

MIN_AGE_NS = 2_000_000_000
"""Age in nanoseconds from which the times of a file are relied on; some file systems have a
resolution of two seconds."""
CACHE_ROW_DTYPE = np.dtype([("stamp", "<i8", 4), ("digest", "V64")])
CTIME_INDEX = 3
"""Index of the status change time in a stamp; programs cannot set this time."""


def hash_files(files: Sequence[str]) -> list[str]:
    """Return a hash of each file's bytes (BLAKE2b, 128 hexadecimal digits).

    Raises:
        CorpusError: a file cannot be read.
    """
    digest_n = cache_file_values(files, "hashes", CACHE_ROW_DTYPE, _hash_file)
    digits, width = digest_n.tobytes().hex(), 2 * digest_n.itemsize
    return [digits[start : start + width] for start in range(0, len(digits), width)]


def cache_file_values(
    files: Sequence[str], name: str, row_dtype: np.dtype, compute: Callable[[str], object]
) -> np.ndarray:
    """Return a value of each file; values of files that have not changed come from the cache.

    Args:
        files: paths.
        name: of the values, for the name of the cache file.
        row_dtype: of a stamp and a value.
        compute: returns the value of a file.

    Raises:
        CorpusError: a file does not exist.
    """
    now = time.time_ns()
    cache_file = _find_cache_file(files, name)
    row_n = _load_cached_rows(cache_file, len(files), row_dtype)
    stamp, value = row_dtype.names or ()
    stamp_n4 = np.array([_get_file_stamp(file) for file in files], np.int64).reshape(-1, 4)
    stale_n = (row_n[stamp] != stamp_n4).any(axis=1)
    for index in stale_n.nonzero()[0]:
        row_n[value][index] = compute(files[index])
    row_n[stamp] = np.where(stamp_n4[:, [CTIME_INDEX]] < now - MIN_AGE_NS, stamp_n4, -1)
    if (stale_n & (row_n[stamp][:, 0] >= 0)).any():
        content = BytesIO()
        np.save(content, row_n)
        with suppress(StorageError):  # without the cache, all values are computed again next time
            write_bytes(cache_file, content.getbuffer())
    return row_n[value]


def has_cached_hashes(files: Sequence[str]) -> bool:
    """Return whether `hash_files` would read none of these files.

    Raises:
        CorpusError: a file does not exist.
    """
    stamp_n4 = np.array([_get_file_stamp(file) for file in files], np.int64).reshape(-1, 4)
    row_n = _load_cached_rows(_find_cache_file(files, "hashes"), len(files), CACHE_ROW_DTYPE)
    return bool((row_n["stamp"] == stamp_n4).all())


def _find_cache_file(files: Sequence[str], name: str) -> Path:
    """Return the cache file of some values of a list of files."""
    key = hashlib.sha256(os.fsencode("|".join(files))).hexdigest()[:32]
    return cache_folder() / f"{name}-{key}"


def _load_cached_rows(cache_file: Path, count: int, row_dtype: np.dtype) -> np.ndarray:
    """Return the cached rows of these files, or rows with stamps that match no file."""
    with suppress(OSError, ValueError, EOFError):
        row_n = np.load(cache_file)
        if row_n.dtype == row_dtype and row_n.shape == (count,):
            return row_n
    row_n = np.zeros(count, row_dtype)
    row_n["stamp"] = -1
    return row_n


def _get_file_stamp(file: str) -> tuple[int, int, int, int]:
    try:
        status = os.stat(file)
    except OSError as error:
        raise _build_read_error(file, error) from error
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _hash_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).digest()
    except OSError as error:
        raise _build_read_error(path, error) from error


def _build_read_error(file: str, error: OSError) -> CorpusError:
    return CorpusError(
        f"{file} cannot be read: {error.strerror}; restore it or read the corpus again"
    )
