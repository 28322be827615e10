"""Front ends, models, tasks and corpora by name: ``models/li2019.py`` is the model ``li2019``.

A dotted name is a user's own module: ``my_lab.podcast`` is ``my_lab/podcast.py``.
"""

import hashlib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from serein.errors import ConfigError, UnknownName

PACKAGE_ROOT = Path(__file__).parent
KINDS = {"corpora": "corpus", "features": "front end", "models": "model", "tasks": "task"}
"""Packages whose files are found by name, and what such a file is."""
SHARED_MODULES = {"heads", "normalization"}
"""Files of these packages that are not found by name."""


def list_names(package: str) -> list[str]:
    """Return the names of the files of a package, sorted.

    >>> list_names("tasks")
    ['classification', 'dimensions', 'speaker', 'transcript']
    """
    names = {file.stem for file in (PACKAGE_ROOT / package).glob("[!_]*.py")}
    return sorted(names - SHARED_MODULES)


def load_module(package: str, name: str, *, allow_custom: bool = True) -> ModuleType:
    """Import a front end, model, task or corpus by its name.

    Args:
        package: one of ``KINDS``, such as "models".
        name: of a file in that package, or the dotted name of a user's own module.
        allow_custom: whether a dotted name may import a module from outside serein.

    Raises:
        UnknownName: there is no such file or module.
        ConfigError: a user's module raises an error when it is imported.
    """
    names = list_names(package)
    if name in names:
        return import_module(f"serein.{package}.{name}")
    if allow_custom and "." in name and all(part.isidentifier() for part in name.split(".")):
        try:
            return import_custom(name)
        except ModuleNotFoundError as error:
            hint = f"A dotted name is a module of your own: {error}."
            raise UnknownName(KINDS[package], name, names, hint) from error
    raise UnknownName(KINDS[package], name, names)


def import_custom(name: str) -> ModuleType:
    """Import a user's own module.

    Raises:
        ModuleNotFoundError: there is no such module, or it imports one that does not exist.
        ConfigError: the module raises another error when it is imported.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a user's module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"your module {name} cannot be imported: {reason}") from error


def hash_sources(paths: Iterable[Path]) -> str:
    """Return sixteen hexadecimal digits that depend on all files, and Python files of folders."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
