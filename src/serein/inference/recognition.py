"""What a recogniser answers. Times are in seconds from the start of the recording.

Recognitions as a pandas table.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from serein.audio import Source
from serein.errors import ConfigError
from serein.results.inference import RecognizedWord

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was recognised for one task.

    Attributes:
        label: the likeliest class; None where its probability is below the threshold, or nobody
            speaks.
        confidence: the probability of the likeliest class.
        probabilities: of each class.
    """

    label: str | None
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionMap:
    """Where the model looked.

    Attributes:
        times: (T,) the middle of each step.
        weights: (heads, T); each head's sum to 1 over all windows of the recording, but for
            what it spends on zeros that a recipe pads with.
        queries: whether each head has a row of weights for each step, of which these are the
            mean.
        words: whether each row is that of a word, which the window that it is in looked at.
    """

    times: list[float]
    weights: list[list[float]]
    queries: bool = False
    words: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of speech with one answer.

    Attributes:
        start: where it begins.
        end: where it ends.
        tasks: the answer for each task of classes, the main one first.
        values: the answer for each task of numbers.
    """

    start: float
    end: float
    tasks: dict[str, Answer]
    values: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str | None:
        """The main task's likeliest class; None where the recogniser abstained."""
        return _get_main_label(self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Dictionaries, lists, words and numbers, as JSON has them; six digits are kept."""
        return {one.name: _round_floats(getattr(self, one.name)) for one in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognition:
    """One recording's answer.

    Attributes:
        source: what was recognised: a path, or "bytes", "file", "array".
        model: the name of the model.
        start: where the recognised part begins.
        end: where it ends.
        windows: the parts with speech, which the model heard one by one; their answers were
            averaged.
        tasks: the answer for each task of classes, the main one first; none where nobody speaks.
        attention: maps by name; none for a model without attention, and none in a timeline.
        values: the answer for each task of numbers, such as arousal, in the unit of the labels
            that the model learnt from; nothing keeps it on their scale.
        channel: the one that was heard, counted from 1; None is the mean of all.
        segments: of a timeline, in order; None where none was asked for.
        words: as they were recognised, by a model that finds words; else none.
        speech: whether somebody speaks; otherwise labels are withheld, without values and words.
            A timeline that speech was looked for in has no segments then.
    """

    source: str
    model: str
    start: float
    end: float
    windows: list[tuple[float, float]]
    tasks: dict[str, Answer]
    attention: dict[str, AttentionMap]
    values: dict[str, float] = field(default_factory=dict)
    channel: int | None = None
    segments: list[Segment] | None = None
    words: list[RecognizedWord] = field(default_factory=list)
    speech: bool = True

    @property
    def label(self) -> str | None:
        """The main task's likeliest class; None where withheld, unheard, or without classes."""
        return _get_main_label(self.tasks)

    @property
    def rows(self) -> list[Segment]:
        """Its segments; where none were asked for, all of it as one."""
        if self.segments is not None:
            return self.segments
        return [Segment(start=self.start, end=self.end, tasks=self.tasks, values=self.values)]

    def to_frame(self) -> "pandas.DataFrame":
        """A table as audformat has it: a row for each segment, or one for the whole recording.

        Returns:
            Indexed by file, start and end (times as ``Timedelta``); for each task its label, and
            the probability of each class as ``task_class``; and the channel, if one was chosen.

        Raises:
            ConfigError: pandas is not installed.
        """

        return build_frame([self])

    def to_dict(self) -> dict[str, Any]:
        """Dictionaries, lists, words and numbers, as JSON has them; six digits are kept."""
        return {one.name: _round_floats(getattr(self, one.name)) for one in fields(self)}


def get_source_name(source: Source) -> str:
    """What an answer calls its source."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return (
        "bytes" if isinstance(source, bytes) else "array" if isinstance(source, tuple) else "file"
    )


def _get_main_label(tasks: dict[str, Answer]) -> str | None:
    return next((answer.label for answer in tasks.values()), None)


def _round_floats(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # Most of an answer are weights of attention, and each call would take as long again.
        return [float(f"{one:.6g}") if type(one) is float else _round_floats(one) for one in value]
    if isinstance(value, Answer | AttentionMap | Segment | RecognizedWord):
        return {field.name: _round_floats(getattr(value, field.name)) for field in fields(value)}
    return value


def build_frame(recognitions: Sequence[Recognition]) -> "pandas.DataFrame":
    """What ``Recognition.to_frame`` does, for several; see there."""
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("a table needs pandas; install it with pip install pandas") from error

    rows: list[dict[str, Any]] = []
    places = []
    for one in recognitions:
        for segment in one.rows:
            places.append((one.source, segment.start, segment.end))
            rows.append({} if one.channel is None else {"channel": one.channel})
            for task, found in segment.tasks.items():
                rows[-1][task] = found.label
                rows[-1] |= {f"{task}_{name}": p for name, p in found.probabilities.items()}
            rows[-1] |= segment.values
    index = pandas.MultiIndex.from_arrays(
        [
            pandas.Index([file for file, _, _ in places], dtype="string"),
            pandas.to_timedelta([start for _, start, _ in places], unit="s"),
            pandas.to_timedelta([end for _, _, end in places], unit="s"),
        ],
        names=["file", "start", "end"],
    )
    return pandas.DataFrame(rows, index=index)
