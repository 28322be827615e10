"""Speech-like audio in any amount: an embedded corpus for trials, tests and demonstrations.

Made-up words are spoken by source and filter. A pulsed voice and a noise pass through the
formants of each sound, so that pitch, loudness, tempo and timbre are where real speech has them.
Emotion moves them as reviews of acted speech report (Scherer, "Vocal communication of emotion",
2003; Juslin and Laukka, 2003), speakers differ, and chance blurs both, so that classes overlap.

A letter is a sound, hence every transcript is true. One seed gives the same bytes on one machine,
and no utterance depends on which others are made. Scores on it say nothing about human speech.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from serein.errors import ConfigError, StorageError, UnknownName
from serein.records import Utterance
from serein.synthetic.layouts import (
    write_audformat,
    write_cremad,
    write_emodb,
    write_iemocap,
    write_librispeech,
    write_ravdess,
    write_savee,
    write_wav,
)
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
    "write_audformat",
    "write_cremad",
    "write_emodb",
    "write_iemocap",
    "write_librispeech",
    "write_ravdess",
    "write_savee",
]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What ``generate`` makes: every speaker says every sentence in every emotion.

    Attributes:
        speakers: how many; they alternate between female and male, two make a session.
        emotions: names from ``MANNERS``.
        sentences: how many different ones.
        words: of a sentence, give or take one.
        takes: how often each speaker says the same thing.
        telling: share of words that tell the emotion: every emotion has words of its own, which
            are said in it so often in place of any word; at 0 all emotions share their sentences.
        seed: other seeds give other voices and sentences.
    """

    speakers: int = 8
    emotions: tuple[str, ...] = tuple(EMOTION_STYLES)
    sentences: int = 3
    words: int = 3
    takes: int = 1
    emotion_word_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            ConfigError: a count is below 1, a share is none, or an emotion is unknown or missing.
        """
        for name in ("speakers", "sentences", "words", "takes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.emotion_word_share <= 1:
            raise ConfigError(f"telling is {self.emotion_word_share}; expected a share, 0 to 1")
        if not self.emotions:
            raise ConfigError(f"no emotions; expected some of {', '.join(EMOTION_STYLES)}")
        for emotion in self.emotions:
            if emotion not in EMOTION_STYLES:
                raise UnknownName("emotion", emotion, EMOTION_STYLES)


TABLE_NAME = "labels.csv"
COLUMNS = ("path", "id", "speaker", "session", "gender", "language", "emotion", "text")


def generate(root: Path, config: SyntheticConfig | None = None) -> list[Utterance]:
    """Write a corpus: ``wav/*.wav`` and, once they all stand, the table ``labels.csv``.

    Returns:
        Its utterances, in order of their ids.

    Raises:
        StorageError: a file could not be written, or a table of someone else's stands there.
    """
    config = config or SyntheticConfig()
    table = root / TABLE_NAME
    if table.exists():
        if table.read_bytes().splitlines()[:1] != [",".join(COLUMNS).encode()]:
            raise StorageError(f"{table} is not from this generator; choose an empty folder")
        table.unlink()
    utterances = sorted(_plan_utterances(root, config), key=lambda utterance: utterance.id)
    for one in utterances:
        voice = Voice.for_speaker(one.speaker or "", one.gender or "", seed=config.seed)
        text, emotion = one.text or "", str(one.labels["emotion"])
        rng = make_rng(config.seed, one.id, text)
        write_wav(one.path, synthesize(text.split(), voice, emotion, rng))
    write_text(table, "\n".join([*_table_rows(root, utterances), ""]))
    return utterances


def _plan_utterances(root: Path, settings: SyntheticConfig) -> Iterator[Utterance]:
    """Who says what, and how."""
    speakers, emotions = range(settings.speakers), sorted(set(settings.emotions))
    lines, takes = range(settings.sentences), range(settings.takes)
    for number, emotion, line, take in product(speakers, emotions, lines, takes):
        name = f"s{number + 1:02}-{emotion}-{line + 1:02}-{take + 1}"
        yield Utterance(
            id=name,
            path=root / "wav" / f"{name}.wav",
            speaker=f"s{number + 1:02}",
            session=f"{number // 2 + 1:02}",
            gender=("female", "male")[number % 2],
            language="art",  # ISO 639-2: an artificial language; 639-1 has no code
            text=_make_sentence(settings, line, emotion),
            labels={"emotion": emotion},
        )


def _make_sentence(settings: SyntheticConfig, number: int, emotion: str) -> str:
    rng = make_rng(settings.seed, "sentence", number)
    count = max(1, settings.words + int(rng.integers(-1, 2)))
    words = rng.choice(LEXICON, count, replace=count > len(LEXICON))
    if settings.emotion_word_share:
        rng = make_rng(settings.seed, "telling", number, emotion)
        own = LEXICON[list(EMOTION_STYLES).index(emotion) :: len(EMOTION_STYLES)]
        told = rng.random(count) < settings.emotion_word_share
        words = np.where(told, rng.choice(own, count), rng.choice(LEXICON, count))
    return " ".join(words)


def _table_rows(root: Path, utterances: Sequence[Utterance]) -> Iterator[str]:
    yield ",".join(COLUMNS)
    for one in utterances:
        path = one.path.relative_to(root).as_posix()
        yield ",".join([path, one.id, *(str(one.label(column)) for column in COLUMNS[2:])])
