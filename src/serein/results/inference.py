"""Records of transcripts and of explanations.

Times are in seconds from the start of the recording.
"""

from dataclasses import dataclass, field
from typing import Any

from serein.metrics.word_error_rate import WordScores
from serein.records import Finding, LeftOut

__all__ = [
    "Explanations",
    "RecognizedWord",
    "Transcription",
    "Transcriptions",
    "WordScores",
]
Interval = tuple[float, float] | None
EXPLANATIONS_FORMAT = 3
"""Version of the layout of `Explanations` as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecognizedWord:
    """A word that was recognized, or that a model was given.

    Attributes:
        word: lower case; "</s>" is the end of the sentence.
        time: where the decoder's attention is highest; None for a given word, and without an
            attention map.
        weight: share of the emotion's attention on it; None if the emotion does not use words.
    """

    word: str
    time: float | None = None
    weight: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcription:
    """Transcript of one recording.

    Attributes:
        id: of the utterance, or the file's path.
        text: the transcript.
        words: its words, each with its time.
        score: log-probability of the words.
        seconds: duration of the recording.
        bounded: whether the beam search reached its limit before the end of the sentence.
        reference: the reference transcript, if the corpus has one.
        speaker: the speaker, if known.
    """

    id: str
    text: str
    words: list[RecognizedWord]
    score: float
    seconds: float
    bounded: bool = False
    reference: str | None = None
    speaker: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcriptions:
    """Transcripts of a corpus by one model; the content of ``transcripts.json``.

    Attributes:
        format: version of this layout.
        command: the command that was typed.
        created: time of its end, ISO 8601, UTC.
        model: name of the model.
        card: of the model, in a few rows.
        corpus: its name, and the number of utterances that were selected of all.
        scores: the word error rate; None without reference transcripts.
        rows: one per utterance.
        warnings: limits of the scores, a sentence each.
        left_out: utterances that were not selected, by reason.
        leakage: whether recordings or speakers were in the model's training data.
    """

    format: int
    command: str
    created: str
    model: str
    card: dict[str, Any]
    corpus: dict[str, Any]
    scores: WordScores | None
    rows: list[Transcription]
    warnings: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    leakage: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Correlation of weights over time with the signal's energy; None is undefined.

    Attributes:
        count: number of correlated steps; or, over files, the number of files.
        pearson: Pearson's correlation of weight and decibels; over files the mean.
        pearson_interval: 95 % interval of ``pearson``.
        spearman: Spearman's rank correlation; over files the mean.
        spearman_interval: 95 % interval of ``spearman``.
        description: how the intervals were computed, or why a value is undefined.
    """

    count: int
    pearson: float | None
    pearson_interval: tuple[float, float] | None
    spearman: float | None
    spearman_interval: tuple[float, float] | None
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionTrack:
    """One attention map with the energy that it is compared with.

    Attributes:
        tasks: the tasks that use the attended features.
        times: (T,) centre of each step.
        step: distance between two centres.
        energy: (T,) root mean square of the samples around each centre, in decibels relative to
            full scale; the floor is -100.
        width: duration of the samples of ``energy`` around each centre.
        weight: (T,) attention, the mean over heads; sums to 1 with the weights on padding.
        heads: (heads, T) attention of each head.
        queries: whether a head had weights for each step as a query, of which this is the mean.
        correlation: of ``weight`` and ``energy``.
        by_head: the same for each head; empty for one head, or if the rows are words.
        words: the word of each row of ``heads``, if each row is the attention of a word; else
            empty.
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
class OcclusionTrack:
    """How the answer of one task changes when one span after the other is silenced.

    Attributes:
        task: name of the task.
        label: the predicted label; None for a regression task.
        times: (T,) centre of each span.
        step: distance between two centres.
        length: duration of a span; spans overlap.
        energy: (T,) root mean square of the samples of each span, in decibels relative to full
            scale; the floor is -100.
        drop: (T,) the probability of ``label`` minus the same with the span silenced: positive for
            spans that support the label, negative for those that count against it. For a regression
            task, the value minus the same with the span silenced.
        correlation: of ``drop`` and ``energy``.
    """

    task: str
    label: str | None
    times: list[float]
    step: float
    length: float
    energy: list[float]
    drop: list[float]
    correlation: Correlation


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A model's prediction for one recording, with its attention or its occlusion.

    Attributes:
        source: a path, "bytes", "file" or "array".
        model: name of the model.
        start: start of the explained part.
        end: end of the explained part.
        windows: the windows that were processed one by one; the attention of each sums to 1.
        labels: the most probable class of each task.
        probabilities: of each class of each task.
        envelope: lowest and highest sample of each of equally long segments.
        attention: attention maps by name; empty for an explanation by occlusion.
        words: the recognized words, each with its time and its share of the emotion's attention,
            or the words that the model was given, without times; empty for a model that uses none.
        method: "attention" or "occlusion".
        values: value of each regression task.
        occlusion: by task; empty for an explanation by attention.
        answers: number of windows that the model answered for ``occlusion``.
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
    method: str = "attention"
    values: dict[str, float] = field(default_factory=dict)
    occlusion: dict[str, OcclusionTrack] = field(default_factory=dict)
    answers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanations:
    """Explanations of several recordings by one model and method.

    Attributes:
        format: version of this layout.
        command: the command that was typed, if any.
        explained: one for each recording.
        failed: the other recordings, and why they could not be processed.
        correlations: of each attention map or occluded task, the mean over recordings.
    """

    format: int
    command: str
    explained: list[Explanation]
    failed: dict[str, str]
    correlations: dict[str, Correlation]
