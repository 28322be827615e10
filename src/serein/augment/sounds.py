"""Noises and rooms: from folders of a user's own, or made up.

S = samples, R = samples of an impulse response.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serein import audio
from serein.audio import Samples
from serein.augment.waveform import next_fast_length
from serein.corpora._reading import find_unread
from serein.errors import AudioError, ConfigError

MAX_RESPONSE_SECONDS = 4.0
"""Seconds of an impulse response that are heard."""
NOISE_EXPONENTS = (0.0, 1.0, 2.0)
"""Powers of 1/f that the power of white, pink and brown noise falls by."""
NOISE_CORNER_HERTZ = 50.0
"""Hz, below which all noise is white: nobody hears what would otherwise be most of its energy."""
DIRECT_TO_REVERB_DECIBELS = (0.0, 12.0)
"""Decibels of the direct sound over the reverberation in rooms that are made up."""


@dataclass(frozen=True)
class AudioFolder:
    """Recordings of a user's own.

    Attributes:
        files: sorted, with their length in seconds.
        mark: a hash of what they hold.
    """

    files: tuple[tuple[Path, float], ...]
    digest: str


def open_audio_folder(name: str | None, setting: str) -> AudioFolder | None:
    """The recordings of a folder and of all below it; each is looked into, none is held.

    Args:
        name: of the folder; None is none.
        setting: that names it.

    Raises:
        ConfigError: it is no folder, or has no recordings.
        AudioError: one of them cannot be read.
    """
    if name is None:
        return None
    root = Path(name).expanduser()
    if not root.is_dir():
        raise ConfigError(f"augment.{setting}: {root} is no folder; give one of WAV or FLAC files")
    files = find_unread(root, ())
    if not files:
        raise ConfigError(
            f"augment.{setting}: {root} holds no WAV or FLAC file, nor do the folders in it; put "
            "some there, or leave the setting out to have them made up"
        )
    mark = hashlib.sha256()
    for file in files:
        mark.update(file.relative_to(root).as_posix().encode())
        mark.update(_hash_file(file))
    return AudioFolder(tuple((file, audio.duration(file)) for file in files), mark.hexdigest()[:16])


def load_excerpt(folder: AudioFolder, rate: int, size: int, rng: np.random.Generator) -> Samples:
    """(size,) samples of a recording, from anywhere in it; a shorter one comes again and again."""
    file, seconds = folder.files[int(rng.integers(len(folder.files)))]
    spare = max(0.0, seconds - size / rate - audio.MIN_SECONDS)
    start = float(rng.uniform(0, spare))
    end = start + size / rate + audio.MIN_SECONDS
    return np.resize(audio.load(file, rate, start=start, end=end), size)


def load_impulse_response(folder: AudioFolder, rate: int, rng: np.random.Generator) -> Samples:
    """(R,) samples of an impulse response.

    Raises:
        AudioError: the file cannot be read, or holds silence.
    """
    file, _ = folder.files[int(rng.integers(len(folder.files)))]
    response_r = audio.load(file, rate, end=MAX_RESPONSE_SECONDS)
    if not response_r.any():
        raise AudioError(f"{file} holds silence; expected an impulse response. Take it away.")
    return response_r


def generate_noise(size: int, rate: int, rng: np.random.Generator) -> Samples:
    """(size,) samples of white, pink or brown noise, as likely each."""
    power = NOISE_EXPONENTS[int(rng.integers(len(NOISE_EXPONENTS)))]
    spectrum_c = np.fft.rfft(rng.normal(size=next_fast_length(size)))
    hertz_c = np.fft.rfftfreq(next_fast_length(size), 1 / rate).clip(min=NOISE_CORNER_HERTZ)
    return np.fft.irfft(spectrum_c * hertz_c ** (-power / 2))[:size].astype(np.float32)


def simulate_impulse_response(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """The impulse response of a room that there is not: noise that dies away exponentially.

    Moorer (1979): About This Reverberation Business.

    Args:
        rate: in Hz.
        seconds: in which it falls by 60 dB.
        rng: of the noise, and of the decibels of the direct sound over it.

    Returns:
        (R,) samples, the direct sound first, at 1.
    """
    size = max(2, round(seconds * rate))
    tail_r = rng.normal(size=size) * 10 ** (-3 * np.arange(size) / size)
    tail_r[0] = 0
    tail_r *= 10 ** (-rng.uniform(*DIRECT_TO_REVERB_DECIBELS) / 20) / np.sqrt(
        np.square(tail_r).sum()
    )
    tail_r[0] = 1
    return tail_r.astype(np.float32)


def _hash_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened_file:
            return hashlib.file_digest(opened_file, hashlib.sha256).digest()
    except OSError as error:
        raise AudioError(f"{file} cannot be read: {error.strerror}. Check its rights.") from error
