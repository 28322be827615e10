"""A waveform in few numbers: how far it swings, and how loud it is. Times are in seconds.

S = samples, T = moments.
"""

from collections.abc import Sequence

import numpy as np

MAX_POINTS = 400
"""Points of a drawn waveform."""
FLOOR_DB = -100.0
"""Decibels below full scale that are taken for silence: 16 bits hold nothing quieter."""


def compute_envelope(wave_s: np.ndarray) -> list[tuple[float, float]]:
    """Lowest and highest sample of each of at most 400 equally long stretches."""
    edges = np.linspace(0, len(wave_s), min(MAX_POINTS, len(wave_s)) + 1).astype(int)[:-1]
    lowest, highest = np.minimum.reduceat(wave_s, edges), np.maximum.reduceat(wave_s, edges)
    pairs = zip(lowest.tolist(), highest.tolist(), strict=True)
    return [(round(low, 3), round(high, 3)) for low, high in pairs]


def compute_energy(
    wave_s: np.ndarray, rate: int, times: Sequence[float], width: float
) -> np.ndarray:
    """Root mean square around some moments, in decibels.

    Args:
        wave_s: (S,), full scale is 1.
        rate: in Hz.
        times: T moments; one beyond the end is taken for the last sample.
        width: how much is heard around each of them; what lies beyond the ends is left out.

    Returns:
        (T,), 0 dB for a square wave of full scale; -100 for what is quieter than that.
    """
    middle_t = np.minimum(np.asarray(times, dtype=float) * rate, len(wave_s) - 1)
    half = max(width * rate / 2, 0.5)
    first_t = np.clip(np.round(middle_t - half), 0, len(wave_s) - 1).astype(int)
    last_t = np.clip(np.round(middle_t + half), first_t + 1, len(wave_s)).astype(int)
    # Sums of squares up to each sample: a difference of two is one stretch, however many overlap.
    total_s = np.concatenate([[0.0], np.cumsum(wave_s.astype(np.float64) ** 2)])
    power_t = np.maximum(total_s[last_t] - total_s[first_t], 0) / (last_t - first_t)
    return np.maximum(10 * np.log10(np.maximum(power_t, 1e-30)), FLOOR_DB)
