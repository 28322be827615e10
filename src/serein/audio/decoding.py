"""A source as an open sound, whichever library reads it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

import numpy as np
import soundfile

from serein.audio._containers import check_ogg_complete
from serein.audio._ffmpeg import FFmpegReader
from serein.audio._sndfile import SndfileReader
from serein.audio._sources import Source, open_binary
from serein.audio.samples import ArrayReader, AudioReader, check_rate
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
