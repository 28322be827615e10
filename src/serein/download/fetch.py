"""Fetch a corpus that may be had freely: download, compare, unpack, check, remember.

An interrupted download is continued. Nothing stands in the corpus's folder before all of it has
been compared with what its owners publish.
"""

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from urllib.parse import urlsplit

from serein import corpora
from serein.copies.download import Downloader, ProgressCallback
from serein.copies.unpack import unpack_archive
from serein.download.integrity import IntegrityReport, check_corpus
from serein.errors import CorpusError, StorageError, UnknownName

ARCHIVES_FILE = Path(__file__).parent / "homes.toml"
MIRROR_VARIABLE = "SEREIN_MIRROR"
"""The environment variable that names another place to fetch archives from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An archive of a corpus; ``homes.toml`` says what each field is."""

    corpus: str
    part: str
    url: str
    gives: str
    hash: str | None = None
    inside: str = ""


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
    if (to / archive.gives).exists():
        raise CorpusError(
            f"{to} has {archive.gives}/ already; check it with `serein corpora check "
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
        _move_into(folder / archive.inside, to)
    file.unlink()
    corpora.register(archive.corpus, to)
    return check


def _verify_archive(wanted: Archive, folder: Path, url: str) -> IntegrityReport:
    check = check_corpus(f"{wanted.corpus}={folder / wanted.inside}")
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
