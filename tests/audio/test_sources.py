"""Files, arrays and times as people have them."""

import io
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch
from builders.encoded_audio import RATE, encode, encode_format, list_formats, make_sweep, mux

from serein import audio
from serein.audio import channel_count, duration, iter_blocks, load
from serein.audio.times import to_seconds
from serein.errors import AudioError


@pytest.mark.parametrize("kind", [*list_formats(), "adpcm", "joined mp3"])
def test_duration_and_load_agree_to_the_sample(kind: str) -> None:
    if kind == "adpcm":
        content = encode("wav", make_sweep(1.0, 8_000), 8_000, subtype="IMA_ADPCM")
    else:
        content = encode("mp3") * 2 if kind == "joined mp3" else encode_format(kind)
    (_, rate), *_ = iter_blocks(content)
    assert duration(content) == len(load(content, round(rate))) / rate
    for size in (0.071, 0.3, 9.0):
        blocks = list(iter_blocks(content, block_seconds=size))
        assert duration(content) == sum(len(block) for block, _ in blocks) / rate


def vbr_mp3(seconds: float = 10.0) -> bytes:
    """An MP3 of loud noise and a tone, of variable bit rate, without a Xing header."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * 200 * time)
    wave[:RATE] = np.random.default_rng(0).normal(0, 0.3, RATE)
    options = {"write_xing": "0", "id3v2_version": "0"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3", options=options) as output:
        stream = output.add_stream("libmp3lame", rate=RATE, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.options = {"q": "5"}
        stream.codec_context.qscale = True
        frame = av.AudioFrame.from_ndarray(wave.astype("f4")[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=RATE, frame_size=576
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(piece))
    return buffer.getvalue()


def test_mp3_of_variable_bit_rate_is_read_to_its_end() -> None:
    content = vbr_mp3()
    assert b"Xing" not in content[:300]
    assert b"Info" not in content[:300]
    wave = load(content)
    assert len(wave) / RATE == pytest.approx(10.0, abs=0.15)
    assert duration(content) == len(wave) / RATE
    assert abs(wave[-2 * RATE : -RATE]).max() > 0.2


def test_joined_mp3_is_read_to_its_end() -> None:
    assert len(load(encode("mp3") * 3)) / RATE == pytest.approx(6.0, abs=0.5)


def test_mp3_does_not_depend_on_the_size_of_blocks() -> None:
    content = encode("mp3", make_sweep(4.0))
    whole = load(content)
    for seconds in (0.072, 0.3, 3.0):
        blocks = [block for block, _ in iter_blocks(content, block_seconds=seconds)]
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_compressed_wav_has_the_length_of_its_fact_chunk() -> None:
    content = bytearray(encode("wav", make_sweep(1.0, 8_000), 8_000, subtype="IMA_ADPCM"))
    at = content.index(b"fact") + 8
    assert len(load(bytes(content), 8_000)) >= 8_000
    content[at : at + 4] = struct.pack("<I", 8_000)
    assert len(load(bytes(content), 8_000)) == 8_000
    assert duration(bytes(content)) == 1.0


@pytest.mark.parametrize("read", [load, lambda source: list(iter_blocks(source))])
def test_channels_that_cancel_are_said(read: Callable[[Any], Any]) -> None:
    wave = make_sweep(1.0)
    inverted = np.stack([wave, -wave], axis=1)
    for source in ((inverted, RATE), encode("wav", inverted)):
        with pytest.raises(AudioError, match=r"cancel each other.*--channels each"):
            read(source)
    assert len(next(iter_blocks((inverted, RATE), channel=2))[0]) == RATE
    for other in (np.stack([wave, 0 * wave], axis=1), np.zeros((RATE, 2), np.float32)):
        read((other, RATE))


def two_tracks(*tracks: np.ndarray) -> bytes:
    """A Matroska file of several tracks; a track of a film may begin late (leading NaN)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            assert isinstance(stream, av.AudioStream)
            begin = int(np.isnan(track).sum())
            pcm = (32767 * track[begin:]).astype(np.int16)
            for at in range(0, len(pcm), 1600):
                frame = av.AudioFrame.from_ndarray(pcm[None, at : at + 1600], "s16", "mono")
                frame.sample_rate, frame.pts = RATE, begin + at
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return buffer.getvalue()


def test_silent_first_track_is_skipped() -> None:
    wave = make_sweep(1.0)
    np.testing.assert_allclose(load(two_tracks(0 * wave, wave)), wave, atol=1e-4)
    assert not load(two_tracks(0 * wave, 0 * wave)).any()


def test_audio_that_starts_late_has_the_times_of_the_film() -> None:
    wave = make_sweep(1.0)
    late = np.concatenate([np.full(RATE // 2, np.nan, np.float32), wave])
    content = two_tracks(late, np.zeros(3 * RATE // 2, np.float32))
    found = load(content)
    np.testing.assert_allclose(found, np.nan_to_num(late), atol=1e-4)
    assert duration(content) == 1.5
    np.testing.assert_array_equal(load(content, start=0.25, end=0.75), found[4_000:12_000])
    blocks = [block for block, _ in iter_blocks(content, block_seconds=0.1)]
    np.testing.assert_array_equal(np.concatenate(blocks), found)


def test_flac_that_libsndfile_refuses_is_read_by_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    content, wanted = encode("flac"), load(encode("flac"))

    def refuse(*_: object, **__: object) -> None:
        raise soundfile.LibsndfileError(2)

    with monkeypatch.context() as patch:
        patch.setattr("serein.audio.decoding.SndfileReader._decode_blocks", refuse)
        patch.setattr("serein.audio.decoding.SndfileReader._truncated_error", AudioError)
        np.testing.assert_allclose(load(content), wanted, atol=1e-6)
        np.testing.assert_allclose(load(content, start=1.0), wanted[RATE:], atol=1e-6)
    with pytest.raises(AudioError, match="truncated"):
        load(content[: len(content) // 2])


@pytest.mark.parametrize("kind", [("3gp", "libopencore_amrnb"), ("amr", "libopencore_amrnb")])
def test_recordings_of_phones(kind: tuple[str, str]) -> None:
    container, codec = kind
    if codec not in av.codecs_available:
        pytest.skip("this FFmpeg cannot write AMR")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=8_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 12_200
        pcm = (32767 * make_sweep(1.0, 8_000)).astype(np.int16)
        for at in range(0, 8_000, 160):
            frame = av.AudioFrame.from_ndarray(pcm[None, at : at + 160], "s16", "mono")
            frame.sample_rate, frame.pts = 8_000, at
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    content = buffer.getvalue()
    assert duration(content) == pytest.approx(1.0, abs=0.1)
    assert len(load(content, 8_000)) == round(8_000 * duration(content))


def test_voice_memo_in_caf() -> None:
    content = mux("caf", "alac", make_sweep(), {})
    assert len(load(content)) / RATE == pytest.approx(2.0, abs=0.1)


def test_int32_array_of_16_bit_values_is_said() -> None:
    values = (32767 * make_sweep(1.0)).astype(np.int32)
    with pytest.raises(AudioError, match=r"is 16\d{3}, which is silence.*astype\('int16'\)"):
        load((values, RATE))
    assert abs(load((values * 2**16, RATE))).max() == pytest.approx(0.5, abs=1e-3)
    assert not load((0 * values, RATE)).any()


WAVE = make_sweep(1.0)


@pytest.mark.parametrize(
    "source",
    [
        (RATE, WAVE),  # Gradio
        {"array": WAVE, "sampling_rate": RATE, "path": None},  # Hugging Face's datasets
        (torch.from_numpy(WAVE), RATE),
        (torch.from_numpy(WAVE).to(torch.bfloat16), RATE),
        (np.float64(RATE), WAVE.astype(np.float64)),
        (np.int64(RATE), WAVE),
    ],
    ids=["gradio", "datasets", "tensor", "bfloat16", "float64", "numpy rate"],
)
def test_samples_in_memory(source: Any) -> None:
    np.testing.assert_allclose(load(source), WAVE, atol=2e-3)
    assert duration(source) == 1.0
    assert channel_count(source) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"path": "a.wav"}, "mapping with path; expected 'array' and 'sampling_rate'"),
        (WAVE, r"array of the shape \(16000,\) without a sampling rate; give"),
        (torch.zeros(9), "without a sampling rate"),
        ((WAVE,), "tuple of 1; expected"),
        ("https://example.org/a.wav", "is an address; expected a file. Download it"),
        ("file:///tmp/a.wav", "Give the path without file://"),
        (Path("https://example.org/a.wav"), "is an address"),
    ],
)
def test_sources_that_need_a_hint(source: Any, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        load(source)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (pd.Timedelta("1.5s"), 1.5),
        (pd.NaT, None),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.timedelta64("NaT"), None),
        (timedelta(seconds=1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.int64(2), 2),
        (np.array(1.5), 1.5),
        ("1.5", 1.5),
        ("00:01.5", 1.5),
        ("0 days 00:00:01.5", 1.5),
        ("", None),
        (None, None),
    ],
)
def test_times(time: Any, seconds: float | None) -> None:
    assert to_seconds(time, "end") == seconds
    if seconds is not None:
        source = (make_sweep(3.0), RATE)
        np.testing.assert_array_equal(load(source, start=time), load(source, start=seconds))
        blocks = next(iter_blocks(source, end=time))[0]
        assert len(blocks) == len(load(source, end=time)) == round(seconds * RATE)


@pytest.mark.parametrize("time", ["soon", "1:2:3:4", [1.0], pd.Timestamp("2020"), 1j])
def test_times_that_are_none(time: Any) -> None:
    with pytest.raises(AudioError, match=r"start is .*expected seconds such as 1.5"):
        load((WAVE, RATE), start=time)
    missing: Any = pd.NaT
    with pytest.raises(AudioError, match="is missing"):
        load((WAVE, RATE), start=missing)


def test_header_with_many_channels() -> None:
    content = bytearray(encode("wav"))
    content[22:24] = b"\xff\xff"
    with pytest.raises(AudioError, match=r"65,535 channels|not audio"):
        load(bytes(content))
    assert audio.load(encode("wav")).any()
