"""A long recording of generated speech with pauses, and how to compare what was heard in it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from builders.small_systems import VALUES, small_system

from serein.bundle import Bundle, Card
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.tasks.heads import RegressionTask

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


def rating(*settings: str) -> Recognizer:
    """One whose values lie about 3, as ratings from 1 to 5 do."""
    made = listener(*VALUES, *settings)
    for task in made.system.tasks.values():
        if isinstance(task, RegressionTask):
            task.mean.fill_(3.0)
            task.deviation.fill_(0.5)
    return made


def same(found: Sequence[Segment], wanted: Sequence[Segment]) -> None:
    """Assert that segments agree, their probabilities and values to 1e-5."""
    places = [[(one.start, one.end, one.label) for one in some] for some in (found, wanted)]
    assert places[0] == places[1]
    for one, other in zip(found, wanted, strict=True):
        for task, answer in one.tasks.items():
            expected = other.tasks[task].probabilities
            assert answer.probabilities == pytest.approx(expected, abs=1e-5)
        assert one.values == pytest.approx(other.values, abs=1e-5)
