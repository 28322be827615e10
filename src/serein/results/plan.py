"""The record of a planned run: what `serein plan` finds without training anything."""

from dataclasses import dataclass, field
from typing import Any

from serein.records import Finding, LeftOut


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetCounts:
    """The utterances of one subset of a fold.

    Attributes:
        utterances: number of utterances.
        speakers: number of known speakers.
        classes: for each task, the utterances of each class, zero included; for a task of numbers,
            "values" counts the utterances with a value.
    """

    utterances: int
    speakers: int
    classes: dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldCounts:
    """A planned fold.

    Attributes:
        name: of the fold.
        train: counts of the training subset.
        validation: counts of the validation subset.
        test: counts of the test subset.
    """

    name: str
    train: SubsetCounts
    validation: SubsetCounts
    test: SubsetCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeEstimate:
    """How long a run will take, by steps that were measured on this machine.

    Attributes:
        step_seconds: of one training step, the mean over the measured ones.
        measured_steps: number of measured training steps; 0 if a part of one was measured.
        evaluation_seconds: of one batch that is evaluated.
        features_seconds: to compute the features of all utterances; 0 if they are cached.
        training_steps: of all folds, epochs and seeds.
        evaluation_batches: of all folds, epochs and seeds.
        total_seconds: one fold after the other, the features included.
        jobs: folds at a time.
        elapsed_seconds: with so many folds at a time.
        processor_share: share of a processor that the measured steps got; 1 if no other program
            slowed them down, or if that is unknown.
    """

    step_seconds: float
    measured_steps: int
    evaluation_seconds: float
    features_seconds: float
    training_steps: int
    evaluation_batches: int
    total_seconds: float
    jobs: int
    elapsed_seconds: float
    processor_share: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """What a run would do.

    Attributes:
        format: version of this layout.
        command: the command that was typed.
        created: ISO 8601, UTC.
        head: one or two lines that describe the run.
        recipe: its settings.
        corpus: name of the corpus, and the numbers of its utterances and of the selected ones.
        left_out: utterances that are not used, by reason.
        classes: of each task; a task of numbers has none.
        protocol: name, hash, validation and caution.
        folds: counts of every fold; a recipe that only transcribes has one without tests.
        leakage: findings of the leakage check.
        not_checked: what the leakage check did not compare, a sentence each.
        dropped_settings: settings of the recipe that a ``--set`` dropped, a sentence each.
        epochs: of each training.
        seeds: the random seeds.
        device: "cpu" or "cuda".
        precision: "fp32" or "bf16".
        machine: processor and operating system.
        warnings: limits of the run, a sentence each.
        time: how long it will take; None if it was not measured.
        time_notes: why it was not measured, or what the time does not include.
    """

    format: int
    command: str
    created: str
    head: list[str]
    recipe: dict[str, Any]
    corpus: dict[str, Any]
    left_out: list[LeftOut]
    classes: dict[str, list[str]]
    protocol: dict[str, Any]
    folds: list[FoldCounts]
    leakage: list[Finding]
    not_checked: list[str] = field(default_factory=list)
    dropped_settings: list[str] = field(default_factory=list)
    epochs: int
    seeds: list[int]
    device: str
    precision: str
    machine: str
    warnings: list[str] = field(default_factory=list)
    time: TimeEstimate | None = None
    time_notes: list[str] = field(default_factory=list)
