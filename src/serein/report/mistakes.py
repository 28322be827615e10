"""The most confident errors as drawings: waveform, and where the model attended."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serein.report import summary
from serein.results.evaluation import AttentionTrace, ConfidentError, Results

DRAWING_WIDTH, DRAWING_HEIGHT = 320, 90
"""Of a drawing, in its own units, without the axis below it."""
MAX_POINTS = 160
"""Longer envelopes and maps are averaged down to as many points; a screen shows no more."""
TICK_STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
MAX_TICKS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDrawing:
    """What a page needs to draw one error.

    Attributes:
        mistake: what went wrong.
        words: what the drawing shows, for who cannot see it.
        wave: SVG path of the envelope; empty without one.
        maps: by the name of each attention map the SVG path of its weight over time; the first
            one is to be filled, the others are lines.
        ticks: place and label of each mark on the axis of seconds.
    """

    error: ConfidentError
    description: str
    waveform_path: str
    attention_paths: dict[str, str]
    ticks: list[tuple[float, str]]


def draw_errors(results: Results) -> list[ErrorDrawing]:
    """One for each mistake, in the results' order."""
    return [_draw_error(mistake) for mistake in results.mistakes]


def _draw_error(error: ConfidentError) -> ErrorDrawing:
    told = (_describe_attention(error, name, look) for name, look in error.attention.items())
    paths = {name: _attention_path(error, look) for name, look in error.attention.items()}
    return ErrorDrawing(
        error=error,
        description=f"{_describe_waveform(error)}{''.join(told)}",
        waveform_path=_waveform_path(error.envelope),
        attention_paths={name: path for name, path in paths.items() if path},
        ticks=_time_ticks(error.seconds),
    )


def _describe_waveform(error: ConfidentError) -> str:
    return (
        f"Waveform of {error.id}, {error.seconds:.2f} s, {error.truth} taken for "
        f"{error.answer} with {summary.format_percent(error.confidence)} % confidence"
    )


def _describe_attention(error: ConfidentError, name: str, trace: AttentionTrace) -> str:
    if not trace.weight:
        return ""
    most = int(np.argmax(trace.weight))
    begin, end = _step_edges(error, trace)[most : most + 2]
    share = summary.format_percent(trace.weight[most])
    return f"; {name} is highest from {begin:.2f} to {end:.2f} s, with {share} % of its weight"


def _step_edges(error: ConfidentError, trace: AttentionTrace) -> list[float]:
    return [*trace.times, max(error.seconds, trace.times[-1])]


def _waveform_path(envelope: list[tuple[float, float]]) -> str:
    if not envelope:
        return ""
    points = _downsample(np.clip(np.array(envelope, dtype=float), -1, 1))
    x = np.linspace(0, DRAWING_WIDTH, len(points)) if len(points) > 1 else np.array([0.0])
    low, high = (DRAWING_HEIGHT / 2 * (1 - points[:, side]) for side in (0, 1))
    outline = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    return f"M{' '.join(f'{across:.1f},{down:.1f}' for across, down in outline)}Z"


def _attention_path(error: ConfidentError, trace: AttentionTrace) -> str:
    if not trace.weight or error.seconds <= 0:
        return ""
    times, weight = np.array([trace.times, trace.weight], dtype=float)
    step = math.ceil(len(weight) / MAX_POINTS)
    times, weight = times[::step], _downsample(weight)
    x = np.clip(DRAWING_WIDTH * np.append(times, error.seconds) / error.seconds, 0, DRAWING_WIDTH)
    y = DRAWING_HEIGHT * (1 - weight / (weight.max() or 1))
    steps = [
        f"H{right:.1f}" if index and y[index] == y[index - 1] else f"V{down:.1f}H{right:.1f}"
        for index, (down, right) in enumerate(zip(y, x[1:], strict=True))
    ]
    return f"M{x[0]:.1f},{DRAWING_HEIGHT}{''.join(steps)}V{DRAWING_HEIGHT}Z"


def _downsample(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    step = math.ceil(len(rows) / MAX_POINTS)
    return np.array(
        [rows[start : start + step].mean(axis=0) for start in range(0, len(rows), step)]
    )


def _time_ticks(seconds: float) -> list[tuple[float, str]]:
    if seconds <= 0:
        return []
    step = next((step for step in TICK_STEPS if seconds / step < MAX_TICKS), TICK_STEPS[-1])
    count = int(seconds / step + 1e-9)
    return [
        (DRAWING_WIDTH * index * step / seconds, f"{index * step:g}") for index in range(count + 1)
    ]
