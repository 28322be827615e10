"""The recordings in a folder and in all folders below it, one after the other."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

AUDIO_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac"),
        *(".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpga", ".oga", ".ogg"),
        *(".opus", ".rf64", ".snd", ".spx", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma"),
    )
)
"""Names that end so are tried; what such a file holds decides how it is read, and whether."""


class ListingEntry(NamedTuple):
    """A recording, or a folder that cannot be listed.

    Attributes:
        name: path from the folder on, with ``/``.
        reason: why it cannot be listed; empty for a recording.
    """

    name: str
    reason: str = ""


class Listing:
    """The recordings below a folder, in the same order every time.

    No more than one folder is held at a time. In each folder the files come first, sorted by
    name; then the folders in it. Folders that are links come last of all, and no folder is
    entered twice, so that a link to a folder above is not followed for ever.

    Attributes:
        ignored: files of other kinds and hidden ones, counted by the latest pass.
    """

    def __init__(self, root: Path) -> None:
        """Prepare; nothing is read yet."""
        self.root = str(root)
        self.ignored = 0

    def __iter__(self) -> Iterator[ListingEntry]:
        """Pass over all of it."""
        self.ignored = 0
        seen: set[tuple[int, int]] = set()
        links = deque([""])
        while links:
            stack = [links.popleft()]
            while stack:
                folder = stack.pop()
                try:
                    files, inner, linked = self._scan_folder(folder, seen)
                except OSError as error:
                    yield ListingEntry(folder or ".", _listing_error(self._to_path(folder), error))
                    continue
                yield from map(ListingEntry, files)
                stack += reversed(inner)
                links += linked

    def _to_path(self, name: str) -> str:
        return os.path.join(self.root, name) if name else self.root

    def _scan_folder(
        self, folder: str, seen: set[tuple[int, int]]
    ) -> tuple[list[str], list[str], list[str]]:
        """Recordings, folders and folders that are links; nothing of a folder that was seen."""
        files: list[str] = []
        inner: list[str] = []
        links: list[str] = []
        facts = os.stat(self._to_path(folder))
        mark = facts.st_dev, facts.st_ino
        if mark in seen:
            return files, inner, links
        with os.scandir(self._to_path(folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    self.ignored += 1
                elif _is_folder(entry):
                    (links if entry.is_symlink() else inner).append(name)
                elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
                    files.append(name)
                else:
                    self.ignored += 1
        seen.add(mark)
        return sorted(files), sorted(inner), sorted(links)


def path_to_text(name: str) -> str:
    """A path as text; bytes that are no UTF-8 are written as such.

    >>> spelled("M" + chr(0xDCFC) + "ller.wav") == "M" + chr(92) + "xfcller.wav"
    True
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link that leads to itself
        return entry.is_dir()
    return False


def _listing_error(path: str, error: OSError) -> str:
    return f"{path_to_text(path)} cannot be listed: {error.strerror}. Check its rights."
