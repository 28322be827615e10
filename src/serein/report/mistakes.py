"""The most confident errors as drawings: waveform, and where the model attended."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serein.report import summary
from serein.results import Look, Mistake, Results

WIDTH, HEIGHT = 320, 90
"""Of a drawing, in its own units, without the axis below it."""
FINEST = 160
"""Longer envelopes and maps are averaged down to as many points; a screen shows no more."""
STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
MOST_TICKS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """What a page needs to draw one error.

    Attributes:
        mistake: what went wrong.
        words: what the drawing shows, for who cannot see it.
        wave: SVG path of the envelope; empty without one.
        maps: by the name of each attention map the SVG path of its weight over time; the first
            one is to be filled, the others are lines.
        ticks: place and label of each mark on the axis of seconds.
    """

    mistake: Mistake
    words: str
    wave: str
    maps: dict[str, str]
    ticks: list[tuple[float, str]]


def drawings(results: Results) -> list[Drawing]:
    """One for each mistake, in the results' order."""
    return [_drawing(mistake) for mistake in results.mistakes]


def _drawing(mistake: Mistake) -> Drawing:
    told = (_attended(mistake, name, look) for name, look in mistake.attention.items())
    paths = {name: _attention(mistake, look) for name, look in mistake.attention.items()}
    return Drawing(
        mistake=mistake,
        words=f"{_heard(mistake)}{''.join(told)}",
        wave=_wave(mistake.envelope),
        maps={name: path for name, path in paths.items() if path},
        ticks=_ticks(mistake.seconds),
    )


def _heard(mistake: Mistake) -> str:
    return (
        f"Waveform of {mistake.id}, {mistake.seconds:.2f} s, {mistake.truth} taken for "
        f"{mistake.answer} with {summary.percent(mistake.confidence)} % confidence"
    )


def _attended(mistake: Mistake, name: str, look: Look) -> str:
    if not look.weight:
        return ""
    most = int(np.argmax(look.weight))
    begin, end = _edges(mistake, look)[most : most + 2]
    share = summary.percent(look.weight[most])
    return f"; {name} is highest from {begin:.2f} to {end:.2f} s, with {share} % of its weight"


def _edges(mistake: Mistake, look: Look) -> list[float]:
    return [*look.times, max(mistake.seconds, look.times[-1])]


def _wave(envelope: list[tuple[float, float]]) -> str:
    if not envelope:
        return ""
    points = _fewer(np.clip(np.array(envelope, dtype=float), -1, 1))
    x = np.linspace(0, WIDTH, len(points)) if len(points) > 1 else np.array([0.0])
    low, high = (HEIGHT / 2 * (1 - points[:, side]) for side in (0, 1))
    outline = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    return f"M{' '.join(f'{across:.1f},{down:.1f}' for across, down in outline)}Z"


def _attention(mistake: Mistake, look: Look) -> str:
    if not look.weight or mistake.seconds <= 0:
        return ""
    times, weight = np.array([look.times, look.weight], dtype=float)
    step = math.ceil(len(weight) / FINEST)
    times, weight = times[::step], _fewer(weight)
    x = np.clip(WIDTH * np.append(times, mistake.seconds) / mistake.seconds, 0, WIDTH)
    y = HEIGHT * (1 - weight / (weight.max() or 1))
    steps = [
        f"H{right:.1f}" if index and y[index] == y[index - 1] else f"V{down:.1f}H{right:.1f}"
        for index, (down, right) in enumerate(zip(y, x[1:], strict=True))
    ]
    return f"M{x[0]:.1f},{HEIGHT}{''.join(steps)}V{HEIGHT}Z"


def _fewer(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    step = math.ceil(len(rows) / FINEST)
    return np.array(
        [rows[start : start + step].mean(axis=0) for start in range(0, len(rows), step)]
    )


def _ticks(seconds: float) -> list[tuple[float, str]]:
    if seconds <= 0:
        return []
    step = next((step for step in STEPS if seconds / step < MOST_TICKS), STEPS[-1])
    count = int(seconds / step + 1e-9)
    return [(WIDTH * index * step / seconds, f"{index * step:g}") for index in range(count + 1)]
