"""Unpack an archive that nobody has looked into."""

import stat
import tarfile
import zipfile
import zlib
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath
from typing import Any

from serein.errors import CorpusError

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
