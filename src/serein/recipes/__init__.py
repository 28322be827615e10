"""Recipes: one TOML file per system; its head gives the paper, command, time and score.

A recipe may extend another (``extends``) and override its settings. The path of a TOML file can be
used instead of a name.
"""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from serein import config
from serein.errors import ConfigError, UnknownName
from serein.records import Recipe

FOLDER = Path(__file__).parent
DEFAULTS: config.Table = {
    "about": {},
    "features": {},
    "normalise": {},
    "model": {},
    "tasks": {},
    "training": {},
    "protocol": {},
    "text": {},
    "augment": {},
}


def list_recipes() -> list[str]:
    """Return the names of all recipes of this package, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read_heads(name: str) -> dict[str, list[str]]:
    """Return the paragraphs at the top of a recipe and of those that it extends, by their names.

    The commands, times and scores are left out.

    >>> list(read_heads("li2019-single-task"))
    ['li2019-single-task', 'li2019']

    Raises:
        UnknownName: no recipe has that name.
        ConfigError: the file cannot be read.
    """
    heads: dict[str, list[str]] = {}
    parent: object = name
    while isinstance(parent, str) and parent not in heads:
        file = _recipe_file(parent)
        table = config.read_toml(file)
        heads[parent] = _read_paragraphs(file)
        parent = table.get("extends")
        if isinstance(parent, str) and parent.endswith(".toml"):
            parent = str(file.parent / parent)
    return heads


def _read_paragraphs(file: Path) -> list[str]:
    """Return the paragraphs of the comment at the top of a recipe, without its command."""
    lines = file.read_text(encoding="utf-8").splitlines()
    head = [line.removeprefix("#").strip() for line in takewhile(_is_comment, lines)]
    paragraphs = "\n".join(head).split("\n\n")
    return [" ".join(paragraph.split()) for paragraph in paragraphs if "Command:" not in paragraph]


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def load(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Load a recipe, and override settings such as ``"training.epochs=3"``.

    Raises:
        UnknownName: no recipe or table has that name.
        ConfigError: the file is not a recipe.
    """
    table = config.merge_tables(DEFAULTS, _resolve_table(name, ()))
    recipe_name = Path(name).stem if name.endswith(".toml") else name
    return from_table(recipe_name, _apply_settings(table, settings))


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return a copy of a recipe with some settings overridden.

    Raises:
        UnknownName: a table that recipes do not have.
        ConfigError: a setting is not valid.
    """
    table = {key: getattr(recipe, key) for key in DEFAULTS}
    return from_table(recipe.name, _apply_settings(table, settings))


def _apply_settings(table: config.Table, settings: Sequence[str]) -> config.Table:
    if not settings:
        return table
    changed = config.apply_settings(table, settings)
    about = changed["about"]
    previous = [about["changed"]] if "changed" in about else []
    about = {**about, "changed": ", ".join([*previous, *settings])}
    if dropped := config.find_dropped(table, changed, settings):
        about["dropped"] = {**about.get("dropped", {}), **dropped}
    return {**changed, "about": about}


def from_table(name: str, table: dict[str, Any]) -> Recipe:
    """Build a recipe from its tables; only ``augment`` may be missing.

    Raises:
        UnknownName: a table that recipes do not have.
        ConfigError: a table is missing or is not a table.
    """
    table = {"augment": {}, **table}
    for key in table:
        if key not in DEFAULTS:
            raise UnknownName("table of a recipe", key, DEFAULTS)
    for key in DEFAULTS:
        if not isinstance(table.get(key), dict):
            raise ConfigError(f"recipe {name} has {key} = {table.get(key)!r}; expected [{key}]")
    for key in ("features", "model"):
        if not isinstance(table[key].get("name"), str):
            raise ConfigError(f"recipe {name}: [{key}] needs a name, such as name = 'li2019'")
    if not table["tasks"] and not table["text"].get("weight"):
        raise ConfigError(f"recipe {name} has no task; add [tasks.emotion]")
    return config.build_config(Recipe, {"name": name, **table}, f"recipe {name}")


def _resolve_table(name: str, seen: tuple[str, ...]) -> config.Table:
    if name in seen:
        raise ConfigError(f"recipes extend each other in a circle: {' -> '.join([*seen, name])}")
    table = config.read_toml(_recipe_file(name))
    parent = table.pop("extends", None)
    if parent is None:
        return config.rename_settings(table)
    if not isinstance(parent, str):
        raise ConfigError(f"recipe {name}: extends = {parent!r}; expected the name of a recipe")
    if parent.endswith(".toml"):
        parent = str(Path(name).parent / parent)
    base = _resolve_table(parent, (*seen, name))
    return config.merge_tables(base, config.rename_settings(table, base=base))


def _recipe_file(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in list_recipes():
        hint = "The path of a TOML file of your own works too."
        raise UnknownName("recipe", name, list_recipes(), hint)
    return FOLDER / f"{name}.toml"
