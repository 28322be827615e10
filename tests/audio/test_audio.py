import io
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from builders.encoded_audio import (
    RATE,
    encode,
    encode_format,
    encode_with_ffmpeg,
    list_formats,
    make_sweep,
    mux,
)
from hypothesis import given
from hypothesis import strategies as st

from serein.audio import (
    Source,
    duration,
    load,
    split_evenly,
    utterance_duration,
    utterance_durations,
)
from serein.errors import AudioError
from serein.records import Utterance


def likeness(ours: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    size = min(len(ours), len(truth))
    return float(np.corrcoef(ours[:size], truth[:size])[0, 1])


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_414, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(
    ("subtype", "step"),
    [
        ("PCM_U8", 2**-7),
        ("PCM_16", 2**-15),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),
        ("FLOAT", 0.0),
        ("DOUBLE", 0.0),
    ],
)
def test_wav_is_exact_to_its_quantization_step(subtype: str, step: float, rate: int) -> None:
    truth = make_sweep(0.1, rate)
    ours = load(encode(samples=truth, rate=rate, subtype=subtype), rate)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, truth, rtol=0, atol=step)


@pytest.mark.parametrize("kind", list_formats())
def test_every_format_holds_the_same_sound(kind: str) -> None:
    ours = load(encode_format(kind))
    assert len(ours) / RATE == pytest.approx(2.0, abs=0.07)
    assert likeness(ours, make_sweep()) > 0.98


@pytest.mark.parametrize("kind", list_formats())
@pytest.mark.parametrize("name", ["a.wav", "B.WAV", "c.raw", "d.gsm", "e", "ä ö/ñ #%.mp3"])
def test_format_is_detected_from_content_not_from_name(
    kind: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    content = encode_format(kind)
    path.write_bytes(content)
    with path.open("rb") as file:
        file.seek(7)
        sources: list[Source] = [path, str(path), file, io.BytesIO(content)]
        for source in sources:
            np.testing.assert_array_equal(load(source), load(content))
        assert not file.closed


@pytest.mark.parametrize("kind", list_formats())
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.3137, 1.2), (1.5, None), (1.75, 99.0)])
def test_a_part_is_a_slice_of_the_whole(kind: str, start: float, end: float | None) -> None:
    content = encode_format(kind)
    rate = 48_000 if kind == "webm" else RATE
    whole = load(content, rate)
    last = None if end is None else round(end * rate)
    part = load(content, rate, start=start, end=end)
    np.testing.assert_allclose(part, whole[round(start * rate) : last], rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"movflags": "empty_moov+frag_keyframe"}])
def test_late_part_of_a_long_m4a_is_read_without_decoding_the_rest(
    options: dict[str, str],
) -> None:
    content = mux("mp4", "aac", make_sweep(8.0), options)
    part = load(content, start=5.4321, end=6.0)
    truth = load(content)[round(5.4321 * RATE) : 6 * RATE]
    np.testing.assert_allclose(part, truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a"])
def test_bytes_of_every_type_and_a_file_that_cannot_seek(kind: str) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    content = encode_format(kind)
    others: list[Any] = [bytearray(content), memoryview(content), Pipe(content)]
    for other in others:
        np.testing.assert_array_equal(load(other), load(content))


def test_header_counted_as_audio_is_accepted() -> None:
    content = bytearray(encode())
    content[40:44] = struct.pack("<I", len(content))
    np.testing.assert_allclose(load(bytes(content)), make_sweep(), atol=2**-15)


def test_error_of_a_short_part_names_the_part() -> None:
    with pytest.raises(AudioError, match="that part of the given bytes has 20 ms of audio"):
        load(encode(), start=1.0, end=1.02)


def test_a_part_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            self.total += len(content)
            return content

    file = Counting(encode(samples=make_sweep(60.0)))
    load(file, start=50.0, end=50.1)
    assert file.total < 100_000


def test_mp3_without_a_length_in_its_header() -> None:
    content = mux("mp3", "libmp3lame", make_sweep(), {"write_xing": "0"})
    assert len(load(content)) / RATE == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_are_averaged(channels: int) -> None:
    gains = np.arange(1, channels + 1) / channels
    samples = make_sweep(0.1)[:, None] * gains.astype(np.float32)
    truth = samples.mean(axis=1)
    np.testing.assert_allclose(load(encode(samples=samples)), truth, atol=2**-15)
    np.testing.assert_allclose(load((samples, RATE)), truth, atol=1e-6)


@pytest.mark.parametrize("file_rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_frequency_and_length(file_rate: int) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(file_rate) / file_rate)
    ours = load(encode(samples=tone, rate=file_rate))
    assert len(ours) == RATE
    assert np.abs(np.fft.rfft(ours)).argmax() == 1000


@pytest.mark.parametrize(
    ("dtype", "zero", "scale"),
    [
        ("int8", 0, 127),
        ("uint8", 128, 127),
        ("int16", 0, 32767),
        ("uint16", 32768, 32767),
        ("int32", 0, 2**31 - 1),
        ("float16", 0, 1),
        ("float64", 0, 1),
    ],
)
def test_arrays_of_every_type_have_one_scale(dtype: str, zero: int, scale: int) -> None:
    given = (make_sweep(0.1).astype(np.float64) * scale + zero).astype(dtype)
    np.testing.assert_allclose(load((given, RATE)), make_sweep(0.1), atol=1 / 60)
    assert duration((given, RATE)) == pytest.approx(0.1)


def test_loud_samples_are_not_clipped_and_a_given_array_is_not_shared() -> None:
    given = 3 * make_sweep(0.1)
    ours = load((given, RATE))
    np.testing.assert_array_equal(ours, given)
    ours[:] = 0
    assert given.any()


@pytest.mark.parametrize("kind", list_formats())
def test_duration_equals_that_of_the_loaded_samples(kind: str) -> None:
    content = encode_format(kind)
    assert duration(content) == pytest.approx(len(load(content)) / RATE, abs=0.07)


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0xFFFFFFFF])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_read_to_its_real_end(length: int, riff: int) -> None:
    content = bytearray(encode())
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", length)
    np.testing.assert_allclose(load(bytes(content)), make_sweep(), atol=2**-15)
    assert duration(bytes(content)) == pytest.approx(2.0)


def test_a_flac_from_a_pipe_is_read_to_its_real_end() -> None:
    content = bytearray(encode("flac"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    np.testing.assert_allclose(load(bytes(content)), make_sweep(), atol=2**-15)


@pytest.mark.parametrize("kind", ["wav", "aiff", "flac", "mp3", "m4a"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_truncated_file_reports_readable_seconds(kind: str, share: float, tmp_path: Path) -> None:
    whole = faststart(tmp_path / "a.m4a") if kind == "m4a" else encode(kind)
    cut = whole[: int(len(whole) * share)]
    with pytest.raises(AudioError, match=r"is truncated: [01]\.\d\d s of 2\.\d\d s could be read"):
        load(cut)


def faststart(path: Path) -> bytes:
    """An m4a with its index before its audio."""
    return mux("ipod", "aac", make_sweep(), {"movflags": "faststart"}, path)


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_truncated_ogg_is_an_error(kind: str) -> None:
    with pytest.raises(AudioError, match="truncated within its last Ogg page"):
        load(encode(kind)[:-50])


def test_truncated_matroska_is_an_error() -> None:
    whole = encode_with_ffmpeg("webm", make_sweep(8.0))
    with pytest.raises(AudioError, match="is truncated"):
        load(whole[: len(whole) // 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e20])
def test_non_finite_samples_are_counted_and_located(value: float) -> None:
    samples = make_sweep(1.0).astype(np.float64)
    samples[[8000, 9000]] = value
    content = encode(samples=samples, subtype="DOUBLE")
    with pytest.raises(AudioError, match=r"has 2 samples .*first at 0\.500 s"):
        load(content, 8000)
    with pytest.raises(AudioError, match=r"given array has 2 samples .*first at 0\.500 s"):
        load((samples, RATE), start=0.25)


def test_samples_that_are_not_scaled_are_accepted() -> None:
    given = np.full(RATE, 32_768, np.float32)
    np.testing.assert_array_equal(load((given, RATE)), given)


@given(st.integers(0, 10**7), st.integers(1, 10**6))
def test_split_evenly_covers_everything_with_fewest_windows(samples: int, longest: int) -> None:
    samples = min(samples, 1000 * longest)
    parts = split_evenly(samples, longest)
    assert len(parts) == -(-samples // longest)
    assert [0, *(end for _, end in parts)] == [*(start for start, _ in parts), samples]
    lengths = {end - start for start, end in parts}
    assert all(0 < length <= longest for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


def test_split_evenly_needs_a_positive_length() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        split_evenly(10, 0)


def test_import_loads_neither_torch_nor_ffmpeg_nor_soxr() -> None:
    script = "import sys, serein.audio; print(*sorted({'torch', 'av', 'soxr'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n")


def test_a_wav_that_cannot_seek_is_read_like_any_other() -> None:
    content = encode("wav", subtype="GSM610")
    whole = load(content)
    part = load(content, start=0.5, end=1.0)
    assert duration(content) == len(whole) / RATE
    assert np.array_equal(part, whole[RATE // 2 : RATE])
    assert np.corrcoef(whole[: len(make_sweep())], make_sweep())[0, 1] > 0.9
    with pytest.raises(AudioError, match="is truncated"):
        load(content[:1000])


def test_durations_of_many_utterances_are_those_of_each(tmp_path: Path) -> None:
    for name, seconds in (("a", 1.0), ("b", 2.5)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(round(seconds * RATE)), RATE)
    utterances = [
        Utterance(id="1", path=tmp_path / "a.wav"),
        Utterance(id="2", path=tmp_path / "b.wav", start=0.5),
        Utterance(id="3", path=tmp_path / "gone.wav", start=1.0, end=3.0),
        Utterance(id="4", path=tmp_path / "b.wav"),
    ]
    for _ in range(2):
        assert utterance_durations(utterances) == [1.0, 2.0, 2.0, 2.5]
        assert utterance_durations(utterances) == [utterance_duration(one) for one in utterances]
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE // 2), RATE)
    assert utterance_durations(utterances)[0] == 0.5
    with pytest.raises(AudioError, match=r"gone\.wav does not exist"):
        utterance_durations([replace(utterances[2], end=None)])
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"c\.wav"):
        utterance_durations([Utterance(id="5", path=tmp_path / "c.wav")])
