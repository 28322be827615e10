"""How attention goes with energy, and how sure that is, in one recording and over several.

T = steps.
"""

import math
from collections.abc import Sequence

import numpy as np

from serein.audio import envelope
from serein.metrics.blocks import block_bootstrap_correlation
from serein.metrics.bootstrap import bootstrap_counts
from serein.metrics.regression import pearson_score, spearman_score
from serein.results.inference import Correlation

MIN_BLOCK_SECONDS = 0.2
"""Seconds, at least, that are resampled together: about a syllable."""
MIN_BLOCKS = 8
"""With fewer there is no interval."""
MIN_FILES = 8
"""With fewer there is no interval over files."""
FEW = 20
"""Of blocks or files; with fewer, an interval is likely too narrow, and its words say so."""

Interval = tuple[float, float] | None


def correlate_with_energy(
    weight_t: np.ndarray, energy_t: np.ndarray, step: float, *, resamples: int = 2_000
) -> Correlation:
    """How weights go with energy over time.

    Args:
        weight_t: (T,) attention.
        energy_t: (T,) decibels of the same steps.
        step: seconds from one to the next.
        resamples: draws of each interval.
    """
    count = len(weight_t)
    reason = _find_undefined_reason(weight_t, energy_t)
    if reason:
        return _undefined_correlation(count, reason)
    block = max(math.ceil(MIN_BLOCK_SECONDS / step - 1e-9), round(count ** (1 / 3)))
    pearson, spearman, words = _bootstrap_intervals(weight_t, energy_t, block, resamples)
    return Correlation(
        count=count,
        pearson=pearson_score(weight_t, energy_t),
        pearson_interval=pearson,
        spearman=spearman_score(weight_t, energy_t),
        spearman_interval=spearman,
        words=f"{words} of {block} steps ({block * step:.2f} s)",
    )


def _bootstrap_intervals(
    weight_t: np.ndarray, energy_t: np.ndarray, block: int, resamples: int
) -> tuple[Interval, Interval, str]:
    """Of both correlations, and how they were made."""
    blocks = len(weight_t) // block
    if blocks < MIN_BLOCKS:
        return None, None, f"no interval: {blocks} blocks, {MIN_BLOCKS} are needed,"
    found = [
        block_bootstrap_correlation(
            weight_t, energy_t, block=block, ranked=ranked, resamples=resamples
        )
        for ranked in (False, True)
    ]
    if any(math.isnan(low) for low, _ in found):
        return None, None, "no interval: weight or energy is constant over too many blocks"
    words = f"95 % moving-block bootstrap{_note_if_few(blocks)} over {blocks} blocks"
    return found[0], found[1], words


def _note_if_few(count: int) -> str:
    return " (few: likely too narrow)" * (count < FEW)


def _find_undefined_reason(weight_t: np.ndarray, energy_t: np.ndarray) -> str:
    """Why there is no correlation; empty where there is."""
    if len(weight_t) < 2:
        return f"undefined: {len(weight_t)} step{'s' * (len(weight_t) != 1)}"
    if np.ptp(energy_t) < 1e-4:
        silent = " (silence)" * bool(energy_t[0] <= envelope.FLOOR_DB)
        return f"undefined: the energy is the same at every step{silent}"
    # float32 weights that differ by their last digits are equal
    if np.ptp(weight_t) <= 1e-6 * weight_t.max():
        return "undefined: the attention is the same at every step"
    return ""


def _undefined_correlation(count: int, reason: str) -> Correlation:
    return Correlation(
        count=count,
        pearson=None,
        pearson_interval=None,
        spearman=None,
        spearman_interval=None,
        words=reason,
    )


def average_correlations(correlations: Sequence[Correlation]) -> Correlation:
    """The mean over the files where it is defined; for its interval, files are resampled."""
    pairs = [(one.pearson, one.spearman) for one in correlations if one.pearson is not None]
    if not pairs:
        return _undefined_correlation(0, "undefined: in every file")
    scores = np.array(pairs, dtype=float)
    left = f"; undefined in {len(correlations) - len(pairs)} more" * (
        len(correlations) > len(pairs)
    )
    enough, files = len(pairs) >= MIN_FILES, f"{len(pairs)} file{'s' * (len(pairs) != 1)}"
    words = (
        f"95 % bootstrap{_note_if_few(len(pairs))} over {files}, which are taken for independent{left}"
        if enough
        else f"no interval: {files}; {MIN_FILES} are needed{left}"
    )
    pearson, spearman = (_bootstrap_mean(column) if enough else None for column in scores.T)
    return Correlation(
        count=len(pairs),
        pearson=float(scores[:, 0].mean()),
        pearson_interval=pearson,
        spearman=float(scores[:, 1].mean()),
        spearman_interval=spearman,
        words=words,
    )


def _bootstrap_mean(scores: np.ndarray) -> tuple[float, float]:
    counts = np.stack([scores, np.ones_like(scores)], axis=1)
    return bootstrap_counts(counts, lambda sums: sums[:, 0] / sums[:, 1])
