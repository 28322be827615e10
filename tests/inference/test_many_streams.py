"""Feed several streams together: same segments as single streams, and independent errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders.speech_streams import (
    RATE,
    Wave,
    assert_same_segments,
    make_speech,
    untrained_recognizer,
)

from serein.errors import AudioError
from serein.inference import streaming
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.streaming import Stream
from serein.records import Corpus

QUICK: dict[str, Any] = {"window": 1.0, "hop": 0.25}


@pytest.fixture(scope="module", params=["features.pad=false", "features.pad=true"])
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    return untrained_recognizer(request.param)


@pytest.fixture(scope="module")
def waves(corpus: Corpus) -> list[Wave]:
    return [make_speech(corpus, 6.0, seed) for seed in range(3)]


def open_streams(recognizer: Recognizer) -> list[Stream]:
    return [recognizer.stream(RATE, **QUICK, speech=speech) for speech in (True, False, True)]


def feed_all(
    recognizer: Recognizer, many: Sequence[Stream], waves: list[Wave], size: int
) -> list[list[Segment]]:
    """Feed blocks of a size to all streams, and return the segments of each."""
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
def test_feed_streams_equals_single_streams(
    recognizer: Recognizer, waves: list[Wave], size: int
) -> None:
    found = feed_all(recognizer, open_streams(recognizer), waves, size)
    for segments, stream, wave in zip(found, open_streams(recognizer), waves, strict=True):
        assert segments
        assert_same_segments(segments, stream.feed(wave) + stream.close())


def test_invalid_block_does_not_affect_other_streams(
    recognizer: Recognizer, waves: list[Wave]
) -> None:
    many = open_streams(recognizer)
    many[0].close()
    bad, *others = streaming.feed_streams(
        recognizer, [(many[0], waves[0]), (many[1], np.array([np.nan])), (many[2], waves[2])]
    )
    assert isinstance(bad, AudioError)
    assert isinstance(others[0], AudioError)
    assert_same_segments(
        [*get_segments(others[1]), *many[2].close()], recognize_alone(recognizer, waves[2])
    )


def test_failed_prediction_does_not_affect_other_streams(
    recognizer: Recognizer, waves: list[Wave], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = open_streams(recognizer)
    buffer = many[1]._buffer

    predict_windows = recognizer.predict_windows

    def fragile(windows: Any) -> Any:
        if any(window.buffer is buffer for window in windows):
            raise RuntimeError("no")
        return predict_windows(windows)

    monkeypatch.setattr(recognizer, "predict_windows", fragile)
    results = streaming.feed_streams(recognizer, list(zip(many, waves, strict=True)))
    assert isinstance(results[1], RuntimeError)
    assert_same_segments(
        [*get_segments(results[2]), *many[2].close()], recognize_alone(recognizer, waves[2])
    )


@pytest.mark.parametrize("speech", [True, False])
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_feeding_can_wait_for_samples_needed(
    recognizer: Recognizer, waves: list[Wave], speech: bool, rate: int
) -> None:
    """Each segment is returned with the same block, and the stream is fed less often."""
    wave, size = np.repeat(waves[0], rate // RATE), rate // 50
    blocks = [wave[at : at + size] for at in range(0, len(wave), size)]
    every, late = (recognizer.stream(rate, **QUICK, speech=speech) for _ in range(2))
    held, calls = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        found = every.feed(block)
        if len(held) >= late.samples_needed:
            assert_same_segments(late.feed(held), found)
            held, calls = held[:0], calls + 1
        else:
            assert not found
    assert_same_segments(late.feed(held) + late.close(), every.close())
    assert calls < len(blocks) / 2


def test_no_streams_and_empty_blocks(recognizer: Recognizer) -> None:
    assert streaming.feed_streams(recognizer, []) == []
    assert streaming.feed_streams(recognizer, [(one, b"") for one in open_streams(recognizer)]) == [
        [],
        [],
        [],
    ]


def recognize_alone(recognizer: Recognizer, wave: Wave) -> list[Segment]:
    stream = recognizer.stream(RATE, **QUICK)
    return stream.feed(wave) + stream.close()


def get_segments(results: list[Segment] | Exception) -> list[Segment]:
    assert not isinstance(results, Exception)
    return results
