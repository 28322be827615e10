"""Pages without a service, a web server for them, and the files of onnxruntime-web."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from serein.errors import ConfigError
from serein.service.static_page import load_ort_web


def find_ort_web() -> None:
    """Load onnxruntime-web from the user's own cache, or fetch it into that once.

    Raises:
        LookupError: it is not there, and cannot be fetched.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEREIN_CACHE", str(platformdirs.user_cache_path("serein")))
        try:
            load_ort_web()
        except ConfigError as error:
            raise LookupError(str(error)) from error


def ort_web_folder() -> Path:
    """Return the folder with the files of onnxruntime-web.

    Raises:
        LookupError: they are not there, and cannot be fetched.
    """
    find_ort_web()
    (folder,) = platformdirs.user_cache_path("serein").glob("onnxruntime-web-*")
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """The handler of `python -m http.server`, without its log."""

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder as `python -m http.server` does; yield its address."""
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
