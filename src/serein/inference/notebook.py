"""HTML of recognitions for Jupyter; styles are inline, text has the colours of the notebook."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

MAX_SEGMENTS = 20
"""Rows of a timeline's table; the drawing has all segments."""
COLOURS = {
    "anger": "#d55e00",
    "boredom": "#56b4e9",
    "calm": "#56b4e9",
    "disgust": "#009e73",
    "fear": "#cc79a7",
    "happiness": "#e69f00",
    "neutral": "#8a8f98",
    "sadness": "#0072b2",
    "surprise": "#f0e442",
}
"""Colours of Okabe and Ito, as on the page of the service."""
FURTHER_COLOURS = ("#7d4a9e", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#0072b2", "#d55e00")
NO_LABEL = "#c4c7cc"
CELL = "padding:2px 10px 2px 0;text-align:left;border:0;background:none"
BAR_WIDTH = 180
DRAWING_WIDTH, DRAWING_HEIGHT = 600, 28


def assign_colours(classes: Iterable[str]) -> dict[str, str]:
    """Return a colour for each class; classes without a usual one take the further ones in turn.

    >>> assign_colours(["anger", "awe"])
    {'anger': '#d55e00', 'awe': '#7d4a9e'}
    """
    further = iter(FURTHER_COLOURS * 100)
    return {name: COLOURS.get(name) or next(further) for name in classes}


def render_recognition(recognition: Any) -> str:
    """Return a recognition or a segment as HTML: headline, probabilities, arousal and valence.

    A timeline has the shares of the classes, a drawing of all segments and a table of the first
    ones instead.
    """
    source = getattr(recognition, "source", None)
    times = f"{recognition.start:.2f} to {recognition.end:.2f} s"
    details = [escape(str(source)), times] if source else [times]
    if model := getattr(recognition, "model", ""):
        details.append(f"model {escape(str(model))}")
    if getattr(recognition, "channel", None) is not None:
        details.append(f"channel {recognition.channel}")
    head = f'<div style="opacity:.75">{", ".join(details)}</div>'
    if getattr(recognition, "segments", None):
        body = _render_headlines(recognition) + _render_timeline(recognition.segments)
    elif getattr(recognition, "is_timeline", False):
        body = "<div>no segments: no speech was found</div>"
    else:
        body = _render_answer(recognition)
    return f'<div style="font-family:system-ui,sans-serif;max-width:640px">{head}{body}</div>'


def _render_answer(answer: Any) -> str:
    speech = getattr(answer, "speech", True)
    parts = [] if speech else ["<div>no speech was found: labels are withheld</div>"]
    for task, one in answer.tasks.items():
        label = "withheld" if one.label is None else escape(one.label)
        title = f"{escape(task)}: <strong>{label}</strong>, {one.confidence:.0%}"
        parts.append(f'<div style="margin:.4em 0 .1em">{title}</div>')
        parts.append(_render_bars(one.probabilities))
    rows = [(name, f"{value:.2f}", "") for name, value in answer.values.items()]
    rows += [
        (name, f"{one.value:+.2f}", f"−1 to 1, by {one.basis}")
        for name, one in answer.dimensions.items()
    ]
    words = " ".join(word.text for word in getattr(answer, "words", []) or [])
    rows += [("words", words, "")] if words else []
    return "".join([*parts, _render_table((), rows)])


def _render_bars(probabilities: Mapping[str, float]) -> str:
    colours = assign_colours(probabilities)
    rows = []
    for name, share in sorted(probabilities.items(), key=lambda pair: -pair[1]):
        width = max(1, round(BAR_WIDTH * share))
        style = f"display:inline-block;height:.7em;width:{width}px;background:{colours[name]}"
        cells = (escape(name), f"{share:.1%}", f'<span style="{style}"></span>')
        rows.append("".join(f'<td style="{CELL}">{cell}</td>' for cell in cells))
    body = "".join(f'<tr style="background:none">{row}</tr>' for row in rows)
    return f'<table style="border:0;border-collapse:collapse;margin:0">{body}</table>'


def _render_headlines(recognition: Any) -> str:
    rows = [
        f'<div style="margin:.4em 0 .1em">{escape(task)}: {escape(text)}</div>'
        for task, text in recognition.headlines.items()
    ]
    return "".join(rows)


def _render_timeline(segments: list[Any]) -> str:
    task = next(iter(segments[0].tasks), None)
    colours: dict[str, str] = {}
    if task is not None:
        colours = assign_colours(segments[0].tasks[task].probabilities)
    drawing = _draw_segments(segments, task, colours) if task is not None else ""
    header = ["start", "end", *segments[0].tasks, *segments[0].values, *segments[0].dimensions]
    rows = []
    for segment in segments[:MAX_SEGMENTS]:
        labels = (
            f"{one.label or 'withheld'} {one.confidence:.0%}" for one in segment.tasks.values()
        )
        numbers = (f"{value:.2f}" for value in segment.values.values())
        dimensions = (f"{one.value:+.2f}" for one in segment.dimensions.values())
        times = (f"{segment.start:.2f}", f"{segment.end:.2f}")
        rows.append((*times, *labels, *numbers, *dimensions))
    more = len(segments) - MAX_SEGMENTS
    rest = f"<div>and {more} more segments: to_frame() has all</div>" if more > 0 else ""
    return drawing + _render_table(header, rows) + rest


def _draw_segments(segments: list[Any], task: str, colours: Mapping[str, str]) -> str:
    """Return an SVG drawing of a task's labels over time, and its legend."""
    end = max(segment.end for segment in segments) or 1.0
    scale = DRAWING_WIDTH / end
    boxes, used = [], {}
    for segment in segments:
        label = segment.tasks[task].label
        colour = colours.get(label, NO_LABEL)
        used[label or "withheld"] = colour
        width = max(0.5, (segment.end - segment.start) * scale)
        title = f"{segment.start:.2f} to {segment.end:.2f} s: {label or 'withheld'}"
        boxes.append(
            f'<rect x="{segment.start * scale:.1f}" width="{width:.1f}" height="{DRAWING_HEIGHT}" '
            f'fill="{colour}"><title>{escape(title)}</title></rect>'
        )
    legend = " ".join(
        f'<span style="white-space:nowrap"><span style="display:inline-block;width:.7em;'
        f'height:.7em;background:{colour}"></span> {escape(name)}</span>'
        for name, colour in used.items()
    )
    return (
        f'<svg viewBox="0 0 {DRAWING_WIDTH} {DRAWING_HEIGHT}" role="img" style="width:100%" '
        f'aria-label="{escape(task)} from 0 to {end:.1f} s; the table has the labels">'
        f"{''.join(boxes)}</svg><div>{legend}</div>"
    )


def _render_table(header: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    titles = "".join(f'<th style="{CELL}">{escape(title)}</th>' for title in header)
    body = "".join(
        '<tr style="background:none">'
        + "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    if not titles and not body:
        return ""
    top = f'<tr style="background:none">{titles}</tr>' if titles else ""
    style = "border:0;border-collapse:collapse;margin:.4em 0"
    return f'<table style="{style}">{top}{body}</table>'
