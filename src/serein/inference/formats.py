"""Recognitions as table, JSON, CSV, RTTM, audformat or WebVTT."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from serein.bundle import Bundle
from serein.errors import ConfigError
from serein.inference.recognition import Answer, Recognition, Segment

if TYPE_CHECKING:
    from rich.table import Table

SEGMENT_FORMATS = ("rttm", "audformat", "vtt")
"""Those that are made of segments."""
FORMATS = ("table", "json", "csv", *SEGMENT_FORMATS)
UNSURE = "unsure"
"""A withheld answer, where nothing cannot be written."""


def find_format(path: Path) -> str:
    """The format of a file to be written, by its ending.

    Raises:
        ConfigError: its ending is none of a format's.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS or ending == "table":
        raise ConfigError(
            f"{path}: the answers for single recordings are written as .json, .csv, .rttm or .vtt; "
            "name one of these, or the format with --format. Parquet is for a folder"
        )
    return ending


def format_answers(name: str, answers: Sequence[Recognition], failures: Mapping[str, str]) -> str:
    """Answers in one of the formats but "table", each ending with a new line.

    Args:
        name: of the format.
        answers: one for each recording.
        failures: what could not be read, and why; JSON alone has place for it.
    """
    if name == "json":
        return f"{as_json(answers, failures)}\n"
    makers: dict[str, Callable[..., str]] = {
        "csv": as_csv,
        "rttm": as_rttm,
        "audformat": as_audformat,
        "vtt": as_vtt,
    }
    return makers[name](answers)


def check_format(name: str, classes: Mapping[str, Sequence[str]], sources: int = 1) -> None:
    """See to it that a format has place for what a model answers.

    Args:
        name: of the format.
        classes: of each of the model's tasks; none of a task of numbers.
        sources: how many recordings there are.

    Raises:
        ConfigError: it has not: RTTM is of names, and the model knows numbers alone; or WebVTT
            is of one recording, and there are more.
    """
    if name == "vtt" and sources > 1:
        raise ConfigError(f"subtitles are of one recording; found {sources}. Name one file")
    if name == "rttm" and not any(classes.values()):
        raise ConfigError(
            f"rttm holds names and no numbers, and this model answers {', '.join(classes)} with "
            "numbers alone; choose csv, audformat, vtt or json"
        )


def as_json(answers: Sequence[Recognition], failures: Mapping[str, str]) -> str:
    """One document: what was recognised, and what could not be read, with its reason."""
    failed = [{"source": source, "reason": reason} for source, reason in failures.items()]
    return json.dumps(
        {"recognized": [one.to_dict() for one in answers], "failed": failed}, indent=1
    )


def as_csv(answers: Sequence[Recognition]) -> str:
    """A line for each recording or segment: labels, the probability of each class, and values."""
    return _format_csv(answers, str)


def as_audformat(answers: Sequence[Recognition]) -> str:
    """A segmented table, as ``audformat.utils.read_csv`` takes it: times as days and hours."""
    return _format_csv(answers, _format_timedelta)


def _format_csv(answers: Sequence[Recognition], time: Callable[[float], str]) -> str:
    rows = list(_iter_segments(answers))
    if not answers:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    channels, numbers = any(one.channel for one in answers), _list_value_tasks(rows)
    writer.writerow(["file", "start", "end", *["channel"] * channels, *_list_columns(rows)])
    for one, segment in rows:
        plain = segment.to_dict()
        values = [one.channel or ""] * channels
        for task in plain["tasks"].values():
            values += [task["label"], *task["probabilities"].values()]
        values += [plain["values"].get(name, "") for name in numbers]
        writer.writerow([one.source, time(plain["start"]), time(plain["end"]), *values])
    return text.getvalue()


def _iter_segments(answers: Sequence[Recognition]) -> Iterator[tuple[Recognition, Segment]]:
    return ((one, segment) for one in answers for segment in one.rows)


def _list_columns(rows: Sequence[tuple[Recognition, Segment]]) -> list[str]:
    if not rows:
        return []
    columns, first = [], rows[0][1]
    for task, found in first.tasks.items():
        columns += [task, *(f"{task}_{name}" for name in found.probabilities)]
    return [*columns, *_list_value_tasks(rows)]


def _list_value_tasks(rows: Sequence[tuple[Recognition, Segment]]) -> list[str]:
    """The tasks of numbers; a recording in which nobody speaks has none of them."""
    return list(dict.fromkeys(name for _, segment in rows for name in segment.values))


def as_rttm(answers: Sequence[Recognition]) -> str:
    """A line for each segment, the main task's label where a speaker's name stands; no values.

    Rich Transcription Time Marked, NIST: The 2009 (RT-09) Rich Transcription Meeting Recognition
    Evaluation Plan, appendix A. The ninth field is the confidence; a recording is named by its
    file without folder and ending, where that tells them apart.

    Raises:
        ConfigError: there are values alone.
    """
    stems = {one.source: Path(one.source).stem for one in answers}
    apart = len(set(stems.values())) == len(stems)
    lines = []
    for one, segment in _iter_segments(answers):
        if not segment.tasks:
            check_format("rttm", dict.fromkeys(segment.values, ()))
        name = "_".join((stems[one.source] if apart else one.source).split())
        place = f"{one.channel or 1} {segment.start:.3f} {segment.end - segment.start:.3f}"
        main = next(iter(segment.tasks.values()))
        label = "_".join((main.label or UNSURE).split())
        lines.append(f"SPEAKER {name} {place} <NA> <NA> {label} {main.confidence:.3f} <NA>\n")
    return "".join(lines)


def as_vtt(answers: Sequence[Recognition]) -> str:
    """Subtitles of one recording: the main task's label and its probability, and values by name.

    WebVTT, W3C Candidate Recommendation 2019; a channel that was heard by itself is a voice.

    Raises:
        ConfigError: there are several recordings.
    """
    check_format("vtt", {}, len({one.source for one in answers}))
    cues = []
    for one, segment in sorted(_iter_segments(answers), key=lambda row: row[1].start):
        voice = f"<v channel {one.channel}>" if one.channel else ""
        times = f"{_format_clock(round(1000 * segment.start))} --> {_format_clock(round(1000 * segment.end))}"
        main = _format_cells(segment)[:1] if segment.tasks else []
        values = [f"{name} {value:.2f}" for name, value in segment.values.items()]
        cues.append(f"\n{times}\n{voice}{escape(', '.join([*main, *values]), quote=False)}\n")
    return "".join(["WEBVTT\n", *cues])


def _format_clock(milliseconds: int) -> str:
    """Hours, minutes and seconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


def _format_timedelta(seconds: float) -> str:
    days, rest = divmod(round(seconds * 1000), 86_400_000)
    return f"{days} days {_format_clock(rest)}"


def as_table(answers: Sequence[Recognition]) -> "Table":
    """For people: the likeliest class, the two next ones, and the other tasks; or values."""
    from rich.markup import escape
    from rich.table import Table

    timed = answers[0].segments is not None
    rows = list(_iter_segments(answers))
    first = rows[0][1] if rows else Segment(start=0, end=0, tasks={})
    heads = list(first.tasks)
    heads[1:1] = ["next"] * bool(heads)
    places = ["start", "end"] if timed else ["seconds"]
    columns = [*heads, *_list_value_tasks(rows)] or [""]
    table = Table("file", *places, *columns, box=None, header_style="bold")
    table.columns[0].overflow = "fold"
    for column in table.columns[1 : 1 + len(places)]:
        column.justify = "right"
    names = _build_names(answers)
    for one in answers:
        for segment in one.rows if one.speech else []:
            times = [segment.start, segment.end] if timed else [segment.end - segment.start]
            cells = [f"{seconds:.2f}" for seconds in times]
            table.add_row(escape(names[id(one)]), *cells, *_format_cells(segment))
        if not one.speech:
            table.add_row(escape(names[id(one)]), *[""] * len(places), "no speech")
    return table


def _build_names(answers: Sequence[Recognition]) -> dict[int, str]:
    """What tells recordings apart, and their channels."""
    short = {one.source: Path(one.source).name for one in answers}
    apart = len(set(short.values())) == len(short)
    return {
        id(one): (short[one.source] if apart else one.source)
        + (f" [{one.channel}]" if one.channel else "")
        for one in answers
    }


def _format_cells(segment: Segment) -> list[str]:
    """The answer and the next classes of the main task, the others' answers, and values."""
    cells = [_format_class(one, 0) if one.label else UNSURE for one in segment.tasks.values()]
    for main in list(segment.tasks.values())[:1]:
        runners = range(main.label is not None, min(3, len(main.probabilities)))
        cells.insert(1, ", ".join(_format_class(main, rank) for rank in runners))
    return [*cells, *(f"{value:.2f}" for value in segment.values.values())]


def _format_class(answer: Answer, rank: int) -> str:
    """The class of that rank and its probability."""
    ranked = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    name, probability = ranked[rank]
    return f"{name} {probability:.0%}"


def as_card(bundle: Bundle) -> str:
    """A model's card in Markdown."""
    card, system = bundle.card, bundle.system
    weights = sum(weight.numel() for weight in system.parameters())
    classes = "; ".join(
        f"{task}: {', '.join(names) or 'a number'}" for task, names in system.classes.items()
    )
    rows = {
        "Answers": classes,
        "Recipe": f"{system.recipe.name}, {weights:,} weights",
        "Data": card.data,
        "Licence": card.licence,
        "Confidence": "; ".join(
            f"{task}: temperature {found.temperature:.2f}, threshold {found.threshold:.2f} "
            f"({found.description or 'not fitted'})"
            for task, found in bundle.confidence.items()
        ),
        "Scores": card.scores,
        "Limits": card.limits,
        "Use and misuse": card.use,
        "Training": ", ".join(f"{key} {value}" for key, value in card.training.items()),
    }
    text = [f"## {name}\n\n{words or 'not stated'}\n" for name, words in rows.items()]
    return "\n".join([f"# {card.name}\n", *text])
