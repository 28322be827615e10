"""Records that all packages share: utterances, corpora, splits, recipes. Times are in seconds."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Label = str | float
PrecisionSetting = Literal["auto", "fp32", "bf16"]
"""A requested precision; "auto" is bf16 if the device supports it."""
PRECISIONS = ("auto", "fp32", "bf16")
Precision = Literal["fp32", "bf16"]
"""The precision that is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One labelled segment of speech.

    Attributes:
        id: unique within the corpus.
        path: audio file.
        speaker: all utterances of a speaker stay in one subset of a split. None if unknown.
        labels: of the corpus, by name ("emotion": "anger").
        session: recording session, if the corpus has sessions.
        dialogue: conversation that the utterance is part of.
        gender: "female" or "male", if the corpus has it.
        language: ISO 639-1 code, such as "de".
        text: transcript.
        corpus: name of its corpus, if several corpora are read together.
        start: of the utterance in the file.
        end: of the utterance; None is the end of the file.
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
        """Return the label of that name, or the attribute (gender, speaker, text), or None."""
        if name in self.labels:
            return self.labels[name]
        value = getattr(self, name, None) if name in ATTRIBUTES else None
        return value if isinstance(value, str) else None


ATTRIBUTES = ("speaker", "session", "dialogue", "gender", "language", "text", "corpus")
"""Attributes of an utterance that are text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusInfo:
    """Description of a corpus.

    Attributes:
        title: full name.
        language: spoken languages.
        licence: terms of use.
        home: where to get it.
    """

    title: str
    language: str
    licence: str
    home: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A corpus that was read.

    Attributes:
        name: given by the user.
        utterances: in the order of their ids.
        notes: of missing and skipped recordings, for readers of results.
    """

    name: str
    utterances: tuple[Utterance, ...]
    notes: tuple[str, ...] = ()

    def select(self, ids: Sequence[str]) -> list[Utterance]:
        """Return the utterances with these ids, in this order."""
        by_id = {utterance.id: utterance for utterance in self.utterances}
        return [by_id[id_] for id_ in ids]


SUBSETS = ("train", "validation", "test")
"""Names of the subsets of a fold, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """Train, validation and test subset of one fold: ids of utterances."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """The splits of a corpus into folds.

    Attributes:
        name: such as "leave-one-speaker-out".
        validation: description of how validation speakers were chosen.
        folds: in the order in which they are run.
        caution: what a reader of results must know first, such as that train and test subset
            have common speakers; usually empty.
    """

    name: str
    validation: str
    folds: tuple[Fold, ...]
    caution: str = ""

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that depend on the subsets of the folds, as sets of ids.

        Names, and the order of folds and of ids, do not count: a protocol that was saved and
        loaded keeps its hash.
        """
        subsets = sorted(
            [sorted(fold.train), sorted(fold.validation), sorted(fold.test)] for fold in self.folds
        )
        return _hash_json(subsets)

    @property
    def listing_hash(self) -> str:
        """Sixteen hexadecimal digits that depend on names and order, too.

        It was the hash of protocols up to format 3 of results, and format 1 of saved protocols.
        """
        return _hash_json([self.name, [asdict(fold) for fold in self.folds]])

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Protocol":
        """Build a protocol from its fields, as results and saved protocols hold them.

        Raises:
            KeyError: a field is missing.
            TypeError: a field has another type.
        """
        return cls(
            name=str(table["name"]),
            validation=str(table["validation"]),
            caution=str(table.get("caution", "")),
            folds=tuple(
                Fold(
                    name=str(fold["name"]),
                    train=tuple(map(str, fold["train"])),
                    validation=tuple(map(str, fold["validation"])),
                    test=tuple(map(str, fold["test"])),
                )
                for fold in table["folds"]
            ),
        )


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A finding of the leakage check.

    Attributes:
        kind: "speaker", "partner", "duplicate", "sentence", "normalisation", "validation" or
            "classes".
        verdict: "clean", "unknown" (not everything could be compared), "warning" (the run
            continues), "allowed" (an error that the user allowed by name) or "error".
        count: number of occurrences, summed over folds.
        description: what was checked and found, in a sentence.
        examples: some of the occurrences.
    """

    kind: str
    verdict: str
    count: int
    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Utterances of a corpus that a run does not use, and why.

    Attributes:
        reason: "class" (none of the first task), "only" (a filter), "duration", "subset" (of a
            predefined protocol that does not train), "amount" (``train_size`` or the share of an
            auxiliary corpus) or "label" (none that a saved model predicts).
        count: number of utterances.
        description: the reason in words, such as "longer than 20 s".
    """

    reason: str
    count: int
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A system with all its settings; each table is validated by the module that it names.

    Attributes:
        name: given by the user.
        about: paper, system and published scores.
        features: ``name`` and settings of the front end.
        normalise: settings of normalisation.
        model: ``name`` and settings of the model.
        tasks: settings of each task; the first one is the main task, which selects epochs.
        training: settings of training.
        protocol: settings of the split.
        text: settings of transcripts; empty without.
        augment: settings of augmentation; empty without.
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
