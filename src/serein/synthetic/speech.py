"""Words to samples, by source and filter."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serein.errors import ConfigError, UnknownName
from serein.synthetic._voices import (
    EMOTION_STYLES,
    SOUNDS,
    STYLE_DEVIATION,
    VOWELS,
    Sound,
    SpeakingStyle,
    Voice,
)

Array = npt.NDArray[np.float64]

RATE = 16_000  # Hz
HOP = 160  # samples, 10 ms
WINDOW = np.hanning(2 * HOP + 1)[:-1]  # sums to 1 at this hop
GLIDE_FRAMES = 5  # frames that one sound takes to pass into the next
FFT_SIZE = 3 * HOP  # beyond the window, room for the ringing of the formants
BIN_FREQUENCIES = np.fft.rfftfreq(FFT_SIZE, 1 / RATE)
HIGH_FORMANTS = (3500, 4500)  # Hz, formants that no sound moves
BANDWIDTHS = np.array([80, 100, 150, 220, 300])  # Hz, of all five


def synthesize(
    words: Sequence[str], voice: Voice, emotion: str, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Say words; any spelled with the letters of ``SOUNDS`` will do.

    Returns:
        Mono samples at 16 kHz, with a peak between 0.05 and 0.95.

    Raises:
        ConfigError: the emotion or a letter has no sound here.
    """
    if emotion not in EMOTION_STYLES:
        raise UnknownName("emotion", emotion, EMOTION_STYLES)
    if not words or not set("".join(words)) <= set(SOUNDS) or "" in words:
        raise ConfigError(f"cannot say {words!r}: expected words of the letters {''.join(SOUNDS)}")
    mean = np.multiply(EMOTION_STYLES[emotion], voice.strength)
    manner = SpeakingStyle(
        *(mean + np.multiply(STYLE_DEVIATION, rng.normal(size=len(STYLE_DEVIATION)))).tolist()
    )
    sounds, accents = _plan_sounds(words, voice.rate * np.exp(manner.rate), rng)
    tracks = _interpolate_tracks(sounds)
    pitch = voice.pitch * 2 ** (_pitch_contour(len(tracks), accents, manner, rng) / 12)
    spoken = _apply_vocal_tract(tracks, _glottal_pulses(pitch), voice.tract, manner, rng)
    spoken *= 10 ** ((voice.loudness + manner.level - 27) / 20) / np.sqrt(np.mean(spoken**2))
    peak = np.abs(spoken).max()
    room = rng.normal(0, 1e-4, len(spoken))
    return (spoken * np.clip(peak, 0.06, 0.94) / peak + room).astype(np.float32)


def _plan_sounds(
    words: Sequence[str], rate: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The sounds to make, a row each, and where words are stressed, in seconds."""
    rows = [Sound(length=rng.uniform(60, 120))]
    stressed = []
    for word in words:
        first = next((letter for letter in word if letter in VOWELS), word[0])
        stressed.append(len(rows) + sum(len(SOUNDS[x]) for x in word[: word.index(first)]))
        rows += [sound for letter in word for sound in SOUNDS[letter]]
        rows.append(Sound(length=rng.uniform(60, 130)))
    sounds = np.array(rows)
    sounds[:, -1] *= np.exp(rng.normal(0, 0.08, len(sounds))) / rate / 1000
    middles = np.cumsum(sounds[:, -1]) - sounds[:, -1] / 2
    return sounds, middles[stressed]


def _interpolate_tracks(sounds: Array) -> Array:
    """From a row per sound to a row per frame, gliding from one to the next."""
    ends = np.cumsum(sounds[:, -1])
    times = np.arange(int(ends[-1] * RATE / HOP)) * HOP / RATE
    steps = sounds[np.searchsorted(ends, times, side="right").clip(max=len(sounds) - 1), :-1]
    glide = np.hanning(GLIDE_FRAMES + 2)[1:-1]
    padded = np.pad(steps, ((GLIDE_FRAMES // 2, GLIDE_FRAMES // 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, GLIDE_FRAMES, axis=0) @ (
        glide / glide.sum()
    )


def _pitch_contour(
    frames: int, accents: Array, manner: SpeakingStyle, rng: np.random.Generator
) -> Array:
    """The pitch of each frame, in semitones above the speaker's usual one."""
    times = np.arange(frames) * HOP / RATE
    heights = rng.uniform(1.5, 4, len(accents))
    bumps = np.exp(-(((times[:, None] - accents) / 0.12) ** 2)) @ heights
    fall = -3 * times / times[-1]
    trembling = abs(manner.tremor) * np.sin(2 * np.pi * (rng.uniform(5, 7) * times + rng.random()))
    roughness = rng.normal(0, 0.15, frames)
    return manner.pitch + np.exp(manner.span) * (bumps + fall) + trembling + roughness


def _glottal_pulses(pitch: Array) -> Array:
    """Glottal pulses for a pitch per frame, in Hz: the flow's derivative, of unit power."""
    fine = np.interp(np.arange(len(pitch) * HOP) / HOP, np.arange(len(pitch)), pitch)
    opened = np.minimum(np.cumsum(fine / RATE) % 1 / 0.6, 1)
    # Differencing the flow itself, not sampling its derivative, keeps aliasing low.
    pulses = np.diff(opened**2 * (1 - opened), prepend=0) / fine
    return pulses / pulses.std()


def _apply_vocal_tract(
    tracks: Array, pulses: Array, tract: float, manner: SpeakingStyle, rng: np.random.Generator
) -> Array:
    """Shape voice and noise by the vocal tract, frame by frame."""
    formants, (voice, breath, hiss, centre, width) = tracks[:, :3] * tract, tracks[:, 3:].T
    tilt = (BIN_FREQUENCIES.clip(200) / 500) ** (manner.tilt / 20 / np.log10(2))
    noise = _frame_spectra(rng.normal(size=len(pulses)))
    breath = breath + abs(manner.breath) * voice
    spectra = voice[:, None] * _frame_spectra(pulses) + breath[:, None] * noise
    spectra *= _formant_response(formants, tract)
    hissing = np.flatnonzero(hiss > 0)
    band = ((BIN_FREQUENCIES - centre[hissing, None]) / width[hissing, None]) ** 2
    spectra[hissing] += hiss[hissing, None] * np.exp(-band / 2) * noise[hissing]
    return _overlap_add(np.fft.irfft(spectra * tilt))


def _formant_response(formants: Array, tract: float) -> npt.NDArray[np.complex128]:
    """Transfer function (frames, bins) of two-pole resonators in a row, one a formant."""
    higher = np.broadcast_to(np.multiply(HIGH_FORMANTS, tract), (len(formants), len(HIGH_FORMANTS)))
    radius = np.exp(-np.pi * BANDWIDTHS / RATE)
    turn = 2 * radius * np.cos(2 * np.pi * np.hstack([formants, higher]) / RATE)
    poles = np.ones((len(formants), 1))
    for a, b in zip(turn.T, radius**2, strict=True):
        wider = np.pad(poles, ((0, 0), (0, 2)))
        wider[:, 1:-1] -= a[:, None] * poles
        wider[:, 2:] += b * poles
        poles = wider
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
