"""Files are written whole or not at all; and where those lie that can be made again.

Hashes of files, remembered for as long as the files stay as they are.

A file is taken to be the same while size, inode and the times of its last change are. What was
changed within the last two seconds is not remembered: it may change again within the same tick
of the clock, as in git's index.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from io import BytesIO
from pathlib import Path
from socket import gethostname
from tempfile import NamedTemporaryFile
from zlib import crc32

import numpy as np

from serein.errors import CorpusError, StorageError


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of ``path`` when the block ends well.

    Whatever stood at ``path`` survives a full disk, an exception, and a killed process; what such
    a process left of it on this machine is removed first.

    Raises:
        StorageError: the file could not be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_temporaries(path)
        prefix = f"{_temporary_prefix(path)}{os.getpid()}."
        with NamedTemporaryFile(dir=path.parent, prefix=prefix, delete=False) as file:
            temporary = Path(file.name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_get_umask())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"could not write {path}: {reason}; what stood there before is unchanged. "
            "Free some space or choose a folder that you may write to."
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


MAX_NAME_BYTES = 200
"""Bytes of a name that still stand in that of a temporary."""


def _temporary_prefix(path: Path) -> str:
    """How temporaries of a file begin that are made here; a process's number follows."""
    named = (
        path.name
        if len(os.fsencode(path.name)) <= MAX_NAME_BYTES
        else f"{_checksum(path.name):08x}"
    )
    return f".{named}.{_host_id():08x}."


@cache
def _host_id() -> int:
    """What tells a space of process numbers from others: machines', containers'."""
    marks = [gethostname()]
    with suppress(OSError):
        marks.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return _checksum("\n".join(marks))


def _checksum(words: str) -> int:
    return crc32(os.fsencode(words))


def _remove_stale_temporaries(path: Path) -> None:
    """Remove temporaries of a file whose processes are gone, as far as one may."""
    if os.name != "posix":  # elsewhere a process cannot be asked for without being told to end
        return
    for left in path.parent.glob(f"{escape(_temporary_prefix(path))}*"):
        number = left.name.removeprefix(_temporary_prefix(path)).partition(".")[0]
        if number.isdigit() and not _is_process_alive(int(number)):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def _is_process_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no process at all
        return True
    return True


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace ``path`` by ``content``, whole or not at all."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace ``path`` by ``content`` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def cache_folder() -> Path:
    """Where frames, and hashes of files, are kept: ``SEREIN_CACHE``, or the user's cache folder."""
    import platformdirs

    named = os.environ.get("SEREIN_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("serein")


def _get_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
