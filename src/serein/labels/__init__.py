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

PROXY = "proxy-"
"""How the schemes begin that stand in for ratings."""
VALUES = "values"
"""The scheme of numbers."""
DROPPED = ""
"""What a word becomes that is none of the classes."""


def schemes() -> list[str]:
    """Every scheme, sorted.

    >>> schemes()[:4]
    ['four', 'harmonised', 'levels', 'own']
    """
    return sorted(_schemes())


@cache
def _schemes() -> frozenset[str]:
    proxies = [f"{PROXY}{dimension}" for dimension in dimensions.DIMENSIONS]
    return frozenset(["own", "harmonised", "levels", VALUES, *proxies, *_table()["schemes"]])


def class_of(word: str, scheme: str = "own", changes: Mapping[str, str] | None = None) -> str:
    """The class that a corpus's word stands for, or the number; empty if it is dropped.

    Args:
        word: as the corpus says it.
        scheme: one of `schemes`.
        changes: a word's class, or "" to drop it; looked up before the scheme.

    Raises:
        UnknownName: there is no such scheme.
        ConfigError: the scheme is of ratings, and the word is none.

    >>> class_of("Angry", "four"), class_of("excitement", "four"), class_of("calm", "four")
    ('anger', 'happiness', '')
    >>> class_of("calm", "four", {"calm": "neutral"}), class_of("angry", "proxy-arousal")
    ('neutral', 'high')
    """
    if scheme not in _schemes():
        raise UnknownName("scheme of classes", scheme, schemes())
    chosen = (changes or {}).get(word, word)
    if scheme == "own" or chosen == DROPPED:
        return chosen
    if scheme == "levels":
        return dimensions.level(chosen)
    if scheme == VALUES:
        return str(dimensions.number(chosen))
    name = harmonised(chosen)
    if scheme == "harmonised":
        return name
    if scheme.startswith(PROXY):
        return dimensions.proxy(name, scheme.removeprefix(PROXY))
    return _places(scheme).get(name, DROPPED)


def harmonised(word: str) -> str:
    """The name of an emotion across corpora; an unknown word is its own.

    >>> harmonised("Fearful"), harmonised("nostalgia")
    ('fear', 'nostalgia')
    """
    return _places("").get(word.strip().lower(), word)


@cache
def _table() -> dict[str, Any]:
    return config.read(Path(__file__).parent / "words.toml")


@cache
def _places(scheme: str) -> dict[str, str]:
    """From word to class, of a scheme or of the names that all of them share."""
    table = _table()["schemes"][scheme] if scheme else _table()["words"]
    return {word: name for name, words in table.items() for word in words}
