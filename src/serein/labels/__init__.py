"""Label schemes: the mapping of a corpus's labels to classes or values, a setting of the recipe.

    own            the labels of the corpus, unchanged
    harmonised     one name for each emotion across corpora: "angry" is "anger"
    four, seven    the usual sets of emotions, with excitement as happiness; others are dropped
    levels         ratings from 1 to 5 as low, middle, high
    values         ratings from 1 to 5 as values, for regression
    proxy-arousal  for corpora without ratings: the level of arousal that people associate with the
                   name of the emotion; also proxy-valence, proxy-dominance

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
"""Prefix of the schemes that replace ratings by norms of words."""
VALUES_SCHEME = "values"
"""The scheme of regression."""
DROPPED = ""
"""The class of labels that a scheme drops."""


def list_schemes() -> list[str]:
    """Return the names of all schemes, sorted.

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
    """Map a label of a corpus to its class, or its value as text; empty if it is dropped.

    Args:
        word: label of the corpus.
        scheme: one of ``list_schemes()``.
        changes: for some labels, another label, or "" to drop it; applied before the scheme.

    Raises:
        UnknownName: there is no such scheme.
        ConfigError: the scheme needs ratings, and the label is not one.

    >>> [map_to_class(word, "four") for word in ("Angry", "excitement", "calm")]
    ['anger', 'happiness', '']
    >>> map_to_class("calm", "four", {"calm": "neutral"}), map_to_class("angry", "proxy-arousal")
    ('neutral', 'high')
    """
    if scheme not in _scheme_names():
        raise UnknownName("scheme of classes", scheme, list_schemes())
    word = (changes or {}).get(word, word)
    if scheme == "own" or word == DROPPED:
        return word
    if scheme == "levels":
        return dimensions.get_rating_level(word)
    if scheme == VALUES_SCHEME:
        return str(dimensions.parse_rating(word))
    name = harmonize_emotion(word)
    if scheme == "harmonised":
        return name
    if scheme.startswith(PROXY_PREFIX):
        return dimensions.get_proxy_level(name, scheme.removeprefix(PROXY_PREFIX))
    return _build_class_map(scheme).get(name, DROPPED)


def harmonize_emotion(word: str) -> str:
    """Return the common name of an emotion across corpora; an unknown word stays the same.

    >>> harmonize_emotion("Fearful"), harmonize_emotion("nostalgia")
    ('fear', 'nostalgia')
    """
    return _build_class_map("").get(word.strip().lower(), word)


@cache
def _read_word_table() -> dict[str, Any]:
    return config.read_toml(Path(__file__).parent / "words.toml")


@cache
def _build_class_map(scheme: str) -> dict[str, str]:
    """Return the class of each word in a scheme; with "", the common name of each emotion."""
    table = _read_word_table()["schemes"][scheme] if scheme else _read_word_table()["words"]
    return {word: name for name, words in table.items() for word in words}
