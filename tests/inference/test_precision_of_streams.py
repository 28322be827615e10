"""File, stream and parts of every shipped model agree to 1e-5, in every precision."""

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from builders.speech_streams import RATE, Wave, make_speech

from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.records import Corpus

SHIPPED = sorted(
    file.name.removesuffix(".safetensors")
    for file in files("serein.pretrained").iterdir()
    if file.name.endswith(".safetensors")
)


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 12.0)


def largest_difference(first: list[Segment], second: list[Segment]) -> float:
    assert [one.start for one in first] == pytest.approx([one.start for one in second], abs=1e-3)
    return max(
        abs(answer.probabilities[name] - other.tasks[task].probabilities[name])
        for one, other in zip(first, second, strict=True)
        for task, answer in one.tasks.items()
        for name in answer.probabilities
    )


def check_stream(recognizer: Recognizer, wave: Wave, rate: int) -> None:
    how: dict[str, Any] = {"window": 4.0, "hop": 1.0, "merge": False}
    whole = recognizer.timeline((wave, rate), **how).segments or []
    stream = recognizer.stream(rate, **how)
    found = []
    for start in range(0, len(wave), rate // 50):
        found += stream.feed(wave[start : start + rate // 50])
    found += stream.close()
    assert len(whole) >= 5
    assert largest_difference(whole, found) < 1e-5


def test_models_are_shipped() -> None:
    assert len(SHIPPED) >= 2


@pytest.mark.parametrize("name", SHIPPED)
def test_stream_equals_file(name: str, wave: Wave) -> None:
    check_stream(Recognizer(name), wave, RATE)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("name", SHIPPED)
def test_stream_equals_file_at_all_rates(name: str, rate: int, precision: Any, wave: Wave) -> None:
    import soxr

    other = soxr.resample(wave, RATE, rate).astype(np.float32)
    check_stream(Recognizer(name, precision=precision), other, rate)


@pytest.mark.parametrize("name", SHIPPED[:1])
def test_one_window_equals_many(name: str, wave: Wave) -> None:
    recognizer = Recognizer(name, precision="auto")
    alone = recognizer.timeline((wave[: 4 * RATE], RATE), window=4, hop=4, speech=False)
    many = recognizer.timeline((wave, RATE), window=4, hop=4, speech=False, merge=False)
    first = (alone.segments or [])[0].tasks, (many.segments or [])[0].tasks
    for task, answer in first[0].items():
        wanted = first[1][task].probabilities
        assert answer.probabilities == pytest.approx(wanted, abs=1e-5)
