"""Unpack an archive that nobody has looked into."""

import stat
import tarfile
import zipfile
import zlib
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath

from serein.errors import CorpusError


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip or a tar archive; nothing is written outside ``folder``.

    Raises:
        CorpusError: it is no such archive, is cut short, or would write elsewhere.
        OSError: a file cannot be written.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                _check_names(file, archive.infolist())
                archive.extractall(folder)
        else:
            with tarfile.open(file) as pack:
                pack.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise CorpusError(f"{file} would write elsewhere ({error}); do not trust it") from error
    except (tarfile.TarError, zipfile.BadZipFile, BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{file} cannot be unpacked: {error}; fetch it again") from error


def _check_names(file: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        linked = stat.S_ISLNK(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or linked:
            raise CorpusError(f"{file} would write elsewhere ({path}); do not trust it")
