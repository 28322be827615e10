"""TOML and dataclasses: files and flags only override what a dataclass declares.

A setting that no dataclass declares is an error that lists the known ones.
"""

import json
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from serein.errors import ConfigError, UnknownName

Table = dict[str, Any]
T = TypeVar("T")


def build_config(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a table; what the table leaves out keeps its default.

    Args:
        cls: a dataclass; annotations may carry bounds, ``Annotated[int, Gt(0)]``.
        table: its settings.
        where: what to call the table in errors, such as ``"model"``.

    Raises:
        UnknownName: a setting that the dataclass does not have.
        ConfigError: a value of the wrong type or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            raise UnknownName(f"setting of {where}", name, known)
    try:
        return TypeAdapter(cls).validate_python(dict(table))
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_format_validation_error(where, fault) for fault in error.errors())
        ) from None


def _format_validation_error(where: str, fault: Any) -> str:
    path = ".".join([where, *map(str, fault["loc"])])
    return f"{path} = {fault['input']!r}: {fault['msg']}"


def read_toml(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        ConfigError: it is missing or not TOML.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if not is_shallow(table):
        raise ConfigError(f"{path} is nested more than {MAX_DEPTH} deep; no setting is")
    return table


MAX_DEPTH = 32
"""Tables and lists in each other that a document may have; Python itself fails at hundreds."""


def is_shallow(document: Any) -> bool:
    """Whether no part of a document is nested too deep to be dealt with."""
    level = [document]
    for _ in range(MAX_DEPTH):
        held = (one.values() if isinstance(one, dict) else one for one in level)
        level = [inner for one in held for inner in one if isinstance(inner, dict | list)]
        if not level:
            return True
    return False


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """``base`` with ``over`` laid on it, table by table.

    A table that changes its ``name`` starts afresh: another model has other settings.
    The value ``"remove"`` takes a table away.

    >>> merge_tables({"a": {"x": 1, "y": 2}, "b": {}}, {"a": {"y": 3}, "b": "remove"})
    {'a': {'x': 1, 'y': 3}}
    """
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and value == "remove":
            del result[key]
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            renamed = "name" in value and value["name"] != old.get("name")
            result[key] = dict(value) if renamed else merge_tables(old, value)
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
"""Settings that had another name in release 0.1, by table of a recipe: old name to new name."""


def rename_settings(recipe: Mapping[str, Any], *, warn: bool = True) -> Table:
    """Give the settings of a recipe's tables their present names.

    Only the tables of this package's own front ends and models are changed: a module of a user may
    have a setting of any name.

    >>> rename_settings({"protocol": {"longest": 20}}, warn=False)
    {'protocol': {'max_duration': 20}}

    Args:
        recipe: its tables, by name.
        warn: whether each old name is warned of; a saved model or result cannot be rewritten.

    Raises:
        ConfigError: a setting is there under both names.
    """
    renamed: Table = dict(recipe)
    for name, table in recipe.items():
        names = RENAMED_SETTINGS.get(name, {})
        if not isinstance(table, Mapping) or "." in str(table.get("name", "")):
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
    """Lay one ``path.to.key=value`` on a table; the value is TOML, or else a plain word.

    >>> apply_setting({"training": {"epochs": 100}}, "training.epochs=3")
    {'training': {'epochs': 3}}

    Raises:
        ConfigError: the setting has no ``=`` or no dot.
    """
    path, equals, text = setting.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not parents or not all([*parents, key]):
        raise ConfigError(f"{setting!r} is not a setting; write table.key=value")
    layer: Table = {key: parse_value(text.strip())}
    for parent in reversed(parents):
        layer = {parent: layer}
    below = table.get(parents[0])
    is_custom = isinstance(below, Mapping) and "." in str(below.get("name", ""))
    return merge_tables(table, layer if is_custom else rename_settings(layer))


def apply_settings(table: Table, settings: Iterable[str]) -> Table:
    """Lay several settings on a table, the last one on top.

    A ``name`` comes before all others, that of an outer table first, as it starts its table
    afresh: in whatever order they are written, none is lost.

    >>> apply_settings({"model": {"name": "rnn", "layers": 1}}, ["model.heads=3", "model.name=li2019"])
    {'model': {'name': 'li2019', 'heads': 3}}
    """
    for setting in sorted(settings, key=_setting_order):
        table = apply_setting(table, setting)
    return table


def _setting_order(setting: str) -> tuple[bool, int]:
    path = setting.partition("=")[0].strip()
    is_name = path.endswith(".name")
    return not is_name, path.count(".") if is_name else 0


def parse_value(text: str) -> Any:
    """What stands right of a setting's ``=``.

    >>> parse_value("3"), parse_value("[1, 2]"), parse_value("li2019")
    (3, [1, 2], 'li2019')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def format_setting(path: str, found: Any) -> str:
    """The setting that lays a value there, as short as it can be written.

    >>> format_setting("model.heads", 3), format_setting("model.name", "li2019"), format_setting("model.name", "3")
    ('model.heads=3', 'model.name=li2019', 'model.name="3"')
    """
    if isinstance(found, str) and parse_value(found) == found and found == found.strip():
        return f"{path}={found}"
    return f"{path}={json.dumps(found, ensure_ascii=False)}"
