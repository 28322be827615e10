"""What an evaluation leaves. Times are in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serein.records import Finding
from serein.results.inference import WordScores


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What was foretold of one tested utterance.

    Attributes:
        id: the utterance.
        fold: where it was tested.
        speaker: who talks.
        gender: of the speaker, where known.
        truth: the label for each task, a class or a number; None where the corpus has none.
        selections: for each selection and task, the probability of each class, in the order
            of ``Results.classes``; or the one value.
        corpus: where it comes from, when several corpora were read together.
        language: that is spoken, where known.
        text: what is said, where the model finds words and the corpus knows them.
        heard: for each selection, the words that the model found.
    """

    id: str
    fold: str
    speaker: str | None
    gender: str | None
    truth: dict[str, str | float | None]
    selections: dict[str, dict[str, list[float]]]
    corpus: str | None = None
    language: str | None = None
    text: str | None = None
    transcripts: dict[str, str] = field(default_factory=dict)

    @property
    def labelled_tasks(self) -> list[str]:
        """The tasks whose label is known."""
        return [task for task, label in self.truth.items() if label is not None]

    def predicted_label(self, selection: str, task: str, classes: Sequence[str]) -> str | float:
        """The likeliest class, the first of equals; the value, where the task has no classes."""
        row = self.selections[selection][task]
        return classes[row.index(max(row))] if classes else row[0]


class ScoresWithIntervals:
    """Scores by their names, each with an interval."""

    __slots__ = ()

    def score(self, name: str) -> float | None:
        """The score of that name."""
        found: float | None = getattr(self, name)
        return found

    def bounds(self, name: str) -> tuple[float, float] | None:
        """Its interval."""
        found: tuple[float, float] | None = getattr(self, f"{name}_interval")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores(ScoresWithIntervals):
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
class ValueScores(ScoresWithIntervals):
    """How well one task of numbers was done; None is undefined.

    Attributes:
        utterances: how many were scored.
        ccc: concordance correlation coefficient.
        rmse: root mean squared error, in the unit of the labels.
        pearson: Pearson's correlation.
        ccc_interval: 95 % interval of ``ccc``.
        rmse_interval: 95 % interval of ``rmse``.
        pearson_interval: 95 % interval of ``pearson``.
        interval: how the intervals were made, in words.
    """

    utterances: int
    ccc: float | None
    rmse: float | None
    pearson: float | None
    ccc_interval: tuple[float, float] | None
    rmse_interval: tuple[float, float] | None
    pearson_interval: tuple[float, float] | None
    interval: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One pass over the training side.

    Attributes:
        epoch: counted from 1.
        loss: mean training loss, all tasks weighted.
        seconds: how long the pass took, its scoring included.
        scores: for each watched side ("validation", "test") and task, its "wa" and "ua"; of a
            task of numbers, its "ccc", "rmse" and "pearson".
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
        scores: for each selection and task, its scores on this fold's test side, as in `Epoch`.
        history: every epoch.
        temperatures: for each task, what the headline's logits are divided by to be calibrated,
            fitted on this fold's validation side; empty without one.
        chosen: for each task, the C that this side picked for an estimator, or that the recipe
            gave; empty for a network.
    """

    name: str
    epochs: dict[str, int]
    scores: dict[str, dict[str, dict[str, float | None]]]
    history: list[Epoch]
    temperatures: dict[str, float] = field(default_factory=dict)
    selected_c: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationScores:
    """How far confidence, the probability of the answer, can be believed.

    Attributes:
        ece: expected calibration error, the mean gap between confidence and accuracy.
        brier: mean squared distance of the probabilities from the truth, 0 to 2.
        bins: utterances, mean confidence and accuracy of each bin of equal width that is not
            empty, from the least confident.
    """

    ece: float | None
    brier: float | None
    bins: list[tuple[int, float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """One task's confidence at the headline's epochs, over the pooled predictions.

    Attributes:
        raw: as the model says.
        tempered: with each fold's temperature; None where no validation side fitted one.
        thresholds: shares of utterances answered (1.0, 0.9, ...), when the least confident are
            refused: the lowest confidence that is answered, share answered, WA, UA.
        temperature: the one that fits the validation sides of all folds together, for a model
            of the whole corpus.
        threshold: what four in five of these utterances reach at that temperature.
    """

    raw: CalibrationScores
    calibrated: CalibrationScores | None
    thresholds: list[tuple[float, float, float | None, float | None]]
    temperature: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedResult:
    """The same evaluation with one seed.

    Attributes:
        seed: of weights, order and dropout.
        run: name of its folder, beside this one.
        scores: for each selection and task, its scores over the pooled predictions.
    """

    seed: int
    run: str
    scores: dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionTrace:
    """One attention map over one utterance.

    Attributes:
        times: the middle of each step, in seconds.
        weight: of each step, averaged over heads; sums to 1.
    """

    times: list[float]
    weight: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidentError:
    """An utterance that was taken for another class with confidence.

    Attributes:
        id: the utterance.
        fold: where it was tested.
        task: what was foretold.
        truth: its label.
        answer: what it was taken for.
        confidence: probability of the answer.
        seconds: how long the utterance is.
        envelope: lowest and highest sample of each of equally long stretches, -1 to 1.
        attention: maps by name.
    """

    id: str
    fold: str
    task: str
    truth: str
    answer: str
    confidence: float
    seconds: float
    envelope: list[tuple[float, float]]
    attention: dict[str, AttentionTrace]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMapping:
    """What became of one task's labels.

    Numbers are no classes: of them ``mapped`` holds their range and mean, under "values".

    Attributes:
        scheme: the set of classes that was asked for.
        mapped: for each class, the corpus's words for it and how often each occurred.
        dropped: words that are none of the classes, and how often each occurred; where the task
            leads, these utterances were left out.
        missing: utterances without this label.
        foreign: for each corpus beside the main one, its words for classes that the main corpus
            lacks, and how often each occurred; these utterances were left out.
    """

    scheme: str
    mapped: dict[str, dict[str, int]]
    dropped: dict[str, int]
    missing: int
    foreign: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimisticVariant:
    """A way to fool oneself, and what it was worth here.

    Attributes:
        name: "random-split" or "test-speaker-normalisation".
        words: what was done otherwise, in a sentence.
        run: name of the folder of that evaluation, beside this one.
        scores: for each task, the scores of that evaluation's headline.
    """

    name: str
    description: str
    run: str
    scores: dict[str, dict[str, float | None]]


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
        classes: of each task, in the order of its probabilities; none of a task of numbers.
        headline: the selection to quote.
        selections: what each selection means, in words; those that saw the test side say so.
        scores: for each selection and task of classes, over the pooled predictions of all folds.
        fold_means: for each selection and task, its scores averaged over folds.
        baselines: "majority" and "chance" of classes, "mean" of numbers: for each task, the
            scores of knowing nothing.
        folds: each fold's course and outcome.
        predictions: one per tested utterance.
        warnings: what a reader must know before believing the scores.
        mapping: for each task, what became of the corpus's labels.
        leakage: what the leakage check looked for and found.
        calibration: for each task, how far confidence can be believed.
        repeats: the same with each of several seeds, this one among them; empty for one seed.
        mistakes: the most confident errors of the leading task, at the headline's epochs.
        flatteries: ways to fool oneself that were measured beside this run.
        held_out: for tasks whose classes no tested speaker can have, such as who talks, what was
            foretold of held-out utterances of training speakers.
        groups: for "corpus" and "language", where several were tested, the headline's scores of
            each by task.
        value_scores: for each selection and task of numbers, as ``scores``.
        words: for each selection, how well a model that finds words found them.
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
    mapping: dict[str, LabelMapping] = field(default_factory=dict)
    leakage: list[Finding] = field(default_factory=list)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    repeats: list[SeedResult] = field(default_factory=list)
    confident_errors: list[ConfidentError] = field(default_factory=list)
    optimistic_variants: list[OptimisticVariant] = field(default_factory=list)
    value_scores: dict[str, dict[str, ValueScores]] = field(default_factory=dict)
    held_out: list[Prediction] = field(default_factory=list)
    groups: dict[str, dict[str, dict[str, ClassScores]]] = field(default_factory=dict)
    words: dict[str, WordScores] = field(default_factory=dict)

    @property
    def scored_predictions(self) -> list[Prediction]:
        """Everything that a score is made of: what was tested, and what was held out."""
        return [*self.predictions, *self.held_out]

    @property
    def held_out_tasks(self) -> set[str]:
        """The tasks that are scored on held-out utterances of training speakers."""
        return {task for one in self.held_out for task in one.labelled_tasks}

    def scores_by_task(self, selection: str) -> dict[str, ClassScores | ValueScores]:
        """The scores of every task at one selection, the deciding task first."""
        found: dict[str, ClassScores | ValueScores] = {
            **self.scores.get(selection, {}),
            **self.value_scores.get(selection, {}),
        }
        return {task: found[task] for task in self.classes if task in found}


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderProgress:
    """How far a run over a folder is.

    Attributes:
        total: files in all; None while they are being counted.
        before: files that earlier runs have done.
        done: files that this run has done, those that failed among them.
        failed: of these.
        seconds: of audio that this run has heard.
    """

    total: int | None
    done_before: int
    done: int
    failed: int
    seconds: float
