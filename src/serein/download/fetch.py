"""Fetch a freely available corpus: download its archive, verify it, unpack it, save its location.

An interrupted download is resumed. The corpus's folder gets its files only after all of them have
been compared with the published ones.
"""

import os
import stat
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from gzip import BadGzipFile
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from serein import corpora
from serein.download.integrity import IntegrityReport, check_corpus
from serein.errors import CorpusError, StorageError, UnknownName

ProgressCallback = Callable[[int, int | None], None]
"""Called with the number of bytes downloaded so far, and the total if it is known."""

ARCHIVES_FILE = Path(__file__).parent / "archives.toml"
MIRROR_VARIABLE = "SEREIN_MIRROR"
"""Environment variable with a base URL to download archives from instead."""
BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 60
"""Time without a byte after which a connection has failed."""
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206
EXTRACT_OPTIONS: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python before 3.11.4 has no filters; ``_check_member`` checks names and types in any version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An archive of a corpus; the head of ``archives.toml`` describes the fields."""

    corpus: str
    part: str
    url: str
    provides: str
    hash: str | None = None
    archive_root: str = ""


def load_archives() -> list[Archive]:
    """Return all archives that can be fetched."""
    tables = tomllib.loads(ARCHIVES_FILE.read_text(encoding="utf-8"))
    return [
        Archive(corpus=corpus, part=part, **fields)
        for corpus, parts in tables.items()
        for part, fields in parts.items()
    ]


def find_archive(corpus: str, part: str | None = None) -> Archive:
    """Return the archive of a part of a corpus; ``part`` is optional if the corpus has only one.

    Raises:
        UnknownName: the corpus cannot be fetched, or has no such part.
    """
    archives = load_archives()
    parts = {archive.part: archive for archive in archives if archive.corpus == corpus}
    if not parts:
        hint = "Get any other corpus from its owners; `serein corpora` lists where."
        raise UnknownName("corpus to fetch", corpus, {one.corpus for one in archives}, hint)
    if part is None and len(parts) == 1:
        return next(iter(parts.values()))
    if part not in parts:
        hint = f"Name a part: `serein corpora fetch {corpus} {min(parts)}`."
        raise UnknownName(f"part of {corpus}", part or "", parts, hint)
    return parts[part]


def archive_url(archive: Archive, mirror: str | None = None) -> str:
    """Return the URL of an archive: its home, or the same file below another base URL."""
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{_archive_filename(archive)}" if mirror else archive.url


def _archive_filename(archive: Archive) -> str:
    return Path(urlsplit(archive.url).path).name


def fetch(
    archive: Archive,
    to: Path,
    *,
    mirror: str | None = None,
    progress: ProgressCallback | None = None,
) -> IntegrityReport:
    """Fetch a part of a corpus into its folder, and save the folder as the corpus's location.

    Args:
        archive: from ``find_archive``.
        to: the corpus's folder; it may already contain other parts.
        mirror: base URL to download the file from instead; default: the variable SEREIN_MIRROR.
        progress: called during the download.

    Returns:
        The integrity report of the new part.

    Raises:
        CorpusError: the archive is unavailable, differs from the published one, or was already
            unpacked.
        StorageError: a file cannot be written.
    """
    to = to.expanduser().absolute()
    if (to / archive.provides).exists():
        raise CorpusError(
            f"{to} already has {archive.provides}/; check it with `serein corpora check "
            f"{archive.corpus}={to}`, or choose another folder with --to"
        )
    file = _download_archive(archive, to.parent, mirror, progress)
    with _temporary_folder(to) as folder:
        try:
            unpack_archive(file, folder)
            report = _verify_archive(archive, folder, archive_url(archive, mirror))
        except CorpusError:
            file.unlink()  # or the next attempt would use it again
            raise
        _move_into(folder / archive.archive_root, to)
    file.unlink()
    corpora.register(archive.corpus, to)
    return report


def _download_archive(
    archive: Archive, folder: Path, mirror: str | None, progress: ProgressCallback | None
) -> Path:
    """Download an archive into a folder, and compare it with the published hash if there is one."""
    import pooch  # slow to import

    url = archive_url(archive, mirror)
    name = f"{archive.corpus}-{_archive_filename(archive)}"
    pooch.get_logger().setLevel("WARNING")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        downloader = Downloader(folder / f"{name}.part", progress)
        return Path(pooch.retrieve(url, archive.hash, name, folder, downloader=downloader))
    except ValueError as error:
        fault = str(error).partition(". ")[0]  # the rest is advice, which is replaced here
        raise CorpusError(
            f"{url} is not the published archive, and was removed: {fault}. Fetch it again; if "
            "this does not help, the published file has changed: get it by hand and add it"
        ) from error
    except OSError as error:
        raise _write_error(folder, error) from error


class Downloader:
    """A downloader for pooch that resumes from a partial file."""

    def __init__(self, partial_file: Path, progress: ProgressCallback | None = None) -> None:
        """Configure a download.

        Args:
            partial_file: where to write; an interrupted download leaves it, and the next resumes.
            progress: called after every block.
        """
        self.partial_file = partial_file
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download ``url``, and move the complete file to ``output_file``.

        Raises:
            CorpusError: the file is not available, or the connection broke.
            OSError: a file cannot be written.
        """
        received = self.partial_file.stat().st_size if self.partial_file.exists() else 0
        try:
            with _open_url(url, received) as response:
                received = received if response.status == PARTIAL_CONTENT else 0
                length = response.headers.get("Content-Length")
                total = received + int(length) if length else None
                self._save(url, response, received, total)
        except RangeNotSatisfiable:
            self.partial_file.unlink()
            self(url, output_file, pooch)
        else:
            os.replace(self.partial_file, output_file)

    def _save(self, url: str, response: HTTPResponse, received: int, total: int | None) -> None:
        with self.partial_file.open("ab" if received else "wb") as file:
            for block in _read_blocks(url, response):
                file.write(block)
                received += len(block)
                if self.progress:
                    self.progress(received, total)
        if total is not None and received < total:
            raise _connection_error(url, f"it ended after {received} of {total} bytes")


class RangeNotSatisfiable(Exception):
    """The partial file is longer than the file on the server, so it is from another file."""


def _open_url(url: str, offset: int) -> HTTPResponse:
    headers = {"User-Agent": "serein"} | ({"Range": f"bytes={offset}-"} if offset else {})
    request = Request(url, headers=headers)
    try:
        response: HTTPResponse = urlopen(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        with suppress(OSError):
            error.close()
        if offset and error.code == RANGE_NOT_SATISFIABLE:
            raise RangeNotSatisfiable from error
        raise CorpusError(
            f"{url} cannot be fetched: {error.code} {error.reason}; try again later, or set "
            "SEREIN_MIRROR to a base URL that has the file"
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _connection_error(url, str(error)) from error
    return response


def _read_blocks(url: str, response: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK_BYTES):
            yield block
    except (OSError, HTTPException) as error:
        raise _connection_error(url, str(error)) from error


def _connection_error(url: str, reason: str) -> CorpusError:
    return CorpusError(
        f"the connection to {url} broke: {reason}. The bytes received so far are kept: run the "
        "same command again to resume"
    )


def unpack_archive(file: Path, folder: Path) -> None:
    """Unpack an untrusted zip or tar archive; nothing is written outside ``folder``.

    Raises:
        CorpusError: the file is not such an archive, is truncated, or would write elsewhere.
        OSError: a file cannot be written.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zip_file:
                for entry in zip_file.infolist():
                    is_link = stat.S_ISLNK(entry.external_attr >> 16)
                    _check_member(file, entry.filename, is_link=is_link)
                zip_file.extractall(folder)
        else:
            with tarfile.open(file) as tar_file:
                for member in tar_file.getmembers():
                    is_link = not (member.isfile() or member.isdir())
                    _check_member(file, member.name, is_link=is_link)
                tar_file.extractall(folder, **EXTRACT_OPTIONS)
    except (tarfile.TarError, zipfile.BadZipFile, BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{file} cannot be unpacked: {error}; fetch it again") from error


def _check_member(file: Path, name: str, *, is_link: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in str(path.parts[:1]) or is_link:
        raise CorpusError(f"{file} would write elsewhere ({path}); do not trust it")


def _verify_archive(archive: Archive, folder: Path, url: str) -> IntegrityReport:
    """Check an unpacked archive against the published hashes and counts."""
    report = check_corpus(f"{archive.corpus}={folder / archive.archive_root}", compare_audio=False)
    if not report.is_intact:
        reason = report.incomplete_reason.partition(". ")[0]
        fault = f"{url} is not the published corpus: {reason}"
        if report.changed or report.missing:
            fault = (
                f"{url} has {len(report.changed)} changed recordings, and "
                f"{len(report.missing)} of {report.published_count} are missing"
            )
        raise CorpusError(
            f"{fault}; nothing was kept. Fetch it again, or get {archive.corpus} by hand and add it"
        )
    return report


@contextmanager
def _temporary_folder(to: Path) -> Iterator[Path]:
    """Create a folder beside ``to``, on the same disk, and remove it at the end."""
    try:
        folder = Path(mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    except OSError as error:
        raise _write_error(to.parent, error) from error
    try:
        yield folder
    except OSError as error:
        raise _write_error(to.parent, error) from error
    finally:
        rmtree(folder, ignore_errors=True)


def _move_into(folder: Path, to: Path) -> None:
    """Move the unpacked files into the corpus's folder; files that exist there are not replaced."""
    to.mkdir(exist_ok=True)
    # Folders come last: a part counts as fetched once its folder is there.
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name)):
        if not (to / entry.name).exists():
            entry.rename(to / entry.name)


def _write_error(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"could not write in {folder}: {error.strerror or error}; free some space, or choose a "
        "writable folder with --to"
    )
