"""Reading in blocks, streams of blocks, channels and resampling."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from builders.encoded_audio import RATE, encode, encode_format, list_formats, make_sweep
from hypothesis import given
from hypothesis import strategies as st

from serein import audio
from serein.audio import Block, Resampler, convert_block, load
from serein.errors import AudioError


def stereo() -> npt.NDArray[np.float32]:
    return np.stack([make_sweep(1.0), np.zeros(RATE, np.float32)], axis=1)


def read_joined(source: audio.Source, **part: float) -> tuple[npt.NDArray[np.float32], int]:
    pieces = list(audio.iter_blocks(source, **part))  # type: ignore[arg-type]
    (rate,) = {rate for _, rate in pieces}
    return np.concatenate([samples for samples, _ in pieces]), round(rate)


@pytest.mark.parametrize("kind", list_formats())
def test_iter_blocks_equals_load(kind: str) -> None:
    content = encode_format(kind)
    for part in ({}, {"start": 0.5, "end": 1.25}):
        found, rate = read_joined(content, block_seconds=0.3, **part)
        np.testing.assert_array_equal(found, load(content, rate, **part))


def test_iter_blocks_returns_blocks_of_the_requested_duration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serein.audio.streaming.SAMPLES_PER_READ", 1000)
    pieces = [len(samples) for samples, _ in audio.iter_blocks(encode(), block_seconds=0.5)]
    assert pieces == [8000, 8000, 8000, 8000]
    pieces = [len(samples) for samples, _ in audio.iter_blocks(encode(), block_seconds=0.6)]
    assert pieces == [10_000, 10_000, 10_000, 2_000]  # the minimum, except for the last block


def test_iter_blocks_selects_a_channel() -> None:
    source = (stereo(), RATE)
    assert audio.channel_count(source) == 2
    left, right, mean = (
        np.concatenate([samples for samples, _ in audio.iter_blocks(source, channel=channel)])
        for channel in (1, 2, None)
    )
    np.testing.assert_array_equal(left, stereo()[:, 0])
    np.testing.assert_array_equal(right, 0)
    np.testing.assert_allclose(mean, left / 2)
    for channel in (0, 3):
        with pytest.raises(
            AudioError, match=f"channel {channel} of the given array .* expected 1 to 2"
        ):
            next(audio.iter_blocks(source, channel=channel))


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a", "webm"])
def test_channel_count(kind: str) -> None:
    assert audio.channel_count(encode_format(kind)) == 1


def test_truncated_file_raises_when_its_end_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serein.audio.streaming.SAMPLES_PER_READ", RATE)
    file = tmp_path / "long.flac"
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * RATE)
    soundfile.write(file, noise, RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    blocks = audio.iter_blocks(file, block_seconds=5)
    assert len(next(blocks)[0]) >= 5 * RATE
    with pytest.raises(AudioError, match=r"long.flac is truncated: .* of 60.00 s"):
        list(blocks)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(0, np.float32), "has no samples"),
        (np.zeros(200, np.float32), "has 12 ms of audio"),
        (np.array([0.0] * RATE + [np.nan]), "the first at 1.000 s"),
    ],
)
def test_blocks_are_checked(samples: npt.NDArray[np.float32], words: str) -> None:
    with pytest.raises(AudioError, match=words):
        list(audio.iter_blocks((samples, RATE), block_seconds=0.25))


def test_iter_blocks_keeps_numpy_error_settings() -> None:
    before = np.geterr()
    for _ in audio.iter_blocks(encode(), block_seconds=0.5):
        assert np.geterr() == before


@given(
    rate=st.sampled_from([8_000, 11_025, 22_050, 44_100, 48_000]),
    cuts=st.lists(st.integers(0, 40_000), max_size=6),
)
def test_resampler_does_not_depend_on_block_sizes(rate: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    resample = Resampler(rate, RATE)
    edges = [0, *sorted(cuts), len(samples)]
    found = [resample(samples[a:b]) for a, b in pairwise(edges)]
    found.append(resample(samples[:0], last=True))
    wanted = load((samples, rate), RATE)
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-6)


def test_equal_rates_need_no_resampling() -> None:
    samples = make_sweep(0.1)
    assert Resampler(RATE, RATE)(samples) is samples
    with pytest.raises(AudioError, match="the rate is 10 Hz"):
        Resampler(10, RATE)


def test_convert_block_accepts_every_type() -> None:
    pcm = (stereo()[:, 0] * 32767).astype("<i2")
    blocks: list[Block] = [pcm.tobytes(), bytearray(pcm.tobytes()), memoryview(pcm.tobytes()), pcm]
    blocks += [pcm.astype(np.float64) / 32768, np.stack([pcm, pcm], axis=1)]
    for block in blocks:
        found = convert_block(block, RATE)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, pcm / 32768, atol=1e-7)
    assert len(convert_block(b"", RATE)) == 0
    assert len(convert_block(np.zeros((0, 2)), RATE)) == 0


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (b"abc", "a block of 3 bytes ends within a sample"),
        (np.zeros((2, 40)), r"shape \(2, 40\)"),
        (np.array(["a"]), "type <U1"),
        (np.array([0.1, np.inf]), "the stream has 1 samples .* first at 2.500 s"),
    ],
)
def test_convert_block_rejects_invalid_blocks(block: Block, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        convert_block(block, 2_000, start=2.4995)


def test_duration_that_needs_decoding() -> None:
    content = io.BytesIO(encode_format("webm")).getvalue()
    assert audio.duration(content) == pytest.approx(2.0, abs=0.05)
