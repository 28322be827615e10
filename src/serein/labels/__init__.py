"""From a corpus's own words to classes: a setting of the recipe, never of the corpus.

A scheme names a set of classes:

    own            the corpus's words as they are
    harmonised     one name for each emotion across corpora: "angry" is "anger"
    four, seven    the field's usual sets, happiness with excitement; other words are dropped
    levels         ratings from 1 to 5 as low, middle, high
    values         ratings from 1 to 5 as they are: no classes but numbers
    proxy-arousal  the level of arousal that people give an emotion's name, where nobody rated the
                   recording; likewise proxy-valence, proxy-dominance

Names and sets are in ``words.toml``, levels and proxies in ``dimensions.py``.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from serein import config
from serein.errors import UnknownName
from serein.labels import dimensions

PROXY_PREFIX = "proxy-"
"""How the schemes begin that stand in for ratings."""
VALUES_SCHEME = "values"
"""The scheme of numbers."""
DROPPED = ""
"""What a word becomes that is none of the classes."""


def list_schemes() -> list[str]:
    """Every scheme, sorted.

    >>> list_schemes()[:4]
    ['four', 'harmonised', 'levels', 'own']
    """
    return sorted(_scheme_names())


@cache
def _scheme_names() -> frozenset[str]:
    proxies = [f"{PROXY_PREFIX}{dimension}" for dimension in dimensions.DIMENSIONS]
    return frozenset(
        ["own", "harmonised", "levels", VALUES_SCHEME, *proxies, *_read_word_table()["schemes"]]
    )


def map_to_class(word: str, scheme: str = "own", changes: Mapping[str, str] | None = None) -> str:
    """The class that a corpus's word stands for, or the number; empty if it is dropped.

    Args:
        word: as the corpus says it.
        scheme: one of `schemes`.
        changes: a word's class, or "" to drop it; looked up before the scheme.

    Raises:
        UnknownName: there is no such scheme.
        ConfigError: the scheme is of ratings, and the word is none.

    >>> map_to_class("Angry", "four"), map_to_class("excitement", "four"), map_to_class("calm", "four")
    ('anger', 'happiness', '')
    >>> map_to_class("calm", "four", {"calm": "neutral"}), map_to_class("angry", "proxy-arousal")
    ('neutral', 'high')
    """
    if scheme not in _scheme_names():
        raise UnknownName("scheme of classes", scheme, list_schemes())
    chosen = (changes or {}).get(word, word)
    if scheme == "own" or chosen == DROPPED:
        return chosen
    if scheme == "levels":
        return dimensions.get_rating_level(chosen)
    if scheme == VALUES_SCHEME:
        return str(dimensions.parse_rating(chosen))
    name = harmonize_emotion(chosen)
    if scheme == "harmonised":
        return name
    if scheme.startswith(PROXY_PREFIX):
        return dimensions.get_proxy_level(name, scheme.removeprefix(PROXY_PREFIX))
    return _build_class_map(scheme).get(name, DROPPED)


def harmonize_emotion(word: str) -> str:
    """The name of an emotion across corpora; an unknown word is its own.

    >>> harmonize_emotion("Fearful"), harmonize_emotion("nostalgia")
    ('fear', 'nostalgia')
    """
    return _build_class_map("").get(word.strip().lower(), word)


@cache
def _read_word_table() -> dict[str, Any]:
    return config.read_toml(Path(__file__).parent / "words.toml")


@cache
def _build_class_map(scheme: str) -> dict[str, str]:
    """From word to class, of a scheme or of the names that all of them share."""
    table = _read_word_table()["schemes"][scheme] if scheme else _read_word_table()["words"]
    return {word: name for name, words in table.items() for word in words}
