"""Segmentation of speech from the probabilities of blocks; a block is 32 ms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serein.audio import Samples
from serein.inference import vad
from serein.inference.vad import BLOCK_SAMPLES, CHUNK_BLOCKS, NoVAD, SileroVAD, SpeechSegment

WINDOW = 4000


class GivenProbabilities:
    """A ChunkedVAD whose probabilities are the first samples of the blocks."""

    def __init__(self, first_chunk: int = 0) -> None:
        self.position = first_chunk * CHUNK_BLOCKS
        self._rest = np.zeros(0, np.float32)
        self.calls = 0

    def __call__(self, wave_s: Samples, *, last: bool = False) -> Samples:
        wave_s = np.concatenate([self._rest, wave_s])
        count = len(wave_s) // BLOCK_SAMPLES
        self._rest = wave_s[count * BLOCK_SAMPLES :]
        self.calls += 1
        return wave_s[: count * BLOCK_SAMPLES : BLOCK_SAMPLES]


@pytest.fixture(autouse=True)
def _use_given_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "ChunkedVAD", GivenProbabilities)


def wave(*parts: tuple[float, int]) -> Samples:
    """Return samples for pairs of a probability and a number of blocks."""
    values = np.concatenate([np.full(count, value, np.float32) for value, count in parts])
    return np.repeat(values, BLOCK_SAMPLES)


def detect(samples: Samples, size: int = 10**9) -> list[SpeechSegment]:
    detector, ended = SileroVAD(WINDOW), []
    for at in range(0, len(samples), size):
        last = at + size >= len(samples)
        ended += detector(samples[at : at + size], last=last, window_end=None)
    return [one for one in ended if one.closed]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([(0.0, 50)], []),
        ([(0.0, 10), (0.9, 10), (0.0, 30)], [(220, 740)]),
        ([(0.9, 10), (0.0, 30)], [(0, 420)]),  # no padding before the start of a recording
        ([(0.0, 10), (0.9, 7), (0.0, 30)], []),  # 224 ms are too short
        ([(0.9, 10), (0.4, 10), (0.0, 30)], [(0, 740)]),  # the lower threshold continues speech
        ([(0.4, 30)], []),  # but does not start it
        ([(0.9, 10), (0.0, 15), (0.9, 10), (0.0, 30)], [(0, 1220)]),  # a pause of 480 ms
        ([(0.9, 10), (0.0, 16), (0.9, 10), (0.0, 30)], [(0, 420), (732, 1252)]),  # of 512 ms
        ([(0.0, 10), (0.9, 10)], [(220, 740)]),  # speech until the end
        ([(0.9, 3), (0.0, 20), (0.9, 10)], [(636, 1156)]),
    ],
)
def test_segmentation_rules(parts: list[tuple[float, int]], wanted: list[tuple[int, int]]) -> None:
    assert [(one.start, one.end) for one in detect(wave(*parts))] == wanted


@settings(max_examples=40)
@given(
    values=st.lists(st.sampled_from([0.0, 0.4, 0.9]), min_size=1, max_size=30),
    counts=st.lists(st.integers(1, 25), min_size=30, max_size=30),
    size=st.integers(1, 20_000),
)
def test_result_does_not_depend_on_block_sizes(
    values: list[float], counts: list[int], size: int
) -> None:
    samples = wave(*zip(values, counts, strict=False))
    assert detect(samples, max(size, len(samples) // 200)) == detect(samples)


def test_growing_segment_is_returned_without_delay() -> None:
    detector = SileroVAD(WINDOW)
    samples = wave((0.9, 400))
    known: list[SpeechSegment] = []
    for block in range(400):
        end = None if not known else 4000
        known = detector(
            samples[block * BLOCK_SAMPLES :][:BLOCK_SAMPLES], last=False, window_end=end
        )
        if known and known[0].end >= 4000:
            break
    assert block + 1 == 122  # 122 blocks are 3,904 ms, and the padding is 100 ms
    assert known == [SpeechSegment(0, 4004, False)]


def test_silence_is_scored_in_batches_of_blocks() -> None:
    detector = SileroVAD(WINDOW)
    for _ in range(170):
        assert detector(wave((0.0, 1)), last=False, window_end=None) == []
    assert detector._vad.calls == 10  # type: ignore[attr-defined]


def test_first_needed() -> None:
    detector = SileroVAD(WINDOW)
    assert detector.first_needed == 0
    detector(wave((0.0, 100)), last=False, window_end=None)
    assert detector.first_needed == 3100
    detector(wave((0.9, 2), (0.0, 5)), last=False, window_end=None)
    assert detector.first_needed == 3100  # these blocks are not scored yet
    detector(wave((0.9, 30)), last=False, window_end=None)
    assert detector.first_needed == 3100


def test_shard_returns_segments_that_start_in_its_chunks() -> None:
    detector = SileroVAD(WINDOW, (2, 3))
    before, speaks, silence = (
        wave((0.0, CHUNK_BLOCKS - 20)),
        wave((0.9, 40)),
        wave((0.0, CHUNK_BLOCKS - 20)),
    )
    assert detector(np.concatenate([before, speaks]), last=False, window_end=None) == []
    assert not detector.is_finished
    known = detector(
        np.concatenate([silence[: 400 * BLOCK_SAMPLES], speaks]), last=False, window_end=None
    )
    assert [one.start for one in known] == [2 * CHUNK_BLOCKS * 32 + 420 * 32 - 100]
    late = wave((0.0, CHUNK_BLOCKS - 500), (0.9, 60))
    ended = detector(late, last=False, window_end=None)
    assert [one.closed for one in ended] == [True, False]
    assert not detector.is_finished  # its last segment ends after the shard
    last = detector(wave((0.0, 20)), last=False, window_end=None)
    assert [one.closed for one in last] == [True]
    assert detector.is_finished


def test_no_vad_returns_one_segment() -> None:
    detector = NoVAD(16_000)
    assert detector(np.zeros(24, np.float32), last=False, window_end=None) == [
        SpeechSegment(0, 1, False)
    ]
    assert detector(np.zeros(24, np.float32), last=True, window_end=None) == [
        SpeechSegment(0, 3, True)
    ]
    assert detector.first_needed == 0
