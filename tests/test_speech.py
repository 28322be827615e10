"""silero-vad in lanes: its own numbers, whatever the blocks."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from talking import RATE, Wave, talk

from serein.errors import BundleError
from serein.inference import speech
from serein.inference.speech import BLOCK, LANE, Lanes, detector
from serein.records import Corpus


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return talk(corpus, 40.0)


def in_blocks(lanes: Lanes, wave: Wave, sizes: Sequence[int]) -> Wave:
    found: list[Wave] = []
    at = 0
    while at < len(wave):
        size = sizes[len(found) % len(sizes)]
        found.append(lanes(wave[at : at + size], last=at + size >= len(wave)))
        at += size
    return np.concatenate(found)


def theirs(wave: Wave) -> Wave:
    """What the package itself answers, block by block."""
    places = find_spec("silero_vad").submodule_search_locations  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path((places or [""])[0]) / "data/silero_vad.jit"
        model = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        blocks = torch.from_numpy(wave[: len(wave) // BLOCK * BLOCK]).view(-1, BLOCK)
        return np.array([model(block, RATE).item() for block in blocks], np.float32)


def test_the_first_lane_is_the_package_to_the_digit(wave: Wave) -> None:
    part = wave[: 300 * BLOCK]
    expected = theirs(part)
    assert expected.max() > 0.9 > 0.1 > expected.min()
    np.testing.assert_allclose(Lanes()(part), expected, atol=1e-4)


def test_a_lane_is_warm_when_it_begins(wave: Wave) -> None:
    """Beyond the first lane the state has forgotten what lies before its warm-up."""
    expected = theirs(wave)
    found = Lanes()(wave)
    assert len(found) == len(expected) > LANE
    late = np.abs(found[LANE:] - expected[LANE:])
    assert late.mean() < 0.02
    assert np.mean((found > 0.5) != (expected > 0.5)) < 0.01


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 200_000), min_size=1, max_size=4))
def test_blocks_of_any_size_give_the_same(wave: Wave, sizes: list[int]) -> None:
    sizes = [max([8_000, *sizes]), *sizes]
    whole = Lanes()(wave, last=True)
    assert len(whole) == -(-len(wave) // BLOCK)
    np.testing.assert_allclose(in_blocks(Lanes(), wave, sizes), whole, atol=1e-5)


def test_a_later_lane_needs_but_the_one_before(wave: Wave) -> None:
    long = np.concatenate([wave, wave])
    whole = Lanes()(long)
    later = Lanes(1)(long[LANE * BLOCK :])
    np.testing.assert_allclose(later[LANE:], whole[2 * LANE :], atol=1e-5)
    assert np.abs(later[:20] - whole[LANE : LANE + 20]).max() > 1e-5  # that one begins cold


def test_silence_is_no_speech_and_no_samples_are_no_blocks() -> None:
    assert Lanes()(np.zeros(RATE, np.float32)).max() < 0.1
    assert len(Lanes()(np.zeros(BLOCK - 1, np.float32))) == 0
    assert len(Lanes()(np.zeros(0, np.float32), last=True)) == 0
    assert len(Lanes()(np.zeros(1, np.float32), last=True)) == 1


def test_missing_weights_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    detector.cache_clear()
    monkeypatch.setattr(speech, "find_spec", lambda name: None)
    with pytest.raises(BundleError, match="pip install 'silero-vad"):
        detector()
    detector.cache_clear()
