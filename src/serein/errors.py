"""All exceptions of this package.

SereinError
├── AudioError        a recording is missing, empty, or not audio
├── CorpusError       files of a corpus are missing, or not as expected
├── ConfigError       a setting is unknown or out of range
│   ├── UnknownName   no corpus, front end, model, task or recipe has that name
│   ├── EncoderError  a pretrained encoder is missing, unusable, or not the expected one
│   └── BackendError  torch or onnxruntime is missing, broken, or of a version that does not fit
├── ProtocolError     these utterances cannot be split that way, or a split leaks
├── BundleError       a saved model is damaged, changed, or too new
├── HubError          the hub is away, has no such model or revision, or refuses an upload
└── StorageError      a file could not be written; its previous content is unchanged

SereinWarning is no error: something that a user should know, and that does not end the computation.

Each message has what was found, what was expected, and what to do:

    try:
        serein.Recognizer()("call.flac")
    except serein.SereinError as error:
        print(error)
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class SereinError(Exception):
    """Base class of all exceptions of this package."""


class SereinWarning(UserWarning):
    """Something that a user should know, and that does not end the computation."""


class AudioError(SereinError):
    """A recording is missing, empty, or not audio."""


class CorpusError(SereinError):
    """Files of a corpus are missing, or not as expected."""


class ConfigError(SereinError):
    """A setting is unknown or out of range."""


class UnknownName(ConfigError):
    """No corpus, front end, model, task or recipe has that name."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], hint: str = "", cutoff: float = 0.5
    ) -> None:
        """Build the message: the unknown name, the most similar one, and all known ones."""
        self.known = sorted(known)
        similar = get_close_matches(name, self.known, n=1, cutoff=cutoff)
        guess = f"; did you mean {similar[0]!r}?" if similar else "."
        listing = ", ".join(self.known) or "none"
        super().__init__(f"unknown {kind} {name!r}{guess} Known: {listing}.{hint and ' ' + hint}")
        self._arguments = kind, name, self.known, hint, cutoff

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the arguments of the constructor, to pass from worker processes."""
        return type(self), self._arguments


class EncoderError(ConfigError):
    """A pretrained encoder is missing, unusable, or not the one that a model needs."""


class BackendError(ConfigError):
    """torch or onnxruntime is missing, broken, or of a version that does not fit."""


class ProtocolError(SereinError):
    """These utterances cannot be split that way, or a split leaks."""


class BundleError(SereinError):
    """A saved model is damaged, changed, or too new."""


class HubError(SereinError):
    """The hub is away, has no such model or revision, or refuses an upload."""


class StorageError(SereinError):
    """A file could not be written; its previous content is unchanged."""


EXTRAS = {
    **dict.fromkeys(("torch", "lightning_fabric", "pooch", "yaml"), "train"),
    **dict.fromkeys(("jinja2", "plotly"), "report"),
    "pyarrow": "tables",
    **dict.fromkeys(("onnx", "onnxscript"), "onnx"),
}
"""The extra of this package that installs a module, by the name of the module."""


def describe_missing_package(error: ModuleNotFoundError) -> str:
    """Return what to install, in one line; empty if no extra of this package has the module.

    >>> describe_missing_package(ModuleNotFoundError(name="torch"))
    "torch is not installed, and this needs it: pip install 'serein[train]'"
    """
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        return ""
    return f"{name} is not installed, and this needs it: pip install 'serein[{EXTRAS[name]}]'"
