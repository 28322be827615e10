"""Files that libsndfile can read: WAV, FLAC, Ogg, MP3, AIFF."""

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import soundfile

from serein.audio._containers import data_chunk_sizes
from serein.audio._sources import UnnamedFile
from serein.audio.samples import Samples, truncated_error
from serein.errors import AudioError

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
