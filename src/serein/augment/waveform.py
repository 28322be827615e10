"""Effects on waveforms as plain functions, and the noises and impulse responses that they use.

S = samples, R = samples of an impulse response, T = frames, W = samples of a frame, C = bins of a
Fourier transform, L = lags.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serein import audio
from serein.audio import Resampler, Samples
from serein.corpora._reading import find_unread
from serein.errors import AudioError, ConfigError

WSOLA_HOP = 0.02
"""Seconds from segment to segment in time stretching; each segment is two of them long."""
WSOLA_TOLERANCE = 0.01
"""Seconds that a segment may be shifted by: a period of a low voice."""
TELEPHONE_CHANNEL = 8000, 300.0, 3400.0
"""Sampling rate, lowest and highest frequency of a telephone in Hz (ITU-T G.712)."""
MU = 255
"""Parameter of the mu-law (ITU-T G.711)."""
LPC_FRAME = 0.032
"""Seconds of a frame in linear prediction."""
LPC_WHITE_NOISE = 1e-4
"""White noise in linear prediction, relative to the energy, so that silence has a filter, too."""
FILTER_PADDING = 0.05
"""Seconds of zeros that keep the end of a filtered waveform from wrapping to its start."""


def change_speed(wave_s: Samples, rate: int, factor: float) -> Samples:
    """Play a waveform faster by a factor, and so at a higher pitch; its length is divided by it."""
    return Resampler(rate * factor, rate)(wave_s, last=True)


def shift_pitch(wave_s: Samples, rate: int, semitones: float) -> Samples:
    """Shift the pitch, including formants; the length stays."""
    return time_stretch(change_speed(wave_s, rate, 2 ** (semitones / 12)), rate, len(wave_s))


def time_stretch(wave_s: Samples, rate: int, size: int) -> Samples:
    """Change the length at the same pitch.

    Overlapping segments are placed at other distances, each shifted to where it continues the one
    before best. Verhelst & Roelands (1993): An Overlap-Add Technique Based on Waveform Similarity
    (WSOLA) for High Quality Time-Scale Modification of Speech.

    Args:
        wave_s: (S,) samples.
        rate: in Hz.
        size: samples of the result.

    Returns:
        (size,) samples.
    """
    hop, tolerance = round(WSOLA_HOP * rate), round(WSOLA_TOLERANCE * rate)
    margin = 3 * hop + tolerance
    source_s = np.pad(wave_s.astype(np.float64), margin)
    energy_s = np.concatenate([[0.0], np.cumsum(source_s**2)])
    window_w = np.hanning(2 * hop + 1)[:-1]
    result_s = np.zeros(size + 3 * hop)
    start = margin - hop
    for position in range(0, size + hop, hop):
        if position:
            continuation_w = source_s[start + hop : start + 3 * hop]
            centre = min(round(position * len(wave_s) / size), len(wave_s))
            low = margin - hop - tolerance + centre
            high = low + 2 * tolerance + 1
            match_r = np.correlate(source_s[low : high - 1 + 2 * hop], continuation_w, "valid")
            norm_r = energy_s[low + 2 * hop : high + 2 * hop] - energy_s[low:high]
            start = low + int(np.argmax(match_r / np.sqrt(norm_r.clip(min=1e-12))))
        result_s[position : position + 2 * hop] += window_w * source_s[start : start + 2 * hop]
    return result_s[hop : hop + size].astype(np.float32)


def crop(wave_s: Samples, size: int, rng: np.random.Generator) -> Samples:
    """Return ``size`` samples around a random position; its probability is that of its energy."""
    if len(wave_s) <= size or not wave_s.any():
        return wave_s[:size]
    energy_s = np.cumsum(np.square(wave_s, dtype=np.float64))
    centre = int(np.searchsorted(energy_s, rng.random() * energy_s[-1]))
    start = min(max(centre - size // 2, 0), len(wave_s) - size)
    return wave_s[start : start + size]


def whisper(wave_s: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """Replace the voice by noise: filter noise by the vocal tract of each frame, at its energy.

    The vocal tract is an all-pole filter, estimated by the autocorrelation method of linear
    prediction (Makhoul 1975: Linear Prediction: A Tutorial Review).
    """
    hop = round(LPC_FRAME * rate / 2)
    points = next_fast_length(4 * hop)
    speech_tw = _split_frames(wave_s, hop)
    noise_tw = _split_frames(rng.normal(size=len(wave_s)), hop)
    inverse_tc = _estimate_inverse_filter(np.fft.rfft(speech_tw, points), 2 + rate // 1000)
    whisper_tw = np.fft.irfft(np.fft.rfft(noise_tw, points) / inverse_tc)
    energy_t, target_t = ((x_tw**2).sum(axis=1) for x_tw in (whisper_tw, speech_tw))
    whisper_tw *= np.sqrt(target_t / energy_t.clip(min=1e-12))[:, None]
    result_s = np.zeros(len(whisper_tw) * hop + points)
    for number, whisper_w in enumerate(whisper_tw):
        result_s[number * hop : number * hop + points] += whisper_w
    return result_s[hop : hop + len(wave_s)].astype(np.float32)


def _split_frames(wave_s: np.ndarray, hop: int) -> np.ndarray:
    """Return Hann-windowed frames of two hops, one each hop; their overlap-add is the waveform."""
    size = 2 * hop
    index_tw = np.arange(0, len(wave_s) + hop, hop)[:, None] + np.arange(size)
    padded_s = np.pad(wave_s.astype(np.float64), hop)
    window_w = np.hanning(size + 1)[:-1]
    frames_tw: np.ndarray = padded_s[np.minimum(index_tw, len(padded_s) - 1)] * window_w
    return frames_tw


def _estimate_inverse_filter(spectrum_tc: np.ndarray, order: int) -> np.ndarray:
    """Return the spectrum (T, C) of the filter that removes each frame's vocal tract."""
    correlation_tl = np.fft.irfft(np.abs(spectrum_tc) ** 2)[:, : order + 1]
    correlation_tl[:, 0] = correlation_tl[:, 0] * (1 + LPC_WHITE_NOISE) + 1e-12
    lag_ll = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    predictor_tl = np.linalg.solve(correlation_tl[:, lag_ll], correlation_tl[:, 1:, None])[..., 0]
    filter_tl = np.pad(-predictor_tl, ((0, 0), (1, 0)), constant_values=1.0)
    return np.fft.rfft(filter_tl, 2 * (spectrum_tc.shape[1] - 1))


def apply_gain(wave_s: Samples, decibels: float) -> Samples:
    """Scale a waveform; it is not clipped."""
    return wave_s * np.float32(10 ** (decibels / 20))


def add_noise(wave_s: Samples, noise_s: Samples, snr: float) -> Samples:
    """Add noise at a signal-to-noise ratio; if either is silent, the waveform stays unchanged.

    Args:
        wave_s: (S,) samples.
        noise_s: (S,) samples of any loudness.
        snr: ratio of their energies in decibels, after the noise is scaled.
    """
    target, energy = _energy(wave_s) / 10 ** (snr / 10), _energy(noise_s)
    if not target or not energy:
        return wave_s
    return wave_s + noise_s * np.float32(np.sqrt(target / energy))


def add_reverb(wave_s: Samples, response_r: Samples) -> Samples:
    """Convolve with an impulse response; length, energy and the time of the start stay."""
    size = next_fast_length(len(wave_s) + len(response_r))
    full_s = np.fft.irfft(np.fft.rfft(wave_s, size) * np.fft.rfft(response_r, size), size)
    direct = int(np.argmax(np.abs(response_r)))
    reverberant_s = full_s[direct : direct + len(wave_s)]
    energy = _energy(reverberant_s)
    scale = np.sqrt(_energy(wave_s) / energy) if energy else 0.0
    return (reverberant_s * scale).astype(np.float32)


def band_limit(wave_s: Samples, rate: int, high: float, low: float = 0.0) -> Samples:
    """Remove frequencies above ``high``, and below two thirds of ``low``, in Hz.

    The transitions are raised cosines, from 0.9 to 1 of ``high`` and from 2/3 to 1 of ``low``.
    """
    size = next_fast_length(len(wave_s) + round(FILTER_PADDING * rate))
    hertz_c = np.fft.rfftfreq(size, 1 / rate)
    pass_c = _raised_cosine((high - hertz_c) / (0.1 * high))
    if low:
        pass_c = pass_c * _raised_cosine(3 * hertz_c / low - 2)
    filtered_s = np.fft.irfft(np.fft.rfft(wave_s, size) * pass_c, size)
    return filtered_s[: len(wave_s)].astype(np.float32)


def telephone(wave_s: Samples, rate: int) -> Samples:
    """Simulate a telephone: its band, its sampling rate, and 8 bits of the mu-law a sample."""
    line_rate, low, high = TELEPHONE_CHANNEL
    sent_s = band_limit(Resampler(rate, line_rate)(wave_s, last=True), line_rate, high, low)
    compressed_s = np.sign(sent_s) * np.log1p(MU * np.abs(sent_s).clip(max=1)) / np.log1p(MU)
    coded_s = np.round(compressed_s * (MU // 2)) / (MU // 2)
    decoded_s = np.sign(coded_s) * np.expm1(np.abs(coded_s) * np.log1p(MU)) / MU
    received_s = band_limit(decoded_s.astype(np.float32), line_rate, high, low)
    result_s = Resampler(line_rate, rate)(received_s, last=True)
    return np.pad(result_s, (0, max(0, len(wave_s) - len(result_s))))[: len(wave_s)]


def next_fast_length(size: int) -> int:
    """Return the next power of two: large prime factors make an FFT many times slower."""
    return 1 << max(1, (size - 1).bit_length())


def _raised_cosine(x_c: np.ndarray) -> np.ndarray:
    """Rise from 0 at 0 and below to 1 at 1 and above."""
    return 0.5 - 0.5 * np.cos(np.pi * x_c.clip(0, 1))


def _energy(wave_s: np.ndarray) -> float:
    return float(np.square(wave_s, dtype=np.float64).sum())


MAX_RESPONSE_SECONDS = 4.0
"""Longest impulse response in seconds; the rest is cut."""
NOISE_EXPONENTS = (0.0, 1.0, 2.0)
"""Exponents of 1/f in the power spectrum of white, pink and brown noise."""
NOISE_CORNER_HERTZ = 50.0
"""Below this all noise is white: otherwise most of its energy would be inaudible."""
DIRECT_TO_REVERB_DECIBELS = (0.0, 12.0)
"""Range of the direct-to-reverberant energy ratio in simulated rooms."""


@dataclass(frozen=True)
class AudioFolder:
    """A folder of a user's recordings.

    Attributes:
        files: sorted, with their length in seconds.
        digest: hash of their names and contents.
    """

    files: tuple[tuple[Path, float], ...]
    digest: str


def open_audio_folder(name: str | None, setting: str) -> AudioFolder | None:
    """List and hash the recordings of a folder and its subfolders.

    Args:
        name: of the folder; None returns None.
        setting: name of the setting, for messages.

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
            "some there, or leave the setting out to have them generated"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(_hash_file(file))
    durations = tuple((file, audio.duration(file)) for file in files)
    return AudioFolder(durations, digest.hexdigest()[:16])


def load_excerpt(folder: AudioFolder, rate: int, size: int, rng: np.random.Generator) -> Samples:
    """Return (size,) samples of a random part of a recording; shorter ones are repeated."""
    file, seconds = folder.files[int(rng.integers(len(folder.files)))]
    spare = max(0.0, seconds - size / rate - audio.MIN_SECONDS)
    start = float(rng.uniform(0, spare))
    end = start + size / rate + audio.MIN_SECONDS
    return np.resize(audio.load(file, rate, start=start, end=end), size)


def load_impulse_response(folder: AudioFolder, rate: int, rng: np.random.Generator) -> Samples:
    """Return (R,) samples of a random impulse response.

    Raises:
        AudioError: the file cannot be read, or holds silence.
    """
    file, _ = folder.files[int(rng.integers(len(folder.files)))]
    response_r = audio.load(file, rate, end=MAX_RESPONSE_SECONDS)
    if not response_r.any():
        raise AudioError(f"{file} holds silence; expected an impulse response. Remove it.")
    return response_r


def generate_noise(size: int, rate: int, rng: np.random.Generator) -> Samples:
    """Return (size,) samples of white, pink or brown noise, with equal probability."""
    power = NOISE_EXPONENTS[int(rng.integers(len(NOISE_EXPONENTS)))]
    spectrum_c = np.fft.rfft(rng.normal(size=next_fast_length(size)))
    hertz_c = np.fft.rfftfreq(next_fast_length(size), 1 / rate).clip(min=NOISE_CORNER_HERTZ)
    return np.fft.irfft(spectrum_c * hertz_c ** (-power / 2))[:size].astype(np.float32)


def simulate_impulse_response(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """Simulate the impulse response of a room: noise that decays exponentially.

    Moorer (1979): About This Reverberation Business.

    Args:
        rate: in Hz.
        seconds: in which it falls by 60 dB.
        rng: of the noise, and of the direct-to-reverberant ratio.

    Returns:
        (R,) samples, the first one the direct sound, 1.
    """
    size = max(2, round(seconds * rate))
    tail_r = rng.normal(size=size) * 10 ** (-3 * np.arange(size) / size)
    tail_r[0] = 0
    ratio = rng.uniform(*DIRECT_TO_REVERB_DECIBELS)
    tail_r *= 10 ** (-ratio / 20) / np.sqrt(np.square(tail_r).sum())
    tail_r[0] = 1
    return tail_r.astype(np.float32)


def _hash_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened_file:
            return hashlib.file_digest(opened_file, hashlib.sha256).digest()
    except OSError as error:
        raise AudioError(
            f"{file} cannot be read: {error.strerror}. Check its permissions."
        ) from error
