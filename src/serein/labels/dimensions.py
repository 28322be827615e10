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
MIN_RATING, LOW_LIMIT, HIGH_LIMIT, MAX_RATING = 1.0, 2.0, 4.0, 5.0
MIDDLE_LIMIT = 0.2
"""A norm nearer to 0 is middle."""


def get_rating_level(rating: str) -> str:
    """The level of a rating.

    Args:
        rating: a number from 1 to 5, as text.

    Raises:
        ConfigError: it is no such number.

    >>> get_rating_level("2.0"), get_rating_level("2.01"), get_rating_level("3.99"), get_rating_level("4")
    ('low', 'middle', 'middle', 'high')
    """
    value = parse_rating(rating)
    return LEVELS[(value > LOW_LIMIT) + (value >= HIGH_LIMIT)]


def parse_rating(rating: str) -> float:
    """A rating as a number.

    Args:
        rating: a number from 1 to 5, as text.

    Raises:
        ConfigError: it is no such number.

    >>> parse_rating("2.5000")
    2.5
    """
    try:
        value = float(rating)
    except ValueError:
        value = float("nan")
    if not MIN_RATING <= value <= MAX_RATING:
        raise ConfigError(
            f"a rating is {rating!r}; expected a number from 1 to 5. If the scale is another one, "
            "bring the ratings to 1 to 5 in the table"
        )
    return value


def get_proxy_level(emotion: str, dimension: str) -> str:
    """The level that the norms give an emotion; empty where they do not know it.

    Args:
        emotion: by its name across corpora.
        dimension: one of `DIMENSIONS`.

    >>> get_proxy_level("anger", "arousal"), get_proxy_level("sadness", "valence"), get_proxy_level("contempt", "valence")
    ('high', 'low', '')
    """
    norm = _read_norms().get(emotion)
    if norm is None:
        return ""
    value = norm[DIMENSIONS.index(dimension)]
    return LEVELS[(value >= -MIDDLE_LIMIT) + (value > MIDDLE_LIMIT)]


@cache
def _read_norms() -> dict[str, list[float]]:
    return config.read_toml(Path(__file__).parent / "norms.toml")
