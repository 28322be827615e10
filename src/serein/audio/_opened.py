"""A source as an open sound, whichever library reads it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

import numpy as np
import soundfile

from serein.audio._containers import check_ogg
from serein.audio._ffmpeg import Ffmpeg
from serein.audio._samples import Given, Sound, check_rate
from serein.audio._sndfile import Sndfile
from serein.audio._sources import Source, file_of
from serein.errors import AudioError

FOREVER = 1e9
WHOLE = 2**24
"""Samples at a time where a file is read whole: what a header that lies can make us allocate."""


@contextmanager
def opened(source: Source, name: str) -> Iterator[Sound]:
    """Raises AudioError for what is empty, or no audio."""
    if isinstance(source, tuple):
        yield Given(*source)
        return
    with file_of(source) as file:
        if not file.read(1):
            raise AudioError(f"{name} is empty (0 bytes); expected audio. Get it again.")
        with closing(_sound(file, name)) as sound:
            check_rate(sound.rate, f"the rate of {name}")
            if sound.channels < 1:
                raise AudioError(f"{name} has no channels; expected one at least. Get it again.")
            yield sound


def _sound(file: BinaryIO, name: str) -> Sound:
    check_ogg(file, name)
    try:
        sound = Sndfile(file, name)
    except soundfile.LibsndfileError:
        return Ffmpeg(file, name)
    if sound.readable:
        return sound
    sound.close()
    return Ffmpeg(file, name)


@contextmanager
def decoding(name: str) -> Iterator[None]:
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


def span(sound: Sound, start: float, end: float | None) -> tuple[int, int]:
    """First sample and the one after the last."""
    last = FOREVER if end is None else end
    return round(min(start, FOREVER) * sound.rate), round(min(last, FOREVER) * sound.rate)


def part_of(name: str, start: float, end: float | None) -> str:
    return name if start == 0 and end is None else f"that part of {name}"
