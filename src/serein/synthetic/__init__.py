"""Generate synthetic emotional speech: a built-in corpus for tests and demonstrations.

Artificial words are synthesized by source and filter: glottal pulses and noise pass through the
formants of each sound, so that pitch, loudness, tempo and timbre are in the range of real speech.
Emotions change them as reviews of acted speech report (Scherer, "Vocal communication of emotion",
2003; Juslin and Laukka, 2003). Speakers differ, and every utterance varies at random, so that
classes overlap.

Each letter is one sound, so every transcript is correct. The same seed gives the same bytes on the
same machine, and an utterance does not depend on which others are generated. Scores on this corpus
say nothing about human speech.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from serein.errors import ConfigError, StorageError, UnknownName
from serein.records import Utterance
from serein.synthetic.speech import (
    EMOTION_STYLES,
    LEXICON,
    RATE,
    SOUNDS,
    Sound,
    SpeakingStyle,
    Voice,
    make_rng,
    synthesize,
    write_wav,
)
from serein.utils.files import write_text

__all__ = [
    "COLUMNS",
    "EMOTION_STYLES",
    "LEXICON",
    "RATE",
    "SOUNDS",
    "TABLE_NAME",
    "Sound",
    "SpeakingStyle",
    "SyntheticConfig",
    "Voice",
    "generate",
    "synthesize",
]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Configuration of ``generate``: every speaker says every sentence in every emotion.

    Attributes:
        speakers: number of speakers, alternating between female and male; two form a session.
        emotions: names from ``EMOTION_STYLES``.
        sentences: number of different sentences.
        words: number of words in a sentence, plus or minus one.
        takes: number of times that each speaker says each sentence in each emotion.
        emotion_word_share: fraction of words that are drawn from the emotion's own words instead of
            the whole lexicon; at 0 all emotions share their sentences.
        seed: determines the voices and sentences.
    """

    speakers: int = 8
    emotions: tuple[str, ...] = tuple(EMOTION_STYLES)
    sentences: int = 3
    words: int = 3
    takes: int = 1
    emotion_word_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: a count is below 1, the fraction is outside [0, 1], or an emotion is
                unknown or missing.
        """
        for name in ("speakers", "sentences", "words", "takes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.emotion_word_share <= 1:
            raise ConfigError(
                f"emotion_word_share is {self.emotion_word_share}; expected a fraction, 0 to 1"
            )
        if not self.emotions:
            raise ConfigError(f"no emotions; expected some of {', '.join(EMOTION_STYLES)}")
        for emotion in self.emotions:
            if emotion not in EMOTION_STYLES:
                raise UnknownName("emotion", emotion, EMOTION_STYLES)


TABLE_NAME = "labels.csv"
COLUMNS = ("path", "id", "speaker", "session", "gender", "language", "emotion", "text")


def generate(root: Path, config: SyntheticConfig | None = None) -> list[Utterance]:
    """Write a corpus: ``wav/*.wav`` and then the table ``labels.csv``.

    Returns:
        Its utterances, in order of ids.

    Raises:
        StorageError: a file could not be written, or the folder has another table of that name.
    """
    config = config or SyntheticConfig()
    table = root / TABLE_NAME
    if table.exists():
        if table.read_bytes().splitlines()[:1] != [",".join(COLUMNS).encode()]:
            raise StorageError(f"{table} is not from this generator; choose an empty folder")
        table.unlink()
    utterances = sorted(_plan_utterances(root, config), key=lambda utterance: utterance.id)
    for utterance in utterances:
        voice = Voice.for_speaker(utterance.speaker or "", utterance.gender or "", seed=config.seed)
        text, emotion = utterance.text or "", str(utterance.labels["emotion"])
        rng = make_rng(config.seed, utterance.id, text)
        write_wav(utterance.path, synthesize(text.split(), voice, emotion, rng))
    write_text(table, "\n".join([*_table_rows(root, utterances), ""]))
    return utterances


def _plan_utterances(root: Path, config: SyntheticConfig) -> Iterator[Utterance]:
    """Yield all utterances to synthesize."""
    speakers, emotions = range(config.speakers), sorted(set(config.emotions))
    sentences, takes = range(config.sentences), range(config.takes)
    for number, emotion, sentence, take in product(speakers, emotions, sentences, takes):
        name = f"s{number + 1:02}-{emotion}-{sentence + 1:02}-{take + 1}"
        yield Utterance(
            id=name,
            path=root / "wav" / f"{name}.wav",
            speaker=f"s{number + 1:02}",
            session=f"{number // 2 + 1:02}",
            gender=("female", "male")[number % 2],
            language="art",  # ISO 639-2: an artificial language; 639-1 has no code
            text=_make_sentence(config, sentence, emotion),
            labels={"emotion": emotion},
        )


def _make_sentence(config: SyntheticConfig, number: int, emotion: str) -> str:
    rng = make_rng(config.seed, "sentence", number)
    count = max(1, config.words + int(rng.integers(-1, 2)))
    words = rng.choice(LEXICON, count, replace=count > len(LEXICON))
    if config.emotion_word_share:
        # The key determines the generated bytes; it must stay the same.
        rng = make_rng(config.seed, "telling", number, emotion)
        emotion_words = LEXICON[list(EMOTION_STYLES).index(emotion) :: len(EMOTION_STYLES)]
        is_emotional = rng.random(count) < config.emotion_word_share
        words = np.where(is_emotional, rng.choice(emotion_words, count), rng.choice(LEXICON, count))
    return " ".join(words)


def _table_rows(root: Path, utterances: Sequence[Utterance]) -> Iterator[str]:
    yield ",".join(COLUMNS)
    for utterance in utterances:
        path = utterance.path.relative_to(root).as_posix()
        values = (str(utterance.label(column)) for column in COLUMNS[2:])
        yield ",".join([path, utterance.id, *values])
