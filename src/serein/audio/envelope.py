"""Summaries of a waveform for plots: peak envelope and short-time energy. Times are in seconds.

S = samples, T = times.
"""

from collections.abc import Sequence

import numpy as np

MAX_POINTS = 400
"""Maximum number of points of a plotted waveform."""
FLOOR_DB = -100.0
"""Level of silence in dB relative to full scale: 16 bits cannot represent anything quieter."""


def compute_envelope(wave_s: np.ndarray) -> list[tuple[float, float]]:
    """Return the minimum and maximum of each of at most 400 segments of equal length."""
    edges = np.linspace(0, len(wave_s), min(MAX_POINTS, len(wave_s)) + 1).astype(int)[:-1]
    lowest, highest = np.minimum.reduceat(wave_s, edges), np.maximum.reduceat(wave_s, edges)
    pairs = zip(lowest.tolist(), highest.tolist(), strict=True)
    return [(round(low, 3), round(high, 3)) for low, high in pairs]


def compute_energy(
    wave_s: np.ndarray, rate: int, times: Sequence[float], width: float
) -> np.ndarray:
    """Return the root mean square around each time, in decibels.

    Args:
        wave_s: (S,), full scale is 1.
        rate: in Hz.
        times: T times; one after the end stands for the last sample.
        width: duration of the window around each time; windows are clipped to the recording.

    Returns:
        (T,), 0 dB for a square wave of full scale, and at least ``FLOOR_DB``.
    """
    middle_t = np.minimum(np.asarray(times, dtype=float) * rate, len(wave_s) - 1)
    half = max(width * rate / 2, 0.5)
    first_t = np.clip(np.round(middle_t - half), 0, len(wave_s) - 1).astype(int)
    last_t = np.clip(np.round(middle_t + half), first_t + 1, len(wave_s)).astype(int)
    # Cumulative sums of squares: the energy of a window is a difference of two of them.
    total_s = np.concatenate([[0.0], np.cumsum(wave_s.astype(np.float64) ** 2)])
    power_t = np.maximum(total_s[last_t] - total_s[first_t], 0) / (last_t - first_t)
    return np.maximum(10 * np.log10(np.maximum(power_t, 1e-30)), FLOOR_DB)
