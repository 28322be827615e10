"""Download a file; what was interrupted is continued."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from serein.errors import CorpusError

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
