"""Levels of arousal, valence and dominance, from ratings or, without them, from norms of words.

Zhang et al. 2019, section 4.1, after Metallinou et al.: of ratings from 1 to 5, [1, 2] is low,
(2, 4) middle and [4, 5] high.

For a corpus of emotions without ratings, a *proxy* takes the mean rating of the emotion's name
(``norms.toml``). It is a rating of the word, not of the recording. Norms rarely exceed half of
their scale, and those of dominance never do, so that the level of a proxy is low below -0.2, high
above 0.2, and middle in between.
"""

from functools import cache
from pathlib import Path

from serein import config
from serein.errors import ConfigError

LEVELS = ("low", "middle", "high")
DIMENSIONS = ("valence", "arousal", "dominance")
"""In the order of the norms, which call valence pleasure."""
MIN_RATING, LOW_LIMIT, HIGH_LIMIT, MAX_RATING = 1.0, 2.0, 4.0, 5.0
MIDDLE_LIMIT = 0.2
"""Largest absolute value of a norm that is middle."""


def get_rating_level(rating: str) -> str:
    """Return the level of a rating.

    Args:
        rating: a number from 1 to 5, as text.

    Raises:
        ConfigError: ``rating`` is not a number from 1 to 5.

    >>> [get_rating_level(rating) for rating in ("2.0", "2.01", "3.99", "4")]
    ['low', 'middle', 'middle', 'high']
    """
    value = parse_rating(rating)
    return LEVELS[(value > LOW_LIMIT) + (value >= HIGH_LIMIT)]


def parse_rating(rating: str) -> float:
    """Convert a rating to a number.

    Args:
        rating: a number from 1 to 5, as text.

    Raises:
        ConfigError: ``rating`` is not a number from 1 to 5.

    >>> parse_rating("2.5000")
    2.5
    """
    try:
        value = float(rating)
    except ValueError:
        value = float("nan")
    if not MIN_RATING <= value <= MAX_RATING:
        raise ConfigError(
            f"a rating is {rating!r}; expected a number from 1 to 5. If the corpus has another "
            "scale, convert its ratings to 1 to 5 in the table"
        )
    return value


def get_proxy_level(emotion: str, dimension: str) -> str:
    """Return the level of an emotion's norm; empty if the emotion has no norm.

    Args:
        emotion: common name across corpora.
        dimension: one of ``DIMENSIONS``.

    >>> get_proxy_level("anger", "arousal"), get_proxy_level("sadness", "valence")
    ('high', 'low')
    >>> get_proxy_level("contempt", "valence")
    ''
    """
    value = get_norm(emotion, dimension)
    if value is None:
        return ""
    return LEVELS[(value >= -MIDDLE_LIMIT) + (value > MIDDLE_LIMIT)]


def get_norm(emotion: str, dimension: str) -> float | None:
    """Return an emotion's norm from -1 to 1; None if it has none.

    Args:
        emotion: common name across corpora.
        dimension: one of ``DIMENSIONS``.

    >>> get_norm("anger", "arousal"), get_norm("contempt", "arousal")
    (0.59, None)
    """
    norm = _read_norms().get(emotion)
    return None if norm is None else norm[DIMENSIONS.index(dimension)]


@cache
def _read_norms() -> dict[str, list[float]]:
    return config.read_toml(Path(__file__).parent / "norms.toml")
