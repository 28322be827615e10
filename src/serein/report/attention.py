"""One recording on one axis of time: its waveform, and below it each attention map.

The most confident errors as drawings: waveform, and where the model attended.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serein.report import summary
from serein.report.figures import FOLD_COLOR, MARK_COLORS, MEAN_COLOR
from serein.results.evaluation import AttentionTrace, ConfidentError, Results
from serein.results.inference import AttentionTrack, Explanation, RecognizedWord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


ATTENTION_FILL = "rgba(213, 94, 0, 0.3)"
ATTENTION_COLORSCALE = [[0, "rgba(213, 94, 0, 0)"], [1, "rgba(213, 94, 0, 1)"]]
"""From nothing to `MEAN`, on a light page and a dark one."""
ROW_HEIGHT, ROW_GAP = 120, 34
"""Height of a row, and what is free above it for its name."""
HEAD_HEIGHT = 14
"""Height of a head."""
AXIS_HEIGHT = 48
"""For the axis of seconds."""
BAR_SECONDS = 0.06
"""Seconds that the bar of a word is wide; words that are nearer share one."""
EDGE_FRACTION = 0.05
"""Share of the recording beside whose ends names are written inwards."""
MIN_DECIBEL_RANGE = 20.0
"""Decibels from the bottom of a row to its top, at least."""

FigureRow = tuple[str, int, list[dict[str, Any]]]
"""Its name, its height, and its traces; one that asks for the energy's axis has ``yaxis = "e"``."""


def draw_attention(explanation: Explanation) -> "Figure":
    """Draw waveform, attention and energy, and under each map of several heads a strip of them.

    Args:
        explanation: of one recording.
    """
    from plotly.graph_objects import Figure

    rows = list(_figure_rows(explanation))
    height = sum(ROW_GAP + size for _, size, _ in rows) + AXIS_HEIGHT
    traces, axes, names, top = [], {}, [], 0
    for number, (name, size, drawn) in enumerate(rows, 1):
        high, low = (
            1 - (top + edge) / (height - AXIS_HEIGHT) for edge in (ROW_GAP, ROW_GAP + size)
        )
        own = "y" if number == 1 else f"y{number}"
        over = f"y{number + len(rows)}"
        domain = [max(low, 0), high]
        axes[_get_axis_key(own)] = {**_axis_style(), "domain": domain, **_get_axis_range(drawn)}
        axes[_get_axis_key(over)] = {
            "overlaying": own,
            "visible": False,
            "range": _get_energy_range(explanation),
        }
        traces += [{**one, "yaxis": over if one.get("yaxis") == "e" else own} for one in drawn]
        names.append(_row_annotation(name, high))
        top += ROW_GAP + size
    bounds = [_window_boundary(start) for start, _ in explanation.windows[1:]]
    seconds = {
        "title": {"text": "seconds", "standoff": 8},
        "range": [explanation.start, explanation.end],
    }
    last = "y" if len(rows) == 1 else f"y{len(rows)}"
    axes["xaxis"] = {**_axis_style(), **seconds, "anchor": last, "showgrid": True}
    return Figure(traces, layout=_layout(height) | axes | {"annotations": names, "shapes": bounds})


def _figure_rows(explanation: Explanation) -> Iterator[FigureRow]:
    yield "waveform", ROW_HEIGHT, [_waveform_trace(explanation)]
    if any(word.weight is not None for word in explanation.words):
        yield (
            "words as they were recognised, and what emotion made of each",
            ROW_HEIGHT,
            _word_traces(explanation),
        )
    for name, track in explanation.attention.items():
        yield (
            _row_title(name, track, explanation),
            ROW_HEIGHT,
            [_energy_trace(track), _weight_trace(track, explanation)],
        )
        if len(track.heads) > 1:
            size = max(ROW_HEIGHT // 2, HEAD_HEIGHT * len(track.heads))
            kind = "words" if track.words else "heads"
            yield f"{escape(name)}: each of {len(track.heads)} {kind}", size, [_head_heatmap(track)]


def _row_title(name: str, track: AttentionTrack, explanation: Explanation) -> str:
    """Whose attention it is, and what was answered."""
    answers = [
        f"{task} {explanation.labels[task]} ({100 * explanation.probabilities[task][explanation.labels[task]]:.0f} %)"
        for task in track.tasks
    ]
    own = track.tasks == [name]
    return escape(f"{'' if own else f'{name}: '}{', '.join(answers)}")


def _waveform_trace(explanation: Explanation) -> dict[str, Any]:
    # The envelope's stretches, closed at the last sample; up along the highest, back on the lowest.
    low, high = np.array(explanation.envelope).T
    edges = np.linspace(explanation.start, explanation.end, len(low) + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    return {
        "type": "scatter",
        "x": _round_values([*middle, *middle[::-1]]),
        "y": _round_values([*high, *low[::-1]]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": MARK_COLORS[0],
        "line": {"color": MARK_COLORS[0], "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _weight_trace(track: AttentionTrack, explanation: Explanation) -> dict[str, Any]:
    # A step reaches half the way to its neighbours; the first and the last one to the ends.
    times = np.array(track.times)
    edges = [explanation.start, *(times[:-1] + times[1:]) / 2, explanation.end]
    return {
        "type": "scatter",
        "x": _round_values(edges),
        "y": _round_values(100 * np.array([*track.weight, track.weight[-1]])),
        "customdata": _round_values([*times, times[-1]]),
        "mode": "lines",
        "line": {"color": MEAN_COLOR, "width": 1.5, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": ATTENTION_FILL,
        "hovertemplate": "%{customdata:.2f} s: %{y:.3~g} % of the weight<extra></extra>",
        "showlegend": False,
    }


def _energy_trace(track: AttentionTrack) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": _round_values(track.times),
        "y": _round_values(track.energy),
        "yaxis": "e",
        "mode": "lines",
        "line": {"color": FOLD_COLOR, "width": 1.5},
        "hovertemplate": "%{x:.2f} s: %{y:.1f} dB<extra></extra>",
        "showlegend": False,
    }


def _head_heatmap(track: AttentionTrack) -> dict[str, Any]:
    heads = 100 * np.array(track.heads)
    names = [escape(word) for word in track.words]
    told = names or [f"head {number}" for number in range(1, len(heads) + 1)]
    return {
        "type": "heatmap",
        "x": _round_values(track.times),
        "y": list(range(1, len(heads) + 1)),
        "z": [_round_values(row) for row in heads],
        "colorscale": ATTENTION_COLORSCALE,
        "zmin": 0,
        "ygap": 1,
        "showscale": False,
        "customdata": [[name] * len(track.times) for name in told],
        "hovertemplate": "%{customdata}, %{x:.2f} s: %{z:.3~g} %<extra></extra>",
        "meta": names,
    }


def _word_traces(explanation: Explanation) -> list[dict[str, Any]]:
    """A bar for each moment, as high as all its words together; their names above it."""
    moments: list[list[RecognizedWord]] = []
    placed = [
        word for word in explanation.words if word.time is not None and word.weight is not None
    ]
    for word in sorted(placed, key=_get_word_time):
        if moments and _get_word_time(word) - _get_word_time(moments[-1][0]) < BAR_SECONDS:
            moments[-1].append(word)
        else:
            moments.append([word])
    times = [_get_word_time(some[0]) for some in moments]
    at = {
        "x": _round_values(times),
        "y": _round_values([100 * sum(word.weight or 0.0 for word in some) for some in moments]),
        "text": ["<br>".join(escape(word.word) for word in some) for some in moments],
        "showlegend": False,
    }
    names = {
        "type": "scatter",
        "mode": "text",
        "textposition": [_get_text_position(time, explanation) for time in times],
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    bars = {
        "type": "bar",
        "width": BAR_SECONDS,
        "textposition": "none",
        "marker": {"color": MEAN_COLOR},
        "hovertemplate": "%{text}, %{x:.2f} s: %{y:.3~g} % of the weight<extra></extra>",
        "meta": max(map(len, moments), default=1),
    }
    return [at | names, at | bars]


def _get_word_time(word: RecognizedWord) -> float:
    return word.time or 0.0


def _get_text_position(time: float, explanation: Explanation) -> str:
    """Where a name is written, so that it stays within the recording."""
    share = (time - explanation.start) / (explanation.end - explanation.start)
    return (
        "top right"
        if share < EDGE_FRACTION
        else "top left"
        if share > 1 - EDGE_FRACTION
        else "top center"
    )


def _get_axis_range(traces: list[dict[str, Any]]) -> dict[str, Any]:
    kind = traces[-1]
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


def _get_energy_range(explanation: Explanation) -> list[float]:
    """Decibels from the bottom of a row to its top: what differs little is drawn low."""
    every = [level for track in explanation.attention.values() for level in track.energy]
    return [min(every), max(max(every), min(every) + MIN_DECIBEL_RANGE) + 1]


def _round_values(values: Any) -> list[float]:
    # More digits than a screen shows would only make the page large.
    return [float(f"{value:.5g}") for value in values]


def _get_axis_key(name: str) -> str:
    return f"yaxis{name[1:]}"


def _axis_style() -> dict[str, Any]:
    return {
        "automargin": True,
        "fixedrange": True,
        "zeroline": False,
        "ticks": "outside",
        "nticks": 6,
    }


def _row_annotation(text: str, high: float) -> dict[str, Any]:
    return {
        "text": text,
        "x": 0,
        "y": high,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "align": "left",
        "showarrow": False,
    }


def _window_boundary(start: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": start,
        "x1": start,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": FOLD_COLOR, "width": 1, "dash": "dash"},
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
    return [_draw_error(mistake) for mistake in results.confident_errors]


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
