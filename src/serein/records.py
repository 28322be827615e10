"""What travels from floor to floor. Times are in seconds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Label = str | float


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One labelled stretch of speech.

    Attributes:
        id: unique within the corpus.
        path: audio file.
        speaker: who talks; the unit that no split may cut. None where nobody knows.
        labels: what the corpus itself says, in its own words ("emotion": "anger").
        session: recording session, where the corpus has sessions.
        dialogue: conversation that the utterance belongs to.
        gender: "female" or "male", where the corpus says so.
        language: ISO 639-1 code, such as "de".
        text: what is said.
        start: where the utterance begins in the file.
        end: where it ends; None is the end of the file.
    """

    id: str
    path: Path
    speaker: str | None = None
    labels: dict[str, Label] = field(default_factory=dict)
    session: str | None = None
    dialogue: str | None = None
    gender: str | None = None
    language: str | None = None
    text: str | None = None
    start: float = 0.0
    end: float | None = None

    def label(self, name: str) -> Label | None:
        """The label of that name, or the attribute (gender, speaker, text), or None."""
        if name in self.labels:
            return self.labels[name]
        value = getattr(self, name, None) if name in ATTRIBUTES else None
        return value if isinstance(value, str) else None


ATTRIBUTES = ("speaker", "session", "dialogue", "gender", "language", "text")
"""What an utterance says of itself in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a corpus is, and how to come by it.

    Attributes:
        title: its full name.
        language: languages spoken.
        licence: what its owners allow.
        home: where to get it.
    """

    title: str
    language: str
    licence: str
    home: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A corpus as it was read.

    Attributes:
        name: what the user calls it.
        utterances: all of them, in order of their ids.
    """

    name: str
    utterances: tuple[Utterance, ...]

    def of(self, ids: Sequence[str]) -> list[Utterance]:
        """The utterances with these ids, in this order."""
        by_id = {utterance.id: utterance for utterance in self.utterances}
        return [by_id[id_] for id_ in ids]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """Who trains, who chooses, who is tested: ids of utterances."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A way to split a corpus, as a value.

    Attributes:
        name: such as "leave-one-speaker-out".
        validation: how validation speakers were chosen, in words.
        folds: in the order in which they are run.
    """

    name: str
    validation: str
    folds: tuple[Fold, ...]

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any utterance on any side."""
        folds = [asdict(fold) for fold in self.folds]
        text = json.dumps([self.name, folds], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One system with all its settings; each table is typed by the module that it names.

    Attributes:
        name: what the user calls it.
        about: paper, system and published scores, as strings.
        features: front end: its ``name`` and its settings.
        normalise: what is done to its frames.
        model: the model's ``name`` and its settings.
        tasks: settings of each task; the first one decides which epoch is best.
        training: settings of the loop.
        protocol: how the corpus is split.
    """

    name: str
    about: dict[str, Any]
    features: dict[str, Any]
    normalise: dict[str, Any]
    model: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    training: dict[str, Any]
    protocol: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What was foretold of one tested utterance.

    Attributes:
        id: the utterance.
        fold: where it was tested.
        speaker: who talks.
        gender: of the speaker, where known.
        truth: the label for each task; None where the corpus has none.
        selections: for each selection and task, the probability of each class, in the order
            of ``Results.classes``.
    """

    id: str
    fold: str
    speaker: str | None
    gender: str | None
    truth: dict[str, str | None]
    selections: dict[str, dict[str, list[float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """How well one classification task was done; None is undefined.

    Attributes:
        utterances: how many were scored.
        wa: weighted accuracy, the share of all utterances that is right.
        ua: unweighted accuracy, the mean of the classes' recalls.
        wa_interval: 95 % interval of ``wa``.
        ua_interval: 95 % interval of ``ua``.
        interval: how both intervals were made, in words.
        recalls: recall of each class.
        confusion: counts; a row is a true class, a column a predicted one.
    """

    utterances: int
    wa: float | None
    ua: float | None
    wa_interval: tuple[float, float] | None
    ua_interval: tuple[float, float] | None
    interval: str
    recalls: dict[str, float | None]
    confusion: list[list[int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One pass over the training side.

    Attributes:
        epoch: counted from 1.
        loss: mean training loss, all tasks weighted.
        seconds: how long the pass took, its scoring included.
        scores: for each watched side ("validation", "test") and task, its "wa" and "ua".
    """

    epoch: int
    loss: float
    seconds: float
    scores: dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldResult:
    """One fold's course and outcome.

    Attributes:
        name: of the fold.
        epochs: the epoch that each selection picked, counted from 1.
        scores: for each selection and task, WA and UA on this fold's test side.
        history: every epoch.
    """

    name: str
    epochs: dict[str, int]
    scores: dict[str, dict[str, dict[str, float | None]]]
    history: list[Epoch]


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Everything that a report shows; ``results.json`` holds it.

    Attributes:
        format: version of this layout.
        name: of the run.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
        recipe: every setting.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name, hash, choice of validation speakers, and the folds.
        environment: seed, threads, device, machine, versions.
        seconds: wall-clock time of all epochs together, over all processes.
        classes: of each task, in the order of its probabilities.
        headline: the selection to quote.
        selections: what each selection means, in words; those that saw the test side say so.
        scores: for each selection and task, over the pooled predictions of all folds.
        fold_means: for each selection and task, WA and UA averaged over folds.
        baselines: "majority" and "chance": for each task, the WA and UA of knowing nothing.
        folds: each fold's course and outcome.
        predictions: one per tested utterance.
        warnings: what a reader must know before believing the scores.
    """

    format: int
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    corpus: dict[str, Any]
    protocol: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    classes: dict[str, list[str]]
    headline: str
    selections: dict[str, str]
    scores: dict[str, dict[str, ClassScores]]
    fold_means: dict[str, dict[str, dict[str, float | None]]]
    baselines: dict[str, dict[str, dict[str, float | None]]]
    folds: list[FoldResult]
    predictions: list[Prediction]
    warnings: list[str]
