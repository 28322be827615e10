"""Files that FFmpeg can read: m4a, webm, video and what else it knows."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from serein.audio._sources import UnnamedFile
from serein.audio.samples import Samples, to_float32, truncated_error
from serein.errors import AudioError


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
