"""Made-up sentences on disk, for layouts of other corpora."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from serein.synthetic._files import write_wav
from serein.synthetic._voices import LEXICON, Voice, make_rng
from serein.synthetic.speech import synthesize

SUBSTITUTE_STYLES = {
    "excitement": "happiness",
    "frustration": "anger",
    "other": "neutral",
    "surprise": "happiness",
}
"""How emotions are spoken that have no manner of their own."""


@dataclass(frozen=True, kw_only=True)
class SentenceRecorder:
    """Where made-up sentences are recorded.

    Attributes:
        words: of each sentence; with 0 the recordings are 10 ms of silence, for trials of readers.
        seed: other seeds give other voices and sentences.
    """

    words: int
    seed: int

    def make_sentence(self, *key: object) -> str:
        """What is said wherever ``key`` stands for it."""
        return " ".join(make_rng(self.seed, "sentence", *key).choice(LEXICON, self.words))

    def record(
        self, path: Path, *, name: str, speaker: str, gender: str, emotion: str, sentence: str
    ) -> None:
        """Write a recording; ``name`` decides what chance does to it.

        Raises:
            StorageError: the file could not be written.
        """
        samples = np.zeros(160, np.float32)
        if sentence:
            voice = Voice.for_speaker(speaker, gender, seed=self.seed)
            chance = make_rng(self.seed, name)
            samples = synthesize(
                sentence.split(), voice, SUBSTITUTE_STYLES.get(emotion, emotion), chance
            )
        write_wav(path, samples)


def shares(counts: Iterable[int], total: int) -> list[int]:
    """Whole numbers in the proportions of ``counts`` that sum to ``total``."""
    ends = np.array([0, *accumulate(counts)])
    return np.diff(np.rint(ends * total / ends[-1]).astype(int)).tolist()
