"""Hashes of files, remembered for as long as the files stay as they are.

A file is taken to be the same while size, inode and the times of its last change are. What was
changed within the last two seconds is not remembered: it may change again within the same tick
of the clock, as in git's index.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from serein.errors import CorpusError, StorageError
from serein.utils.files import cache_folder, write_bytes

RACY_WINDOW_NS = 2_000_000_000
"""Nanoseconds; some file systems count in steps of two seconds."""
CACHE_ROW_DTYPE = np.dtype([("stamp", "<i8", 4), ("digest", "V64")])
CTIME_INDEX = 3
"""Where in a stamp the time stands that no program sets at will."""


def hash_files(files: Sequence[str]) -> list[str]:
    """A hash of each file's bytes (BLAKE2b, 128 hexadecimal digits).

    Raises:
        CorpusError: a file cannot be read.
    """
    now = time.time_ns()
    place = (
        cache_folder() / f"hashes-{hashlib.sha256(os.fsencode('|'.join(files))).hexdigest()[:32]}"
    )
    row_n = _load_cached_rows(place, len(files))
    stamp_n4 = np.array([_get_file_stamp(file) for file in files], np.int64).reshape(-1, 4)
    stale_n = (row_n["stamp"] != stamp_n4).any(axis=1)
    for number in stale_n.nonzero()[0]:
        row_n["digest"][number] = _hash_file(files[number])
    row_n["stamp"] = np.where(stamp_n4[:, [CTIME_INDEX]] < now - RACY_WINDOW_NS, stamp_n4, -1)
    if (stale_n & (row_n["stamp"][:, 0] >= 0)).any():
        content = BytesIO()
        np.save(content, row_n)
        with suppress(StorageError):  # next time all is hashed again
            write_bytes(place, content.getbuffer())
    digits, each = row_n["digest"].tobytes().hex(), 2 * CACHE_ROW_DTYPE["digest"].itemsize
    return [digits[start : start + each] for start in range(0, len(digits), each)]


def _load_cached_rows(place: Path, count: int) -> np.ndarray:
    """What was remembered of these files; stamps that no file has where nothing was."""
    with suppress(OSError, ValueError, EOFError):
        row_n = np.load(place)
        if row_n.dtype == CACHE_ROW_DTYPE and row_n.shape == (count,):
            return row_n
    row_n = np.zeros(count, CACHE_ROW_DTYPE)
    row_n["stamp"] = -1
    return row_n


def _get_file_stamp(file: str) -> tuple[int, int, int, int]:
    try:
        found = os.stat(file)
    except OSError as error:
        raise _build_read_error(file, error) from error
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _hash_file(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, hashlib.blake2b).digest()
    except OSError as error:
        raise _build_read_error(file, error) from error


def _build_read_error(file: str, error: OSError) -> CorpusError:
    return CorpusError(
        f"{file} cannot be read: {error.strerror}; restore it or read the corpus again"
    )
