"""Words and the numbers that stand for them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from serein.errors import ConfigError

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL_TOKENS = (START, END, UNKNOWN)
"""Never said: where a transcript begins, where it ends, and any word that has no number."""


@dataclass(frozen=True)
class VocabularyConfig:
    """Which words get a number.

    Attributes:
        minimum: how often a word must be said to get one.
        size: how many words get one at most, the most frequent ones; 0 is any number.
    """

    min_count: Annotated[int, Ge(1)] = 1
    max_words: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class Vocabulary:
    """Words by their numbers.

    Attributes:
        words: the special ones first; a word's number is its place.
    """

    words: tuple[str, ...] = SPECIAL_TOKENS

    def __post_init__(self) -> None:
        """See that it is one.

        Raises:
            ConfigError: the special words do not come first, or a word stands there twice.
        """
        if self.words[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS or len(set(self.words)) < len(
            self.words
        ):
            raise ConfigError(
                f"a vocabulary begins with {', '.join(SPECIAL_TOKENS)} and holds each word once; found "
                f"{len(self.words)} words that begin with {list(self.words[:4])}"
            )

    def __len__(self) -> int:
        """How many numbers there are."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The numbers of the words that are said, without those of start and end.

        >>> Vocabulary((*SPECIAL_TOKENS, "so", "it", "goes")).encode("So it GOES, Billy!")
        [3, 4, 5, 2]
        """
        place = {word: number for number, word in enumerate(self.words)}
        return [place.get(word, SPECIAL_TOKENS.index(UNKNOWN)) for word in tokenize(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of these numbers, up to the end."""
        words = []
        for number in ids:
            if number < 0 or self.words[number] == END:
                break
            words.append(self.words[number])
        return " ".join(words)

    def with_texts(self, texts: Iterable[str], config: VocabularyConfig) -> "Vocabulary":
        """With the words of further texts behind its own, whose numbers stay."""
        more = [
            word for word in _rank_words(texts, config.min_count) if word not in set(self.words)
        ]
        room = (
            len(more)
            if not config.max_words
            else max(0, config.max_words + len(SPECIAL_TOKENS) - len(self))
        )
        return Vocabulary((*self.words, *more[:room]))


def build_vocabulary(texts: Iterable[str], config: VocabularyConfig) -> Vocabulary:
    """The vocabulary of texts, frequent words first, equals by the alphabet.

    >>> build_vocabulary(["yes", "yes no"], VocabularyConfig()).words[3:]
    ('yes', 'no')
    """
    return Vocabulary().with_texts(texts, config)


def tokenize(text: str) -> list[str]:
    """The words of a text as they are compared: lower case, without punctuation.

    Apostrophes and hyphens stay inside words, digits stay as they are written.

    >>> tokenize("Don't -- say '42' TWICE, o.k.?")
    ["don't", 'say', '42', 'twice', 'o', 'k']
    """
    plain = unicodedata.normalize("NFC", text).replace("\u2019", "'").lower()
    return re.findall(r"\w+(?:['-]\w+)*", plain)


def normalize_text(text: str) -> str:
    """A text as word error rates compare it.

    >>> normalize_text("So it GOES.")
    'so it goes'
    """
    return " ".join(tokenize(text))


def _rank_words(texts: Iterable[str], min_count: int) -> Sequence[str]:
    counts = Counter(word for text in texts for word in tokenize(text))
    frequent = [word for word, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda word: (-counts[word], word))
