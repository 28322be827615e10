"""Where a model looked in some recordings: as an HTML page that opens offline, in a terminal."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from serein.explanations import Correlation, Explanation, Explanations, Track
from serein.report import page, summary, terminal
from serein.report.table import UNDEFINED, Column, Row, Table, row, words
from serein.report.tracks import tracks
from serein.vocabulary import END

WHY = "undefined, or no interval: see the note above"


def title(found: Explanations) -> str:
    """What was explained."""
    models = dict.fromkeys(one.model for one in found.explained)
    return f"Where {', '.join(models) or 'a model'} looked"


def sentence(one: Explanation) -> str:
    """What was heard and what was answered, in one sentence."""
    answers = (
        f"{task} {label} ({summary.percent(one.probabilities[task][label])} %)"
        for task, label in one.labels.items()
    )
    part = f"{one.start:.2f} to {one.end:.2f} s" if one.start else f"{one.end:.2f} s"
    count = len(one.windows)
    heard = f", heard in {count} windows (dashed); attention starts anew in each" * (count > 1)
    said = " ".join(word.word for word in one.words if word.word != END)
    words = f" Words, as recognised: {said or 'none'}." if one.words else ""
    return f"{part}{heard}: {', '.join(answers)}.{words}"


def table(one: Explanation) -> Table:
    """The correlation of each map, and of each of its heads, with energy."""
    found = list(_correlations(one.attention))
    return Table(
        title="Attention and energy",
        note=_note(one.attention, [each for _, each in found]),
        columns=_columns("steps"),
        rows=tuple(_row(name, each) for name, each in found),
    )


def _correlations(maps: Mapping[str, Track]) -> Iterator[tuple[str, Correlation]]:
    for name, track in maps.items():
        yield f"{name}: mean" if track.by_head else name, track.correlation
        for number, each in enumerate(track.by_head, 1):
            yield f"{name}: head {number}", each


def _note(maps: Mapping[str, Track], found: list[Correlation]) -> str:
    track = next(iter(maps.values()))
    heard = (
        "Correlation over time of a step's weight with the level (RMS in dB) of the "
        f"{1000 * track.width:.0f} ms around it."
    )
    left = len(track.times) - track.correlation.count
    unheard = f" Steps that nothing could weigh are left out: {left}." * (left > 0)
    queries = " Each head is the mean over its queries." * any(t.queries for t in maps.values())
    return f"{heard}{unheard}{queries}{_ways(found)}"


def _ways(found: list[Correlation]) -> str:
    ways = dict.fromkeys(one.words for one in found)
    if len(ways) == 1:
        return f" {_upper(next(iter(ways)))}."
    return "".join(
        f" {_upper(way)} ({_rows([one.words == way for one in found])})." for way in ways
    )


def _rows(those: list[bool]) -> str:
    numbers = [str(number) for number, there in enumerate(those, 1) if there]
    return f"row{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def overall(found: Explanations) -> Table | None:
    """The mean of each map's correlation over recordings; None for fewer than two."""
    if len(found.explained) < 2:
        return None
    return Table(
        title="Attention and energy, mean over recordings",
        note=_ways(list(found.correlations.values())).strip(),
        columns=_columns("files"),
        rows=tuple(_row(name, each) for name, each in found.correlations.items()),
    )


def _columns(count: str) -> tuple[Column, ...]:
    pairs = (
        Column(name=name, group=group, undefined=WHY)
        for group in ("Pearson", "Spearman")
        for name in ("r", "interval")
    )
    return (*words("attention"), Column(name=count), *pairs)


def _row(name: str, found: Correlation) -> Row:
    return row(
        name,
        str(found.count),
        _number(found.pearson),
        _bounds(found.pearson_interval),
        _number(found.spearman),
        _bounds(found.spearman_interval),
    )


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _bounds(interval: tuple[float, float] | None) -> str:
    return UNDEFINED if interval is None else " to ".join(map(_number, interval))


def render(found: Explanations) -> RenderableType:
    """The correlations for a `rich` console."""
    parts: list[RenderableType] = []
    for one in found.explained:
        parts += [terminal.line(f"{one.source}: {sentence(one)}", "bold")]
        parts += [terminal.draw(table(one)), Text()]
    mean = overall(found)
    return Group(*parts, *([terminal.draw(mean), Text()] if mean else []))


def html(found: Explanations, sounds: Mapping[str, str] | None = None) -> str:
    """The page as text; `plotly`'s script stands in it once.

    Args:
        found: what is shown.
        sounds: WAV files in base64 by source, to be played there; each is all of its part.
    """
    from plotly.offline import get_plotlyjs

    named = {f"recording-{number}": one for number, one in enumerate(found.explained, 1)}
    drawn = {name: tracks(one) for name, one in named.items()}
    heard = sounds or {}
    return page.fill(
        "explanation.html",
        title=title(found),
        command=found.command,
        failed=list(found.failed.values()),
        overall=overall(found),
        shown=[_shown(name, one, heard.get(one.source, "")) for name, one in named.items()],
        sounds=bool(heard),
        figures={name: (figure, _told(named[name])) for name, figure in drawn.items()},
        data={name: figure.to_plotly_json() for name, figure in drawn.items()},
        script=get_plotlyjs() if drawn else "",
    )


def _shown(name: str, one: Explanation, sound: str) -> dict[str, Any]:
    return {
        "name": name,
        "heading": PurePath(one.source).name,
        "words": sentence(one),
        "sound": sound,
        "table": table(one),
    }


def _told(one: Explanation) -> str:
    maps = ", ".join(one.attention)
    return (
        f"Waveform of {PurePath(one.source).name} over seconds, and below it attention ({maps}) "
        "with the signal's energy; the table below holds their correlations"
    )
