"""Format answers: terminal, JSON, CSV, RTTM, audformat, WebVTT and Label Studio."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from serein.errors import ConfigError
from serein.inference.backend import ModelDescription
from serein.inference.recognition import (
    MIXED,
    UNSURE,
    Answer,
    Recognition,
    Segment,
    choose_label,
    round_floats,
)
from serein.labels.votes import trains_on_votes

if TYPE_CHECKING:
    from rich.table import Table

    from serein.bundle import Bundle

SEGMENT_FORMATS = ("rttm", "audformat", "vtt")
"""Formats that consist of segments."""
LABEL_STUDIO = "label-studio"
FORMATS = ("table", "json", "csv", LABEL_STUDIO, *SEGMENT_FORMATS)
NO_ASR = "given with each recording: the model has no speech recogniser"


def find_format(path: Path) -> str:
    """Return the format that belongs to the suffix of an output file.

    Raises:
        ConfigError: there is none.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS or suffix in ("table", LABEL_STUDIO):
        raise ConfigError(
            f"{path}: the answers for single recordings are written as .json, .csv, .rttm or .vtt; "
            "use one of these suffixes, or choose a format with --format. Parquet is for a folder"
        )
    return suffix


def check_format(name: str, classes: Mapping[str, Sequence[str]], sources: int = 1) -> None:
    """Check that a format can hold the answers of a model.

    Args:
        name: the format.
        classes: classes of each task of the model; empty for a regression task.
        sources: number of recordings.

    Raises:
        ConfigError: RTTM without a classification task, or WebVTT for several recordings.
    """
    if name == "vtt" and sources > 1:
        raise ConfigError(f"vtt holds subtitles of one recording; found {sources}. Name one file")
    if name == "rttm" and not any(classes.values()):
        raise ConfigError(
            f"rttm holds labels, and all tasks of this model ({', '.join(classes)}) predict "
            "numbers; choose csv, audformat, vtt or json"
        )


def format_answers(
    name: str,
    answers: Sequence[Recognition],
    failures: Mapping[str, str],
    computed: Mapping[str, str] | None = None,
) -> str:
    """Format answers as text that ends with a new line.

    Args:
        name: any format but "table".
        answers: the answer for each recording.
        failures: reason for each recording that could not be read; only JSON holds them.
        computed: as for ``as_json``.
    """
    if name == "json":
        return f"{as_json(answers, failures, computed)}\n"
    formatters: dict[str, Callable[..., str]] = {
        "csv": as_csv,
        "rttm": as_rttm,
        "audformat": as_audformat,
        LABEL_STUDIO: as_label_studio,
        "vtt": as_vtt,
    }
    return formatters[name](answers)


def as_json(
    answers: Sequence[Recognition],
    failures: Mapping[str, str],
    computed: Mapping[str, str] | None = None,
) -> str:
    """Format answers and failures with their reasons as one JSON document.

    Args:
        answers: the answer for each recording.
        failures: reason for each recording that could not be read.
        computed: how they were computed (``Predictor.describe_computation``); None leaves it out.
    """
    failed = [{"source": source, "reason": reason} for source, reason in failures.items()]
    recognized = [answer.to_dict() for answer in answers]
    how = {} if computed is None else {"computed": dict(computed)}
    return json.dumps({**how, "recognized": recognized, "failed": failed}, indent=1)


def as_csv(answers: Sequence[Recognition]) -> str:
    """Format answers as CSV, with a line per recording or segment; times are in seconds."""
    return _format_csv(answers, str)


def as_audformat(answers: Sequence[Recognition]) -> str:
    """Format answers as a segmented table for ``audformat.utils.read_csv``.

    Times are days and hours.
    """
    return _format_csv(answers, _format_timedelta)


def _format_csv(answers: Sequence[Recognition], format_time: Callable[[float], str]) -> str:
    if not answers:
        return ""
    has_channel = any(answer.channel for answer in answers)
    rows = []
    for answer, segment in _iter_segments(answers):
        start, end = round_floats([segment.start, segment.end])
        row = {"file": answer.source, "start": format_time(start), "end": format_time(end)}
        channel = {"channel": answer.channel or ""} if has_channel else {}
        rows.append(row | channel | round_floats(segment.to_columns()))
    header = dict.fromkeys(["file", "start", "end", *["channel"] * has_channel])
    for row in rows:
        header |= dict.fromkeys(row)  # values are missing in recordings without speech
    text = io.StringIO()
    writer = csv.DictWriter(text, list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_label_studio(answers: Sequence[Recognition]) -> str:
    """Format answers as tasks with predictions, to import into Label Studio.

    A recording is a task whose ``data.audio`` is its path. A classification task is the control tag
    of its name, ``choices`` of a recording or ``labels`` of segments; a regression task is a
    ``number``. The score is the lowest probability of the first task's labels. Withheld labels are
    left out, and long recordings that are mixed have none.
    """
    tasks = []
    for answer in answers:
        result = [one for segment in answer.rows for one in _list_results(answer, segment)]
        scores = [
            main.confidence
            for one in answer.rows
            for main in [*one.tasks.values()][:1]
            if main.label in main.probabilities
        ]
        prediction = {
            "model_version": answer.model,
            **({"score": min(scores)} if scores else {}),
            "result": result,
        }
        predictions = [prediction] if answer.speech else []
        tasks.append({"data": {"audio": answer.source}, "predictions": predictions})
    return json.dumps(round_floats(tasks), indent=1) + "\n"


def _list_results(answer: Recognition, segment: Segment) -> Iterator[dict[str, object]]:
    """Yield the results of a segment, or of a whole recording, as Label Studio has them."""
    span: dict[str, object] = {}
    if answer.is_timeline:
        span = {"start": segment.start, "end": segment.end}
        span |= {"channel": answer.channel - 1} if answer.channel else {}
    kind = "labels" if span else "choices"
    for task, own in segment.tasks.items():
        if own.label in own.probabilities:
            value = {**span, kind: [own.label]}
            yield {"from_name": task, "to_name": "audio", "type": kind, "value": value}
    for task, number in segment.values.items():
        value = {**span, "number": number}
        yield {"from_name": task, "to_name": "audio", "type": "number", "value": value}


def _iter_segments(answers: Sequence[Recognition]) -> Iterator[tuple[Recognition, Segment]]:
    return ((answer, segment) for answer in answers for segment in answer.rows)


def as_rttm(answers: Sequence[Recognition]) -> str:
    """Format segments as RTTM, with the label of the first task in place of the speaker name.

    Rich Transcription Time Marked, NIST: The 2009 (RT-09) Rich Transcription Meeting Recognition
    Evaluation Plan, appendix A. The ninth field is the confidence. The name of a recording is its
    file name without suffix if these names differ, and its path otherwise. Values of regression
    tasks are left out.

    Raises:
        ConfigError: there are only regression tasks.
    """
    stems = {answer.source: Path(answer.source).stem for answer in answers}
    is_unique = len(set(stems.values())) == len(stems)
    lines = []
    for answer, segment in _iter_segments(answers):
        if not segment.tasks:
            check_format("rttm", dict.fromkeys(segment.values, ()))
        name = "_".join((stems[answer.source] if is_unique else answer.source).split())
        turn = f"{answer.channel or 1} {segment.start:.3f} {segment.end - segment.start:.3f}"
        main = next(iter(segment.tasks.values()))
        label = "_".join((main.label or UNSURE).split())
        lines.append(f"SPEAKER {name} {turn} <NA> <NA> {label} {main.confidence:.3f} <NA>\n")
    return "".join(lines)


def as_vtt(answers: Sequence[Recognition]) -> str:
    """Format the segments of one recording as subtitles.

    WebVTT, W3C Candidate Recommendation 2019. A cue holds the label of the first task with its
    probability, and the values of regression tasks by name; channels that were processed
    separately are voices.

    Raises:
        ConfigError: there are several recordings.
    """
    check_format("vtt", {}, len({answer.source for answer in answers}))
    cues = []
    for answer, segment in sorted(_iter_segments(answers), key=lambda row: row[1].start):
        voice = f"<v channel {answer.channel}>" if answer.channel else ""
        start, end = (_format_clock(round(1000 * time)) for time in (segment.start, segment.end))
        label = _format_labels(segment)[:1] if segment.tasks else []
        values = [f"{name} {value:.2f}" for name, value in segment.values.items()]
        text = escape(", ".join([*label, *values]), quote=False)
        cues.append(f"\n{start} --> {end}\n{voice}{text}\n")
    return "".join(["WEBVTT\n", *cues])


def _format_clock(milliseconds: int) -> str:
    """Format a time as hours, minutes and seconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


def _format_timedelta(seconds: float) -> str:
    days, rest = divmod(round(seconds * 1000), 86_400_000)
    return f"{days} days {_format_clock(rest)}"


def as_table(answers: Sequence[Recognition]) -> "Table":
    """Format answers as a table for the terminal.

    The columns are the most likely class of the first task, its second class, the most likely class
    of every other task, the values of regression tasks, and arousal and valence from -1 to 1 where
    they have no task of their own. A label that was withheld is followed by the two most likely
    classes. Numbers beside classes are probabilities; of a long recording, shares of its speech.
    """
    from rich.markup import escape
    from rich.table import Table

    has_segments = answers[0].is_timeline
    segments = [segment for _, segment in _iter_segments(answers)]
    headings = list(segments[0].tasks) if segments else []
    headings[1:1] = ["next"] * bool(headings)
    value_tasks = dict.fromkeys(name for segment in segments for name in segment.values)
    bases = {
        name: dimension.basis
        for segment in segments
        for name, dimension in segment.dimensions.items()
        if name not in {*segment.tasks, *segment.values}
    }
    time_columns = ["start", "end"] if has_segments else ["seconds"]
    table = Table(
        "file",
        *time_columns,
        *([*headings, *value_tasks, *bases] or [""]),
        box=None,
        pad_edge=False,
        header_style="bold",
        caption=_describe_bases(bases),
        caption_justify="left",
    )
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = True
    for column in table.columns[1 : 1 + len(time_columns)]:
        column.justify = "right"
    names = _build_names(answers)
    for answer in answers:
        name = escape(names[id(answer)])
        for segment in answer.rows if answer.speech else []:
            start, end = segment.start, segment.end
            times = [start, end] if has_segments else [end - start]
            numbers = [f"{segment.dimensions[name].value:+.2f}" for name in bases]
            is_long = bool(answer.shares) and not answer.is_timeline
            labels = _format_shares(answer) if is_long else _format_labels(segment)
            cells = [*labels, *_format_values(segment), *numbers]
            table.add_row(name, *(f"{time:.2f}" for time in times), *cells)
        if not answer.speech:
            table.add_row(name, *[""] * len(time_columns), "no speech")
    return table


def _describe_bases(bases: Mapping[str, str]) -> str | None:
    """Describe the scale of arousal and valence and what they are computed from."""
    if not bases:
        return None
    names = " and ".join(bases)
    meanings = {
        "norms": "expected norms of the emotions' names, not ratings of the voice",
        "norm levels": "predicted levels of the emotions' names, not ratings of the voice",
    }
    described = dict.fromkeys(meanings.get(basis, f"predicted {basis}") for basis in bases.values())
    return f"{names} from -1 to 1: {', '.join(described)}"


def _build_names(answers: Sequence[Recognition]) -> dict[int, str]:
    """Return the shortest unique name of each recording, with its channel."""
    short = {answer.source: Path(answer.source).name for answer in answers}
    is_unique = len(set(short.values())) == len(short)
    return {
        id(answer): (short[answer.source] if is_unique else answer.source)
        + (f" [{answer.channel}]" if answer.channel else "")
        for answer in answers
    }


def _format_labels(segment: Segment) -> list[str]:
    """Format the label and the second class of the first task, and the other labels."""
    cells = [
        _format_class(answer, 0) if answer.label else UNSURE for answer in segment.tasks.values()
    ]
    for main in list(segment.tasks.values())[:1]:
        ranks = range(main.label is not None, min(2, len(main.probabilities)))
        cells.insert(1, ", ".join(_format_class(main, rank) for rank in ranks))
    return cells


def _format_shares(answer: Recognition) -> list[str]:
    """Format the same for a long recording, by the shares of its speech."""
    cells, rest = [], []
    for shares in answer.shares.values():
        label = choose_label(shares) or UNSURE
        cells.append(MIXED if label == MIXED else f"{label} {shares[label]:.0%} of speech")
        others = [f"{name} {share:.0%}" for name, share in shares.items() if name != label]
        rest.append(", ".join(others[: 2 if label == MIXED else 1]))
    return [cells[0], rest[0], *cells[1:]]


def _format_values(segment: Segment) -> list[str]:
    return [f"{value:.2f}" for value in segment.values.values()]


def _format_class(answer: Answer, rank: int) -> str:
    """Format the class of a rank with its probability."""
    ranked = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    name, probability = ranked[rank]
    return f"{name} {probability:.0%}"


def as_card(model: "ModelDescription | Bundle") -> str:
    """Format the card of a model, of which the description suffices, as Markdown."""
    description = model if isinstance(model, ModelDescription) else _describe_bundle(model)
    card, recipe = description.card, description.recipe
    sections = {
        # An estimator takes votes as weights of utterances; its probabilities are those of labels.
        "Answers": "; ".join(
            f"{task}: {', '.join(names) or 'a number'}"
            + ", as shares of raters' votes"
            * (description.learns_shares and trains_on_votes(task, recipe))
            for task, names in description.classes.items()
        ),
        "Recipe": f"{recipe.name}, {description.weights:,} weights",
        **({"Words": description.asr or NO_ASR} if description.needs_words else {}),
        "Data": card.data,
        "Licence": card.licence,
        "Confidence": "; ".join(
            f"{task}: temperature {fitted.temperature:.2f}, threshold {fitted.threshold:.2f} "
            f"({fitted.description or 'not fitted'})"
            for task, fitted in description.confidence.items()
        ),
        "Scores": card.scores,
        "Limits": card.limits,
        "Use and misuse": card.use,
        "Training": ", ".join(f"{key} {value}" for key, value in card.training.items()),
    }
    text = [f"## {name}\n\n{content or 'not stated'}\n" for name, content in sections.items()]
    return "\n".join([f"# {card.name}\n", *text])


def _describe_bundle(bundle: "Bundle") -> ModelDescription:
    from serein.inference.torch_backend import describe_bundle

    return describe_bundle(bundle)
