"""Windows of speech segments, averages per hop, and merged segments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serein.errors import ConfigError
from serein.inference.stream_config import StreamConfig
from serein.inference.windowing import (
    HopAverager,
    Probabilities,
    SampleBuffer,
    ScoredSpan,
    SegmentMerger,
    WindowCutter,
    WindowingConfig,
)

CONFIG = WindowingConfig(length=40, hop=10, frame=1, smooth=1, min_length=3)


def cut_windows(config: WindowingConfig, start: int, *until: int) -> list[tuple[int, int]]:
    """Return the windows of a segment that grows step by step, and then ends."""
    one = WindowCutter(config, start)
    found = [window for so_far in until for window in one.iter_windows(so_far, closed=False)]
    return [*found, *one.iter_windows(until[-1], closed=True)]


@pytest.mark.parametrize(
    ("until", "wanted"),
    [
        (2, []),  # too short for the model
        (3, [(0, 3)]),
        (40, [(0, 40)]),
        (41, [(0, 40), (1, 41)]),
        (50, [(0, 40), (10, 50)]),
        (69, [(0, 40), (10, 50), (20, 60), (29, 69)]),
    ],
)
def test_windows_lie_in_the_segment_and_the_last_ends_with_it(
    until: int, wanted: list[tuple[int, int]]
) -> None:
    assert cut_windows(CONFIG, 0, until) == wanted
    later = [(start + 100, end + 100) for start, end in wanted]
    assert cut_windows(CONFIG, 100, *range(100, 101 + until)) == later


def test_last_window_starts_at_a_frame() -> None:
    config = WindowingConfig(length=40, hop=20, frame=10, smooth=1, min_length=3)
    assert cut_windows(config, 20, 75) == [(20, 60), (40, 75)]


def test_cutter_keeps_the_samples_of_its_last_window() -> None:
    one = WindowCutter(CONFIG, 100)
    assert one.first_needed == 100
    assert len(list(one.iter_windows(165, closed=False))) == 3
    assert (one.next_start, one.first_needed) == (130, 120)
    assert list(one.iter_windows(165, closed=True)) == [(125, 165)]


def average_hops(
    config: WindowingConfig, start: int, end: int, seed: int = 0
) -> tuple[list[ScoredSpan], list[ScoredSpan]]:
    """Return random windows of a segment, and the hops that they are averaged to one by one."""
    generator = np.random.default_rng(seed)
    windows = [ScoredSpan(a, b, generator.random(3)) for a, b in cut_windows(config, start, end)]
    hops = HopAverager(config, start)
    found = [hop for window in windows for hop in hops.add(window)]
    return windows, [*found, *hops.close(end)]


def average_naively(
    config: WindowingConfig, start: int, end: int, windows: list[ScoredSpan]
) -> list[Probabilities]:
    """Average all hops at once."""
    raw = []
    for first in range(start, end, config.hop):
        middle = (first + min(first + config.hop, end)) // 2
        p_nk = [window.p_k for window in windows if window.start <= middle < window.end]
        raw.append(np.mean(p_nk, axis=0))
    reach = config.smooth // 2
    return [np.mean(raw[max(0, i - reach) : i + reach + 1], axis=0) for i in range(len(raw))]


@given(
    length=st.integers(1, 12),
    hop=st.integers(1, 12),
    frame=st.integers(1, 4),
    smooth=st.sampled_from([1, 3, 5]),
    start=st.integers(0, 5),
    seconds=st.integers(1, 200),
)
def test_hop_is_the_mean_of_the_windows_that_contain_its_centre(
    length: int, hop: int, frame: int, smooth: int, start: int, seconds: int
) -> None:
    config = WindowingConfig(max(length, hop) * frame, hop * frame, frame, smooth, 1)
    begin = start * frame
    end = begin + seconds
    windows, hops = average_hops(config, begin, end)
    assert [hop.start for hop in hops] == list(range(begin, end, config.hop))
    assert [hop.end for hop in hops] == [min(hop.start + config.hop, end) for hop in hops]
    assert all(window.start >= begin and window.end <= end for window in windows)
    wanted = average_naively(config, begin, end, windows)
    np.testing.assert_allclose([hop.p_k for hop in hops], wanted, atol=1e-12)


def test_hops_are_returned_as_soon_as_they_are_final() -> None:
    hops = HopAverager(CONFIG, 0)
    p_k = np.ones(1)
    counts = [len(hops.add(ScoredSpan(start, start + 40, p_k))) for start in range(0, 60, 10)]
    assert counts == [0, 1, 1, 1, 1, 1]
    assert len(hops.close(90)) == 4
    assert HopAverager(CONFIG, 0).close(90) == []


def find_label(p_k: Probabilities) -> str | None:
    return "ab"[int(p_k.argmax())] if p_k.max() > 0.5 else None


def merge_hops(values: list[float], *, merge: bool = True) -> list[tuple[int, int, float]]:
    merger = SegmentMerger(find_label, merge=merge)
    found: list[ScoredSpan] = []
    for place, value in enumerate(values):
        found += merger.add(ScoredSpan(10 * place, 10 * place + 10, np.array([value, 1 - value])))
    found += merger.close()
    assert merger.partial is None
    return [(one.start, one.end, round(float(one.p_k[0]), 6)) for one in found]


def test_neighbouring_hops_with_one_label_are_merged() -> None:
    assert merge_hops([0.9, 0.7, 0.2, 0.5, 0.5, 0.6]) == [
        (0, 20, 0.8),
        (20, 30, 0.2),
        (30, 50, 0.5),  # withheld twice
        (50, 60, 0.6),
    ]
    assert merge_hops([0.9, 0.7], merge=False) == [(0, 10, 0.9), (10, 20, 0.7)]
    assert merge_hops([]) == []


def test_partial_segment() -> None:
    merger = SegmentMerger(find_label)
    assert merger.partial is None
    assert list(merger.add(ScoredSpan(0, 10, np.array([0.9, 0.1])))) == []
    assert list(merger.add(ScoredSpan(10, 30, np.array([0.6, 0.4])))) == []
    partial = merger.partial
    assert partial is not None
    assert (partial.start, partial.end) == (0, 30)
    np.testing.assert_allclose(partial.p_k, [0.7, 0.3])


@pytest.mark.parametrize(
    ("window", "hop", "smooth", "words"),
    [
        (0.01, 0.01, 1, "the model needs at least 0.025 s"),
        (0.03, 0.01, 1, "frame of 0.1 s"),
        (4.0, 0.0, 1, "Choose longer ones"),
        (4.0, -1.0, 1, "Choose longer ones"),
        (8.0, 1.0, 1, "takes at most 7.5 s. Choose shorter ones"),
        (4.0, 5.0, 1, "a hop of 5.0 s with windows of 4.0 s leaves gaps"),
        (4.0, 1.0, 2, "over 2 hops; expected an odd number"),
        (4.0, 1.0, -1, "over -1 hops"),
    ],
)
def test_invalid_windowing(window: float, hop: float, smooth: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WindowingConfig.from_stream_config(
            StreamConfig(window, hop, smooth), 16_000, 0.1, max_window=7.5
        )


def test_windowing_is_rounded_to_whole_frames() -> None:
    config = StreamConfig(window=4.01, hop=0.99, smooth=3)
    windowing = WindowingConfig.from_stream_config(config, 16_000, 0.025, max_window=None)
    assert windowing == WindowingConfig(64_000, 16_000, 400, 3, 400)


def test_buffer_holds_samples_that_were_not_discarded() -> None:
    buffer, everything = SampleBuffer(100), np.arange(100_000, dtype=np.float32)
    for at in range(0, 100_000, 777):
        buffer.append(everything[at : at + 777])
        buffer.discard(buffer.end - 5_000)
    assert (buffer.start, buffer.end) == (95_100, 100_100)
    np.testing.assert_array_equal(buffer[96_000:97_000], everything[95_900:96_900])
    assert len(buffer._samples) < 60_000
    buffer.discard(10**9)
    assert buffer.start == buffer.end
    with pytest.raises(IndexError, match="samples 100100 to 100100"):
        buffer[96_000:97_000]
