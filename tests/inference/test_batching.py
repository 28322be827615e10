"""Several recordings in shared forward passes give the same answers as single recordings."""

from typing import Any

import numpy as np
import pytest
from builders.encoded_audio import make_sweep
from builders.service_client import small_recognizer

from serein.inference.model_loading import DEFAULT_MODEL
from serein.inference.recognizer import Recognizer

LENGTHS = (0.3, 20.0, 1.0, 7.5, 0.05)


def flatten(value: Any) -> list[Any]:
    """Return the leaves of a JSON document."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (key, *flatten(item))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in flatten(item)]
    return [value]


def assert_same(one: Any, other: Any) -> None:
    ours, theirs = flatten(one), flatten(other)
    assert [x for x in ours if not isinstance(x, float)] == [
        x for x in theirs if not isinstance(x, float)
    ]
    numbers = [np.array([x for x in some if isinstance(x, float)]) for some in (ours, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_predict_many_equals_single_predictions(
    monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    recognizer = small_recognizer()
    recordings = [(str(seconds), make_sweep(seconds)) for seconds in LENGTHS]
    alone = [recognizer.predict_many([one])[0] for one in recordings]
    monkeypatch.setattr("serein.inference.torch_backend.BATCH_SIZE", batch_size)
    batched = recognizer.predict_many(recordings)
    assert [one.source for one in batched] == [name for name, _ in recordings]
    for one, other in zip(batched, alone, strict=True):
        assert_same(one.to_dict(), other.to_dict())


def test_predict_many_with_the_shipped_model() -> None:
    recognizer = Recognizer(DEFAULT_MODEL)
    recordings = [(str(seconds), make_sweep(seconds)) for seconds in LENGTHS]
    for one, (name, wave_s) in zip(recognizer.predict_many(recordings), recordings, strict=True):
        alone = recognizer((wave_s, recognizer.rate)).to_dict()
        assert_same(one.to_dict(), {**alone, "source": name})


def test_predict_many_without_recordings() -> None:
    assert small_recognizer().predict_many([]) == []
