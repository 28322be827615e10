"""Settings: TOML tables and ``key=value`` texts as validated dataclasses.

Only settings that a dataclass declares exist; an unknown one is an error that lists the known ones.
"""

import json
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from serein.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from pydantic import TypeAdapter

REMOVE = "remove"
"""The value that removes a table or a setting."""
MAX_DEPTH = 32
"""Largest nesting depth of a document; Python's own limit is reached at hundreds of levels."""

Table = dict[str, Any]
T = TypeVar("T")


def build_config(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from a table; settings that the table does not have keep their defaults.

    Args:
        cls: a dataclass; annotations may have bounds, ``Annotated[int, Gt(0)]``.
        table: settings.
        where: what to call the table in errors, such as "model".

    Raises:
        UnknownName: the dataclass does not have a setting.
        ConfigError: a value has the wrong type or is out of range.
    """
    from pydantic import ValidationError

    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            raise UnknownName(f"setting of {where}", name, known)
    try:
        return cast(T, _get_validator(cls).validate_python(dict(table)))  # type: ignore[arg-type]
    except ValidationError as error:
        messages = [_format_validation_error(where, details) for details in error.errors()]
        raise ConfigError("; ".join(messages)) from None


@cache
def _get_validator(cls: type[Any]) -> "TypeAdapter[Any]":
    """Return the validator of a dataclass; to build one takes milliseconds."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _format_validation_error(where: str, details: Any) -> str:
    path = ".".join([where, *map(str, details["loc"])])
    return f"{path} = {details['input']!r}: {details['msg']}"


def read_toml(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or not TOML.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if not is_shallow(table):
        raise ConfigError(f"{path} is nested more than {MAX_DEPTH} deep, the limit of recipes")
    return table


def is_shallow(document: Any) -> bool:
    """Return whether a document has at most ``MAX_DEPTH`` levels of tables and lists."""
    level = [document]
    for _ in range(MAX_DEPTH):
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for nodes in children for child in nodes if isinstance(child, dict | list)]
        if not level:
            return True
    return False


def merge_tables(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Table:
    """Return ``base`` with ``changes`` merged into it, table by table.

    A table whose ``name`` changes loses its old settings: another model has other settings. The
    value "remove" removes a table or a setting.

    >>> merge_tables({"a": {"x": 1, "y": 2}, "b": {}}, {"a": {"y": 3}, "b": "remove"})
    {'a': {'x': 1, 'y': 3}}
    >>> merge_tables({"a": {"x": 1, "y": 2}}, {"a": {"y": "remove"}})
    {'a': {'x': 1}}
    """
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if key in result and value == REMOVE:
            del result[key]
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            is_renamed = "name" in value and value["name"] != old.get("name")
            result[key] = dict(value) if is_renamed else merge_tables(old, value)
        else:
            result[key] = value
    return result


RENAMED_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "augment": {"part": "crop", "part_seconds": "crop_seconds"},
    "features": {"within": "speech_range"},
    "model": {
        "apart": "separate",
        "exact": "zero_pad_segments",
        "flow": "asr_gradient",
        "forced": "teacher_forcing",
        "hide": "functionals_dropout",
        "highest": "max_exponent",
        "longest": "max_steps",
        "lowest": "min_exponent",
        "otherwise": "default_c",
        "sampling": "scheduled_sampling",
        "share": "lr_factor",
        "within": "speech_range",
    },
    "protocol": {
        "groups": "disjoint_groups",
        "longest": "max_duration",
        "most": "train_size",
        "ratio": "auxiliary_ratio",
        "share": "auxiliary_share",
    },
    "text": {
        "minimum": "min_count",
        "recogniser": "transcripts_from",
        "size": "max_words",
        "trained": "train_on_transcripts",
    },
    "training": {
        "average": "ema_decay",
        "choose": "select_by",
        "flush": "flush_denormals",
        "smooth": "selection_window",
    },
}
"""Settings that had another name in release 0.1: for each table of a recipe, old to new name."""


def rename_settings(
    recipe: Mapping[str, Any], *, base: Mapping[str, Any] | None = None, warn: bool = True
) -> Table:
    """Replace the old names of settings in the tables of a recipe.

    Tables of a user's own modules are not changed: they may have settings of any name.

    >>> rename_settings({"protocol": {"longest": 20}}, warn=False)
    {'protocol': {'max_duration': 20}}

    Args:
        recipe: tables by name.
        base: tables that these change, which name the module of a table without a name.
        warn: whether to warn of each old name; no, for saved models and results.

    Raises:
        ConfigError: a setting is there under both names.
    """
    renamed: Table = dict(recipe)
    for name, table in recipe.items():
        names = RENAMED_SETTINGS.get(name, {})
        if not isinstance(table, Mapping):
            continue
        parent = (base or {}).get(name)
        inherited = parent.get("name", "") if isinstance(parent, Mapping) else ""
        if "." in str(table.get("name", inherited)):
            continue
        for old in [key for key in table if key in names]:
            new = names[old]
            if new in table:
                raise ConfigError(f"{name}.{old} is now {name}.{new}, and both are set; remove one")
            if warn:
                message = f"{name}.{old} is now {name}.{new}; the old name works in this release"
                warnings.warn(message, FutureWarning, stacklevel=2)
        renamed[name] = {names.get(key, key): value for key, value in table.items()}
    return renamed


def apply_setting(table: Mapping[str, Any], setting: str) -> Table:
    """Apply one ``path.to.key=value`` to a table; the value is TOML, or else a string.

    >>> apply_setting({"training": {"epochs": 100}}, "training.epochs=3")
    {'training': {'epochs': 3}}

    Raises:
        ConfigError: the setting has no ``=`` or no dot.
    """
    path, equals, text = setting.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not parents or not all([*parents, key]):
        raise ConfigError(f"{setting!r} is not a setting; write table.key=value")
    changes: Table = {key: parse_value(text.strip())}
    for parent in reversed(parents):
        changes = {parent: changes}
    return merge_tables(table, rename_settings(changes, base=table))


def apply_settings(table: Table, settings: Iterable[str]) -> Table:
    """Apply several settings to a table; later ones override earlier ones.

    Each ``name`` is applied first, that of an outer table before those of inner ones: it removes
    the old settings of its table, and must not remove new ones.

    >>> table = {"model": {"name": "rnn", "layers": 1}}
    >>> apply_settings(table, ["model.heads=3", "model.name=li2019"])
    {'model': {'name': 'li2019', 'heads': 3}}
    """
    for setting in sorted(settings, key=_setting_order):
        table = apply_setting(table, setting)
    return table


def find_dropped(
    before: Mapping[str, Any], after: Mapping[str, Any], settings: Iterable[str]
) -> Table:
    """Return the settings, by path, that other settings dropped with the old name of their table.

    >>> before = {"protocol": {"name": "random", "max_duration": 20, "only": {"style": "read"}}}
    >>> changes = ["protocol.name=parts"]
    >>> find_dropped(before, apply_settings(before, changes), changes)
    {'protocol.max_duration': 20, 'protocol.only.style': 'read'}

    Args:
        before: the tables before the settings were applied.
        after: the tables afterwards.
        settings: what was applied; those that are removed by name are not returned.
    """
    removed = {
        path.strip()
        for path, _, value in (s.partition("=") for s in settings)
        if value.strip().strip("\"'") == REMOVE
    }
    replaced = removed | _list_settings(after).keys()
    return {
        path: value
        for path, value in _list_settings(before).items()
        if replaced.isdisjoint(accumulate(path.split("."), "{}.{}".format))
    }


def find_setting(table: Mapping[str, Any], path: str) -> Any:
    """Return the value of a setting by its path; None if it is not set.

    >>> find_setting({"protocol": {"only": {"style": "read"}}}, "protocol.only.style")
    'read'
    """
    value: Any = table
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _list_settings(table: Mapping[str, Any], path: str = "") -> Table:
    """Return the settings of nested tables by path."""
    settings: Table = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            settings |= _list_settings(value, f"{path}{key}.")
        else:
            settings[f"{path}{key}"] = value
    return settings


def _setting_order(setting: str) -> tuple[bool, int]:
    path = setting.partition("=")[0].strip()
    is_name = path.endswith(".name")
    return not is_name, path.count(".") if is_name else 0


def parse_value(text: str) -> Any:
    """Parse the value of a setting: TOML, or else a string.

    >>> parse_value("3"), parse_value("[1, 2]"), parse_value("li2019")
    (3, [1, 2], 'li2019')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def format_settings(path: str, value: Any) -> list[str]:
    """Format a setting, or all those of a table, so that ``apply_setting`` reads them.

    >>> format_settings("model", {"heads": 3, "sizes": (2, 4)})
    ['model.heads=3', 'model.sizes=[2, 4]']
    """
    if isinstance(value, Mapping):
        lines = (format_settings(f"{path}.{key}", own) for key, own in value.items())
        return [line for own in lines for line in own]
    return [format_setting(path, list(value) if isinstance(value, tuple) else value)]


def format_setting(path: str, value: Any) -> str:
    """Format a setting so that ``apply_setting`` reads it, with quotes only where needed.

    >>> format_setting("model.heads", 3), format_setting("model.name", "li2019")
    ('model.heads=3', 'model.name=li2019')
    >>> format_setting("model.name", "3")
    'model.name="3"'
    """
    if isinstance(value, str) and parse_value(value) == value and value == value.strip():
        return f"{path}={value}"
    return f"{path}={json.dumps(value, ensure_ascii=False)}"
