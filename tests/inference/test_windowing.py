"""Windows inside speech, the answer for each hop, and segments."""

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

PLAN = WindowingConfig(length=40, hop=10, frame=1, smooth=1, min_length=3)


def cut(plan: WindowingConfig, start: int, *until: int) -> list[tuple[int, int]]:
    """Windows of a stretch that becomes known bit by bit, and ends with the last of it."""
    one = WindowCutter(plan, start)
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
def test_windows_lie_inside_and_the_last_ends_with_the_stretch(
    until: int, wanted: list[tuple[int, int]]
) -> None:
    assert cut(PLAN, 0, until) == wanted
    later = [(start + 100, end + 100) for start, end in wanted]
    assert cut(PLAN, 100, *range(100, 101 + until)) == later


def test_the_last_window_begins_with_a_frame() -> None:
    plan = WindowingConfig(length=40, hop=20, frame=10, smooth=1, min_length=3)
    assert cut(plan, 20, 75) == [(20, 60), (40, 75)]


def test_a_cut_keeps_what_its_last_window_may_need() -> None:
    one = WindowCutter(PLAN, 100)
    assert one.first_needed == 100
    assert len(list(one.iter_windows(165, closed=False))) == 3
    assert (one.next_start, one.first_needed) == (130, 120)
    assert list(one.iter_windows(165, closed=True)) == [(125, 165)]


def hops_of(
    plan: WindowingConfig, start: int, end: int, seed: int = 0
) -> tuple[list[ScoredSpan], list[ScoredSpan]]:
    """Random windows of a stretch, and the hops that come of them one by one."""
    generator = np.random.default_rng(seed)
    windows = [ScoredSpan(a, b, generator.random(3)) for a, b in cut(plan, start, end)]
    hops = HopAverager(plan, start)
    found = [hop for window in windows for hop in hops.add(window)]
    return windows, [*found, *hops.close(end)]


def plainly(
    plan: WindowingConfig, start: int, end: int, windows: list[ScoredSpan]
) -> list[Probabilities]:
    """The same, all at once."""
    raw = []
    for first in range(start, end, plan.hop):
        middle = (first + min(first + plan.hop, end)) // 2
        heard = [window.p_k for window in windows if window.start <= middle < window.end]
        raw.append(np.mean(heard, axis=0))
    reach = plan.smooth // 2
    return [np.mean(raw[max(0, i - reach) : i + reach + 1], axis=0) for i in range(len(raw))]


@given(
    length=st.integers(1, 12),
    hop=st.integers(1, 12),
    frame=st.integers(1, 4),
    smooth=st.sampled_from([1, 3, 5]),
    start=st.integers(0, 5),
    seconds=st.integers(1, 200),
)
def test_a_hop_is_the_mean_of_the_windows_that_hear_its_middle(
    length: int, hop: int, frame: int, smooth: int, start: int, seconds: int
) -> None:
    plan = WindowingConfig(max(length, hop) * frame, hop * frame, frame, smooth, 1)
    begin = start * frame
    end = begin + seconds
    windows, hops = hops_of(plan, begin, end)
    assert [hop.start for hop in hops] == list(range(begin, end, plan.hop))
    assert [hop.end for hop in hops] == [min(hop.start + plan.hop, end) for hop in hops]
    assert all(window.start >= begin and window.end <= end for window in windows)
    wanted = plainly(plan, begin, end, windows)
    np.testing.assert_allclose([hop.p_k for hop in hops], wanted, atol=1e-12)


def test_hops_come_as_soon_as_no_window_can_change_them() -> None:
    hops = HopAverager(PLAN, 0)
    p_k = np.ones(1)
    counts = [len(hops.add(ScoredSpan(start, start + 40, p_k))) for start in range(0, 60, 10)]
    assert counts == [0, 1, 1, 1, 1, 1]
    assert len(hops.close(90)) == 4
    assert HopAverager(PLAN, 0).close(90) == []


def label(p_k: Probabilities) -> str | None:
    return "ab"[int(p_k.argmax())] if p_k.max() > 0.5 else None


def merged(values: list[float], *, merge: bool = True) -> list[tuple[int, int, float]]:
    merger = SegmentMerger(label, merge=merge)
    found: list[ScoredSpan] = []
    for place, value in enumerate(values):
        found += merger.add(ScoredSpan(10 * place, 10 * place + 10, np.array([value, 1 - value])))
    found += merger.close()
    assert merger.partial is None
    return [(one.start, one.end, round(float(one.p_k[0]), 6)) for one in found]


def test_neighbours_of_one_label_are_one_segment() -> None:
    assert merged([0.9, 0.7, 0.2, 0.5, 0.5, 0.6]) == [
        (0, 20, 0.8),
        (20, 30, 0.2),
        (30, 50, 0.5),  # withheld twice
        (50, 60, 0.6),
    ]
    assert merged([0.9, 0.7], merge=False) == [(0, 10, 0.9), (10, 20, 0.7)]
    assert merged([]) == []


def test_what_grows_can_be_seen() -> None:
    merger = SegmentMerger(label)
    assert merger.partial is None
    assert list(merger.add(ScoredSpan(0, 10, np.array([0.9, 0.1])))) == []
    assert list(merger.add(ScoredSpan(10, 30, np.array([0.6, 0.4])))) == []
    growing = merger.partial
    assert growing is not None
    assert (growing.start, growing.end) == (0, 30)
    np.testing.assert_allclose(growing.p_k, [0.7, 0.3])


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
def test_plans_that_cannot_be(window: float, hop: float, smooth: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WindowingConfig.from_stream_config(
            StreamConfig(window, hop, smooth), 16_000, 0.1, max_window=7.5
        )


def test_a_plan_is_of_whole_frames() -> None:
    config = StreamConfig(window=4.01, hop=0.99, smooth=3)
    windowing = WindowingConfig.from_stream_config(config, 16_000, 0.025, max_window=None)
    assert windowing == WindowingConfig(64_000, 16_000, 400, 3, 400)


def test_a_tape_holds_what_was_not_forgotten() -> None:
    tape, everything = SampleBuffer(100), np.arange(100_000, dtype=np.float32)
    for at in range(0, 100_000, 777):
        tape.append(everything[at : at + 777])
        tape.discard(tape.end - 5_000)
    assert (tape.start, tape.end) == (95_100, 100_100)
    np.testing.assert_array_equal(tape[96_000:97_000], everything[95_900:96_900])
    assert len(tape._samples) < 60_000
    tape.discard(10**9)
    assert tape.start == tape.end
    with pytest.raises(IndexError, match="samples 100100 to 100100"):
        tape[96_000:97_000]
