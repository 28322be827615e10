"""What `serein.explain` answers. Times are in seconds from the start of the recording."""

from dataclasses import dataclass, field

from serein.transcripts import RecognizedWord

EXPLANATIONS_FORMAT = 1
"""The layout of `Explanations` as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """How attention goes with the signal's energy; None is undefined, and ``words`` say why.

    Attributes:
        count: steps that were correlated; or, over files, how many files.
        pearson: of weight and decibels; over files the mean.
        pearson_interval: 95 % interval of it.
        spearman: of their ranks; over files the mean.
        spearman_interval: 95 % interval of it.
        words: how the intervals were made, or why something is undefined.
    """

    count: int
    pearson: float | None
    pearson_interval: tuple[float, float] | None
    spearman: float | None
    spearman_interval: tuple[float, float] | None
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionTrack:
    """One attention map beside the energy that it is compared with.

    Attributes:
        tasks: those that read what it sums up.
        times: (T,) the middle of each step.
        step: from one middle to the next.
        energy: (T,) root mean square of the samples around each middle, in decibels below full
            scale; -100 and less is -100.
        width: how much is heard for ``energy`` around each middle.
        weight: (T,) the mean over heads; sums to 1 but for what lies on padding.
        heads: (heads, T).
        queries: whether each head had a row of weights for each step, of which this is the mean.
        correlation: of ``weight`` and ``energy``.
        by_head: the same for each head; empty where there is one, or where rows are of words.
        words: of each row of ``heads``, where a row is what a word looked at; else empty.
    """

    tasks: list[str]
    times: list[float]
    step: float
    energy: list[float]
    width: float
    weight: list[float]
    heads: list[list[float]]
    queries: bool
    correlation: Correlation
    by_head: list[Correlation]
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What a model answered to one recording, and where it looked.

    Attributes:
        source: a path, "bytes", "file" or "array".
        model: name of the model.
        start: where the part that was heard begins.
        end: where it ends.
        windows: the parts that the model heard one by one; attention starts anew in each.
        labels: the likeliest class of each task.
        probabilities: of each class of each task.
        envelope: lowest and highest sample of each of equally long stretches.
        attention: maps by name.
        words: as they were recognised, each with its time and its share of the emotion's
            attention, by a model that finds words; else none.
    """

    source: str
    model: str
    start: float
    end: float
    windows: list[tuple[float, float]]
    labels: dict[str, str]
    probabilities: dict[str, dict[str, float]]
    envelope: list[tuple[float, float]]
    attention: dict[str, AttentionTrack]
    words: list[RecognizedWord] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanations:
    """Several recordings, explained by one model.

    Attributes:
        format: version of this layout.
        command: what was typed; empty where nothing was.
        explained: one for each recording.
        failed: the others, and why they could not be heard.
        correlations: of each map, the mean over recordings.
    """

    format: int
    command: str
    explained: list[Explanation]
    failed: dict[str, str]
    correlations: dict[str, Correlation]
