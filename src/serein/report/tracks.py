"""One recording on one axis of time: its waveform, and below it each attention map."""

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from serein.explanations import Explanation, Track
from serein.report.plots import FOLD, MARKS, MEAN
from serein.transcripts import Word

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FILL = "rgba(213, 94, 0, 0.3)"
SCALE = [[0, "rgba(213, 94, 0, 0)"], [1, "rgba(213, 94, 0, 1)"]]
"""From nothing to `MEAN`, on a light page and a dark one."""
ROW, GAP = 120, 34
"""Height of a row, and what is free above it for its name."""
STRIP = 14
"""Height of a head."""
BELOW = 48
"""For the axis of seconds."""
BAR = 0.06
"""Seconds that the bar of a word is wide; words that are nearer share one."""
NEAR = 0.05
"""Share of the recording beside whose ends names are written inwards."""
LEAST = 20.0
"""Decibels from the bottom of a row to its top, at least."""

Row = tuple[str, int, list[dict[str, Any]]]
"""Its name, its height, and its traces; one that asks for the energy's axis has ``yaxis = "e"``."""


def tracks(found: Explanation) -> "Figure":
    """Draw waveform, attention and energy, and under each map of several heads a strip of them.

    Args:
        found: of one recording.
    """
    from plotly.graph_objects import Figure

    rows = list(_rows(found))
    height = sum(GAP + size for _, size, _ in rows) + BELOW
    traces, axes, names, top = [], {}, [], 0
    for number, (name, size, drawn) in enumerate(rows, 1):
        high, low = (1 - (top + edge) / (height - BELOW) for edge in (GAP, GAP + size))
        own = "y" if number == 1 else f"y{number}"
        over = f"y{number + len(rows)}"
        domain = [max(low, 0), high]
        axes[_axis(own)] = {**_plain(), "domain": domain, **_range(drawn)}
        axes[_axis(over)] = {"overlaying": own, "visible": False, "range": _levels(found)}
        traces += [{**one, "yaxis": over if one.get("yaxis") == "e" else own} for one in drawn]
        names.append(_name(name, high))
        top += GAP + size
    bounds = [_bound(start) for start, _ in found.windows[1:]]
    seconds = {"title": {"text": "seconds", "standoff": 8}, "range": [found.start, found.end]}
    last = "y" if len(rows) == 1 else f"y{len(rows)}"
    axes["xaxis"] = {**_plain(), **seconds, "anchor": last, "showgrid": True}
    return Figure(traces, layout=_layout(height) | axes | {"annotations": names, "shapes": bounds})


def _rows(found: Explanation) -> Iterator[Row]:
    yield "waveform", ROW, [_wave(found)]
    if any(word.weight is not None for word in found.words):
        yield "words as they were recognised, and what emotion made of each", ROW, _words(found)
    for name, track in found.attention.items():
        yield _title(name, track, found), ROW, [_energy(track), _weight(track, found)]
        if len(track.heads) > 1:
            size = max(ROW // 2, STRIP * len(track.heads))
            kind = "words" if track.words else "heads"
            yield f"{escape(name)}: each of {len(track.heads)} {kind}", size, [_strip(track)]


def _title(name: str, track: Track, found: Explanation) -> str:
    """Whose attention it is, and what was answered."""
    answers = [
        f"{task} {found.labels[task]} ({100 * found.probabilities[task][found.labels[task]]:.0f} %)"
        for task in track.tasks
    ]
    own = track.tasks == [name]
    return escape(f"{'' if own else f'{name}: '}{', '.join(answers)}")


def _wave(found: Explanation) -> dict[str, Any]:
    # The envelope's stretches, closed at the last sample; up along the highest, back on the lowest.
    low, high = np.array(found.envelope).T
    edges = np.linspace(found.start, found.end, len(low) + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    return {
        "type": "scatter",
        "x": _short([*middle, *middle[::-1]]),
        "y": _short([*high, *low[::-1]]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": MARKS[0],
        "line": {"color": MARKS[0], "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _weight(track: Track, found: Explanation) -> dict[str, Any]:
    # A step reaches half the way to its neighbours; the first and the last one to the ends.
    times = np.array(track.times)
    edges = [found.start, *(times[:-1] + times[1:]) / 2, found.end]
    return {
        "type": "scatter",
        "x": _short(edges),
        "y": _short(100 * np.array([*track.weight, track.weight[-1]])),
        "customdata": _short([*times, times[-1]]),
        "mode": "lines",
        "line": {"color": MEAN, "width": 1.5, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": FILL,
        "hovertemplate": "%{customdata:.2f} s: %{y:.3~g} % of the weight<extra></extra>",
        "showlegend": False,
    }


def _energy(track: Track) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": _short(track.times),
        "y": _short(track.energy),
        "yaxis": "e",
        "mode": "lines",
        "line": {"color": FOLD, "width": 1.5},
        "hovertemplate": "%{x:.2f} s: %{y:.1f} dB<extra></extra>",
        "showlegend": False,
    }


def _strip(track: Track) -> dict[str, Any]:
    heads = 100 * np.array(track.heads)
    names = [escape(word) for word in track.words]
    told = names or [f"head {number}" for number in range(1, len(heads) + 1)]
    return {
        "type": "heatmap",
        "x": _short(track.times),
        "y": list(range(1, len(heads) + 1)),
        "z": [_short(row) for row in heads],
        "colorscale": SCALE,
        "zmin": 0,
        "ygap": 1,
        "showscale": False,
        "customdata": [[name] * len(track.times) for name in told],
        "hovertemplate": "%{customdata}, %{x:.2f} s: %{z:.3~g} %<extra></extra>",
        "meta": names,
    }


def _words(found: Explanation) -> list[dict[str, Any]]:
    """A bar for each moment, as high as all its words together; their names above it."""
    moments: list[list[Word]] = []
    placed = [word for word in found.words if word.time is not None and word.weight is not None]
    for word in sorted(placed, key=_time):
        if moments and _time(word) - _time(moments[-1][0]) < BAR:
            moments[-1].append(word)
        else:
            moments.append([word])
    times = [_time(some[0]) for some in moments]
    at = {
        "x": _short(times),
        "y": _short([100 * sum(word.weight or 0.0 for word in some) for some in moments]),
        "text": ["<br>".join(escape(word.word) for word in some) for some in moments],
        "showlegend": False,
    }
    names = {
        "type": "scatter",
        "mode": "text",
        "textposition": [_aside(time, found) for time in times],
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    bars = {
        "type": "bar",
        "width": BAR,
        "textposition": "none",
        "marker": {"color": MEAN},
        "hovertemplate": "%{text}, %{x:.2f} s: %{y:.3~g} % of the weight<extra></extra>",
        "meta": max(map(len, moments), default=1),
    }
    return [at | names, at | bars]


def _time(word: Word) -> float:
    return word.time or 0.0


def _aside(time: float, found: Explanation) -> str:
    """Where a name is written, so that it stays within the recording."""
    share = (time - found.start) / (found.end - found.start)
    return "top right" if share < NEAR else "top left" if share > 1 - NEAR else "top center"


def _range(drawn: list[dict[str, Any]]) -> dict[str, Any]:
    kind = drawn[-1]
    if kind["type"] == "heatmap":
        heads = kind["y"]
        if kind["meta"]:
            named = {"tickvals": heads, "ticktext": kind["meta"], "nticks": len(heads)}
            return {"range": [len(heads) + 0.5, 0.5], "showgrid": False, **named}
        return {"range": [len(heads) + 0.5, 0.5], "tickvals": [1, len(heads)], "showgrid": False}
    if kind["type"] == "bar":
        above = 1.1 + 0.25 * kind["meta"]  # for a line of names each
        return {"range": [0, above * max(kind["y"], default=1.0)], "ticksuffix": " %"}
    if kind["fill"] == "tozeroy":
        return {"rangemode": "tozero", "ticksuffix": " %"}
    most = max(0.01, *map(abs, kind["y"]))
    return {"range": [-1.05 * most, 1.05 * most], "tickvals": [0]}


def _levels(found: Explanation) -> list[float]:
    """Decibels from the bottom of a row to its top: what differs little is drawn low."""
    every = [level for track in found.attention.values() for level in track.energy]
    return [min(every), max(max(every), min(every) + LEAST) + 1]


def _short(values: Any) -> list[float]:
    # More digits than a screen shows would only make the page large.
    return [float(f"{value:.5g}") for value in values]


def _axis(name: str) -> str:
    return f"yaxis{name[1:]}"


def _plain() -> dict[str, Any]:
    return {
        "automargin": True,
        "fixedrange": True,
        "zeroline": False,
        "ticks": "outside",
        "nticks": 6,
    }


def _name(words: str, high: float) -> dict[str, Any]:
    return {
        "text": words,
        "x": 0,
        "y": high,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "align": "left",
        "showarrow": False,
    }


def _bound(start: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": start,
        "x1": start,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": FOLD, "width": 1, "dash": "dash"},
    }


def _layout(height: int) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 0, "b": 8},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "dragmode": False,
        "hovermode": "closest",
    }
