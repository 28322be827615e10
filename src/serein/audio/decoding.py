"""Open a source of audio with libsndfile or FFmpeg, and detect files that are truncated.

libsndfile is tried first; FFmpeg reads what libsndfile cannot. Decoders do not report every
truncated file, so the sizes in the headers of WAV, AIFF and Ogg files are checked here.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
import soundfile

from serein.audio.samples import (
    ArrayReader,
    AudioReader,
    Samples,
    Source,
    UnnamedFile,
    check_rate,
    open_binary,
    to_float32,
    truncated_error,
)
from serein.errors import AudioError

MAX_SECONDS = 1e9
MAX_FRAMES_PER_READ = 2**24
"""Frames read at once: the most that a wrong length in a header can make a reader allocate."""
MAX_SAMPLES_PER_READ = 2**24
"""As ``MAX_FRAMES_PER_READ``, for the samples of all channels together."""
HEADER_BYTES = 44
"""Size of a WAV header; some writers count it as audio."""


@contextmanager
def open_audio(source: Source, name: str) -> Iterator[AudioReader]:
    """Open a source for reading.

    Args:
        source: as for ``load``.
        name: of the source, for error messages.

    Raises:
        AudioError: the source is empty, or is not audio.
    """
    if isinstance(source, tuple):
        yield ArrayReader(*source)
        return
    with open_binary(source) as file:
        if not file.read(1):
            raise AudioError(f"{name} is empty (0 bytes); expected audio. Get it again.")
        with closing(_open_reader(file, name)) as reader:
            check_rate(reader.rate, f"the rate of {name}")
            if reader.channels < 1:
                raise AudioError(f"{name} has no channels; expected at least one. Get it again.")
            yield reader


def _open_reader(file: BinaryIO, name: str) -> AudioReader:
    check_ogg_complete(file, name)
    try:
        reader = SndfileReader(file, name)
    except soundfile.LibsndfileError:
        return FFmpegReader(file, name)
    if reader.is_readable:
        return reader
    reader.close()
    return FFmpegReader(file, name)


@contextmanager
def translate_decoding_errors(name: str) -> Iterator[None]:
    """Convert any exception of a decoder, such as for damaged bytes, to an AudioError."""
    try:
        with np.errstate(all="ignore"):
            yield
    except AudioError:
        raise
    except Exception as error:
        raise AudioError(
            f"{name} could not be read ({type(error).__name__}: {' '.join(str(error).split())}); "
            "expected audio. Check the file or convert it to WAV."
        ) from error


def sample_range(reader: AudioReader, start: float, end: float | None) -> tuple[int, int]:
    """Return the first frame and the one after the last, for times in seconds."""
    last = MAX_SECONDS if end is None else end
    return round(min(start, MAX_SECONDS) * reader.rate), round(min(last, MAX_SECONDS) * reader.rate)


def describe_part(name: str, start: float, end: float | None) -> str:
    """Return what error messages call a recording, or a part of it."""
    return name if start == 0 and end is None else f"that part of {name}"


class SndfileReader:
    """A file that libsndfile reads: WAV, FLAC, Ogg, MP3, AIFF.

    ``is_readable`` is false for a valid file that libsndfile reads wrongly.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        promised, present = data_chunk_sizes(file)
        file.seek(0)  # from here on libsndfile moves the file position
        has_descriptor = isinstance(file, io.FileIO) and os.name == "posix"
        handle = file.fileno() if has_descriptor else UnnamedFile(file)
        self.name, self.file = name, soundfile.SoundFile(handle, closefd=False)
        self.rate: float = self.file.samplerate
        self.frames: int = self.file.frames
        self.channels: int = self.file.channels
        self.duration: float | None = self.frames / self.rate
        # Tools that write to a pipe do not know the length, and write one of these values.
        unknown = 0x7FFFF000 <= promised <= 0x80000000 or promised >= 0xFFFFF000
        if not unknown and promised > present + HEADER_BYTES:
            raise truncated_error(name, self.duration, self.duration * promised / max(1, present))
        # libsndfile reads a piped WAV of length 0 as empty, and a piped FLAC incompletely.
        self.is_readable = self.frames < 2**62 and not (promised == 0 < present)

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Read blocks; raise AudioError if the file ends before ``last``."""
        last = min(last, self.frames)
        if last <= first:
            return
        is_mp3 = self.file.format == "MP3"
        is_seekable = self.file.seekable()  # GSM 6.10 is not
        # libsndfile's seek in an MP3 is off by hundreds of samples.
        position = first if is_seekable and not is_mp3 else 0
        try:
            if is_seekable:
                self.file.seek(position)
            for block in self._decode_blocks(last - position, size):
                yield block[max(0, first - position) :]
                position += len(block)
        except soundfile.LibsndfileError as error:
            raise self._truncated_error() from error
        # An MP3 without a Xing header does not give the padding of its last frame.
        max_padding = (1152 if self.rate >= 32_000 else 576) if is_mp3 else 0
        if position < last - max_padding:
            raise self._truncated_error()

    def close(self) -> None:
        """Close the decoder; the file itself stays open."""
        self.file.close()

    def _decode_blocks(self, frames: int, size: int) -> Iterator[Samples]:
        size = min(size, max(1, MAX_SAMPLES_PER_READ // self.channels))
        while frames > 0:
            block = self.file.read(min(size, frames), dtype="float32", always_2d=True)
            yield block
            frames = frames - size if len(block) == size else 0

    def _truncated_error(self) -> AudioError:
        readable = 0
        with suppress(soundfile.LibsndfileError):
            self.file.seek(0)
            while size := len(self.file.read(1024)):
                readable += size
        return truncated_error(self.name, readable / self.rate, self.frames / self.rate)


class FFmpegReader:
    """A file that FFmpeg reads: m4a, webm, video and its other formats."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        import av

        self.name = name
        file.seek(0)
        head = file.read(16)
        file.seek(0)
        try:
            # Do not open the files and addresses that a playlist names.
            options = {"protocol_whitelist": "none"}
            unnamed: Any = UnnamedFile(file)
            self.container = av.open(unnamed, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"{name} is not audio that can be read: it begins with {head!r}; expected WAV, "
                "FLAC, Ogg, MP3, AIFF, m4a, webm or the like. Check or convert it."
            ) from error
        if not self.container.streams.audio:
            kinds = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            self.container.close()
            raise AudioError(
                f"{name} has no audio stream, only {kinds}; expected speech. Choose another file."
            )
        self.stream = self.container.streams.audio[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise AudioError(
                f"{name} has an audio codec without a decoder here; expected AAC, Opus, MP3, PCM "
                "or the like. Convert it to WAV or FLAC."
            )
        self.rate: float = self.stream.rate
        self.channels: int = self.stream.channels
        self.duration = self._container_duration()

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Read blocks; raise AudioError if the file ends before ``last``."""
        has_begun, position = False, self._seek(first)
        for samples, frame_start in self._decode_frames():
            position = frame_start if position is None else position
            if position > first and not has_begun:
                raise AudioError(f"{self.name} cannot be read from its middle. Convert it to FLAC.")
            has_begun = True
            yield samples[max(0, first - position) : max(0, last - position)]
            position += len(samples)
            if position >= last:
                break
        readable = (position or 0) / self.rate
        if self.duration is not None and readable < min(last / self.rate, self.duration - 0.1):
            raise truncated_error(self.name, readable, self.duration)

    def close(self) -> None:
        """Close the decoder; the file itself stays open."""
        self.container.close()

    def _container_duration(self) -> float | None:
        """Return the container's duration; None if FFmpeg would estimate it from the bit rate."""
        kind = self.container.format.name
        if "mp4" in kind and self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        if "matroska" in kind and self.container.duration and len(self.container.streams) == 1:
            return self.container.duration / 1e6
        return None

    def _seek(self, first: int) -> int | None:
        """Seek to a frame at least a second before sample ``first``.

        Returns:
            None: the position is that of the next decoded frame. 0 without a seek: ``first`` is in
            the first second, or the container's timestamps are not exact.
        """
        base, warm_up = self.stream.time_base, round(self.rate)
        is_exact = base is not None and base * self.stream.rate == 1
        if not is_exact or "mp4" not in self.container.format.name or first <= warm_up:
            return 0
        target = first - warm_up + (self.stream.start_time or 0)
        self.container.seek(target, stream=self.stream, backward=True)
        return None

    def _decode_frames(self) -> Iterator[tuple[Samples, int]]:
        """Yield the samples of each frame, and the position of its first one by its timestamp."""
        import av

        readable = 0
        try:
            for frame in self.container.decode(self.stream):
                if frame.sample_rate != self.rate:
                    raise AudioError(
                        f"{self.name} changes from {self.rate} to {frame.sample_rate} Hz; expected "
                        "one rate. Convert it to WAV or FLAC."
                    )
                data = frame.to_ndarray()
                samples = data.T if frame.format.is_planar else data.reshape(frame.samples, -1)
                readable += len(samples)
                yield to_float32(samples), (frame.pts or 0) - (self.stream.start_time or 0)
        except av.FFmpegError as error:
            raise truncated_error(self.name, readable / self.rate, self.duration) from error


def data_chunk_sizes(file: BinaryIO) -> tuple[int, int]:
    """Return the audio bytes that a WAV or AIFF header promises, and the bytes that are present.

    Returns:
        (0, 0) for other formats, and for an empty file whose header is complete.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    order = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}.get(head[:4])
    while order and len(chunk := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", chunk)
        present = size - file.tell()
        if name in (b"data", b"SSND"):
            is_complete = struct.unpack(f"{order}I", head[4:8])[0] == size - 8
            return (0, 0) if length == 0 and is_complete else (length, present)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0, 0


def check_ogg_complete(file: BinaryIO, name: str) -> None:
    """Raise AudioError if the last page of an Ogg file is truncated; decoders ignore that."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65_307))  # maximum size of a page
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 255
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise AudioError(
            f"{name} is truncated within its last Ogg page, after {size} bytes; expected a "
            "complete file. Get it again."
        )
