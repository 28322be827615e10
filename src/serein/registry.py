"""A file name is a name: ``models/li2019.py`` is the model ``li2019``.

A dotted name reaches a user's own module: ``my_lab.podcast`` is ``my_lab/podcast.py``.
"""

import hashlib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from serein.errors import ConfigError, UnknownName

PACKAGE_ROOT = Path(__file__).parent
KINDS = {"corpora": "corpus", "features": "front end", "models": "model", "tasks": "task"}


def list_names(package: str) -> list[str]:
    """The names that a folder of this package offers, sorted.

    >>> list_names("tasks")
    ['dimensions', 'emotion', 'gender', 'speaker', 'transcript']
    """
    files = (PACKAGE_ROOT / package).glob("*.py")
    return sorted(
        f.stem for f in files if not f.stem.startswith("_") and f.stem not in SHARED_MODULES
    )


SHARED_MODULES = {"heads", "normalization"}
"""Files that stand in such a folder and are no choice in it."""


def load_module(package: str, name: str, *, allow_custom: bool = True) -> ModuleType:
    """Import what ``name`` means in ``package``.

    Args:
        package: a folder of this package, such as ``"models"``.
        name: a file name in that folder, or the dotted name of a user's own module.
        allow_custom: whether a dotted name may import a module from outside this package.

    Raises:
        UnknownName: nothing has that name.
    """
    known = list_names(package)
    if name in known:
        return import_module(f"serein.{package}.{name}")
    if allow_custom and "." in name and all(part.isidentifier() for part in name.split(".")):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            hint = f"A dotted name is a module of your own: {error}."
            raise UnknownName(KINDS[package], name, known, hint) from error
        except Exception as error:  # whatever a user's own file does
            fault = f"{type(error).__name__}: {error}"
            raise ConfigError(f"your module {name} cannot be imported: {fault}") from error
    raise UnknownName(KINDS[package], name, known)


def hash_sources(places: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits over the source of files, and of all files in folders."""
    mark = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            mark.update(file.read_bytes())
    return mark.hexdigest()[:16]
