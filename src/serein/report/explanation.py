"""Where a model looked in some recordings: as an HTML page that opens offline, in a terminal."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from serein.labels.vocabulary import END
from serein.report import html, summary, terminal
from serein.report.attention import draw_attention
from serein.report.table import UNDEFINED, Column, Row, Table, make_row, text_columns
from serein.results.inference import AttentionTrack, Correlation, Explanation, Explanations

UNDEFINED_REASON = "undefined, or no interval: see the note above"


def format_title(explanations: Explanations) -> str:
    """What was explained."""
    models = dict.fromkeys(one.model for one in explanations.explained)
    return f"Where {', '.join(models) or 'a model'} looked"


def describe_recording(one: Explanation) -> str:
    """What was heard and what was answered, in one sentence."""
    answers = (
        f"{task} {label} ({summary.format_percent(one.probabilities[task][label])} %)"
        for task, label in one.labels.items()
    )
    part = f"{one.start:.2f} to {one.end:.2f} s" if one.start else f"{one.end:.2f} s"
    count = len(one.windows)
    heard = f", heard in {count} windows (dashed); attention starts anew in each" * (count > 1)
    said = " ".join(word.word for word in one.words if word.word != END)
    words = f" Words, as recognised: {said or 'none'}." if one.words else ""
    return f"{part}{heard}: {', '.join(answers)}.{words}"


def build_correlation_table(one: Explanation) -> Table:
    """The correlation of each map, and of each of its heads, with energy."""
    found = list(_iter_correlations(one.attention))
    return Table(
        title="Attention and energy",
        note=_describe_correlations(one.attention, [each for _, each in found]),
        columns=_correlation_columns("steps"),
        rows=tuple(_correlation_row(name, each) for name, each in found),
    )


def _iter_correlations(maps: Mapping[str, AttentionTrack]) -> Iterator[tuple[str, Correlation]]:
    for name, track in maps.items():
        yield f"{name}: mean" if track.by_head else name, track.correlation
        for number, each in enumerate(track.by_head, 1):
            yield f"{name}: head {number}", each


def _describe_correlations(maps: Mapping[str, AttentionTrack], found: list[Correlation]) -> str:
    track = next(iter(maps.values()))
    heard = (
        "Correlation over time of a step's weight with the level (RMS in dB) of the "
        f"{1000 * track.width:.0f} ms around it."
    )
    left = len(track.times) - track.correlation.count
    unheard = f" Steps that nothing could weigh are left out: {left}." * (left > 0)
    queries = " Each head is the mean over its queries." * any(t.queries for t in maps.values())
    return f"{heard}{unheard}{queries}{_describe_intervals(found)}"


def _describe_intervals(found: list[Correlation]) -> str:
    ways = dict.fromkeys(one.description for one in found)
    if len(ways) == 1:
        return f" {_capitalize(next(iter(ways)))}."
    return "".join(
        f" {_capitalize(way)} ({_format_rows([one.description == way for one in found])})."
        for way in ways
    )


def _format_rows(those: list[bool]) -> str:
    numbers = [str(number) for number, there in enumerate(those, 1) if there]
    return f"row{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _capitalize(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def build_mean_table(explanations: Explanations) -> Table | None:
    """The mean of each map's correlation over recordings; None for fewer than two."""
    if len(explanations.explained) < 2:
        return None
    return Table(
        title="Attention and energy, mean over recordings",
        note=_describe_intervals(list(explanations.correlations.values())).strip(),
        columns=_correlation_columns("files"),
        rows=tuple(
            _correlation_row(name, each) for name, each in explanations.correlations.items()
        ),
    )


def _correlation_columns(count: str) -> tuple[Column, ...]:
    pairs = (
        Column(name=name, group=group, undefined_reason=UNDEFINED_REASON)
        for group in ("Pearson", "Spearman")
        for name in ("r", "interval")
    )
    return (*text_columns("attention"), Column(name=count), *pairs)


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
    """The correlations for a `rich` console."""
    parts: list[RenderableType] = []
    for one in explanations.explained:
        parts += [terminal.make_line(f"{one.source}: {describe_recording(one)}", "bold")]
        parts += [terminal.draw_table(build_correlation_table(one)), Text()]
    mean = build_mean_table(explanations)
    return Group(*parts, *([terminal.draw_table(mean), Text()] if mean else []))


def render_html(explanations: Explanations, sounds: Mapping[str, str] | None = None) -> str:
    """The page as text; `plotly`'s script stands in it once.

    Args:
        explanations: what is shown.
        sounds: WAV files in base64 by source, to be played there; each is all of its part.
    """
    from plotly.offline import get_plotlyjs

    named = {f"recording-{number}": one for number, one in enumerate(explanations.explained, 1)}
    drawn = {name: draw_attention(one) for name, one in named.items()}
    heard = sounds or {}
    return html.render_template(
        "explanation.html",
        title=format_title(explanations),
        command=explanations.command,
        failed=list(explanations.failed.values()),
        overall=build_mean_table(explanations),
        shown=[
            _recording_values(name, one, heard.get(one.source, "")) for name, one in named.items()
        ],
        sounds=bool(heard),
        figures={name: (figure, _describe_figure(named[name])) for name, figure in drawn.items()},
        data={name: figure.to_plotly_json() for name, figure in drawn.items()},
        script=get_plotlyjs() if drawn else "",
    )


def _recording_values(name: str, one: Explanation, sound: str) -> dict[str, Any]:
    return {
        "name": name,
        "heading": PurePath(one.source).name,
        "words": describe_recording(one),
        "sound": sound,
        "table": build_correlation_table(one),
    }


def _describe_figure(one: Explanation) -> str:
    maps = ", ".join(one.attention)
    return (
        f"Waveform of {PurePath(one.source).name} over seconds, and below it attention ({maps}) "
        "with the signal's energy; the table below holds their correlations"
    )
