"""Changes of a waveform, each a plain function; what they take is drawn elsewhere.

S = samples, R = samples of an impulse response.

Noises and rooms: from folders of a user's own, or made up.

S = samples, R = samples of an impulse response.
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
"""Seconds from segment to segment of a stretched waveform; each is two of them long."""
WSOLA_TOLERANCE = 0.01
"""Seconds that a segment may lie off its place: a period of a low voice."""
TELEPHONE_CHANNEL = 8000, 300.0, 3400.0
"""Of a telephone: sampling rate, lowest and highest frequency in Hz (ITU-T G.712)."""
MU = 255
"""Of the mu-law (ITU-T G.711)."""
LPC_FRAME = 0.032
"""Seconds of a frame whose vocal tract is estimated."""
LPC_WHITE_NOISE = 1e-4
"""Of its energy, white noise that is added to the estimate: silence has a vocal tract as well."""
FILTER_PADDING = 0.05
"""Seconds of zeros that keep the end of a filtered waveform from reaching its beginning."""


def change_speed(wave_s: Samples, rate: int, factor: float) -> Samples:
    """Played faster by a factor, and so higher; as long as before divided by it."""
    return Resampler(rate * factor, rate)(wave_s, last=True)


def shift_pitch(wave_s: Samples, rate: int, semitones: float) -> Samples:
    """Moved in pitch, formants with it, and as long as before."""
    return time_stretch(change_speed(wave_s, rate, 2 ** (semitones / 12)), rate, len(wave_s))


def time_stretch(wave_s: Samples, rate: int, size: int) -> Samples:
    """Brought to another length, at the same pitch.

    Overlapping segments are laid at other distances, each shifted to where it goes on best from
    the one before. Verhelst & Roelands (1993): An Overlap-Add Technique Based on Waveform
    Similarity (WSOLA) for High Quality Time-Scale Modification of Speech.

    Args:
        wave_s: (S,) samples.
        rate: in Hz.
        size: samples wanted.

    Returns:
        (size,) samples.
    """
    hop, reach = round(WSOLA_HOP * rate), round(WSOLA_TOLERANCE * rate)
    margin = 3 * hop + reach
    from_s = np.pad(wave_s.astype(np.float64), margin)
    energy_s = np.concatenate([[0.0], np.cumsum(from_s**2)])
    window_w = np.hanning(2 * hop + 1)[:-1]
    to_s = np.zeros(size + 3 * hop)
    begin = margin - hop
    for place in range(0, size + hop, hop):
        if place:
            follows_w = from_s[begin + hop : begin + 3 * hop]
            low = margin - hop - reach + min(round(place * len(wave_s) / size), len(wave_s))
            last = low + 2 * reach + 1
            like_r = np.correlate(from_s[low : last - 1 + 2 * hop], follows_w, "valid")
            loud_r = energy_s[low + 2 * hop : last + 2 * hop] - energy_s[low:last]
            begin = low + int(np.argmax(like_r / np.sqrt(loud_r.clip(min=1e-12))))
        to_s[place : place + 2 * hop] += window_w * from_s[begin : begin + 2 * hop]
    return to_s[hop : hop + size].astype(np.float32)


def crop(wave_s: Samples, size: int, rng: np.random.Generator) -> Samples:
    """A stretch of so many samples, about a place that is drawn by its energy."""
    if len(wave_s) <= size or not wave_s.any():
        return wave_s[:size]
    energy_s = np.cumsum(np.square(wave_s, dtype=np.float64))
    middle = int(np.searchsorted(energy_s, rng.random() * energy_s[-1]))
    start = min(max(middle - size // 2, 0), len(wave_s) - size)
    return wave_s[start : start + size]


def whisper(wave_s: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """Noise through the vocal tract of each frame, as loud as it was: no voice is left.

    The tract is an all-pole filter, by the autocorrelation method of linear prediction (Makhoul
    1975: Linear Prediction: A Tutorial Review).
    """
    hop = round(LPC_FRAME * rate / 2)
    points = next_fast_length(4 * hop)
    framed_tw = _split_frames(wave_s, hop)
    noise_tw = _split_frames(rng.normal(size=len(wave_s)), hop)
    inverse_tc = _estimate_inverse_filter(np.fft.rfft(framed_tw, points), 2 + rate // 1000)
    made_tw = np.fft.irfft(np.fft.rfft(noise_tw, points) / inverse_tc)
    found_t, wanted_t = ((x_tw**2).sum(axis=1) for x_tw in (made_tw, framed_tw))
    made_tw *= np.sqrt(wanted_t / found_t.clip(min=1e-12))[:, None]
    out_s = np.zeros(len(made_tw) * hop + points)
    for place, made_w in enumerate(made_tw):
        out_s[place * hop : place * hop + points] += made_w
    return out_s[hop : hop + len(wave_s)].astype(np.float32)


def _split_frames(wave_s: np.ndarray, hop: int) -> np.ndarray:
    """Stretches of two hops through Hann's window, one each hop; together they are the waveform."""
    size = 2 * hop
    place_tw = np.arange(0, len(wave_s) + hop, hop)[:, None] + np.arange(size)
    padded_s = np.pad(wave_s.astype(np.float64), hop)
    window_w = np.hanning(size + 1)[:-1]
    framed_tw: np.ndarray = padded_s[np.minimum(place_tw, len(padded_s) - 1)] * window_w
    return framed_tw


def _estimate_inverse_filter(spectrum_tc: np.ndarray, order: int) -> np.ndarray:
    """What each frame's vocal tract would be undone by, at the same frequencies: (T, C)."""
    like_tl = np.fft.irfft(np.abs(spectrum_tc) ** 2)[:, : order + 1]
    like_tl[:, 0] = like_tl[:, 0] * (1 + LPC_WHITE_NOISE) + 1e-12
    lag_ll = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    pole_tl = np.linalg.solve(like_tl[:, lag_ll], like_tl[:, 1:, None])[..., 0]
    filter_tl = np.pad(-pole_tl, ((0, 0), (1, 0)), constant_values=1.0)
    return np.fft.rfft(filter_tl, 2 * (spectrum_tc.shape[1] - 1))


def apply_gain(wave_s: Samples, decibels: float) -> Samples:
    """Louder, or softer; nothing is clipped."""
    return wave_s * np.float32(10 ** (decibels / 20))


def add_noise(wave_s: Samples, noise_s: Samples, snr: float) -> Samples:
    """With noise of its own length added; silence of either leaves it as it is.

    Args:
        wave_s: (S,) samples.
        noise_s: (S,) samples of any loudness.
        snr: decibels of the energy of one over that of the other, as they are added.
    """
    wanted = _energy(wave_s) / 10 ** (snr / 10)
    found = _energy(noise_s)
    return wave_s + noise_s * np.float32(np.sqrt(wanted / found)) if wanted and found else wave_s


def add_reverb(wave_s: Samples, response_r: Samples) -> Samples:
    """As it sounds in a room; as long, as loud, and beginning when it did before."""
    size = next_fast_length(len(wave_s) + len(response_r))
    both_s = np.fft.irfft(np.fft.rfft(wave_s, size) * np.fft.rfft(response_r, size), size)
    direct = int(np.argmax(np.abs(response_r)))
    heard_s = both_s[direct : direct + len(wave_s)]
    found = _energy(heard_s)
    scale = np.sqrt(_energy(wave_s) / found) if found else 0.0
    return (heard_s * scale).astype(np.float32)


def band_limit(wave_s: Samples, rate: int, high: float, low: float = 0.0) -> Samples:
    """Without what is above ``high``, or below two thirds of ``low``, in Hz.

    Between 0.9 and 1 of the one, and 2/3 and 1 of the other, a raised cosine leads over.
    """
    size = next_fast_length(len(wave_s) + round(FILTER_PADDING * rate))
    hertz_c = np.fft.rfftfreq(size, 1 / rate)
    pass_c = _raised_cosine((high - hertz_c) / (0.1 * high))
    if low:
        pass_c = pass_c * _raised_cosine(3 * hertz_c / low - 2)
    heard_s = np.fft.irfft(np.fft.rfft(wave_s, size) * pass_c, size)
    return heard_s[: len(wave_s)].astype(np.float32)


def telephone(wave_s: Samples, rate: int) -> Samples:
    """As a telephone passes it on: its band, its rate, and 8 bits of the mu-law a sample."""
    line, low, high = TELEPHONE_CHANNEL
    sent_s = band_limit(Resampler(rate, line)(wave_s, last=True), line, high, low)
    law_s = np.sign(sent_s) * np.log1p(MU * np.abs(sent_s).clip(max=1)) / np.log1p(MU)
    coded_s = np.round(law_s * (MU // 2)) / (MU // 2)
    heard_s = np.sign(coded_s) * np.expm1(np.abs(coded_s) * np.log1p(MU)) / MU
    back_s = Resampler(line, rate)(
        band_limit(heard_s.astype(np.float32), line, high, low), last=True
    )
    return np.pad(back_s, (0, max(0, len(wave_s) - len(back_s))))[: len(wave_s)]


def next_fast_length(size: int) -> int:
    """The next power of two: lengths with large prime factors make an FFT many times slower."""
    return 1 << max(1, (size - 1).bit_length())


def _raised_cosine(x_c: np.ndarray) -> np.ndarray:
    """From 0 at 0 and below to 1 at 1 and above."""
    return 0.5 - 0.5 * np.cos(np.pi * x_c.clip(0, 1))


def _energy(wave_s: np.ndarray) -> float:
    return float(np.square(wave_s, dtype=np.float64).sum())


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
