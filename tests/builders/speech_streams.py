"""Long recordings of synthetic speech with pauses, and comparison of segments."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from builders.small_systems import VALUE_TASKS, small_system

from serein.bundle import Bundle, Card
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.tasks.heads import RegressionTask

RATE = 16_000
Wave = npt.NDArray[np.float32]


def make_speech(corpus: Corpus, seconds: float, seed: int = 0) -> Wave:
    """Concatenate utterances with pauses of up to two seconds or without."""
    generator = np.random.default_rng(seed)
    pieces: list[Wave] = []
    while sum(map(len, pieces)) < seconds * RATE:
        utterance = corpus.utterances[generator.integers(len(corpus.utterances))]
        pieces.append(soundfile.read(utterance.path, dtype="float32")[0])
        pieces.append(np.zeros(generator.choice([0, 3000, 30_000]), np.float32))
    return np.concatenate(pieces)[: round(seconds * RATE)]


def untrained_recognizer(*settings: str) -> Recognizer:
    """Return a small recognizer with random weights."""
    bundle = Bundle(small_system("features.pad=false", *settings).eval(), Card(name="small"))
    return Recognizer(bundle)


def rating_recognizer(*settings: str) -> Recognizer:
    """Return a small recognizer of values around 3, like ratings from 1 to 5."""
    made = untrained_recognizer(*VALUE_TASKS, *settings)
    for task in made.system.tasks.values():
        if isinstance(task, RegressionTask):
            task.mean.fill_(3.0)
            task.deviation.fill_(0.5)
    return made


def assert_same_segments(found: Sequence[Segment], wanted: Sequence[Segment]) -> None:
    """Assert that segments agree, their probabilities and values to 1e-5."""
    places = [[(one.start, one.end, one.label) for one in some] for some in (found, wanted)]
    assert places[0] == places[1]
    for one, other in zip(found, wanted, strict=True):
        for task, answer in one.tasks.items():
            expected = other.tasks[task].probabilities
            assert answer.probabilities == pytest.approx(expected, abs=1e-5)
        assert one.values == pytest.approx(other.values, abs=1e-5)
