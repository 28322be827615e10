"""Every error of this package, on one page.

SereinError
├── AudioError        a recording is missing, empty, or not audio
├── CorpusError       a corpus is not as its reader expects
├── ConfigError       a setting is unknown or out of range
│   ├── UnknownName   no corpus, front end, model, task or recipe has that name
│   └── EncoderError  a pretrained encoder is not here, not usable, or another one
├── ProtocolError     these utterances cannot be split that way, or a split leaks
├── BundleError       a saved model is corrupt, tampered with, or too new
└── StorageError      a file could not be written; what stood there before still stands

Each message says what was found, what was expected, and what to do:

    try:
        serein.Recognizer()("call.flac")
    except serein.SereinError as error:
        print(error)
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class SereinError(Exception):
    """Base class: catch this to catch them all."""


class AudioError(SereinError):
    """A recording is missing, empty, or not audio."""


class CorpusError(SereinError):
    """A corpus is not as its reader expects."""


class ConfigError(SereinError):
    """A setting is unknown or out of range."""


class UnknownName(ConfigError):
    """No corpus, front end, model, task or recipe has that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        """Say which name was asked for, which is nearest, and which exist."""
        self.known = sorted(known)
        near = get_close_matches(name, self.known, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        listing = ", ".join(self.known) or "none"
        super().__init__(f"unknown {kind} {name!r}{guess} Known: {listing}.{hint and ' ' + hint}")
        self._parts = kind, name, self.known, hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Worker processes hand errors on: copies are made of what this one was made of."""
        return type(self), self._parts


class EncoderError(ConfigError):
    """A pretrained encoder is not here, not usable, or another one than a model needs."""


class ProtocolError(SereinError):
    """These utterances cannot be split that way, or a split leaks."""


class BundleError(SereinError):
    """A saved model is corrupt, tampered with, or too new."""


class StorageError(SereinError):
    """A file could not be written; what stood there before still stands."""
