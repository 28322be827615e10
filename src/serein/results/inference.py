"""What `serein.explain` answers. Times are in seconds from the start of the recording.

What recognised words leave. Times are in seconds.
"""

from dataclasses import dataclass, field
from typing import Any

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WordScores:
    """How well words were recognised.

    Attributes:
        utterances: how many had a transcript to compare with.
        words: in these transcripts.
        substitutions: words that were taken for another.
        deletions: words that were missed.
        insertions: words that nobody said.
        wer: word error rate, pooled over utterances; None where nobody said a word.
        wer_interval: 95 % interval of ``wer``.
        interval: how it was made, in words.
        unknown: words of these transcripts that the recogniser has no number for.
        sentences: different sentences among the transcripts.
        closed: of these, how many were spoken in training too; None where that is not known.
    """

    utterances: int
    words: int
    substitutions: int
    deletions: int
    insertions: int
    wer: float | None
    wer_interval: Interval
    interval: str
    unknown: int
    sentences: int
    closed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RecognizedWord:
    """One word as it was recognised.

    Attributes:
        word: lower case; "</s>" is the end.
        time: where the decoder looked most for it; None without an attention map.
        weight: share of the emotion's attention that it has; None where emotion reads no words.
    """

    word: str
    time: float | None = None
    weight: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcription:
    """What a recogniser heard in one recording.

    Attributes:
        id: of the utterance, or the file's path.
        text: the words.
        words: each with its time.
        score: log-probability of the words.
        seconds: how long the recording is.
        bounded: whether the search was stopped before the words ended.
        reference: what was said, where the corpus says so.
        speaker: who talks, where known.
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
    """What a recogniser heard in a corpus; ``transcripts.json`` holds it.

    Attributes:
        format: version of this layout.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
        model: name of the recogniser.
        card: of the model, in a few rows.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        scores: None where nothing had a transcript to compare with.
        rows: one per utterance.
        warnings: what a reader must know before believing the scores.
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
    description: str


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
