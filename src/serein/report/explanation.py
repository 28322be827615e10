"""Reports of attention or occlusion in some recordings: in the terminal, and as an HTML page."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from serein.labels.vocabulary import END
from serein.report import html, summary, terminal
from serein.report.attention import draw_attention
from serein.report.table import UNDEFINED, Column, Row, Table, make_row, text_columns
from serein.results.inference import (
    AttentionTrack,
    Correlation,
    Explanation,
    Explanations,
    OcclusionTrack,
)

UNDEFINED_REASON = "undefined, or no interval: see the note above"
LEGENDS = {
    "attention": "Orange: the model's attention over time, in percent of its weight per step.",
    "occlusion": (
        "Orange: spans that support the answer: its probability (or value) falls when the span is "
        "silenced. Green, below the line: spans against it: the probability rises."
    ),
}
CAVEATS = {
    "attention": (
        "Attention shows the weights of a model, not the reasons for its prediction: other weights "
        "can give the same prediction. With recurrent layers, a step also contains information "
        "from other steps."
    ),
    "occlusion": (
        "Occlusion shows how the prediction changes when a span is replaced by the background "
        "noise of the recording, and not why. If several spans have the same effect, "
        "silencing one of them may change nothing."
    ),
}
"""What a page says about each method."""


def format_title(explanations: Explanations) -> str:
    """Return the title, which names the method and the models."""
    models = dict.fromkeys(explanation.model for explanation in explanations.explained)
    kind = "Occlusion with" if _get_method(explanations) == "occlusion" else "Attention of"
    return f"{kind} {', '.join(models) or 'a model'}"


def _get_method(explanations: Explanations) -> str:
    return next((one.method for one in explanations.explained), "attention")


def describe_recording(explanation: Explanation) -> str:
    """Return the part of the recording, its windows, predictions, transcript and occlusion."""
    start, end, count = explanation.start, explanation.end, len(explanation.windows)
    part = f"{start:.2f} to {end:.2f} s" if start else f"{end:.2f} s"
    if count > 1:
        kind = "answers" if explanation.occlusion else "attention"
        part += f", in {count} windows (dashed) with separate {kind}"
    predictions = []
    for task, label in explanation.labels.items():
        share = summary.format_percent(explanation.probabilities[task][label])
        predictions.append(f"{task} {label} ({share} %)")
    predictions += [f"{task} {value:.2f}" for task, value in explanation.values.items()]
    transcript = ""
    if explanation.words:
        words = " ".join(word.word for word in explanation.words if word.word != END)
        has_times = any(word.time is not None for word in explanation.words)
        source = "recognised" if has_times else "given"
        transcript = f" Words, as {source}: {words or 'none'}."
    return f"{part}: {', '.join(predictions)}.{transcript}{_describe_spans(explanation)}"


def _describe_spans(explanation: Explanation) -> str:
    if not explanation.occlusion:
        return ""
    track = next(iter(explanation.occlusion.values()))
    count, answers = len(track.times), explanation.answers
    return (
        f" {count} span{'s' * (count != 1)} of {track.length:.2f} s"
        f"{f' every {track.step:.2f} s' * (count > 1)}, replaced by the background noise of the "
        f"recording one at a time: {answers} answers of the model."
    )


def build_span_table(explanation: Explanation) -> Table | None:
    """Build the table of the spans that change each task most; None without occlusion."""
    if not explanation.occlusion:
        return None
    return Table(
        title="Spans with the largest effect",
        note="Change of the answer when the span is silenced: of its probability in percentage "
        "points, or of the value.",
        columns=(
            *text_columns("task", "answer"),
            *(
                Column(
                    name=name, group=group, undefined_reason=f"it does not {verb} without any span"
                )
                for group, verb in (("largest fall", "fall"), ("largest rise", "rise"))
                for name in ("span", "change")
            ),
        ),
        rows=tuple(_span_row(track, explanation) for track in explanation.occlusion.values()),
    )


def _span_row(track: OcclusionTrack, explanation: Explanation) -> Row:
    value = explanation.values.get(track.task)  # none without speech
    answer = track.label or (UNDEFINED if value is None else f"{value:.2f}")
    highest = max(range(len(track.drop)), key=track.drop.__getitem__)
    lowest = min(range(len(track.drop)), key=track.drop.__getitem__)
    cells: list[str] = []
    for index, sign in ((highest, 1), (lowest, -1)):
        drop = track.drop[index]
        if sign * drop <= 0:
            cells += [UNDEFINED, UNDEFINED]
            continue
        start = track.times[index] - track.length / 2
        change = f"{-drop:+.3f}" if track.label is None else f"{-100 * drop:+.1f}"
        cells += [f"{max(start, 0):.2f} to {start + track.length:.2f} s", change]
    return make_row(track.task, answer, *cells)


def build_correlation_table(explanation: Explanation) -> Table:
    """Build the table of the correlation of each map and head, or task, with energy."""
    if explanation.occlusion:
        correlations = [(name, track.correlation) for name, track in explanation.occlusion.items()]
        note = " ".join(
            [
                "Correlation over the spans of the drop of a span with its level (RMS in dB).",
                *_describe_intervals([correlation for _, correlation in correlations]),
            ]
        )
    else:
        correlations = list(_iter_correlations(explanation.attention))
        note = _describe_correlations(
            explanation.attention, [correlation for _, correlation in correlations]
        )
    return Table(
        title=f"{explanation.method.capitalize()} and energy",
        note=note,
        columns=_correlation_columns(
            explanation.method, "spans" if explanation.occlusion else "steps"
        ),
        rows=tuple(_correlation_row(name, correlation) for name, correlation in correlations),
    )


def _iter_correlations(maps: Mapping[str, AttentionTrack]) -> Iterator[tuple[str, Correlation]]:
    for name, track in maps.items():
        yield f"{name}: mean" if track.by_head else name, track.correlation
        for number, correlation in enumerate(track.by_head, 1):
            yield f"{name}: head {number}", correlation


def _describe_correlations(
    maps: Mapping[str, AttentionTrack], correlations: list[Correlation]
) -> str:
    track = next(iter(maps.values()))
    sentences = [
        "Correlation over time of the weight of a step with the level (RMS in dB) of the "
        f"{1000 * track.width:.0f} ms around it."
    ]
    left_out = len(track.times) - track.correlation.count
    if left_out:
        sentences.append(f"Steps that cannot have a weight are left out: {left_out}.")
    if any(track.queries for track in maps.values()):
        sentences.append("Each head is the mean over its queries.")
    return " ".join([*sentences, *_describe_intervals(correlations)])


def _describe_intervals(correlations: list[Correlation]) -> list[str]:
    """Return a sentence for each method of the intervals, with its rows if there are several."""
    methods = list(dict.fromkeys(correlation.description for correlation in correlations))
    if len(methods) == 1:
        return [f"{_capitalize(methods[0])}."]
    return [f"{_capitalize(method)} ({_format_rows(method, correlations)})." for method in methods]


def _format_rows(method: str, correlations: list[Correlation]) -> str:
    rows = [
        str(number)
        for number, correlation in enumerate(correlations, 1)
        if correlation.description == method
    ]
    return f"row{'s' * (len(rows) > 1)} {', '.join(rows)}"


def _capitalize(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def build_mean_table(explanations: Explanations) -> Table | None:
    """Build the table of mean correlations; None for fewer than two recordings."""
    if len(explanations.explained) < 2:
        return None
    method = _get_method(explanations)
    return Table(
        title=f"{method.capitalize()} and energy, mean over recordings",
        note=" ".join(_describe_intervals(list(explanations.correlations.values()))),
        columns=_correlation_columns(method, "files"),
        rows=tuple(
            _correlation_row(name, correlation)
            for name, correlation in explanations.correlations.items()
        ),
    )


def _correlation_columns(method: str, count: str) -> tuple[Column, ...]:
    pairs = (
        Column(name=name, group=group, undefined_reason=UNDEFINED_REASON)
        for group in ("Pearson", "Spearman")
        for name in ("r", "interval")
    )
    return (*text_columns(method), Column(name=count), *pairs)


def _correlation_row(name: str, correlation: Correlation) -> Row:
    return make_row(
        name,
        str(correlation.count),
        _format_number(correlation.pearson),
        _format_bounds(correlation.pearson_interval),
        _format_number(correlation.spearman),
        _format_bounds(correlation.spearman_interval),
    )


def _format_number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _format_bounds(interval: tuple[float, float] | None) -> str:
    return UNDEFINED if interval is None else " to ".join(map(_format_number, interval))


def render_terminal(explanations: Explanations) -> RenderableType:
    """Render spans and correlations for a `rich` console."""
    parts: list[RenderableType] = []
    for explanation in explanations.explained:
        line = f"{explanation.source}: {describe_recording(explanation)}"
        parts.append(terminal.make_line(line, "bold"))
        spans = build_span_table(explanation)
        parts += [terminal.draw_table(spans), Text()] if spans else []
        parts += [terminal.draw_table(build_correlation_table(explanation)), Text()]
    mean = build_mean_table(explanations)
    return Group(*parts, *([terminal.draw_table(mean), Text()] if mean else []))


def render_html(explanations: Explanations, audio: Mapping[str, str] | None = None) -> str:
    """Render the page; it contains the script of `plotly` once.

    Args:
        explanations: to be shown.
        audio: WAV files in base64 by source, of the same part, for a player on the page.
    """
    audio = audio or {}
    plots, recordings = {}, []
    for number, explanation in enumerate(explanations.explained, 1):
        name = f"recording-{number}"
        plots[name] = (draw_attention(explanation), _describe_figure(explanation))
        recordings.append(_recording_values(name, explanation, audio.get(explanation.source, "")))
    return html.render_template(
        "explanation.html",
        **html.figure_values(plots),
        title=format_title(explanations),
        command=explanations.command,
        failed=list(explanations.failed.values()),
        mean_table=build_mean_table(explanations),
        recordings=recordings,
        has_audio=bool(audio),
        legend=LEGENDS[_get_method(explanations)],
        caveat=CAVEATS[_get_method(explanations)],
    )


def _recording_values(name: str, explanation: Explanation, audio: str) -> dict[str, Any]:
    return {
        "name": name,
        "heading": PurePath(explanation.source).name,
        "description": describe_recording(explanation),
        "audio": audio,
        "tables": [
            table
            for table in (build_span_table(explanation), build_correlation_table(explanation))
            if table
        ],
    }


def _describe_figure(explanation: Explanation) -> str:
    names = ", ".join(explanation.attention | explanation.occlusion)
    return (
        f"Waveform of {PurePath(explanation.source).name} over seconds, and below it "
        f"{explanation.method} ({names}) with the energy of the signal; the tables below have the "
        "numbers"
    )
