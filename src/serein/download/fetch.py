"""Fetch a corpus that may be had freely: download, compare, unpack, check, remember.

An interrupted download is continued. Nothing stands in the corpus's folder before all of it has
been compared with what its owners publish.

Download a file; what was interrupted is continued.

Unpack an archive that nobody has looked into.
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
"""Is told the bytes that are here, and all of them where that is known."""

BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 60  # seconds without a byte
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206


class Downloader:
    """Downloads by way of a partial file, in the manner that pooch calls."""

    def __init__(self, partial_file: Path, progress: ProgressCallback | None = None) -> None:
        """Prepare.

        Args:
            partial_file: the partial file; it stays if the download is interrupted, and is continued.
            progress: is told how far the download is.
        """
        self.partial_file = partial_file
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download ``url``, and put it in the place of ``output_file``.

        Raises:
            CorpusError: it is not there, or the connection broke.
            OSError: a file cannot be written.
        """
        here = self.partial_file.stat().st_size if self.partial_file.exists() else 0
        try:
            with _open_url(url, here) as answer:
                here = here if answer.status == PARTIAL_CONTENT else 0
                length = answer.headers.get("Content-Length")
                total = here + int(length) if length else None
                self._save(url, answer, here, total)
        except RangeNotSatisfiable:
            self.partial_file.unlink()
            self(url, output_file, pooch)
        else:
            os.replace(self.partial_file, output_file)

    def _save(self, url: str, answer: HTTPResponse, here: int, total: int | None) -> None:
        with self.partial_file.open("ab" if here else "wb") as file:
            for block in _read_blocks(url, answer):
                file.write(block)
                here += len(block)
                if self.progress:
                    self.progress(here, total)
        if total is not None and here < total:
            raise _connection_error(url, f"it ended after {here} of {total} bytes")


class RangeNotSatisfiable(Exception):
    """The server has nothing after the bytes that are here, so they are not of this file."""


def _open_url(url: str, here: int) -> HTTPResponse:
    headers = {"User-Agent": "serein"} | ({"Range": f"bytes={here}-"} if here else {})
    request = Request(url, headers=headers)
    try:
        answer: HTTPResponse = urlopen(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        with suppress(OSError):
            error.close()
        if here and error.code == RANGE_NOT_SATISFIABLE:
            raise RangeNotSatisfiable from error
        raise CorpusError(
            f"{url} cannot be fetched: {error.code} {error.reason}; try again later, or set "
            "SEREIN_MIRROR to a place that has the file"
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _connection_error(url, str(error)) from error
    return answer


def _read_blocks(url: str, answer: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := answer.read(BLOCK_BYTES):
            yield block
    except (OSError, HTTPException) as error:
        raise _connection_error(url, str(error)) from error


def _connection_error(url: str, reason: str) -> CorpusError:
    return CorpusError(
        f"the connection to {url} broke: {reason}. What is here is kept: run the same command "
        "again to go on"
    )


ARCHIVES_FILE = Path(__file__).parent / "archives.toml"
MIRROR_VARIABLE = "SEREIN_MIRROR"
"""The environment variable that names another place to fetch archives from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An archive of a corpus; ``archives.toml`` says what each field is."""

    corpus: str
    part: str
    url: str
    provides: str
    hash: str | None = None
    archive_root: str = ""


def load_archives() -> list[Archive]:
    """All archives that can be fetched."""
    homes = tomllib.loads(ARCHIVES_FILE.read_text(encoding="utf-8"))
    return [
        Archive(corpus=corpus, part=part, **home)
        for corpus, parts in homes.items()
        for part, home in parts.items()
    ]


def find_archive(corpus: str, part: str | None = None) -> Archive:
    """The archive of a part; a corpus of one part needs no name of it.

    Raises:
        UnknownName: the corpus cannot be fetched, or has no such part.
    """
    parts = {one.part: one for one in load_archives() if one.corpus == corpus}
    if not parts:
        hint = "Any other corpus must be got from its owners: `serein corpora` says where."
        raise UnknownName("corpus to fetch", corpus, {one.corpus for one in load_archives()}, hint)
    if part is None and len(parts) == 1:
        return next(iter(parts.values()))
    if part not in parts:
        hint = f"Name one: `serein corpora fetch {corpus} {min(parts)}`."
        raise UnknownName(f"part of {corpus}", part or "", parts, hint)
    return parts[part]


def archive_url(archive: Archive, mirror: str | None = None) -> str:
    """Where an archive is fetched from: its home, or another base address."""
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{_archive_filename(archive)}" if mirror else archive.url


def _archive_filename(wanted: Archive) -> str:
    return Path(urlsplit(wanted.url).path).name


def fetch(
    archive: Archive,
    to: Path,
    *,
    mirror: str | None = None,
    progress: ProgressCallback | None = None,
) -> IntegrityReport:
    """Fetch a part of a corpus into its folder, and remember the folder.

    Args:
        archive: from ``archive``.
        to: the corpus's folder; it may hold other parts.
        mirror: a base address to fetch the file from instead; default: that of SEREIN_MIRROR.
        progress: is told, as the download goes on, the bytes that are here and all of them.

    Returns:
        What the check of the new part found.

    Raises:
        CorpusError: the archive cannot be had, is not the published one, or is already unpacked.
        StorageError: a file cannot be written.
    """
    to = to.expanduser().absolute()
    if (to / archive.provides).exists():
        raise CorpusError(
            f"{to} has {archive.provides}/ already; check it with `serein corpora check "
            f"{archive.corpus}={to}`, or choose another folder with --to"
        )
    file = _download_archive(archive, to.parent, mirror, progress)
    with _temporary_folder(to) as folder:
        try:
            unpack_archive(file, folder)
            check = _verify_archive(archive, folder, archive_url(archive, mirror))
        except CorpusError:
            file.unlink()  # the next attempt must not take it again
            raise
        _move_into(folder / archive.archive_root, to)
    file.unlink()
    corpora.register(archive.corpus, to)
    return check


def _verify_archive(wanted: Archive, folder: Path, url: str) -> IntegrityReport:
    check = check_corpus(f"{wanted.corpus}={folder / wanted.archive_root}")
    if not check.is_intact:
        fault = (
            f"{url} gave {len(check.changed)} changed recordings, and {len(check.missing)} of "
            f"{check.published_count} are missing"
        )
        if not (check.changed or check.missing):
            fault = (
                f"{url} is not the published corpus: {check.incomplete_reason.partition('. ')[0]}"
            )
        raise CorpusError(
            f"{fault}; nothing was kept. Fetch it again, or get {wanted.corpus} by hand and add it"
        )
    return check


def _download_archive(
    wanted: Archive, folder: Path, mirror: str | None, progress: ProgressCallback | None
) -> Path:
    """The archive, once it has the published hash."""
    import pooch  # slow to import

    url = archive_url(wanted, mirror)
    name = f"{wanted.corpus}-{_archive_filename(wanted)}"
    pooch.get_logger().setLevel("WARNING")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        downloader = Downloader(folder / f"{name}.part", progress)
        return Path(pooch.retrieve(url, wanted.hash, name, folder, downloader=downloader))
    except ValueError as error:
        # What pooch says after its first sentence is said here.
        fault = str(error).partition(". ")[0]
        raise CorpusError(
            f"{url} is not the published archive, and was removed: {fault}. Fetch it again; if "
            "this stays so, its home has changed: get it by hand and add it"
        ) from error
    except OSError as error:
        raise _write_error(folder, error) from error


def _write_error(place: Path, error: OSError) -> StorageError:
    return StorageError(
        f"could not write in {place}: {error.strerror or error}; free some space, or choose a "
        "folder that you may write to with --to"
    )


@contextmanager
def _temporary_folder(to: Path) -> Iterator[Path]:
    """A folder beside ``to``, on the same disk; it is removed in the end."""
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
    """Move what was unpacked into the corpus's folder; what stands there is left alone."""
    to.mkdir(exist_ok=True)
    # Folders come last: what they hold is what makes the part be there.
    for one in sorted(folder.iterdir(), key=lambda one: (one.is_dir(), one.name)):
        if not (to / one.name).exists():
            one.rename(to / one.name)


EXTRACT_OPTIONS: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python before 3.11.4 has no filters; names and kinds are checked here for all of them."""


def unpack_archive(file: Path, folder: Path) -> None:
    """Unpack a zip or a tar archive; nothing is written outside ``folder``.

    Raises:
        CorpusError: it is no such archive, is cut short, or would write elsewhere.
        OSError: a file cannot be written.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for one in archive.infolist():
                    _check_member(file, one.filename, link=stat.S_ISLNK(one.external_attr >> 16))
                archive.extractall(folder)
        else:
            with tarfile.open(file) as pack:
                for member in pack.getmembers():
                    _check_member(file, member.name, link=not (member.isfile() or member.isdir()))
                pack.extractall(folder, **EXTRACT_OPTIONS)
    except (tarfile.TarError, zipfile.BadZipFile, BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{file} cannot be unpacked: {error}; fetch it again") from error


def _check_member(file: Path, name: str, *, link: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in str(path.parts[:1]) or link:
        raise CorpusError(f"{file} would write elsewhere ({path}); do not trust it")
