"""A long recording of generated speech with pauses, and how to compare what was heard in it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from small import small_system

from serein.bundle import Bundle, Card
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.records import Corpus

RATE = 16_000
Wave = npt.NDArray[np.float32]


def talk(corpus: Corpus, seconds: float, seed: int = 0) -> Wave:
    """Utterances end to end, or with pauses of up to two seconds."""
    generator = np.random.default_rng(seed)
    pieces: list[Wave] = []
    while sum(map(len, pieces)) < seconds * RATE:
        utterance = corpus.utterances[generator.integers(len(corpus.utterances))]
        pieces.append(soundfile.read(utterance.path, dtype="float32")[0])
        pieces.append(np.zeros(generator.choice([0, 3000, 30_000]), np.float32))
    return np.concatenate(pieces)[: round(seconds * RATE)]


def listener(*settings: str) -> Recognizer:
    """A small recogniser with weights that nobody trained."""
    bundle = Bundle(small_system("features.pad=false", *settings).eval(), Card(name="small"))
    return Recognizer(bundle)


def same(found: Sequence[Segment], wanted: Sequence[Segment]) -> None:
    """Assert that segments agree, their probabilities to 1e-5."""
    places = [[(one.start, one.end, one.label) for one in some] for some in (found, wanted)]
    assert places[0] == places[1]
    for one, other in zip(found, wanted, strict=True):
        for task, answer in one.tasks.items():
            expected = other.tasks[task].probabilities
            assert answer.probabilities == pytest.approx(expected, abs=1e-5)
