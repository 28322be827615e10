"""Open a source of audio with libsndfile or FFmpeg, and detect files that are truncated.

libsndfile is tried first; FFmpeg reads what libsndfile cannot. Decoders do not report every
truncated file, so the sizes in the headers of WAV, AIFF and Ogg files are checked here.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile

from serein.audio.samples import (
    ArrayReader,
    AudioReader,
    Samples,
    Source,
    UnnamedFile,
    check_int32_scale,
    check_rate,
    open_binary,
    to_float32,
    truncated_error,
    unify_source,
)
from serein.errors import AudioError

MAX_SECONDS = 1e9
MAX_FRAMES_PER_READ = 2**24
"""Frames read at once: the most that a wrong length in a header can make a reader allocate."""
MAX_SAMPLES_PER_READ = 2**24
"""As ``MAX_FRAMES_PER_READ``, for the samples of all channels together."""
MAX_LEAD_SECONDS = 6 * 3600.0
MIN_LEAD_SECONDS = 0.1
"""Range of the time by which the audio of a film may start late; less is padding of a codec."""
SOUND_MAGNITUDE = 1e-4
"""Samples beyond are sound; a track without any is silent."""
PADDED_SUBTYPES = ("IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_16")
MAX_DAMAGED_SHARE = 0.1
"""Largest share of the packets of an MP3 that are not audio, such as tags in joined files."""
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
    source = unify_source(source)
    if isinstance(source, tuple):
        reader = ArrayReader(*source)
        check_int32_scale(reader.samples)
        yield reader
        return
    with open_binary(source) as file:
        if not file.read(1):
            raise AudioError(f"{name} is empty (0 bytes); expected audio. Get it again.")
        with closing(_open_reader(file, name)) as opened:
            check_rate(opened.rate, f"the rate of {name}")
            if opened.channels < 1:
                raise AudioError(
                    f"{name} has a header with {_describe_channels(file)}; expected 1 to 1,024. "
                    "Get it again."
                )
            yield opened


def _open_reader(file: BinaryIO, name: str) -> AudioReader:
    check_ogg_complete(file, name)
    if (mp3 := find_mp3(file)) is not None:
        # libsndfile estimates the length of some, and decodes others wrongly in small blocks.
        with suppress(AudioError):
            return FFmpegReader(file, name, mp3.missing_of_seconds)
    file.seek(0)
    try:
        reader = SndfileReader(file, name)
    except soundfile.LibsndfileError:
        return FFmpegReader(file, name)
    if reader.is_readable:
        return reader
    reader.close()
    return FFmpegReader(file, name)


def _describe_channels(file: BinaryIO) -> str:
    """Return the number of channels that a WAV header gives, in words."""
    file.seek(0)
    head = file.read(36)
    if head[:4] == b"RIFF" and head[12:16] == b"fmt " and head[22:24] != bytes(2):
        return f"{struct.unpack('<H', head[22:24])[0]:,} channels"
    return "no number of channels that can be read"


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
        self._source, true_frames = file, fact_frames(file)
        file.seek(0)  # from here on libsndfile moves the file position
        has_descriptor = isinstance(file, io.FileIO) and os.name == "posix"
        handle = file.fileno() if has_descriptor else UnnamedFile(file)
        self.name, self.file = name, soundfile.SoundFile(handle, closefd=False)
        self.rate: float = self.file.samplerate
        # The last block of a compressed WAV may be padded; the chunk fact has the true length.
        self.frames: int = self.file.frames
        if self.file.format in ("WAV", "WAVEX") and self.file.subtype in PADDED_SUBTYPES:
            self.frames = min(self.frames, true_frames or self.frames)
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
        is_mp3 = self.file.format == "MP3"  # which FFmpeg could not open
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
            yield from self._read_with_ffmpeg(position, first, last, size, error)
            return
        # An MP3 without a Xing header does not give the padding of its last frame.
        max_padding = (1152 if self.rate >= 32_000 else 576) if is_mp3 else 0
        if position < last - max_padding:
            raise self._truncated_error()

    def close(self) -> None:
        """Close the decoder; the file itself stays open."""
        self.file.close()

    def _read_with_ffmpeg(
        self, position: int, first: int, last: int, size: int, error: Exception
    ) -> Iterator[Samples]:
        """Read the rest of a file that libsndfile refuses; it must be as long as its header says.

        Raises:
            AudioError: FFmpeg refuses it, too, or it is shorter.
        """
        try:
            with closing(FFmpegReader(self._source, self.name)) as reader:
                is_same = (reader.rate, reader.channels) == (self.rate, self.channels)
                blocks = list(reader.read_blocks(0, last, size)) if is_same else []
        except AudioError:
            blocks = []
        samples = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
        if len(samples) != last:
            raise self._truncated_error() from error
        yield samples[max(first, position) :]

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

    def __init__(self, file: BinaryIO, name: str, expected_seconds: float | None = None) -> None:
        """Open a file.

        Args:
            file: to read.
            name: of it, for error messages.
            expected_seconds: duration without which the file is truncated; None takes that of the
                container, if it gives one.

        Raises:
            AudioError: it is not audio that FFmpeg reads.
        """
        import av

        self.name = name
        file.seek(0)
        head = file.read(16)
        file.seek(0)
        self._file = file
        try:
            # Do not open the files and addresses that a playlist names.
            options = {"protocol_whitelist": "none"}
            unnamed: Any = UnnamedFile(file)
            self.container = av.open(unnamed, "r", options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"{name} is not audio that can be read: it begins with {describe_head(head)}; "
                "expected WAV, "
                "FLAC, Ogg, MP3, AIFF, m4a, webm or the like. Check or convert it."
            ) from error
        if not self.container.streams.audio:
            kinds = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            self.container.close()
            raise AudioError(
                f"{name} has no audio stream, only {kinds}; expected speech. Choose another file."
            )
        self.stream = self.container.streams.audio[0]
        if len(self.container.streams.audio) > 1:
            self._choose_track()
        if self.stream.codec_context is None:
            self.container.close()
            raise AudioError(
                f"{name} has an audio codec without a decoder here; expected AAC, Opus, MP3, PCM "
                "or the like. Convert it to WAV or FLAC."
            )
        self.rate: float = self.stream.rate
        self.channels: int = self.stream.channels
        self._expected_seconds = expected_seconds or self._container_duration()
        self.duration: float | None = None
        """Unknown: containers give it with the padding of the codec, or estimate it."""
        self._lead = self._lead_frames()

    def read_blocks(self, first: int, last: int, size: int) -> Iterator[Samples]:
        """Read blocks; raise AudioError if the file ends before ``last``.

        Audio of a film that starts late begins with silence, so that times are those of the film.
        """
        for start in range(first, min(self._lead, last), size):
            count = min(size, self._lead - start, last - start)
            yield np.zeros((count, self.channels), np.float32)
        if last > self._lead:
            yield from self._read_track(max(0, first - self._lead), last - self._lead)

    def _read_track(self, first: int, last: int) -> Iterator[Samples]:
        """Read blocks of the track, whose first sample is 0."""
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
        expected = self._expected_seconds
        if expected is not None and readable < min(last / self.rate, expected - 0.1):
            raise truncated_error(self.name, readable, expected)

    def close(self) -> None:
        """Close the decoder; the file itself stays open."""
        self.container.close()

    def _choose_track(self) -> None:
        """Choose the first track with sound; the first one if all are silent."""
        import av

        tracks = list(self.container.streams.audio)
        for track in tracks:
            with suppress(av.FFmpegError):
                for frame in self.container.decode(track):
                    if np.abs(to_float32(frame.to_ndarray())).max(initial=0) > SOUND_MAGNITUDE:
                        self.stream = track
                        self.container.seek(0)
                        return
            self.container.seek(0)

    def _lead_frames(self) -> int:
        """Return by how many frames the audio starts later than the other streams."""
        base, start = self.stream.time_base, self.container.start_time
        if start is None or base is None or self.stream.start_time is None:
            return 0
        seconds = float(self.stream.start_time * base) - start / 1e6
        if seconds > MAX_LEAD_SECONDS:
            raise AudioError(
                f"the audio of {self.name} starts {seconds:.0f} s after its other streams; "
                f"expected at most {MAX_LEAD_SECONDS:.0f} s. Extract the audio to a file."
            )
        return round(seconds * self.rate) if seconds > MIN_LEAD_SECONDS else 0

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

    def _iter_frames(self) -> Iterator[Any]:
        """Yield the frames; packets of an MP3 that are not audio are left out."""
        import av

        if self.stream.codec_context.name not in ("mp3", "mp3float"):
            yield from self.container.decode(self.stream)
            return
        count = damaged = 0
        for packet in self.container.demux(self.stream):
            count += 1
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                damaged += 1
                if damaged > 1 + MAX_DAMAGED_SHARE * max(count, 20):
                    raise
                continue
            yield from frames

    def _decode_frames(self) -> Iterator[tuple[Samples, int]]:
        """Yield the samples of each frame, and the position of its first one by its timestamp."""
        import av

        readable = 0
        try:
            for frame in self._iter_frames():
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
            raise truncated_error(
                self.name, readable / self.rate, self._expected_seconds
            ) from error


def describe_head(head: bytes) -> str:
    """Return the first bytes of a file that is no audio in words.

    >>> describe_head(b"%PDF-1.7 more"), describe_head(bytes([0, 255, 16]))
    ('the text "%PDF-1.7 more"', 'the bytes 00 ff 10')
    """
    text = head.decode("latin-1")
    if text and all(" " <= character <= "~" for character in text.strip()):
        return f'the text "{" ".join(text.split())}"'
    return f"the bytes {head.hex(' ')}"


class MP3(NamedTuple):
    """What the header of an MP3 says.

    Attributes:
        missing_of_seconds: duration in the header if the file has fewer bytes than the header says,
            so that it must be read to this end; None if it is complete, or nothing is said.
    """

    missing_of_seconds: float | None


def find_mp3(file: BinaryIO) -> MP3 | None:
    """Return the header of an MP3; None for other files.

    A header that counts fewer bytes than the file has, as in joined files, says nothing.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head, start = file.read(10), 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(byte << 7 * (3 - index) for index, byte in enumerate(head[6:10]))
    file.seek(start)
    content = file.read(2048 if start else 4)
    offset = next((n for n in range(len(content) - 3) if _is_mp3_frame(content[n:])), None)
    if offset is None:
        return None
    file.seek(start + offset)
    frame, present = file.read(200), size - start - offset
    is_mpeg1, is_mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    tag = 4 + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))
    flags, values = int.from_bytes(frame[tag + 4 : tag + 8], "big"), frame[tag + 8 : tag + 16]
    if frame[tag : tag + 4] not in (b"Xing", b"Info") or flags & 3 != 3 or len(values) < 8:
        return MP3(None)
    frames, counted = struct.unpack(">II", values)
    rate = (44_100, 48_000, 32_000)[frame[2] >> 2 & 3] / {3: 1, 2: 2, 0: 4}[frame[1] >> 3 & 3]
    seconds = frames * (1152 if is_mpeg1 else 576) / rate
    return MP3(seconds if counted > present + 4 else None)


def _is_mp3_frame(head: bytes) -> bool:
    """Return whether bytes begin like a frame of MPEG audio, layer 3."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    return head[1] >> 3 & 3 != 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3


def fact_frames(file: BinaryIO) -> int:
    """Return the number of frames that the chunk fact of a WAV file gives; 0 without one."""
    file.seek(0)
    if file.read(4) != b"RIFF":
        return 0
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        if name == b"fact" and length >= 4:
            content = file.read(4)
            return int(struct.unpack("<I", content)[0]) if len(content) == 4 else 0
        if name == b"data":
            return 0
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


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
