"""Drawings of waveforms and weights: of one recording with plotly, of errors as SVG paths.

The weights are those of attention or of occlusion.
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
from serein.results.inference import (
    AttentionTrack,
    Explanation,
    OcclusionTrack,
    RecognizedWord,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
ATTENTION_FILL = "rgba(213, 94, 0, 0.3)"
ATTENTION_COLORSCALE = [[0, "rgba(213, 94, 0, 0)"], [1, "rgba(213, 94, 0, 1)"]]
"""From transparent to `MEAN_COLOR`, for light and dark pages."""
FALL_FILL, RISE_FILL = "rgba(213, 94, 0, 0.6)", "rgba(0, 158, 115, 0.6)"
"""Where the probability falls without a span, in `MEAN_COLOR`, and where it rises."""
MIN_DROP_RANGE = 0.01
"""Minimal extent of the axis of occlusion on either side of 0, so that small drops look small."""
ROW_HEIGHT, ROW_GAP = 120, 34
"""Height of a row, and of the space above it for its name."""
HEAD_HEIGHT = 14
"""Height of an attention head."""
AXIS_HEIGHT = 48
"""Height of the time axis."""
BAR_SECONDS = 0.06
"""Width of the bar of a word; words closer than this share a bar."""
EDGE_FRACTION = 0.05
"""Within this fraction of an end of the recording, words are aligned inwards."""
MIN_DECIBEL_RANGE = 20.0
"""Minimal range of the energy axis."""
DRAWING_WIDTH, DRAWING_HEIGHT = 320, 90
"""Size of the drawing of an error in SVG units, without its time axis."""
MAX_POINTS = 160
"""Longer envelopes and maps are downsampled to this many points, which a screen can show."""
TICK_STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
MAX_TICKS = 6
FigureRow = tuple[str, int, list[dict[str, Any]]]
"""Name, height and traces of a row; a trace on the energy axis has ``yaxis = "e"``."""


def draw_attention(explanation: Explanation) -> "Figure":
    """Draw waveform, weights and energy, and the heads of each map with several heads.

    Args:
        explanation: of one recording.
    """
    from plotly.graph_objects import Figure

    rows = list(_figure_rows(explanation))
    height = sum(ROW_GAP + size for _, size, _ in rows) + AXIS_HEIGHT
    traces, axes, annotations, top = [], {}, [], 0
    for number, (name, size, row_traces) in enumerate(rows, 1):
        high, low = (
            1 - (top + edge) / (height - AXIS_HEIGHT) for edge in (ROW_GAP, ROW_GAP + size)
        )
        axis = "y" if number == 1 else f"y{number}"
        energy_axis = f"y{number + len(rows)}"
        axes[_get_axis_key(axis)] = {
            **_axis_style(),
            "domain": [max(low, 0), high],
            **_get_axis_range(row_traces),
        }
        axes[_get_axis_key(energy_axis)] = {
            "overlaying": axis,
            "visible": False,
            "range": _get_energy_range(explanation),
        }
        traces += [
            {**trace, "yaxis": energy_axis if trace.get("yaxis") == "e" else axis}
            for trace in row_traces
        ]
        annotations.append(_row_annotation(name, high))
        top += ROW_GAP + size
    axes["xaxis"] = {
        **_axis_style(),
        "title": {"text": "seconds", "standoff": 8},
        "range": [explanation.start, explanation.end],
        "anchor": "y" if len(rows) == 1 else f"y{len(rows)}",
        "showgrid": True,
    }
    boundaries = [_window_boundary(start) for start, _ in explanation.windows[1:]]
    layout = _layout(height) | axes | {"annotations": annotations, "shapes": boundaries}
    return Figure(traces, layout=layout)


def _figure_rows(explanation: Explanation) -> Iterator[FigureRow]:
    yield "waveform", ROW_HEIGHT, [_waveform_trace(explanation)]
    if any(None not in (word.weight, word.time) for word in explanation.words):
        yield (
            "recognised words and their weights for emotion",
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
    for task, occluded in explanation.occlusion.items():
        unit = "" if occluded.label is None else " in points"
        yield (
            escape(f"{_format_prediction(task, explanation)}: drop{unit}"),
            ROW_HEIGHT,
            [_energy_trace(occluded), *_drop_traces(occluded, explanation)],
        )


def _row_title(name: str, track: AttentionTrack, explanation: Explanation) -> str:
    """Return the name of an attention map, and the predictions of its tasks."""
    predictions = [_format_prediction(task, explanation) for task in track.tasks]
    prefix = "" if track.tasks == [name] else f"{name}: "
    return escape(f"{prefix}{', '.join(predictions)}")


def _format_prediction(task: str, explanation: Explanation) -> str:
    if task not in explanation.labels:
        value = explanation.values.get(task)  # none without speech
        return task if value is None else f"{task} {value:.2f}"
    label = explanation.labels[task]
    return f"{task} {label} ({100 * explanation.probabilities[task][label]:.0f} %)"


def _waveform_trace(explanation: Explanation) -> dict[str, Any]:
    # The outline runs along the highest samples, and back along the lowest.
    low, high = np.array(explanation.envelope).T
    edges = np.linspace(explanation.start, explanation.end, len(low) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    return {
        "type": "scatter",
        "x": _round_values([*centres, *centres[::-1]]),
        "y": _round_values([*high, *low[::-1]]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": MARK_COLORS[0],
        "line": {"color": MARK_COLORS[0], "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _weight_trace(track: AttentionTrack, explanation: Explanation) -> dict[str, Any]:
    # A step extends half-way to its neighbours, the first and the last step to the ends.
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


def _drop_traces(track: OcclusionTrack, explanation: Explanation) -> list[dict[str, Any]]:
    """Return the drops above 0, and those below; a span is drawn half-way to its neighbours."""
    scale, unit = (1, "") if track.label is None else (100, " points")
    times = np.array([*track.times, track.times[-1]])
    drop = scale * np.array([*track.drop, track.drop[-1]])
    first = np.maximum(times - track.length / 2, explanation.start)
    last = np.minimum(times + track.length / 2, explanation.end)
    shared = {
        "type": "scatter",
        "x": _round_values([explanation.start, *(times[:-2] + times[1:-1]) / 2, explanation.end]),
        "customdata": [_round_values(row) for row in np.stack([first, last, drop], axis=1)],
        "mode": "lines",
        "line": {"width": 0, "shape": "hv"},
        "fill": "tozeroy",
        "hovertemplate": "%{customdata[0]:.2f} to %{customdata[1]:.2f} s: drop of "
        f"%{{customdata[2]:+.3~g}}{unit}<extra></extra>",
        "showlegend": False,
        "meta": {
            "range": [
                1.05 * min(drop.min(), -scale * MIN_DROP_RANGE),
                1.05 * max(drop.max(), scale * MIN_DROP_RANGE),
            ]
        },
    }
    parts = ((np.maximum(drop, 0), FALL_FILL), (np.minimum(drop, 0), RISE_FILL))
    return [{**shared, "y": _round_values(part), "fillcolor": fill} for part, fill in parts]


def _energy_trace(track: AttentionTrack | OcclusionTrack) -> dict[str, Any]:
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
    labels = names or [f"head {number}" for number in range(1, len(heads) + 1)]
    return {
        "type": "heatmap",
        "x": _round_values(track.times),
        "y": list(range(1, len(heads) + 1)),
        "z": [_round_values(row) for row in heads],
        "colorscale": ATTENTION_COLORSCALE,
        "zmin": 0,
        "ygap": 1,
        "showscale": False,
        "customdata": [[name] * len(track.times) for name in labels],
        "hovertemplate": "%{customdata}, %{x:.2f} s: %{z:.3~g} %<extra></extra>",
        "meta": names,
    }


def _word_traces(explanation: Explanation) -> list[dict[str, Any]]:
    """Return bars with the summed weight of the words at each time, and the words above them."""
    moments: list[list[RecognizedWord]] = []
    weighted = [
        word for word in explanation.words if word.time is not None and word.weight is not None
    ]
    for word in sorted(weighted, key=_get_word_time):
        if moments and _get_word_time(word) - _get_word_time(moments[-1][0]) < BAR_SECONDS:
            moments[-1].append(word)
        else:
            moments.append([word])
    times = [_get_word_time(words[0]) for words in moments]
    weights = [100 * sum(word.weight or 0.0 for word in words) for words in moments]
    shared = {
        "x": _round_values(times),
        "y": _round_values(weights),
        "text": ["<br>".join(escape(word.word) for word in words) for words in moments],
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
    return [shared | names, shared | bars]


def _get_word_time(word: RecognizedWord) -> float:
    return word.time or 0.0


def _get_text_position(time: float, explanation: Explanation) -> str:
    """Return the alignment of a word, so that it stays within the recording."""
    share = (time - explanation.start) / (explanation.end - explanation.start)
    if share < EDGE_FRACTION:
        return "top right"
    return "top left" if share > 1 - EDGE_FRACTION else "top center"


def _get_axis_range(traces: list[dict[str, Any]]) -> dict[str, Any]:
    trace = traces[-1]
    if trace["type"] == "heatmap":
        heads, names = trace["y"], trace["meta"]
        style = {"range": [len(heads) + 0.5, 0.5], "showgrid": False}
        if names:
            return {**style, "tickvals": heads, "ticktext": names, "nticks": len(heads)}
        return {**style, "tickvals": [1, len(heads)]}
    if trace["type"] == "bar":
        headroom = 1.1 + 0.25 * trace["meta"]  # for the lines of words above a bar
        return {"range": [0, headroom * max(trace["y"], default=1.0)], "ticksuffix": " %"}
    if trace["fill"] == "tozeroy" and "meta" in trace:
        return {**trace["meta"], "zeroline": True, "zerolinecolor": FOLD_COLOR}
    if trace["fill"] == "tozeroy":
        return {"rangemode": "tozero", "ticksuffix": " %"}
    peak = max(0.01, *map(abs, trace["y"]))
    return {"range": [-1.05 * peak, 1.05 * peak], "tickvals": [0]}


def _get_energy_range(explanation: Explanation) -> list[float]:
    """Return the range of the energy axis in dB, so that small differences look small."""
    tracks = (explanation.attention | explanation.occlusion).values()
    levels = [level for track in tracks for level in track.energy]
    return [min(levels), max(max(levels), min(levels) + MIN_DECIBEL_RANGE) + 1]


def _round_values(values: Any) -> list[float]:
    # More digits than a screen can show would only enlarge the page.
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
    transparent = "rgba(0,0,0,0)"
    return {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 0, "b": 8},
        "paper_bgcolor": transparent,
        "plot_bgcolor": transparent,
        "dragmode": False,
        "hovermode": "closest",
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDrawing:
    """The drawing of a confident error.

    Attributes:
        error: the error.
        description: text alternative of the drawing.
        waveform_path: SVG path of the envelope; empty without one.
        attention_paths: SVG path of each attention map over time, by name; the first one is filled,
            the others are lines.
        ticks: position and label of each tick of the time axis.
    """

    error: ConfidentError
    description: str
    waveform_path: str
    attention_paths: dict[str, str]
    ticks: list[tuple[float, str]]


def draw_errors(results: Results) -> list[ErrorDrawing]:
    """Draw the confident errors in the order of the results."""
    return [_draw_error(error) for error in results.confident_errors]


def _draw_error(error: ConfidentError) -> ErrorDrawing:
    descriptions, paths = [_describe_waveform(error)], {}
    for name, trace in error.attention.items():
        descriptions.append(_describe_attention(error, name, trace))
        paths[name] = _attention_path(error, trace)
    return ErrorDrawing(
        error=error,
        description="".join(descriptions),
        waveform_path=_waveform_path(error.envelope),
        attention_paths={name: path for name, path in paths.items() if path},
        ticks=_time_ticks(error.seconds),
    )


def _describe_waveform(error: ConfidentError) -> str:
    return (
        f"Waveform of {error.id}, {error.seconds:.2f} s, {error.truth} predicted "
        f"as {error.answer} with {summary.format_percent(error.confidence)} % confidence"
    )


def _describe_attention(error: ConfidentError, name: str, trace: AttentionTrace) -> str:
    if not trace.weight:
        return ""
    highest = int(np.argmax(trace.weight))
    edges = [*trace.times, max(error.seconds, trace.times[-1])]
    start, end = edges[highest : highest + 2]
    share = summary.format_percent(trace.weight[highest])
    return f"; {name} is highest from {start:.2f} to {end:.2f} s, with {share} % of its weight"


def _waveform_path(envelope: list[tuple[float, float]]) -> str:
    if not envelope:
        return ""
    points = _downsample(np.clip(np.array(envelope, dtype=float), -1, 1))
    x = np.linspace(0, DRAWING_WIDTH, len(points)) if len(points) > 1 else np.array([0.0])
    low, high = (DRAWING_HEIGHT / 2 * (1 - points[:, column]) for column in (0, 1))
    outline = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
    return f"M{' '.join(f'{right:.1f},{down:.1f}' for right, down in outline)}Z"


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
