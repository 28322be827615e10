"""A source as an open sound, whichever library reads it.

Files that libsndfile can read: WAV, FLAC, Ogg, MP3, AIFF.

Files that FFmpeg can read: m4a, webm, video and what else it knows.

What a container promises of itself, where decoders would not tell that it is broken off.
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
"""Samples at a time where a file is read whole: what a header that lies can make us allocate."""


@contextmanager
def open_audio(source: Source, name: str) -> Iterator[AudioReader]:
    """Raises AudioError for what is empty, or no audio."""
    if isinstance(source, tuple):
        yield ArrayReader(*source)
        return
    with open_binary(source) as file:
        if not file.read(1):
            raise AudioError(f"{name} is empty (0 bytes); expected audio. Get it again.")
        with closing(_open_reader(file, name)) as sound:
            check_rate(sound.rate, f"the rate of {name}")
            if sound.channels < 1:
                raise AudioError(f"{name} has no channels; expected one at least. Get it again.")
            yield sound


def _open_reader(file: BinaryIO, name: str) -> AudioReader:
    check_ogg_complete(file, name)
    try:
        sound = SndfileReader(file, name)
    except soundfile.LibsndfileError:
        return FFmpegReader(file, name)
    if sound.is_readable:
        return sound
    sound.close()
    return FFmpegReader(file, name)


@contextmanager
def translate_decoding_errors(name: str) -> Iterator[None]:
    """Whatever a decoder makes of damaged bytes, the user meets one error."""
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


def sample_range(sound: AudioReader, start: float, end: float | None) -> tuple[int, int]:
    """First sample and the one after the last."""
    last = MAX_SECONDS if end is None else end
    return round(min(start, MAX_SECONDS) * sound.rate), round(min(last, MAX_SECONDS) * sound.rate)


def describe_part(name: str, start: float, end: float | None) -> str:
    return name if start == 0 and end is None else f"that part of {name}"


class FFmpegReader:
    """A file that FFmpeg can read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        import av

        self.name = name
        file.seek(0)
        head = file.read(16)
        file.seek(0)
        try:
            # A playlist must not make us open the files and addresses that it names.
            options = {"protocol_whitelist": "none"}
            nameless: Any = UnnamedFile(file)
            self.container = av.open(nameless, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"{name} is not audio that can be read: it begins with {head!r}; expected WAV, "
                "FLAC, Ogg, MP3, AIFF, m4a, webm or the like. Check or convert it."
            ) from error
        if not self.container.streams.audio:
            found = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            self.container.close()
            raise AudioError(
                f"{name} holds no audio, only {found}; expected speech. Choose another file."
            )
        self.stream = self.container.streams.audio[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise AudioError(
                f"{name} holds audio of a kind that no decoder here knows; expected AAC, Opus, "
                "MP3, PCM or the like. Convert it to WAV or FLAC."
            )
        self.rate: float = self.stream.rate
        self.channels: int = self.stream.channels
        self.seconds = self._container_seconds()

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Raises AudioError where the file breaks off before ``last``."""
        begun, at = False, self._seek(first)
        for samples, known in self._decode_frames():
            at = known if at is None else at
            if at > first and not begun:
                raise AudioError(f"{self.name} cannot be read from its middle. Convert it to FLAC.")
            begun = True
            yield samples[max(0, first - at) : max(0, last - at)]
            at += len(samples)
            if at >= last:
                break
        good = (at or 0) / self.rate
        if self.seconds is not None and good < min(last / self.rate, self.seconds - 0.1):
            raise truncated_error(self.name, good, self.seconds)

    def close(self) -> None:
        """The file itself stays open."""
        self.container.close()

    def _container_seconds(self) -> float | None:
        """As the container says; None where FFmpeg would guess it from the bit rate."""
        kind = self.container.format.name
        if "mp4" in kind and self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        if "matroska" in kind and self.container.duration and len(self.container.streams) == 1:
            return self.container.duration / 1e6
        return None

    def _seek(self, first: int) -> int | None:
        """Go to before a sample; where that is only the frames tell. 0 where time is inexact."""
        base, warm_up = self.stream.time_base, round(self.rate)
        exact = base is not None and base * self.stream.rate == 1
        if not exact or "mp4" not in self.container.format.name or first <= warm_up:
            return 0
        target = first - warm_up + (self.stream.start_time or 0)
        self.container.seek(target, stream=self.stream, backward=True)
        return None

    def _decode_frames(self) -> Iterator[tuple[Samples, int]]:
        """Each frame, and at which sample it says that it begins."""
        import av

        good = 0
        try:
            for frame in self.container.decode(self.stream):
                if frame.sample_rate != self.rate:
                    raise AudioError(
                        f"{self.name} changes from {self.rate} to {frame.sample_rate} Hz; expected "
                        "one rate. Convert it to WAV or FLAC."
                    )
                data = frame.to_ndarray()
                planar = data.T if frame.format.is_planar else data.reshape(frame.samples, -1)
                good += len(planar)
                yield to_float32(planar), (frame.pts or 0) - (self.stream.start_time or 0)
        except av.FFmpegError as error:
            raise truncated_error(self.name, good / self.rate, self.seconds) from error


def data_chunk_sizes(file: BinaryIO) -> tuple[int, int]:
    """Bytes of audio that a WAV or AIFF promises, and the bytes there; (0, 0) for all others."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    order = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}.get(head[:4])
    while order and len(chunk := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", chunk)
        there = size - file.tell()
        if name in (b"data", b"SSND"):
            closed = struct.unpack(f"{order}I", head[4:8])[0] == size - 8
            return (0, 0) if length == 0 and closed else (length, there)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0, 0


def check_ogg_complete(file: BinaryIO, name: str) -> None:
    """Raises AudioError if the last page of an Ogg file is cut: decoders would not say so."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65_307))  # the longest page that there can be
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 255
    if len(page) < 27 + segments + sum(page[27 : 27 + segments]):
        raise AudioError(
            f"{name} breaks off inside its last Ogg page, {size} bytes from its start; expected a "
            "whole file. Get it again."
        )


MAX_SAMPLES_PER_READ = (
    2**24
)  # samples decoded at once: bounds what a header that lies can make us allocate
HEADER_BYTES = 44  # some writers count the header as audio


class SndfileReader:
    """A file that libsndfile can read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        promised, there = data_chunk_sizes(file)
        file.seek(0)  # from here on the file's position belongs to libsndfile
        quick = isinstance(file, io.FileIO) and os.name == "posix"
        handle = file.fileno() if quick else UnnamedFile(file)
        self.name, self.sound = name, soundfile.SoundFile(handle, closefd=False)
        self.rate: float = self.sound.samplerate
        self.frames: int = self.sound.frames
        self.channels: int = self.sound.channels
        self.seconds: float | None = self.frames / self.rate
        # A tool that writes to a pipe puts one of these for a length that it cannot know.
        unknown = 0x7FFFF000 <= promised <= 0x80000000 or promised >= 0xFFFFF000
        if not unknown and promised > there + HEADER_BYTES:
            raise truncated_error(name, self.seconds, self.seconds * promised / max(1, there))
        # libsndfile reads a piped WAV of length 0 as empty, and a piped FLAC not to its end.
        self.is_readable = self.frames < 2**62 and not (promised == 0 < there)

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Raises AudioError where the file breaks off before ``last``."""
        last = min(last, self.frames)
        if last <= first:
            return
        mp3 = self.sound.format == "MP3"
        seeks = self.sound.seekable()  # not in GSM 6.10
        # libsndfile's seek in an MP3 misses by hundreds of samples
        at = first if seeks and not mp3 else 0
        try:
            if seeks:
                self.sound.seek(at)
            for block in self._decode_blocks(last - at, size):
                yield block[max(0, first - at) :]
                at += len(block)
        except soundfile.LibsndfileError as error:
            raise self._truncated_error() from error
        # An MP3 without a Xing header does not say how much of its last frame is filling.
        slack = (1152 if self.rate >= 32_000 else 576) if mp3 else 0
        if at < last - slack:
            raise self._truncated_error()

    def close(self) -> None:
        """The file itself stays open."""
        self.sound.close()

    def _decode_blocks(self, frames: int, size: int) -> Iterator[Samples]:
        size = min(size, max(1, MAX_SAMPLES_PER_READ // self.channels))
        while frames > 0:
            block = self.sound.read(min(size, frames), dtype="float32", always_2d=True)
            yield block
            frames = frames - size if len(block) == size else 0

    def _truncated_error(self) -> AudioError:
        good = 0
        with suppress(soundfile.LibsndfileError):
            self.sound.seek(0)
            while size := len(self.sound.read(1024)):
                good += size
        return truncated_error(self.name, good / self.rate, self.frames / self.rate)
