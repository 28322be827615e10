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
        corpus: where it comes from, when several corpora are read together.
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
    corpus: str | None = None
    start: float = 0.0
    end: float | None = None

    def label(self, name: str) -> Label | None:
        """The label of that name, or the attribute (gender, speaker, text), or None."""
        if name in self.labels:
            return self.labels[name]
        value = getattr(self, name, None) if name in ATTRIBUTES else None
        return value if isinstance(value, str) else None


ATTRIBUTES = ("speaker", "session", "dialogue", "gender", "language", "text", "corpus")
"""What an utterance says of itself in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusInfo:
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
        notes: what a reader of scores must know of the copy, in words: what is missing, what was
            passed over.
    """

    name: str
    utterances: tuple[Utterance, ...]
    notes: tuple[str, ...] = ()

    def select(self, ids: Sequence[str]) -> list[Utterance]:
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
        caution: what a reader must know of the split before anything else, such as that the
            same speakers are on both sides; empty where there is nothing to say.
    """

    name: str
    validation: str
    folds: tuple[Fold, ...]
    caution: str = ""

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any utterance on any side."""
        folds = [asdict(fold) for fold in self.folds]
        text = json.dumps([self.name, folds], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the leakage check found.

    Attributes:
        kind: "speaker", "partner", "duplicate", "sentence", "normalisation", "validation" or
            "classes".
        verdict: "clean", "warning" (trained nevertheless), "allowed" (would have stopped the run,
            had its user not allowed it by name) or "error".
        count: of what was found, summed over folds.
        words: what was looked for and what was found, in a sentence.
        examples: a few of them.
    """

    kind: str
    verdict: str
    count: int
    description: str
    examples: tuple[str, ...] = ()


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
        text: what is done with words; empty where nothing is.
        augment: what training hears in place of a recording; empty is the recording itself.
    """

    name: str
    about: dict[str, Any]
    features: dict[str, Any]
    normalise: dict[str, Any]
    model: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    training: dict[str, Any]
    protocol: dict[str, Any]
    text: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
