"""The record of a planned run: what `serein plan` finds without training anything."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serein.records import SUBSETS, Finding, LeftOut
from serein.results.studies import build_frame, count_noun, render_record

if TYPE_CHECKING:
    import pandas


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


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        """Return the run, its folds, its leaks and its time in a few lines."""
        return "\n".join([self.head[0], *self._describe()])

    def _repr_html_(self) -> str:
        """Return a table with a row for each fold, for a notebook."""
        rows = [
            (
                fold.name,
                *(f"{getattr(fold, name).utterances:,}" for name in SUBSETS),
                *(f"{getattr(fold, name).speakers:,}" for name in SUBSETS),
            )
            for fold in self.folds
        ]
        header = ("fold", *SUBSETS, *(f"speakers, {name}" for name in SUBSETS))
        return render_record(self.head[0], header, rows, self._describe())

    def _describe(self) -> Iterator[str]:
        used, total = self.corpus["utterances"], self.corpus["total"]
        yield f"{used:,} of {total:,} utterances are used"
        yield from (f"left out: {one.count:,}, {one.description}" for one in self.left_out)
        if self.protocol["caution"]:
            yield f"caution: {self.protocol['caution']}"
        found = [one for one in self.leakage if one.verdict in ("error", "warning")]
        yield from (f"{one.verdict}: {one.kind}: {one.description}" for one in found)
        if not found:
            yield "leakage check: no error and no warning"
        if self.time is not None:
            yield (
                f"about {self.time.elapsed_seconds:,.0f} s on {self.device}, "
                f"{count_noun(self.time.jobs, 'fold')} at a time"
            )

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row for each fold and subset.

        It has utterances, speakers, and for each task and class the number of utterances
        (``emotion_anger``).

        Raises:
            ConfigError: pandas is not installed.
        """
        rows = []
        for fold in self.folds:
            for subset in SUBSETS:
                own: SubsetCounts = getattr(fold, subset)
                rows.append(
                    {
                        "fold": fold.name,
                        "subset": subset,
                        "utterances": own.utterances,
                        "speakers": own.speakers,
                        **{
                            f"{task}_{name}": count
                            for task, counts in own.classes.items()
                            for name, count in counts.items()
                        },
                    }
                )
        return build_frame(rows)
