"""What recognised words leave. Times are in seconds."""

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
