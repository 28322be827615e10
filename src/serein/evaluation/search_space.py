"""What a search draws settings from.

    tasks.gender.weight=0..1          a range; of whole numbers where the setting takes no others
    training.rate=1e-4..1e-2:log      a range, even on the logarithmic scale
    training.batch=16,32,64           a choice

Draw n of a seed is always the same, whoever draws it and whatever was drawn before.
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
SCORING_SETTINGS = ("protocol.", "training.selection_window")
"""Settings that say how trials are scored."""
MAX_REPEATED_DRAWS = 10_000
"""So many draws in a row that have all been drawn before are taken for the end of a space."""


@dataclass(frozen=True)
class Range:
    """Numbers from one to another, both included.

    Attributes:
        name: of the setting.
        low: the smallest.
        high: the largest.
        log: whether equal ratios, not differences, are equally likely.
        whole: whether there are whole numbers alone.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def text(self) -> str:
        """As it would be typed."""
        return f"{self.low:.6g}..{self.high:.6g}{':log' * self.log}"

    @property
    def edges(self) -> tuple[Any, ...]:
        """Values that a recipe must take for it to take all."""
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    def quantile(self, q: float) -> float | int:
        """The value that a share, from 0 to below 1, of all values lies below."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.integer else (self.low, self.high)
        value = low * (high / low) ** q if self.log else low + (high - low) * q
        # Six digits are what reports and result files keep, so that a typed setting is the same.
        value = min(max(float(f"{value:.6g}"), self.low), self.high)
        return round(value) if self.integer else value


@dataclass(frozen=True)
class Choice:
    """Some values, equally likely.

    Attributes:
        name: of the setting.
        values: two or more.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        """As it would be typed."""
        return ",".join(config.format_setting("", value).removeprefix("=") for value in self.values)

    @property
    def edges(self) -> tuple[Any, ...]:
        """Values that a recipe must take for it to take all."""
        return self.values

    def quantile(self, q: float) -> Any:
        """The value that a share, from 0 to below 1, of all values lies below."""
        return self.values[int(q * len(self.values))]


Space = tuple[Range | Choice, ...]


def parse_space(recipe: Recipe, settings: Sequence[str]) -> Space:
    """Read a space, and try its edges on a recipe.

    Args:
        recipe: what is searched.
        settings: as above; without any, the weight of every task but the first, 0 to 1.

    Raises:
        ConfigError: what is no range or choice, or what the recipe does not take.
    """
    found = tuple(_parse_dimension(recipe, one) for one in settings or _default_space(recipe))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is searched twice; give it one range or choice")
    for one in found:
        for value in one.edges:
            apply_point(recipe, {one.name: value})
    return found


def _default_space(recipe: Recipe) -> list[str]:
    weights = [f"tasks.{task}.weight=0..1" for task in list(recipe.tasks)[1:]]
    if not weights:
        raise ConfigError(
            f"{recipe.name} has one task, and so no weights to search; say what to search: "
            f"{EXAMPLES}"
        )
    return weights


def _parse_dimension(recipe: Recipe, setting: str) -> Range | Choice:
    name, _, text = map(str.strip, setting.partition("="))
    config.apply_setting({}, setting)  # for the errors of a setting that is none
    if name.startswith(SCORING_SETTINGS):
        raise ConfigError(
            f"{name} says how trials are scored, and their scores would not compare; "
            f"fix it: --set {name}=..."
        )
    return _parse_range(recipe, name, text) if ".." in text else _parse_choice(name, text)


def _parse_range(recipe: Recipe, name: str, text: str) -> Range:
    ends, _, scale = text.partition(":")
    low, high = map(config.parse_value, map(str.strip, ends.split("..", maxsplit=1)))
    for end in (low, high):
        if type(end) not in (int, float) or not math.isfinite(end):
            raise ConfigError(f"{name}={text}: {end!r} is no number; {EXAMPLES}")
    if low >= high:
        raise ConfigError(f"{name}={text}: the range ends before it begins; write LOW..HIGH")
    if scale not in ("", "log"):
        raise ConfigError(f"{name}={text}: unknown scale {scale!r}; write LOW..HIGH:log, or none")
    if scale and low <= 0:
        raise ConfigError(f"{name}={text}: a logarithmic range begins above 0")
    whole = type(low) is type(high) is int and not _is_accepted(recipe, name, low + 0.5)
    return Range(name, low, high, log=bool(scale), integer=whole)


def _parse_choice(name: str, text: str) -> Choice:
    distinct = parse_values(text)
    if len(distinct) < 2:
        raise ConfigError(f"{name}={text} is neither a range nor a choice; {EXAMPLES}")
    return Choice(name, distinct)


def parse_values(text: str) -> tuple[Any, ...]:
    """The different values that stand between commas; none where one of them is empty.

    >>> parse_values("0, 0.5, 1.0, 0"), parse_values("adam,rmsprop"), parse_values("1,")
    ((0, 0.5, 1.0), ('adam', 'rmsprop'), (1,))
    """
    found = config.parse_value(f"[{text}]")
    if not isinstance(found, list):
        found = [config.parse_value(part.strip()) for part in text.split(",")]
    distinct = tuple(value for place, value in enumerate(found) if value not in found[:place])
    return () if "" in distinct else distinct


def _is_accepted(recipe: Recipe, name: str, value: Any) -> bool:
    try:
        apply_point(recipe, {name: value})
    except ConfigError:
        return False
    return True


def apply_point(recipe: Recipe, point: Point) -> Recipe:
    """The recipe of a point.

    Raises:
        ConfigError: it takes no such setting.
    """
    changed = recipes.with_settings(recipe, format_settings(point))
    system.check_recipe(changed)
    config.build_config(TrainingConfig, changed.training, "training")
    return changed


def format_settings(point: Point) -> list[str]:
    """A point as settings."""
    return [config.format_setting(name, value) for name, value in point.items()]


def draw_points(space: Space, seed: int, trials: int) -> list[Point]:
    """The first distinct points of a seed; fewer than asked for where a space holds no more."""
    found: dict[str, Point] = {}
    repeated = 0
    for point in _iter_draws(space, seed):
        if len(found) == trials or repeated == MAX_REPEATED_DRAWS:
            break
        key = repr(point)
        repeated = repeated + 1 if key in found else 0
        found.setdefault(key, point)
    return list(found.values())


def _iter_draws(space: Space, seed: int) -> Iterator[Point]:
    for number in count():
        yield {
            one.name: one.quantile(Random(f"{seed} {number} {one.name}").random()) for one in space
        }
