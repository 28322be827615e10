"""Words and their numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serein.errors import ConfigError
from serein.vocabulary import SPECIAL, Config, Vocabulary, built, normalised, spoken

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
    assert spoken(text) == words


@given(WORDS)
def test_numbers_give_the_words_back(words: list[str]) -> None:
    text = " ".join(words)
    made = built([text], Config())
    assert made.text(made.ids(text)) == normalised(text)


def test_frequent_words_come_first_and_equals_by_the_alphabet() -> None:
    made = built(["b a c", "c b", "c"], Config())
    assert made.words == (*SPECIAL, "c", "b", "a")


def test_rare_words_have_no_number() -> None:
    made = built(["a a b", "c c"], Config(minimum=2))
    assert made.words[3:] == ("a", "c")
    assert made.ids("b a") == [2, 3]


def test_the_size_counts_words_that_are_said() -> None:
    assert len(built(["a a a b b c"], Config(size=2))) == len(SPECIAL) + 2


def test_more_words_stand_behind_those_that_were_learnt() -> None:
    first = built(["so it goes"], Config())
    more = first.extended(["it never goes so never"], Config())
    assert more.words[: len(first)] == first.words
    assert more.words[len(first) :] == ("never",)
    assert first.extended(["a b"], Config(size=3)).words == first.words


def test_what_follows_the_end_is_not_said() -> None:
    made = built(["yes no"], Config())
    assert made.text([3, 4, 1, 3]) == "no yes"
    assert made.text([4, -1, 3]) == "yes"


@pytest.mark.parametrize("words", [("a",), (*SPECIAL, "a", "a"), ()])
def test_what_is_no_vocabulary(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a vocabulary begins with"):
        Vocabulary(words)
