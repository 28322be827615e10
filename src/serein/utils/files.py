"""Atomic writing of files, and the cache folder."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from pathlib import Path
from socket import gethostname
from tempfile import NamedTemporaryFile
from zlib import crc32

from serein.errors import StorageError

MAX_NAME_BYTES = 200
"""Longest file name that is part of its temporary file's name; a longer one is replaced by its
checksum."""


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace ``path`` by ``content``, whole or not at all."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace ``path`` by ``content`` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_texts(folder: Path, contents: Mapping[str, str]) -> tuple[Path, ...]:
    """Write files of a folder, by name; return their paths.

    Raises:
        StorageError: a file could not be written; an earlier file of its name is unchanged.
    """
    for name, content in contents.items():
        write_text(folder / name, content)
    return tuple(folder / name for name in contents)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an exception.

    The previous content of ``path`` survives a full disk, an exception, and a killed process.
    Temporary files that killed processes of this machine left behind are removed first.

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
            f"could not write {path}: {reason}; its previous content is unchanged. "
            "Free some space or choose a folder that you may write to."
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _remove_stale_temporaries(path: Path) -> None:
    """Remove temporary files of ``path`` whose processes have ended, where permitted."""
    if os.name != "posix":  # elsewhere, os.kill(process, 0) would end the process
        return
    for file in path.parent.glob(f"{escape(_temporary_prefix(path))}*"):
        process = file.name.removeprefix(_temporary_prefix(path)).partition(".")[0]
        if process.isdigit() and not _is_process_alive(int(process)):
            with suppress(OSError):
                file.unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    """Return the start of the names of this host's temporary files; the process id follows."""
    is_short = len(os.fsencode(path.name)) <= MAX_NAME_BYTES
    name = path.name if is_short else f"{_checksum(path.name):08x}"
    return f".{name}.{_host_id():08x}."


@cache
def _host_id() -> int:
    """Return an id of the machine and its process namespace: containers have their own."""
    parts = [gethostname()]
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return _checksum("\n".join(parts))


def _checksum(text: str) -> int:
    return crc32(os.fsencode(text))


def _is_process_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a process id
        return True
    return True


def _get_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """Return the folder of the caches: ``SEREIN_CACHE``, or the user's cache folder."""
    import platformdirs

    folder = os.environ.get("SEREIN_CACHE")
    return Path(folder) if folder else platformdirs.user_cache_path("serein")
