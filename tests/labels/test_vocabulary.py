"""Tokenization, vocabularies, and word ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serein.errors import ConfigError
from serein.labels.vocabulary import (
    SPECIAL_TOKENS,
    Vocabulary,
    VocabularyConfig,
    build_vocabulary,
    normalize_text,
    tokenize,
)

WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=4), max_size=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  -- ... ", []),
        ("Das schwarze Stück Papier", ["das", "schwarze", "stück", "papier"]),
        ("STU\u0308CK", ["stück"]),
        ("it\u2019s o'clock", ["it's", "o'clock"]),
        ("well-known, 3rd & 42!", ["well-known", "3rd", "42"]),
        ("kids' 'quoted'", ["kids", "quoted"]),
    ],
)
def test_tokenize(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@given(WORDS)
def test_decode_inverts_encode(words: list[str]) -> None:
    text = " ".join(words)
    vocabulary = build_vocabulary([text], VocabularyConfig())
    assert vocabulary.decode(vocabulary.encode(text)) == normalize_text(text)


def test_words_are_ordered_by_frequency_then_alphabet() -> None:
    vocabulary = build_vocabulary(["b a c", "c b", "c"], VocabularyConfig())
    assert vocabulary.words == (*SPECIAL_TOKENS, "c", "b", "a")


def test_rare_words_are_unknown() -> None:
    vocabulary = build_vocabulary(["a a b", "c c"], VocabularyConfig(min_count=2))
    assert vocabulary.words[3:] == ("a", "c")
    assert vocabulary.encode("b a") == [2, 3]


def test_max_words_does_not_count_special_tokens() -> None:
    assert (
        len(build_vocabulary(["a a a b b c"], VocabularyConfig(max_words=2)))
        == len(SPECIAL_TOKENS) + 2
    )


def test_with_texts_appends_new_words() -> None:
    first = build_vocabulary(["so it goes"], VocabularyConfig())
    more = first.with_texts(["it never goes so never"], VocabularyConfig())
    assert more.words[: len(first)] == first.words
    assert more.words[len(first) :] == ("never",)
    assert first.with_texts(["a b"], VocabularyConfig(max_words=3)).words == first.words


def test_decode_stops_at_the_end_token() -> None:
    vocabulary = build_vocabulary(["yes no"], VocabularyConfig())
    assert vocabulary.decode([3, 4, 1, 3]) == "no yes"
    assert vocabulary.decode([4, -1, 3]) == "yes"


@pytest.mark.parametrize("words", [("a",), (*SPECIAL_TOKENS, "a", "a"), ()])
def test_an_invalid_vocabulary_is_an_error(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a vocabulary begins with"):
        Vocabulary(words)
