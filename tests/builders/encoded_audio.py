"""A sweep in every audio format."""

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

RATE = 16_000
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
}
FFMPEG = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus"), "mka": ("matroska", "pcm_s16le")}


def make_sweep(seconds: float = 2.0, rate: int = RATE) -> npt.NDArray[np.float32]:
    """Return a tone that rises from 200 Hz by 400 Hz per second, so that all parts differ."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 200 * time) * time)).astype(np.float32)


def encode(
    kind: str = "wav",
    samples: npt.NDArray[Any] | None = None,
    rate: int = RATE,
    subtype: str | None = None,
) -> bytes:
    buffer = io.BytesIO()
    samples = make_sweep() if samples is None else samples
    container, usual = FORMATS[kind]
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype or usual)
    return buffer.getvalue()


def mux(
    container: str,
    codec: str,
    samples: npt.NDArray[np.float32],
    options: dict[str, str],
    path: Path | None = None,
) -> bytes:
    """Encode mono samples at 16 kHz with FFmpeg."""
    buffer = io.BytesIO()
    with av.open(path or buffer, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=RATE, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=RATE)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(piece))
    return path.read_bytes() if path else buffer.getvalue()


def encode_with_ffmpeg(kind: str, samples: npt.NDArray[np.float32] | None = None) -> bytes:
    return mux(*FFMPEG[kind], make_sweep() if samples is None else samples, {})


def list_formats() -> list[str]:
    return [*FORMATS, *FFMPEG]


def encode_format(kind: str) -> bytes:
    return encode(kind) if kind in FORMATS else encode_with_ffmpeg(kind)
