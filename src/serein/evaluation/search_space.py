"""The space of a search: ranges and choices of settings, and random draws from them.

    tasks.gender.weight=0..1          a range; of integers if the setting accepts only these
    training.rate=1e-4..1e-2:log      a range, uniform on the logarithmic scale
    training.batch=16,32,64           a choice

Draw n depends only on the seed and n.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from serein import config, recipes, system
from serein.errors import ConfigError
from serein.records import Recipe
from serein.training.config import TrainingConfig

Point = dict[str, Any]
"""A value for each searched setting."""
EXAMPLES = "write tasks.gender.weight=0..1, training.rate=1e-4..1e-2:log or training.batch=16,32,64"
SCORING_SETTINGS = ("protocol.", "training.selection_window", "training.select_by")
"""Settings that determine how trials are scored."""
MAX_REPEATED_DRAWS = 10_000
"""After so many repeated draws in a row, a space counts as exhausted."""


@dataclass(frozen=True)
class Range:
    """A range of numbers, both ends included.

    Attributes:
        name: of the setting.
        low: the smallest value.
        high: the largest value.
        log: whether values are uniform on the logarithmic scale.
        integer: whether the values are integers.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def text(self) -> str:
        """The text of the range in a setting."""
        return f"{self.low:.6g}..{self.high:.6g}{':log' * self.log}"

    @property
    def edges(self) -> tuple[Any, ...]:
        """The extreme values: a recipe that accepts them accepts all."""
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    def quantile(self, q: float) -> float | int:
        """Return the quantile for q in [0, 1)."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.integer else (self.low, self.high)
        value = low * (high / low) ** q if self.log else low + (high - low) * q
        # Reports and result files keep six digits: a value that is typed from them is the same.
        value = min(max(float(f"{value:.6g}"), self.low), self.high)
        return round(value) if self.integer else value


@dataclass(frozen=True)
class Choice:
    """A choice of equally likely values.

    Attributes:
        name: of the setting.
        values: two or more values.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The text of the choice in a setting."""
        return ",".join(config.format_setting("", value).removeprefix("=") for value in self.values)

    @property
    def edges(self) -> tuple[Any, ...]:
        """All values: a recipe must accept each."""
        return self.values

    def quantile(self, q: float) -> Any:
        """Return the quantile for q in [0, 1)."""
        return self.values[int(q * len(self.values))]


Space = tuple[Range | Choice, ...]


def parse_space(recipe: Recipe, settings: Sequence[str]) -> Space:
    """Parse a space, and apply its extreme values to a recipe.

    Args:
        recipe: the recipe whose settings are searched.
        settings: ranges and choices; the default is the weight of every task but the first,
            0 to 1.

    Raises:
        ConfigError: a setting is neither a range nor a choice, or the recipe does not accept it.
    """
    space = tuple(
        _parse_dimension(recipe, setting) for setting in settings or _default_space(recipe)
    )
    names = [dimension.name for dimension in space]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is searched twice; give it one range or choice")
    for dimension in space:
        for value in dimension.edges:
            apply_point(recipe, {dimension.name: value})
    return space


def _default_space(recipe: Recipe) -> list[str]:
    weights = [f"tasks.{task}.weight=0..1" for task in list(recipe.tasks)[1:]]
    if not weights:
        raise ConfigError(
            f"{recipe.name} has one task, and so no weights to search; give a space: {EXAMPLES}"
        )
    return weights


def _parse_dimension(recipe: Recipe, setting: str) -> Range | Choice:
    name, text = split_setting(recipe, setting)
    if name.startswith(SCORING_SETTINGS):
        raise ConfigError(
            f"{name} determines how trials are scored, and their scores would not compare; "
            f"fix it: --set {name}=..."
        )
    return _parse_range(recipe, name, text) if ".." in text else _parse_choice(name, text)


def _parse_range(recipe: Recipe, name: str, text: str) -> Range:
    ends, _, scale = text.partition(":")
    low, high = map(config.parse_value, map(str.strip, ends.split("..", maxsplit=1)))
    for end in (low, high):
        if type(end) not in (int, float) or not math.isfinite(end):
            raise ConfigError(f"{name}={text}: {end!r} is not a number; {EXAMPLES}")
    if low >= high:
        raise ConfigError(f"{name}={text}: the range ends before it begins; write LOW..HIGH")
    if scale not in ("", "log"):
        raise ConfigError(f"{name}={text}: unknown scale {scale!r}; write LOW..HIGH:log, or none")
    if scale and low <= 0:
        raise ConfigError(f"{name}={text}: a logarithmic range begins above 0")
    integer = type(low) is type(high) is int and not _is_accepted(recipe, name, low + 0.5)
    return Range(name, low, high, log=bool(scale), integer=integer)


def _parse_choice(name: str, text: str) -> Choice:
    values = parse_values(text)
    if len(values) < 2:
        raise ConfigError(f"{name}={text} is neither a range nor a choice; {EXAMPLES}")
    return Choice(name, values)


def split_setting(recipe: Recipe, setting: str) -> tuple[str, str]:
    """Split a setting into its present name and the text after ``=``.

    Raises:
        ConfigError: it is not a setting of the form ``table.key=value``.
    """
    name, _, text = map(str.strip, setting.partition("="))
    table, *rest = name.split(".")
    base = getattr(recipe, table, None)
    base = base if isinstance(base, dict) else {}
    changed = config.apply_setting({table: {"name": base.get("name", "")}}, setting)
    if rest and rest[0] not in changed[table]:
        rest[0] = config.RENAMED_SETTINGS[table][rest[0]]
    return ".".join([table, *rest]), text


def parse_values(text: str) -> tuple[Any, ...]:
    """Parse the different values between commas; return none if one of them is empty.

    >>> parse_values("0, 0.5, 1.0, 0"), parse_values("adam,rmsprop"), parse_values("1,")
    ((0, 0.5, 1.0), ('adam', 'rmsprop'), (1,))
    """
    values = config.parse_value(f"[{text}]")
    if not isinstance(values, list):
        values = [config.parse_value(part.strip()) for part in text.split(",")]
    distinct = tuple(value for index, value in enumerate(values) if value not in values[:index])
    return () if "" in distinct else distinct


def _is_accepted(recipe: Recipe, name: str, value: Any) -> bool:
    try:
        apply_point(recipe, {name: value})
    except ConfigError:
        return False
    return True


def apply_point(recipe: Recipe, point: Point) -> Recipe:
    """Return the recipe with the settings of a point.

    Raises:
        ConfigError: the recipe does not accept a setting.
    """
    changed = recipes.with_settings(recipe, format_settings(point))
    system.check_recipe(changed)
    config.build_config(TrainingConfig, changed.training, "training")
    return changed


def format_settings(point: Point) -> list[str]:
    """Format a point as settings."""
    return [config.format_setting(name, value) for name, value in point.items()]


def draw_points(space: Space, seed: int, trials: int) -> list[Point]:
    """Draw the first distinct points of a seed; fewer than ``trials`` if the space is exhausted."""
    distinct: dict[str, Point] = {}
    repeated = 0
    for point in _iter_draws(space, seed):
        if len(distinct) == trials or repeated == MAX_REPEATED_DRAWS:
            break
        key = repr(point)
        repeated = repeated + 1 if key in distinct else 0
        distinct.setdefault(key, point)
    return list(distinct.values())


def _iter_draws(space: Space, seed: int) -> Iterator[Point]:
    for number in count():
        yield {
            dim.name: dim.quantile(Random(f"{seed} {number} {dim.name}").random()) for dim in space
        }
