"""Words and their numbers."""

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
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@given(WORDS)
def test_numbers_give_the_words_back(words: list[str]) -> None:
    text = " ".join(words)
    made = build_vocabulary([text], VocabularyConfig())
    assert made.decode(made.encode(text)) == normalize_text(text)


def test_frequent_words_come_first_and_equals_by_the_alphabet() -> None:
    made = build_vocabulary(["b a c", "c b", "c"], VocabularyConfig())
    assert made.words == (*SPECIAL_TOKENS, "c", "b", "a")


def test_rare_words_have_no_number() -> None:
    made = build_vocabulary(["a a b", "c c"], VocabularyConfig(min_count=2))
    assert made.words[3:] == ("a", "c")
    assert made.encode("b a") == [2, 3]


def test_the_size_counts_words_that_are_said() -> None:
    assert (
        len(build_vocabulary(["a a a b b c"], VocabularyConfig(max_words=2)))
        == len(SPECIAL_TOKENS) + 2
    )


def test_more_words_stand_behind_those_that_were_learnt() -> None:
    first = build_vocabulary(["so it goes"], VocabularyConfig())
    more = first.with_texts(["it never goes so never"], VocabularyConfig())
    assert more.words[: len(first)] == first.words
    assert more.words[len(first) :] == ("never",)
    assert first.with_texts(["a b"], VocabularyConfig(max_words=3)).words == first.words


def test_what_follows_the_end_is_not_said() -> None:
    made = build_vocabulary(["yes no"], VocabularyConfig())
    assert made.decode([3, 4, 1, 3]) == "no yes"
    assert made.decode([4, -1, 3]) == "yes"


@pytest.mark.parametrize("words", [("a",), (*SPECIAL_TOKENS, "a", "a"), ()])
def test_what_is_no_vocabulary(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a vocabulary begins with"):
        Vocabulary(words)
