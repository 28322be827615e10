"""Streams: the same segments as for a file, for blocks of any size; and invalid input."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from builders.speech_streams import (
    RATE,
    Wave,
    assert_same_segments,
    make_speech,
    untrained_recognizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from serein.audio import Block
from serein.errors import AudioError, ConfigError
from serein.inference.long_form import join_shards
from serein.inference.recognition import Segment
from serein.inference.recognizer import Recognizer
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.records import Corpus

QUICK: dict[str, Any] = {"window": 1.0, "hop": 0.25}


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return untrained_recognizer()


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 40.0)


def recognize_stream(
    recognizer: Recognizer, wave: Wave, sizes: Sequence[int], rate: float = RATE, **how: Any
) -> list[Segment]:
    stream = recognizer.stream(rate, **how)
    found: list[Segment] = []
    at = number = 0
    while at < len(wave):
        size = sizes[number % len(sizes)]
        found += stream.feed(wave[at : at + size])
        at, number = at + size, number + 1
    return found + stream.close()


@settings(max_examples=8)
@given(
    sizes=st.lists(st.integers(1, 100_000), min_size=1, max_size=4),
    how=st.fixed_dictionaries(
        {"window": st.sampled_from([0.5, 1.0, 4.0]), "hop": st.sampled_from([0.25, 0.4])},
        optional={"speech": st.just(False), "merge": st.just(False), "smooth": st.just(3)},
    ),
)
def test_timeline_equals_stream(
    recognizer: Recognizer, wave: Wave, sizes: list[int], how: dict[str, Any]
) -> None:
    whole = recognizer.timeline((wave, RATE), **how).segments
    assert whole
    assert_same_segments(
        recognize_stream(recognizer, wave, [max([8_000, *sizes]), *sizes], **how), whole
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_joined_shards_equal_the_timeline(recognizer: Recognizer, wave: Wave, count: int) -> None:
    source = (np.concatenate([wave] * 3), RATE)
    whole = recognizer.timeline(source, **QUICK)
    shards = [(number, count) for number in range(count)]
    parts = [recognizer.timeline(source, shard=shard, **QUICK) for shard in shards]
    assert all(part.end == other.start for part, other in pairwise(parts))
    joined = join_shards(recognizer, parts)
    assert whole.segments
    assert_same_segments(joined.segments or [], whole.segments)
    assert joined.windows == whole.windows
    assert (joined.start, joined.end) == (0.0, whole.end) == (0.0, 120.0)
    wanted = whole.tasks["emotion"].probabilities
    assert joined.tasks["emotion"].probabilities == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_streams_at_other_rates(recognizer: Recognizer, wave: Wave, rate: int) -> None:
    import soxr

    other = soxr.resample(wave[: 10 * RATE], RATE, rate)
    whole = recognizer.timeline((other, rate), **QUICK).segments
    assert whole
    assert_same_segments(
        recognize_stream(recognizer, other, [rate // 50, 1], rate, **QUICK)[:10], whole[:10]
    )


def test_model_at_another_rate_than_the_vad(wave: Wave) -> None:
    recognizer = untrained_recognizer(
        "features.rate=8000", "features.hop=200", "features.window=200"
    )
    part = wave[: 10 * RATE]
    whole = recognizer.timeline((part, RATE), **QUICK).segments
    assert whole
    assert_same_segments(recognize_stream(recognizer, part, [320], **QUICK), whole)


def test_segments_cover_the_speech_in_order(recognizer: Recognizer, wave: Wave) -> None:
    segments = recognize_stream(recognizer, wave, [1600], **QUICK)
    edges = [edge for one in segments for edge in (one.start, one.end)]
    assert edges == sorted(edges)
    covered = np.zeros(len(wave), bool)
    for one in segments:
        covered[round(one.start * RATE) : round(one.end * RATE)] = True
        assert sum(one.tasks["emotion"].probabilities.values()) == pytest.approx(1, abs=1e-5)
    loud = np.abs(wave) > 0.02
    assert covered[loud].mean() > 0.98
    assert covered.mean() < 0.95


def test_segments_are_returned_as_soon_as_they_are_final(
    recognizer: Recognizer, wave: Wave
) -> None:
    stream = recognizer.stream(RATE, merge=False, speech=False, window=2.0, hop=0.5)
    block = RATE // 50
    for at in range(0, 10 * RATE, block):
        for one in stream.feed(wave[at : at + block]):
            known = (at + block) / RATE
            assert known <= one.start + 2.5 + 0.021  # later windows do not contain its centre
    stream = recognizer.stream(RATE, **QUICK)
    silence, part = np.zeros(2 * RATE, np.float32), wave[: 3 * RATE]
    waited = []
    for at in range(0, 5 * RATE, block):
        for one in stream.feed(np.concatenate([part, silence])[at : at + block]):
            waited.append((at + block) / RATE - one.end)
    assert waited
    assert waited[-1] < 0.5
    assert stream.close() == []


def test_partial_segment(recognizer: Recognizer, wave: Wave) -> None:
    stream = recognizer.stream(RATE, speech=False, **QUICK)
    assert stream.partial is None
    found = stream.feed(wave[: 5 * RATE])
    partial = stream.partial
    assert partial is not None
    assert partial.start == (found[-1].end if found else 0.0)
    assert partial.end > 3.5
    last = stream.close()[-1]
    assert last.end == 5.0
    assert stream.partial is None


def test_provisional_answers_appear_early_and_change_no_segment(
    recognizer: Recognizer, wave: Wave
) -> None:
    config = StreamConfig(window=4.0, merge=False)
    plain = Stream(recognizer, RATE, config)
    stream = Stream(recognizer, RATE, config, provisional=True, keep_spans=True)
    wanted: list[Segment] = []
    found: list[Segment] = []
    delays: dict[float, float] = {}
    for at in range(0, len(wave), 4000):
        wanted += plain.feed(wave[at : at + 4000])
        found += stream.feed(wave[at : at + 4000])
        if (growing := stream.provisional) is not None:
            assert not found or growing.start >= found[-1].end - 1e-6
            assert growing.end <= (at + 4000) / RATE
            starts = [one for one in delays if one <= growing.start]
            if not starts or growing.start - max(starts) > 1.1:
                delays[growing.start] = (at + 4000) / RATE - growing.start
    assert plain.provisional is None
    assert plain.spans == []
    wanted, found = wanted + plain.close(), found + stream.close()
    assert stream.provisional is None
    assert_same_segments(found, wanted)
    assert [stream.to_segment(span) for span in stream.spans] == found
    assert min(delays.values()) <= 1.0  # a final answer needs a window of 4 s


def test_first_provisional_answer_comes_early_wherever_speech_begins(
    recognizer: Recognizer, wave: Wave
) -> None:
    alone = recognizer.timeline((wave[: 6 * RATE], RATE)).segments or []
    for silence_ms in range(1000, 1600, 90):
        silence_s = np.zeros(silence_ms * RATE // 1000, np.float32)
        stream = Stream(recognizer, RATE, StreamConfig(), provisional=True)
        speech_start = silence_ms / 1000 + alone[0].start
        for at in range(0, len(silence_s) + len(wave), 4000):
            stream.feed(np.concatenate([silence_s, wave])[at : at + 4000])
            if stream.provisional is not None:
                break
        assert (at + 4000) / RATE - speech_start < 0.7  # of audio


def test_kinds_of_pcm_give_the_same_segments(recognizer: Recognizer, wave: Wave) -> None:
    pcm = (wave[: 10 * RATE] * 32767).astype("<i2")
    wanted = recognizer.timeline((pcm, RATE), **QUICK).segments or []
    blocks: list[Block] = [pcm[: 5 * RATE].tobytes(), np.stack([pcm[5 * RATE :]] * 2, axis=1)]
    stream = recognizer.stream(RATE, **QUICK)
    assert_same_segments(
        [one for block in blocks for one in stream.feed(block)] + stream.close(), wanted
    )


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (b"\x00", "a block of 1 bytes ends within a sample"),
        (np.array([0.0, np.nan]), "the stream has 1 samples that are NaN, .* first at 1.000 s"),
        (np.zeros((2, 2, 2)), "expected"),
    ],
)
def test_invalid_block_is_ignored(
    recognizer: Recognizer, wave: Wave, block: Any, words: str
) -> None:
    stream = recognizer.stream(RATE, **QUICK)
    found = stream.feed(wave[:RATE])
    with pytest.raises(AudioError, match=words):
        stream.feed(block)
    found += stream.feed(wave[RATE : 6 * RATE]) + stream.close()
    assert_same_segments(found, recognize_stream(recognizer, wave[: 6 * RATE], [RATE], **QUICK))


def test_closed_stream_stays_closed(recognizer: Recognizer, wave: Wave) -> None:
    stream = recognizer.stream(RATE, **QUICK)
    stream.feed(wave[: 5 * RATE])
    stream.close()
    assert stream.close() == []
    with pytest.raises(AudioError, match="this stream is closed"):
        stream.feed(wave)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.1, 3.0])
@pytest.mark.parametrize("speech", [True, False])
def test_silence_and_very_short_streams(
    recognizer: Recognizer, seconds: float, speech: bool
) -> None:
    silence = np.zeros(round(seconds * RATE), np.float32)
    found = recognize_stream(recognizer, silence, [777], speech=speech)
    assert bool(found) == (not speech and seconds >= 0.1)
    assert all(one.end == seconds for one in found[-1:])


@pytest.mark.parametrize(
    ("rate", "how", "error", "words"),
    [
        (RATE, {"window": 1.0, "hop": 2.0}, ConfigError, "leaves gaps"),
        (RATE, {"window": 0.001}, ConfigError, "needs at least"),
        (RATE, {"window": 9.0}, ConfigError, "takes at most 7.5 s"),
        (RATE, {"smooth": 2}, ConfigError, "odd number"),
        (RATE, {"windw": 1.0}, ConfigError, "windw"),
        (RATE, {"window": "long"}, ConfigError, "window"),
        (10, {}, AudioError, "the rate is 10"),
    ],
)
def test_invalid_stream_settings(
    recognizer: Recognizer, rate: float, how: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        recognizer.stream(rate, **how)


def test_torch_threads_are_restored(recognizer: Recognizer, wave: Wave) -> None:
    torch.set_num_threads(2)
    try:
        recognizer.stream(RATE).feed(wave[: 3 * RATE])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_memory_does_not_grow_with_the_stream(recognizer: Recognizer, wave: Wave) -> None:
    for speech in (True, False):
        stream = recognizer.stream(RATE, speech=speech)
        for _ in range(3):
            stream.feed(wave)
        assert stream._buffer.end - stream._buffer.start < 12 * RATE
        assert len(stream._averager._windows) + len(stream._averager._unsmoothed) < 20
