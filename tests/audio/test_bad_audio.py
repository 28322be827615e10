"""Invalid audio raises an AudioError of one line that tells the user what to do."""

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from builders.encoded_audio import (
    RATE,
    encode,
    encode_format,
    encode_with_ffmpeg,
    list_formats,
    make_sweep,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serein.audio import Source, channel_count, duration, iter_blocks, load
from serein.errors import AudioError


def missing(folder: Path) -> Source:
    return folder / "no such.wav"


def a_folder(folder: Path) -> Source:
    return folder


def a_device(folder: Path) -> Source:
    return Path("/dev/zero")


def empty(folder: Path) -> Source:
    path = folder / "empty.wav"
    path.touch()
    return path


def text(folder: Path) -> Source:
    path = folder / "text.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    return path


def subtitles(folder: Path) -> Source:
    return b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n"


def playlist(folder: Path) -> Source:
    (folder / "secret.wav").write_bytes(encode())
    return f"ffconcat version 1.0\nfile {folder}/secret.wav\n".encode()


def video(folder: Path) -> Source:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def no_samples(folder: Path) -> Source:
    return encode(samples=np.zeros(0))


def ten_milliseconds(folder: Path) -> Source:
    return encode(samples=make_sweep(0.01))


def low_rate(folder: Path) -> Source:
    return encode(rate=500)


def channels_first(folder: Path) -> Source:
    return np.zeros((2, RATE)), RATE


def three_axes(folder: Path) -> Source:
    return np.zeros((2, 2, RATE)), RATE


def long_integers(folder: Path) -> Source:
    return np.zeros(RATE, np.int64), RATE


def booleans(folder: Path) -> Source:
    return np.zeros(RATE, bool), RATE


def no_channels(folder: Path) -> Source:
    return np.zeros((0, 2)), RATE


def high_rate(folder: Path) -> Source:
    return np.zeros(RATE), 1_000_000


def no_channels_at_all(folder: Path) -> Source:
    return np.zeros((RATE, 0)), RATE


def one_sample(folder: Path) -> Source:
    return np.zeros(()), RATE


def channels_zero(folder: Path) -> Source:
    return replace_field(encode(), 22, 0)


def unknown_codec(folder: Path) -> Source:
    return replace_field(encode(), 20, 0x7777)


def replace_field(content: bytes, place: int, number: int) -> bytes:
    """Return a WAV with one field of its header replaced."""
    return content[:place] + struct.pack("<H", number) + content[place + 2 :]


def number(folder: Path) -> Source:
    return 3  # type: ignore[return-value]


def text_file(folder: Path) -> Source:
    return io.StringIO("RIFF")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (missing, r"no such\.wav does not exist; expected an audio file"),
        (a_folder, "is a folder; expected an audio file"),
        (a_device, "/dev/zero is a device or pipe"),
        (empty, r"empty\.wav is empty \(0 bytes\)"),
        (text, r'text\.wav is not audio .*begins with the text "version https:'),
        (subtitles, "the given bytes has no audio stream, only subtitle"),
        (playlist, "the given bytes is not audio"),
        (video, "the given bytes has no audio stream, only video"),
        (no_samples, "has no samples; expected at least 25 ms"),
        (no_channels, "the given array has no samples"),
        (ten_milliseconds, "10 ms of audio; expected at least 25 ms"),
        (low_rate, "500 Hz; expected 1000 to 768000 Hz"),
        (high_rate, "1000000.0 Hz; expected 1000 to 768000 Hz"),
        (channels_first, r"shape \(2, 16000\); expected \(n,\) or \(n, channels\)"),
        (no_channels_at_all, r"shape \(16000, 0\); expected .* with 1 to 32 channels"),
        (one_sample, r"shape \(\); expected"),
        (channels_zero, "the given bytes has a header with no number of channels"),
        (unknown_codec, "audio codec without a decoder here"),
        (three_axes, r"shape \(2, 2, 16000\); expected"),
        (long_integers, "type int64; expected floating point"),
        (booleans, "type bool; expected floating point"),
        (number, "has the type int; expected a path, bytes"),
        (text_file, "has the type StringIO; expected a path, bytes, a file opened in binary mode"),
    ],
)
def test_every_fault_is_one_line_with_advice(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        load(source(tmp_path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("source", [no_channels_at_all, channels_zero, unknown_codec])
@pytest.mark.parametrize(
    "read", [load, duration, channel_count, lambda given: list(iter_blocks(given))]
)
def test_audio_without_samples_is_the_same_error_everywhere(source: Any, read: Any) -> None:
    with pytest.raises(AudioError, match=r"channels|without a decoder"):
        read(source(Path()))


@pytest.mark.parametrize("ending", ["g722", "al", "ul", "sw", "raw"])
def test_file_name_does_not_make_noise_audio(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise.{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    with pytest.raises(AudioError, match="is not audio"):
        load(path)


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1.0, None), (1.0, 1.0), (1.0, 0.5), (np.nan, None), (0.0, np.nan), (np.inf, None)],
)
def test_part_must_start_before_its_end(start: float, end: float | None) -> None:
    with pytest.raises(AudioError, match="expected 0 <= start < end"):
        load(encode(), start=start, end=end)


@pytest.mark.parametrize("kind", list_formats())
@pytest.mark.parametrize("start", [2.5, 1e300])
def test_a_part_that_begins_after_the_end_is_an_error(kind: str, start: float) -> None:
    with pytest.raises(AudioError, match="no audio in that part of the given bytes from"):
        load(encode_format(kind), start=start)


def test_target_rate_out_of_range_is_an_error() -> None:
    with pytest.raises(AudioError, match="the target rate is 16 Hz"):
        load(encode(), 16)


SMALL = {kind: encode(kind, make_sweep(0.1)) for kind in ("wav", "flac", "ogg", "mp3", "aiff")} | {
    "m4a": encode_with_ffmpeg("m4a", make_sweep(0.1))
}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(SMALL)),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
    st.integers(0, 400) | st.none(),
)
@example("flac", [(21, 255)], None)
def test_any_content_raises_only_audio_errors(
    kind: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(SMALL[kind])
    for place, value in changes:
        content[place % len(content)] = value
    ours: npt.NDArray[np.float32] | str
    try:
        ours = load(bytes(content[:cut]))
    except AudioError as error:
        ours = str(error)
    assert "\n" not in ours if isinstance(ours, str) else np.isfinite(ours).all()


@given(st.binary(max_size=300))
@settings(max_examples=30, deadline=None)
def test_random_bytes_are_not_audio(content: bytes) -> None:
    with pytest.raises(AudioError):
        load(content)
