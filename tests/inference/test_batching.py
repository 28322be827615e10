"""Several recordings in common forward passes are answered as each would be alone."""

from typing import Any

import numpy as np
import pytest
from builders.encoded_audio import sweep
from builders.service_client import small_recognizer

from serein.inference.model_loading import DEFAULT_MODEL
from serein.inference.recognizer import Recognizer

LENGTHS = (0.3, 20.0, 1.0, 7.5, 0.05)


def flat(value: Any) -> list[Any]:
    """The leaves of a document."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (key, *flat(item))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def same(one: Any, other: Any) -> None:
    ours, theirs = flat(one), flat(other)
    assert [x for x in ours if not isinstance(x, float)] == [
        x for x in theirs if not isinstance(x, float)
    ]
    numbers = [np.array([x for x in some if isinstance(x, float)]) for some in (ours, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)


@pytest.mark.parametrize("at_a_time", [1, 3, 16])
def test_together_is_as_alone(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    recognizer = small_recognizer()
    recordings = [(str(seconds), sweep(seconds)) for seconds in LENGTHS]
    alone = [recognizer.predict_many([one])[0] for one in recordings]
    monkeypatch.setattr("serein.inference.predictor.BATCH_SIZE", at_a_time)
    together = recognizer.predict_many(recordings)
    assert [one.source for one in together] == [name for name, _ in recordings]
    for one, other in zip(together, alone, strict=True):
        same(one.to_dict(), other.to_dict())


def test_the_shipped_model_too() -> None:
    recognizer = Recognizer(DEFAULT_MODEL)
    recordings = [(str(seconds), sweep(seconds)) for seconds in LENGTHS]
    for one, (name, wave_s) in zip(recognizer.predict_many(recordings), recordings, strict=True):
        alone = recognizer((wave_s, recognizer.rate)).to_dict()
        same(one.to_dict(), {**alone, "source": name})


def test_nothing_is_answered_by_nothing() -> None:
    assert small_recognizer().predict_many([]) == []
