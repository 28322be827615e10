"""Ratings of arousal, valence and dominance, and their three levels; stand-ins where nobody rated.

Zhang et al. 2019, section 4.1, after Metallinou et al.: of ratings from 1 to 5, [1, 2] is low,
(2, 4) middle and [4, 5] high.

A corpus that only names emotions has no ratings. A *proxy* takes the mean rating of the emotion's
name instead (``norms.toml``): it says what people think of the word, not what they heard. Norms
seldom reach half of their scale, and of dominance never, so that the level of a proxy is low
under -0.2, high over 0.2, and middle between.
"""

from functools import cache
from pathlib import Path

from serein import config
from serein.errors import ConfigError

LEVELS = ("low", "middle", "high")
DIMENSIONS = ("valence", "arousal", "dominance")
"""In the order of the norms; pleasure is valence."""
LOWEST, LOW, HIGH, HIGHEST = 1.0, 2.0, 4.0, 5.0
REACH = 0.2
"""A norm nearer to 0 is middle."""


def level(rating: str) -> str:
    """The level of a rating.

    Args:
        rating: a number from 1 to 5, as text.

    Raises:
        ConfigError: it is no such number.

    >>> level("2.0"), level("2.01"), level("3.99"), level("4")
    ('low', 'middle', 'middle', 'high')
    """
    value = number(rating)
    return LEVELS[(value > LOW) + (value >= HIGH)]


def number(rating: str) -> float:
    """A rating as a number.

    Args:
        rating: a number from 1 to 5, as text.

    Raises:
        ConfigError: it is no such number.

    >>> number("2.5000")
    2.5
    """
    try:
        value = float(rating)
    except ValueError:
        value = float("nan")
    if not LOWEST <= value <= HIGHEST:
        raise ConfigError(
            f"a rating is {rating!r}; expected a number from 1 to 5. If the scale is another one, "
            "bring the ratings to 1 to 5 in the table"
        )
    return value


def proxy(emotion: str, dimension: str) -> str:
    """The level that the norms give an emotion; empty where they do not know it.

    Args:
        emotion: by its name across corpora.
        dimension: one of `DIMENSIONS`.

    >>> proxy("anger", "arousal"), proxy("sadness", "valence"), proxy("contempt", "valence")
    ('high', 'low', '')
    """
    norm = _norms().get(emotion)
    if norm is None:
        return ""
    value = norm[DIMENSIONS.index(dimension)]
    return LEVELS[(value >= -REACH) + (value > REACH)]


@cache
def _norms() -> dict[str, list[float]]:
    return config.read(Path(__file__).parent / "norms.toml")
