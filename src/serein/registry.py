"""Front ends, models, tasks and corpora by name: ``models/li2019.py`` is the model ``li2019``.

A dotted name is a user's own module: ``my_lab.podcast`` is ``my_lab/podcast.py``.
"""

import ast
import hashlib
import json
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
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


def hash_module(name: str) -> str:
    """Return the hash of the file of a user's own module; empty if it has none.

    Raises:
        ModuleNotFoundError: there is no such module.
        ConfigError: the module raises another error when it is imported.
    """
    file = import_custom(name).__file__
    return hash_sources([Path(file)]) if file else ""


def hash_sources(paths: Iterable[Path]) -> str:
    """Return sixteen hexadecimal digits that depend on all files, and Python files of folders.

    Of a Python file, the syntax tree counts: comments, docstrings, blank lines and formatting do
    not. Of a TOML file, its values count; of another file, and of one with a fault, its bytes.
    """
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(_read_code(file))
    return digest.hexdigest()[:16]


def _read_code(file: Path) -> bytes:
    """Return the bytes of a file that its hash is computed from."""
    content = file.read_bytes()
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        if file.suffix == ".py":
            return _hash_syntax_tree(content)
        if file.suffix == ".toml":
            values = tomllib.loads(content.decode())
            return json.dumps(values, sort_keys=True, default=str).encode()
    return content


@cache
def _hash_syntax_tree(content: bytes) -> bytes:
    """Return the SHA-256 of the syntax tree of a Python file.

    It is the same in every version of Python, unlike that of ``ast.dump``: empty fields, which a
    later version may have added, are left out.

    Raises:
        SyntaxError: it is not Python.
        ValueError: it has zero bytes.
    """
    parts: list[str] = []
    _collect_syntax(ast.parse(content), parts)
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _collect_syntax(node: object, parts: list[str]) -> None:
    """Append names and values of a syntax tree to ``parts``, without statements of text only."""
    if isinstance(node, ast.Constant):
        parts.append(repr(node.value))
    elif isinstance(node, ast.AST):
        parts.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if name != "ctx" and value is not None and value != []:
                parts.append(name)
                _collect_syntax(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append("[")
        for child in node:
            if not _is_text_statement(child):
                _collect_syntax(child, parts)
        parts.append("]")
    else:
        parts.append(repr(node))


def _is_text_statement(node: object) -> bool:
    """Return whether a statement is a docstring, of a module, class, function or constant."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
