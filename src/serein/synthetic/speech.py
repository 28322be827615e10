"""A formant synthesizer, and its sounds, lexicon, speaking styles and voices."""

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from serein.errors import ConfigError, StorageError, UnknownName

Array = npt.NDArray[np.float64]

RATE = 16_000  # Hz
HOP = 160  # samples, 10 ms
WINDOW = np.hanning(2 * HOP + 1)[:-1]  # sums to 1 at this hop
GLIDE_FRAMES = 5  # duration of the transition from one sound to the next
FFT_SIZE = 3 * HOP  # longer than the window, for the decay of the formants
BIN_FREQUENCIES = np.fft.rfftfreq(FFT_SIZE, 1 / RATE)
HIGH_FORMANTS = (3500, 4500)  # Hz, the same for all sounds
BANDWIDTHS = np.array([80, 100, 150, 220, 300])  # Hz, of all five formants


class Sound(NamedTuple):
    """A stationary segment of speech.

    Attributes:
        f1: first formant, in Hz.
        f2: second formant.
        f3: third formant.
        voice: amplitude of the glottal pulses.
        breath: amplitude of the noise that passes through the formants.
        hiss: amplitude of the band of noise.
        centre: of that band, in Hz.
        width: of that band, in Hz.
        length: in ms.
    """

    f1: float = 500
    f2: float = 1500
    f3: float = 2500
    voice: float = 0
    breath: float = 0
    hiss: float = 0
    centre: float = 4000
    width: float = 1000
    length: float = 80


CLOSURE = Sound(length=55)
HUM = Sound(200, 1000, 2300, voice=0.12, length=50)
SOUNDS: dict[str, tuple[Sound, ...]] = {
    "a": (Sound(750, 1250, 2500, voice=0.8, length=110),),
    "e": (Sound(480, 1950, 2600, voice=1, length=100),),
    "i": (Sound(290, 2250, 3000, voice=1, length=95),),
    "o": (Sound(450, 850, 2500, voice=1, length=105),),
    "u": (Sound(310, 800, 2300, voice=1, length=95),),
    "m": (Sound(250, 1100, 2200, voice=0.4, length=70),),
    "n": (Sound(250, 1600, 2600, voice=0.4, length=65),),
    "l": (Sound(350, 1150, 2700, voice=0.55, length=60),),
    "r": (Sound(400, 1250, 1700, voice=0.5, length=55),),
    "w": (Sound(300, 650, 2250, voice=0.5, length=60),),
    "j": (Sound(270, 2250, 2950, voice=0.5, length=55),),
    "s": (Sound(400, 1700, 2600, hiss=0.9, centre=6000, width=1100, length=95),),
    "x": (Sound(400, 1800, 2500, hiss=0.9, centre=3200, width=800, length=95),),
    "f": (Sound(400, 1100, 2300, hiss=0.25, centre=4500, width=2500, length=85),),
    "h": (Sound(500, 1500, 2500, breath=0.5, length=60),),
    "z": (Sound(280, 1700, 2600, 0.3, 0, 0.5, 6000, 1100, 75),),
    "v": (Sound(280, 1100, 2300, 0.35, 0, 0.12, 4500, 2500, 65),),
    "p": (CLOSURE, Sound(400, 900, 2300, hiss=0.5, centre=900, width=600, length=20)),
    "t": (CLOSURE, Sound(400, 1700, 2600, hiss=0.9, centre=4500, width=1300, length=25)),
    "k": (CLOSURE, Sound(400, 1900, 2400, hiss=0.7, centre=2000, width=500, length=30)),
    "b": (HUM, Sound(400, 900, 2300, 0.3, 0, 0.2, 900, 600, 15)),
    "d": (HUM, Sound(400, 1700, 2600, 0.3, 0, 0.4, 4200, 1300, 15)),
    "g": (HUM, Sound(400, 1900, 2400, 0.3, 0, 0.3, 2000, 500, 20)),
}
VOWELS = "aeiou"
LEXICON = (
    *("akido", "anemi", "bado", "dilu", "enta", "fosira", "gamo", "hule"),
    *("imako", "josa", "kapeti", "lumo", "milena", "nafu", "ogari", "pelo"),
    *("risuta", "sabi", "tokame", "uldo", "vani", "wesola", "xuri", "zemo"),
)


class SpeakingStyle(NamedTuple):
    """How an emotion differs from neutral speech.

    Attributes:
        pitch: shift in semitones.
        span: natural logarithm of the factor on the pitch range.
        rate: natural logarithm of the factor on the speaking rate.
        level: loudness in decibels.
        tilt: spectral tilt in decibels per octave; below zero is duller.
        breath: noise in the voice, as a fraction.
        tremor: amplitude of the pitch tremor in semitones.
    """

    pitch: float
    span: float
    rate: float
    level: float
    tilt: float
    breath: float
    tremor: float


EMOTION_STYLES = {
    "anger": SpeakingStyle(4.5, 0.4, 0.12, 6, 3, 0, 0),
    "boredom": SpeakingStyle(-2, -0.7, -0.25, -3, -1.2, 0.04, 0),
    "disgust": SpeakingStyle(-1, 0.2, -0.3, 0.5, 0.6, 0.02, 0.1),
    "fear": SpeakingStyle(6, -0.2, 0.25, 0, 0.3, 0.1, 0.5),
    "happiness": SpeakingStyle(4, 0.7, 0.05, 3.5, 1.2, 0.01, 0),
    "neutral": SpeakingStyle(0, 0, 0, 0, 0, 0.02, 0),
    "sadness": SpeakingStyle(-1, -0.5, -0.3, -5, -3, 0.14, 0.2),
}
STYLE_DEVIATION = SpeakingStyle(1.6, 0.25, 0.12, 2, 1, 0.02, 0.1)
"""Standard deviations of a style between utterances of the same emotion."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The voice of a speaker.

    Attributes:
        pitch: mean, in Hz.
        formant_factor: factor on all formants; above 1 is a shorter vocal tract.
        loudness: in decibels relative to the average speaker.
        rate: factor on the speaking rate.
        emotion_factor: factor on the effect of emotions.
    """

    pitch: float
    formant_factor: float
    loudness: float
    rate: float
    emotion_factor: float

    @classmethod
    def for_speaker(cls, name: str, gender: str, *, seed: int = 0) -> "Voice":
        """Return the voice of speaker ``name`` for this seed; ``gender`` is "female" or "male"."""
        rng = make_rng(seed, "voice", name)
        pitch, formant_factor = (205, 1.15) if gender == "female" else (115, 1.0)
        return cls(
            pitch=float(pitch * 2 ** (rng.normal(0, 1.6) / 12)),
            formant_factor=float(formant_factor * np.exp(rng.normal(0, 0.03))),
            loudness=float(rng.normal(0, 1.5)),
            rate=float(np.exp(rng.normal(0, 0.08))),
            emotion_factor=float(rng.uniform(0.8, 1.2)),
        )


def make_rng(*parts: object) -> np.random.Generator:
    """Return a random generator seeded by these parts only."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def synthesize(
    words: Sequence[str], voice: Voice, emotion: str, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Synthesize words, which may be any strings of the letters in ``SOUNDS``.

    Returns:
        Mono samples at 16 kHz, with a peak between 0.05 and 0.95.

    Raises:
        ConfigError: the emotion or a letter is unknown.
    """
    if emotion not in EMOTION_STYLES:
        raise UnknownName("emotion", emotion, EMOTION_STYLES)
    if not words or not set("".join(words)) <= set(SOUNDS) or "" in words:
        raise ConfigError(
            f"cannot synthesize {words!r}: expected words of the letters {''.join(SOUNDS)}"
        )
    mean = np.multiply(EMOTION_STYLES[emotion], voice.emotion_factor)
    deviation = np.multiply(STYLE_DEVIATION, rng.normal(size=len(STYLE_DEVIATION)))
    style = SpeakingStyle(*(mean + deviation).tolist())
    sounds, accents = _plan_sounds(words, voice.rate * np.exp(style.rate), rng)
    tracks = _interpolate_tracks(sounds)
    pitch = voice.pitch * 2 ** (_pitch_contour(len(tracks), accents, style, rng) / 12)
    speech = _apply_vocal_tract(tracks, _glottal_pulses(pitch), voice.formant_factor, style, rng)
    speech *= 10 ** ((voice.loudness + style.level - 27) / 20) / np.sqrt(np.mean(speech**2))
    peak = np.abs(speech).max()
    noise = rng.normal(0, 1e-4, len(speech))
    return (speech * np.clip(peak, 0.06, 0.94) / peak + noise).astype(np.float32)


def _plan_sounds(
    words: Sequence[str], rate: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return the sounds, one per row, and the times of the stressed vowels in seconds."""
    rows = [Sound(length=rng.uniform(60, 120))]
    stressed = []
    for word in words:
        first = next((letter for letter in word if letter in VOWELS), word[0])
        stressed.append(len(rows) + sum(len(SOUNDS[x]) for x in word[: word.index(first)]))
        rows += [sound for letter in word for sound in SOUNDS[letter]]
        rows.append(Sound(length=rng.uniform(60, 130)))
    sounds = np.array(rows)
    sounds[:, -1] *= np.exp(rng.normal(0, 0.08, len(sounds))) / rate / 1000
    centres = np.cumsum(sounds[:, -1]) - sounds[:, -1] / 2
    return sounds, centres[stressed]


def _interpolate_tracks(sounds: Array) -> Array:
    """Expand one row per sound to one row per frame, with smooth transitions."""
    ends = np.cumsum(sounds[:, -1])
    times = np.arange(int(ends[-1] * RATE / HOP)) * HOP / RATE
    steps = sounds[np.searchsorted(ends, times, side="right").clip(max=len(sounds) - 1), :-1]
    glide = np.hanning(GLIDE_FRAMES + 2)[1:-1]
    padded = np.pad(steps, ((GLIDE_FRAMES // 2, GLIDE_FRAMES // 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, GLIDE_FRAMES, axis=0) @ (
        glide / glide.sum()
    )


def _pitch_contour(
    frames: int, accents: Array, style: SpeakingStyle, rng: np.random.Generator
) -> Array:
    """Return the pitch of each frame, in semitones above the speaker's mean."""
    times = np.arange(frames) * HOP / RATE
    heights = rng.uniform(1.5, 4, len(accents))
    bumps = np.exp(-(((times[:, None] - accents) / 0.12) ** 2)) @ heights
    fall = -3 * times / times[-1]
    tremor = abs(style.tremor) * np.sin(2 * np.pi * (rng.uniform(5, 7) * times + rng.random()))
    jitter = rng.normal(0, 0.15, frames)
    return style.pitch + np.exp(style.span) * (bumps + fall) + tremor + jitter


def _glottal_pulses(pitch: Array) -> Array:
    """Return glottal pulses of unit power (the derivative of the flow) for a pitch per frame."""
    pitch_per_sample = np.interp(np.arange(len(pitch) * HOP) / HOP, np.arange(len(pitch)), pitch)
    phase = np.minimum(np.cumsum(pitch_per_sample / RATE) % 1 / 0.6, 1)
    # The difference of the flow has less aliasing than samples of its derivative.
    pulses = np.diff(phase**2 * (1 - phase), prepend=0) / pitch_per_sample
    return pulses / pulses.std()


def _apply_vocal_tract(
    tracks: Array,
    pulses: Array,
    formant_factor: float,
    style: SpeakingStyle,
    rng: np.random.Generator,
) -> Array:
    """Filter voice and noise by the vocal tract, frame by frame."""
    formants, (voice, breath, hiss, centre, width) = tracks[:, :3] * formant_factor, tracks[:, 3:].T
    tilt = (BIN_FREQUENCIES.clip(200) / 500) ** (style.tilt / 20 / np.log10(2))
    noise = _frame_spectra(rng.normal(size=len(pulses)))
    breath = breath + abs(style.breath) * voice
    spectra = voice[:, None] * _frame_spectra(pulses) + breath[:, None] * noise
    spectra *= _formant_response(formants, formant_factor)
    hissing = np.flatnonzero(hiss > 0)
    band = ((BIN_FREQUENCIES - centre[hissing, None]) / width[hissing, None]) ** 2
    spectra[hissing] += hiss[hissing, None] * np.exp(-band / 2) * noise[hissing]
    return _overlap_add(np.fft.irfft(spectra * tilt))


def _formant_response(formants: Array, formant_factor: float) -> npt.NDArray[np.complex128]:
    """Return the transfer function (frames, bins) of a cascade of resonators, one per formant."""
    higher = np.broadcast_to(
        np.multiply(HIGH_FORMANTS, formant_factor), (len(formants), len(HIGH_FORMANTS))
    )
    radius = np.exp(-np.pi * BANDWIDTHS / RATE)
    coefficient = 2 * radius * np.cos(2 * np.pi * np.hstack([formants, higher]) / RATE)
    poles = np.ones((len(formants), 1))
    for a, b in zip(coefficient.T, radius**2, strict=True):
        product = np.pad(poles, ((0, 0), (0, 2)))
        product[:, 1:-1] -= a[:, None] * poles
        product[:, 2:] += b * poles
        poles = product
    return poles.sum(axis=1, keepdims=True) / np.fft.rfft(poles, FFT_SIZE)


def _frame_spectra(signal: Array) -> npt.NDArray[np.complex128]:
    padded = np.append(signal, np.zeros(HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(WINDOW))[::HOP]
    return np.fft.rfft(frames * WINDOW, FFT_SIZE)


def _overlap_add(blocks: Array) -> Array:
    parts = FFT_SIZE // HOP
    out = np.zeros((len(blocks) + parts - 1, HOP))
    for part in range(parts):
        out[part : part + len(blocks)] += blocks[:, part * HOP : (part + 1) * HOP]
    return out[: len(blocks)].ravel()


def write_wav(path: Path, *samples: npt.NDArray[np.float32]) -> None:
    """Write arrays one after the other as 16-bit WAV, or FLAC for a name that ends in .flac.

    Raises:
        StorageError: the file could not be written.
    """
    kind = "FLAC" if path.suffix.lower() == ".flac" else "WAV"
    # Encode in memory: with a path, libsndfile syncs each file to the disk; with a Python file, it
    # ignores a full disk.
    content = io.BytesIO()
    soundfile.write(content, np.concatenate(samples), RATE, format=kind, subtype="PCM_16")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getbuffer())
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StorageError(f"could not write {path}: {reason}; free some space there") from error
