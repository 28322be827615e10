"""Streams fed together: each as if it were alone, and no fault of one reaches another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders.speech_streams import RATE, Wave, listener, same, talk

from serein.errors import AudioError
from serein.inference import streaming
from serein.inference.predictor import predict_windows
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream
from serein.records import Corpus

QUICK: dict[str, Any] = {"window": 1.0, "hop": 0.25}


@pytest.fixture(scope="module", params=["features.pad=false", "features.pad=true"])
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    return listener(request.param)


@pytest.fixture(scope="module")
def waves(corpus: Corpus) -> list[Wave]:
    return [talk(corpus, 6.0, seed) for seed in range(3)]


def opened(recognizer: Recognizer) -> list[Stream]:
    return [recognizer.stream(RATE, **QUICK, speech=speech) for speech in (True, False, True)]


def fed(
    recognizer: Recognizer, many: Sequence[Stream], waves: list[Wave], size: int
) -> list[list[Segment]]:
    """Segments of each stream, fed in blocks of so many samples."""
    found: list[list[Segment]] = [[] for _ in many]
    for at in range(0, 6 * RATE, size):
        feeds = [(one, wave[at : at + size]) for one, wave in zip(many, waves, strict=True)]
        for segments, more in zip(found, streaming.feed_streams(recognizer, feeds), strict=True):
            assert not isinstance(more, Exception)
            segments += more
    for segments, more in zip(
        found, streaming.feed_streams(recognizer, [(s, None) for s in many]), strict=True
    ):
        assert not isinstance(more, Exception)
        segments += more
    return found


@pytest.mark.parametrize("size", [1600, 50_000])
def test_each_is_as_if_alone(recognizer: Recognizer, waves: list[Wave], size: int) -> None:
    found = fed(recognizer, opened(recognizer), waves, size)
    for segments, stream, wave in zip(found, opened(recognizer), waves, strict=True):
        assert segments
        same(segments, stream.feed(wave) + stream.close())


def test_a_block_that_is_none_breaks_nothing(recognizer: Recognizer, waves: list[Wave]) -> None:
    many = opened(recognizer)
    many[0].close()
    bad, *others = streaming.feed_streams(
        recognizer, [(many[0], waves[0]), (many[1], np.array([np.nan])), (many[2], waves[2])]
    )
    assert isinstance(bad, AudioError)
    assert isinstance(others[0], AudioError)
    same([*_segments(others[1]), *many[2].close()], _alone(recognizer, waves[2]))


def test_one_that_cannot_be_heard_is_alone_with_that(
    recognizer: Recognizer, waves: list[Wave], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = opened(recognizer)
    tape = many[1]._buffer

    def fragile(system: Any, windows: Any, numbers: Any) -> Any:
        if any(window.buffer is tape for window in windows):
            raise RuntimeError("no")
        return predict_windows(system, windows, numbers)

    monkeypatch.setattr(streaming, "predict_windows", fragile)
    told = streaming.feed_streams(recognizer, list(zip(many, waves, strict=True)))
    assert isinstance(told[1], RuntimeError)
    same([*_segments(told[2]), *many[2].close()], _alone(recognizer, waves[2]))


@pytest.mark.parametrize("speech", [True, False])
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_feeding_may_wait_for_what_is_wanted(
    recognizer: Recognizer, waves: list[Wave], speech: bool, rate: int
) -> None:
    """Each segment comes with the same block, and few blocks are fed."""
    wave, size = np.repeat(waves[0], rate // RATE), rate // 50
    blocks = [wave[at : at + size] for at in range(0, len(wave), size)]
    every, late = (recognizer.stream(rate, **QUICK, speech=speech) for _ in range(2))
    held, calls = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        found = every.feed(block)
        if len(held) >= late.samples_needed:
            same(late.feed(held), found)
            held, calls = held[:0], calls + 1
        else:
            assert not found
    same(late.feed(held) + late.close(), every.close())
    assert calls < len(blocks) / 2


def test_nobody_and_nothing(recognizer: Recognizer) -> None:
    assert streaming.feed_streams(recognizer, []) == []
    assert streaming.feed_streams(recognizer, [(one, b"") for one in opened(recognizer)]) == [
        [],
        [],
        [],
    ]


def _alone(recognizer: Recognizer, wave: Wave) -> list[Segment]:
    stream = recognizer.stream(RATE, **QUICK)
    return stream.feed(wave) + stream.close()


def _segments(told: list[Segment] | Exception) -> list[Segment]:
    assert not isinstance(told, Exception)
    return told
