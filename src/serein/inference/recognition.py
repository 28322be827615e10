"""The answer of a recognizer to one recording; times are in seconds from its start."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from serein.audio import Source
from serein.errors import ConfigError
from serein.inference import notebook
from serein.results.inference import RecognizedWord

if TYPE_CHECKING:
    import pandas

UNSURE = "unsure"
"""Stands for a withheld label where one is needed."""
MIXED = "mixed"
"""Label of a long recording in which no class leads."""
LEADING_SHARE = 0.5
"""Share of the speech from which on a class leads; below, the recording is mixed."""
RANKS = ("first", "second")
"""Names of the most likely classes in columns of tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedClass:
    """A class with its probability."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer of one classification task.

    Attributes:
        label: the most likely class; None if its probability is below the threshold, or if there
            is no speech. Of a timeline or a long recording, the class of at least half of the
            speech; "mixed" without one.
        confidence: probability of the label, or of the most likely class if the label is withheld
            or "mixed".
        probabilities: probability of each class.
        top: the two most likely classes, whether or not the label was withheld.
    """

    label: str | None
    confidence: float
    probabilities: dict[str, float]
    top: list[RankedClass] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Rank the classes; of equally likely ones, the first of the probabilities comes first."""
        ranked = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        top = [RankedClass(label=name, probability=p) for name, p in ranked[:2]]
        object.__setattr__(self, "top", top)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """A number for arousal or valence.

    Attributes:
        value: from -1 (calm, unpleasant) to 1 (excited, pleasant).
        basis: what it was computed from: "ratings" or "levels" that the model predicts; "norm
            levels", which were norms of emotion words in training; or "norms", the expected norm of
            the predicted emotions' names (see ``serein.inference.dimensions``).
    """

    value: float
    basis: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionMap:
    """The weights of one attention layer.

    Attributes:
        times: (T,) the centre of each step.
        weights: (heads, T); the weights of a head sum to 1 over all windows of the recording,
            except for weights on zeros with which the recipe pads.
        queries: true for self-attention, in which each step is a query with a row of weights;
            ``weights`` is then the mean of these rows.
        words: true if each row of ``weights`` belongs to a recognised word, not to a head, and
            covers the window of that word.
    """

    times: list[float]
    weights: list[list[float]]
    queries: bool = False
    words: bool = False


class Answered:
    """The shortcuts of what has answers: a recording, or a part of it."""

    __slots__ = ()
    tasks: dict[str, Answer]
    dimensions: dict[str, Dimension]

    @property
    def label(self) -> str | None:
        """The most likely class of the first task; None if it was withheld or has no classes."""
        return next(iter(self.tasks.values())).label if self.tasks else None

    @property
    def arousal(self) -> float | None:
        """From -1, calm, to 1, excited; None if the model does not give it."""
        return self._get_dimension("arousal")

    @property
    def valence(self) -> float | None:
        """From -1, unpleasant, to 1, pleasant; None if the model does not give it."""
        return self._get_dimension("valence")

    def _get_dimension(self, name: str) -> float | None:
        return self.dimensions[name].value if name in self.dimensions else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment(Answered):
    """A part of a recording with one answer per task.

    Attributes:
        start: start of the segment.
        end: end of the segment.
        tasks: answer of each classification task, the first task first.
        values: value of each regression task.
        dimensions: arousal and valence from -1 to 1; empty for a model without emotions.
    """

    start: float
    end: float
    tasks: dict[str, Answer]
    values: dict[str, float] = field(default_factory=dict)
    dimensions: dict[str, Dimension] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types; numbers are rounded to six significant digits."""
        return {one.name: round_floats(getattr(self, one.name)) for one in fields(self)}

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return notebook.render_recognition(self)

    def to_columns(self) -> dict[str, Any]:
        """Convert the answers to columns of a table.

        Returns:
            For each classification task its label as ``task`` and the probability of each class as
            ``task_class``; for each regression task its value as ``task``; for each classification
            task the two most likely classes as ``first_task`` and ``second_task``, with
            ``first_task_probability`` and ``second_task_probability``; ``scaled_arousal`` and
            ``scaled_valence`` from -1 to 1, with ``scaled_arousal_basis`` and
            ``scaled_valence_basis``.
        """
        columns: dict[str, Any] = {}
        for task, answer in self.tasks.items():
            columns[task] = answer.label
            columns |= {f"{task}_{name}": p for name, p in answer.probabilities.items()}
        columns |= self.values
        for task, answer in self.tasks.items():
            for rank, ranked in zip(RANKS, answer.top, strict=False):
                columns[f"{rank}_{task}"] = ranked.label
                columns[f"{rank}_{task}_probability"] = ranked.probability
        for name, dimension in self.dimensions.items():
            columns[f"scaled_{name}"] = dimension.value
            columns[f"scaled_{name}_basis"] = dimension.basis
        return columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognition(Answered):
    """The answer to one recording.

    Attributes:
        source: the recording: a path, or "bytes", "file", "array".
        model: name of the model.
        start: start of the recognised part.
        end: end of the recognised part.
        windows: number of windows that were averaged: those with speech, or all if none has
            speech.
        tasks: answer of each classification task, the first task first; empty for a timeline
            without segments.
        attention: attention maps by name; empty for a model without attention and for a timeline.
        values: value of each regression task, such as arousal, in the unit of the training labels.
            Values may lie outside the scale of the labels.
        dimensions: arousal and valence from -1 to 1, each with its basis; empty for a model without
            emotions, and without speech.
        channel: the channel that was processed, counted from 1; None is the mean of all channels.
        segments: segments of a timeline, in order, from which the answer to a long recording is
            made, too; None for an answer to a short recording.
        words: the recognised words, or those that the model was given, which have no times; empty
            for a model that uses no words.
        speech: whether the recording contains speech. Without speech, labels are withheld and there
            are no values and words; a timeline with speech detection has no segments.
        shares: of a timeline, for each task the share of its segments' time that each class has,
            the largest first; "unsure" is that of withheld labels.
    """

    source: str
    model: str
    start: float
    end: float
    windows: list[tuple[float, float]]
    tasks: dict[str, Answer]
    attention: dict[str, AttentionMap]
    values: dict[str, float] = field(default_factory=dict)
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    channel: int | None = None
    segments: list[Segment] | None = None
    words: list[RecognizedWord] = field(default_factory=list)
    speech: bool = True
    shares: dict[str, dict[str, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Add up the segments of each class."""
        object.__setattr__(self, "shares", compute_shares(self.segments or []))

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return notebook.render_recognition(self)

    @property
    def headlines(self) -> dict[str, str]:
        """For each task the shares of a timeline in words; empty without segments."""
        return {task: describe_shares(shares) for task, shares in self.shares.items()}

    @property
    def is_timeline(self) -> bool:
        """Whether tables have a row for each segment, and not one for the recording."""
        return self.segments is not None

    @property
    def rows(self) -> list[Segment]:
        """The segments of a timeline; otherwise the whole recording as one segment."""
        if self.is_timeline:
            return self.segments or []
        whole = Segment(
            start=self.start,
            end=self.end,
            tasks=self.tasks,
            values=self.values,
            dimensions=self.dimensions,
        )
        return [whole]

    def to_frame(self) -> "pandas.DataFrame":
        """Convert to a table of audformat, with a row per segment or one for the whole recording.

        Returns:
            A table indexed by file, start and end (times as ``Timedelta``), with the columns of
            ``Segment.to_columns``, after a column ``channel`` if one channel was chosen.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("a table needs pandas; install it with pip install pandas") from error

        channel = {} if self.channel is None else {"channel": self.channel}
        segments = self.rows
        index = pandas.MultiIndex.from_arrays(
            [
                pandas.Index([self.source for _ in segments], dtype="string"),
                pandas.to_timedelta([segment.start for segment in segments], unit="s"),
                pandas.to_timedelta([segment.end for segment in segments], unit="s"),
            ],
            names=["file", "start", "end"],
        )
        return pandas.DataFrame([channel | one.to_columns() for one in segments], index=index)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types; numbers are rounded to six significant digits."""
        return {one.name: round_floats(getattr(self, one.name)) for one in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class LongRecognition(Recognition):
    """The one answer to a long recording: that of its timeline, in one row of a table."""

    @property
    def is_timeline(self) -> bool:
        """False: it is one answer, although it has segments."""
        return False


def compute_shares(segments: Sequence[Segment]) -> dict[str, dict[str, float]]:
    """Return for each task the share of the segments' time that each class has."""
    shares: dict[str, dict[str, float]] = {}
    total = sum(segment.end - segment.start for segment in segments)
    for segment in segments:
        for task, answer in segment.tasks.items():
            own, label = shares.setdefault(task, {}), answer.label or UNSURE
            own[label] = own.get(label, 0.0) + (segment.end - segment.start) / total
    return {
        task: dict(sorted(own.items(), key=lambda pair: -pair[1])) for task, own in shares.items()
    }


def choose_label(shares: Mapping[str, float]) -> str | None:
    """Return the label of a recording with these shares of its speech.

    >>> choose_label({"neutral": 0.7, "anger": 0.3})
    'neutral'
    >>> choose_label({"neutral": 0.4, "anger": 0.35, "joy": 0.25})
    'mixed'

    Args:
        shares: by class, the largest first.

    Returns:
        The class that leads; "mixed" without one, and None if withheld labels lead.
    """
    first, share = next(iter(shares.items()))
    if share < LEADING_SHARE:
        return MIXED
    return None if first == UNSURE else first


def describe_shares(shares: Mapping[str, float]) -> str:
    """Return the headline of a timeline, and the shares of its classes.

    >>> describe_shares({"neutral": 0.7, "anger": 0.3})
    'neutral: 70 % of the speech, anger 30 %'
    >>> describe_shares({"neutral": 0.4, "anger": 0.35, "joy": 0.25})
    'mixed: neutral 40 %, anger 35 %, joy 25 %'
    """
    parts = [f"{name} {share:.0%}".replace("%", " %") for name, share in shares.items()]
    label = choose_label(shares) or UNSURE
    if label == MIXED:
        return f"{MIXED}: {', '.join(parts)}"
    return ", ".join([f"{label}: {100 * shares[label]:.0f} % of the speech", *parts[1:]])


def get_source_name(source: Source) -> str:
    """Return the path of a source, or its kind if it is no file on the disk."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes):
        return "bytes"
    return "array" if isinstance(source, tuple) else "file"


def round_floats(value: Any) -> Any:
    """Round all numbers in nested dictionaries, lists and answers to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # Without a call per number: attention weights are most of an answer.
        return [
            float(f"{item:.6g}") if type(item) is float else round_floats(item) for item in value
        ]
    if isinstance(value, RECORDS):
        return {one.name: round_floats(getattr(value, one.name)) for one in fields(value)}
    return value


RECORDS = (Answer, AttentionMap, Dimension, RankedClass, RecognizedWord, Segment)
"""Records in an answer."""
