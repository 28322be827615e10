"""Tokenization of transcripts into words, and vocabularies from words to ids."""

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
"""Tokens for start and end of a transcript, and for words outside the vocabulary."""


@dataclass(frozen=True)
class VocabularyConfig:
    """Settings of a vocabulary.

    Attributes:
        min_count: number of occurrences below which a word is left out.
        max_words: largest number of words; the most frequent ones are taken. 0 has no limit.
    """

    min_count: Annotated[int, Ge(1)] = 1
    max_words: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model by id.

    Attributes:
        words: special tokens first; the id of a word is its index.
    """

    words: tuple[str, ...] = SPECIAL_TOKENS

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            ConfigError: the special tokens are not first, or a word occurs twice.
        """
        has_tokens = self.words[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS
        if not has_tokens or len(set(self.words)) < len(self.words):
            raise ConfigError(
                f"a vocabulary begins with {', '.join(SPECIAL_TOKENS)} and has each word once; "
                f"found {len(self.words)} words that begin with {list(self.words[:4])}"
            )

    def __len__(self) -> int:
        """Return the number of words, special tokens included."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the words of a text, without start and end tokens.

        >>> Vocabulary((*SPECIAL_TOKENS, "so", "it", "goes")).encode("So it GOES, Billy!")
        [3, 4, 5, 2]
        """
        ids = {word: id_ for id_, word in enumerate(self.words)}
        return [ids.get(word, SPECIAL_TOKENS.index(UNKNOWN)) for word in tokenize(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of ids as text, up to the first end token or negative id."""
        words = []
        for id_ in ids:
            if id_ < 0 or self.words[id_] == END:
                break
            words.append(self.words[id_])
        return " ".join(words)

    def with_texts(self, texts: Iterable[str], config: VocabularyConfig) -> "Vocabulary":
        """Return a vocabulary with the words of further texts added; existing ids stay."""
        ranked = _rank_words(texts, config.min_count)
        added = [word for word in ranked if word not in set(self.words)]
        if config.max_words:
            added = added[: max(0, config.max_words + len(SPECIAL_TOKENS) - len(self))]
        return Vocabulary((*self.words, *added))


def build_vocabulary(texts: Iterable[str], config: VocabularyConfig) -> Vocabulary:
    """Build the vocabulary of texts: by frequency, words of equal frequency alphabetically.

    >>> build_vocabulary(["yes", "yes no"], VocabularyConfig()).words[3:]
    ('yes', 'no')
    """
    return Vocabulary().with_texts(texts, config)


def tokenize(text: str) -> list[str]:
    """Split a text into words, in lower case and without punctuation.

    Apostrophes and hyphens within words and digits are kept.

    >>> tokenize("Don't -- say '42' TWICE, o.k.?")
    ["don't", 'say', '42', 'twice', 'o', 'k']
    """
    plain = unicodedata.normalize("NFC", text).replace("\u2019", "'").lower()
    return re.findall(r"\w+(?:['-]\w+)*", plain)


def normalize_text(text: str) -> str:
    """Return a text in the form in which word error rates compare it.

    >>> normalize_text("So it GOES.")
    'so it goes'
    """
    return " ".join(tokenize(text))


def _rank_words(texts: Iterable[str], min_count: int) -> Sequence[str]:
    counts = Counter(word for text in texts for word in tokenize(text))
    frequent = [word for word, count in counts.items() if count >= min_count]
    return sorted(frequent, key=lambda word: (-counts[word], word))
