"""Records of an evaluation, as ``results.json`` holds them. Times are in seconds."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePath
from statistics import fmean
from typing import TYPE_CHECKING, Any

from serein.errors import ConfigError, UnknownName
from serein.metrics.scoring import Metric, get_scorer
from serein.records import Finding
from serein.results.inference import WordScores

if TYPE_CHECKING:
    import pandas

NUISANCE = "nuisance"
"""The baseline of numbers that hardly use the voice; its scores are None without scikit-learn."""
MODEL = "model"
"""The selection of a saved model's answers among all its classes."""
EXTERNAL = "external"
"""Name of the model in the recipe of a model that serein did not build."""
FORCED = "forced"
"""The selection of a saved model's answers among the classes of ``Results.class_set``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Predictions for one tested utterance.

    Attributes:
        id: of the utterance.
        fold: the fold that tested it.
        speaker: the speaker, if known.
        gender: of the speaker, if known.
        truth: the label for each task, a class or a value; None if the corpus has none.
        selections: for each selection and task, the probability of each class, in the order of
            ``Results.classes``; or the value of a regression.
        corpus: its corpus, if several were read as one.
        language: the spoken language, if known.
        text: the transcript of the corpus, if it has one.
        transcripts: for each selection, the transcript by the model.
        votes: for each task whose classes raters voted for, the share of each class; a task without
            votes is left out.
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
    votes: dict[str, list[float]] = field(default_factory=dict)

    @property
    def labelled_tasks(self) -> list[str]:
        """The tasks that have a label."""
        return [task for task, label in self.truth.items() if label is not None]

    def predicted_label(self, selection: str, task: str, classes: Sequence[str]) -> str | float:
        """Return the most probable class, the first one of equals; or the value of a regression."""
        row = self.selections[selection][task]
        return classes[row.index(max(row))] if classes else row[0]


class ScoresWithIntervals:
    """Access to scores and their intervals by name."""

    __slots__ = ()

    def score(self, name: str) -> float | None:
        """Return the score of that name."""
        value: float | None = getattr(self, name)
        return value

    def bounds(self, name: str) -> tuple[float, float] | None:
        """Return the interval of the score of that name."""
        interval: tuple[float, float] | None = getattr(self, f"{name}_interval")
        return interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores(ScoresWithIntervals):
    """Scores of a classification task; None is undefined.

    Attributes:
        utterances: number of scored utterances.
        wa: weighted accuracy, the fraction of utterances that are classified correctly.
        ua: unweighted accuracy, the mean of the classes' recalls.
        wa_interval: 95 % interval of ``wa``.
        ua_interval: 95 % interval of ``ua``.
        interval: description of how both intervals were computed.
        recalls: recall of each class.
        confusion: counts; rows are true classes, columns are predicted classes.
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
    """Scores of a regression task; None is undefined.

    Attributes:
        utterances: number of scored utterances.
        ccc: concordance correlation coefficient.
        rmse: root mean squared error, in the unit of the labels.
        pearson: Pearson's correlation.
        ccc_interval: 95 % interval of ``ccc``.
        rmse_interval: 95 % interval of ``rmse``.
        pearson_interval: 95 % interval of ``pearson``.
        interval: description of how the intervals were computed.
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
class VoteScores(ScoresWithIntervals):
    """Scores of a classification task against the votes of raters; None is undefined.

    Attributes:
        utterances: number of utterances with votes.
        cross_entropy: mean cross-entropy of the predicted distribution to the votes, in nats.
        total_variation: mean total variation distance to the votes, 0 to 1.
        cross_entropy_interval: 95 % interval of ``cross_entropy``.
        total_variation_interval: 95 % interval of ``total_variation``.
        interval: description of how both intervals were computed.
        entropy: mean entropy of the votes in nats, the lowest possible cross-entropy.
        uniform: both scores, by name, of predicting every class with the same probability.
    """

    utterances: int
    cross_entropy: float | None
    total_variation: float | None
    cross_entropy_interval: tuple[float, float] | None
    total_variation_interval: tuple[float, float] | None
    interval: str
    entropy: float
    uniform: dict[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One epoch of a training.

    Attributes:
        epoch: counted from 1.
        loss: mean training loss, the weighted sum over tasks.
        seconds: duration of the epoch, with its evaluation.
        scores: for each evaluation subset ("validation", "test") and task, its "wa" and "ua"; or
            "ccc", "rmse" and "pearson" of a regression.
    """

    epoch: int
    loss: float
    seconds: float
    scores: dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldResult:
    """Training history and result of one fold.

    Attributes:
        name: of the fold.
        epochs: the epoch of each selection, counted from 1.
        scores: for each selection and task, its scores on the test subset, as in `Epoch`.
        history: every epoch.
        temperatures: for each task, the temperature of the headline's logits, fitted on the
            validation subset; empty without one.
        selected_c: for each task, the C of an estimator, selected on the validation subset or
            given by the recipe; empty for a network.
    """

    name: str
    epochs: dict[str, int]
    scores: dict[str, dict[str, dict[str, float | None]]]
    history: list[Epoch]
    temperatures: dict[str, float] = field(default_factory=dict)
    selected_c: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationScores:
    """Calibration of the confidence, the probability of the predicted class.

    Attributes:
        ece: expected calibration error, the mean difference between confidence and accuracy.
        brier: Brier score, the mean squared error of the probabilities, 0 to 2.
        bins: number of utterances, mean confidence and accuracy of each non-empty bin of equal
            width, from the lowest confidence.
        auroc: probability that a correct prediction is more confident than a wrong one; None where
            undefined, and in older results.
        aurc: area under the risk-coverage curve, the mean error rate of the most confident
            predictions over all coverages; likewise.
    """

    ece: float | None
    brier: float | None
    bins: list[tuple[int, float, float]]
    auroc: float | None = None
    aurc: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Calibration of one task at the headline's epochs, over the pooled predictions.

    Attributes:
        raw: of the model's probabilities.
        calibrated: with each fold's temperature; None if no validation subset fitted one.
        thresholds: shares of utterances answered (1.0, 0.9, ...), when the least confident are
            rejected: the lowest confidence that is answered, share answered, WA, UA. They are set
            on validation subsets; of a saved model, on the scored predictions themselves.
        temperature: fitted on the validation subsets of all folds together, for a model that is
            trained on the whole corpus.
        threshold: the confidence that four in five of these utterances reach at that temperature.
    """

    raw: CalibrationScores
    calibrated: CalibrationScores | None
    thresholds: list[tuple[float, float, float | None, float | None]]
    temperature: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedResult:
    """Scores of the same evaluation with one seed.

    Attributes:
        seed: of weights, order and dropout.
        run: name of its folder, next to this one.
        scores: for each selection and task, its scores over the pooled predictions.
    """

    seed: int
    run: str
    scores: dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionTrace:
    """Attention over one utterance.

    Attributes:
        times: the centre of each step, in seconds.
        weight: of each step, averaged over heads; sums to 1.
    """

    times: list[float]
    weight: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidentError:
    """A wrong prediction with high confidence.

    Attributes:
        id: of the utterance.
        fold: the fold that tested it.
        task: the task.
        truth: the label.
        answer: the predicted class.
        confidence: probability of the predicted class.
        seconds: duration of the utterance.
        envelope: lowest and highest sample of each of equally long segments, -1 to 1.
        attention: attention maps by name.
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
    """How the labels of a corpus map to the classes of a task.

    Of a regression, ``mapped`` holds the range and mean of the values, under "values".

    Attributes:
        scheme: name of the label scheme.
        mapped: for each class, the corpus's labels for it and their counts.
        dropped: labels without a class, and their counts; if the task is the first one, these
            utterances were left out.
        missing: number of utterances without a label.
        foreign: for each auxiliary corpus, its labels for classes that the main corpus does not
            have, and their counts; these utterances were left out.
    """

    scheme: str
    mapped: dict[str, dict[str, int]]
    dropped: dict[str, int]
    missing: int
    foreign: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimisticVariant:
    """A variant of the evaluation that is optimistic, and its scores.

    Attributes:
        name: "random-split" or "test-speaker-normalisation".
        description: the difference to the evaluation.
        run: name of the folder of the variant, next to this one.
        scores: for each task, the scores of that evaluation's headline.
    """

    name: str
    description: str
    run: str
    scores: dict[str, dict[str, float | None]]


FRAME_ATTRIBUTES = ("id", "fold", "speaker", "gender", "corpus", "language", "text")
"""Attributes of a prediction that are columns of a data frame."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Results:
    """Everything that a report shows; the content of ``results.json``.

    Attributes:
        format: version of this layout.
        name: of the run.
        command: the command that was typed.
        created: time of its end, ISO 8601, UTC.
        recipe: every setting.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name, hash, choice of validation speakers, and the folds.
        environment: seed, threads, device, machine, versions.
        seconds: wall-clock time of all epochs together, over all processes.
        classes: of each task, in the order of its probabilities; a regression has none.
        headline: the selection to quote.
        selections: meaning of each selection; it says so if a selection uses the test subset.
        scores: for each selection and classification task, over the predictions of all folds.
        fold_means: for each selection and task, its scores averaged over folds.
        baselines: for "majority" and "chance", or "mean" of a regression, the scores of each task;
            for "nuisance" those of the first classification task.
        folds: training history and result of each fold.
        predictions: one per tested utterance.
        warnings: limits of the scores, a sentence each.
        mapping: for each task, how the corpus's labels map to its classes.
        leakage: findings of the leakage check.
        calibration: for each task, the calibration of its confidence.
        repeats: scores of each of several seeds, this one among them; empty for one seed.
        confident_errors: the most confident errors of the first task, at the headline's epochs.
        optimistic_variants: variants of this evaluation that are optimistic, and their scores.
        held_out: for tasks whose classes no tested speaker has, such as the speaker, predictions
            for held-out utterances of training speakers.
        groups: for "corpus" and "language", if several were tested, the headline's scores of each
            by task.
        value_scores: for each selection and regression task, as ``scores``.
        words: for each selection, the word error rate of a model that recognizes words.
        vote_scores: for each selection and task, scores against the votes of raters; empty for a
            corpus without votes.
        class_set: for each restricted task of a saved model, the classes among which its selection
            ``forced`` answers: those that were requested, or those that the corpus shares.
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
    vote_scores: dict[str, dict[str, VoteScores]] = field(default_factory=dict)
    class_set: dict[str, list[str]] = field(default_factory=dict)

    @property
    def scored_predictions(self) -> list[Prediction]:
        """Predictions for tested and for held-out utterances."""
        return [*self.predictions, *self.held_out]

    @property
    def held_out_tasks(self) -> set[str]:
        """The tasks that are scored on held-out utterances of training speakers."""
        return {task for prediction in self.held_out for task in prediction.labelled_tasks}

    def __repr__(self) -> str:
        """Return the scores in a few lines."""
        return "\n".join([self._describe_split(), *self._describe_scores()])

    def _repr_html_(self) -> str:
        """Return the scores as a small table, for a notebook."""
        rows = (
            f"<tr><th style='text-align:left'>{escape(task)}</th>{cells}</tr>"
            for task, cells in self._format_cells()
        )
        caution = str(self.protocol.get("caution") or "")
        warning = f"<p><strong>Caution:</strong> {escape(caution)}</p>" if caution else ""
        return (
            f"<div><p>{escape(self._describe_split())}</p>{warning}<table>{''.join(rows)}</table>"
            f"<p>{escape(self.headline)}: {escape(self.selections.get(self.headline, ''))}</p>"
            "</div>"
        )

    def _describe_split(self) -> str:
        name = self.recipe.get("name", self.name)
        folds = len(self.folds)
        parts = [
            f"{name} on {self.corpus.get('name', 'no corpus')}: "
            f"{len(self.predictions):,} utterances",
            str(self.protocol.get("name", "no protocol")),
        ]
        return ", ".join([*parts, *([f"{folds} fold{'s' * (folds != 1)}"] if folds else [])])

    def _list_scores(self) -> Iterator[tuple[str, list[tuple[Metric, str, str]]]]:
        """Yield each task with its metrics, their quoted scores and their intervals, as text."""
        for task, scores in self.scores_by_task(self.headline).items():
            texts = []
            for metric in get_scorer(self.classes[task]).metrics:
                score, bounds = scores.score(metric.name), scores.bounds(metric.name)
                value = "n/a" if score is None else format(score, metric.format_spec)
                low_high = [format(bound, metric.format_spec) for bound in bounds or ()]
                texts.append((metric, value, f"[{', '.join(low_high)}]" if low_high else ""))
            yield task, texts

    def _describe_scores(self) -> Iterator[str]:
        for task, texts in self._list_scores():
            clauses = (
                f"{metric.title} {value} {bounds}".strip() for metric, value, bounds in texts
            )
            yield f"{task}: {', '.join(clauses)} ({self.headline})"
        if caution := self.protocol.get("caution"):
            yield f"caution: {caution}"

    def _format_cells(self) -> Iterator[tuple[str, str]]:
        for task, texts in self._list_scores():
            cells = (
                f"<td>{escape(metric.title)}</td><td><strong>{value}</strong> {bounds}</td>"
                for metric, value, bounds in texts
            )
            yield task, "".join(cells)

    def to_frame(self, selection: str | None = None) -> "pandas.DataFrame":
        """Return a data frame with a row for each prediction.

        It has id, fold, speaker, gender, corpus, language and text; for a model that reads words
        the ``transcript`` that it read; and for each task its label (``emotion``), the prediction
        (``emotion_predicted``), and the probability of each class (``emotion_anger``).

        Args:
            selection: whose predictions; None is the quoted one.

        Raises:
            UnknownName: there is no such selection.
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("a data frame needs pandas: pip install pandas") from None
        selection = selection or self.headline
        if selection not in self.selections:
            raise UnknownName("selection", selection, self.selections)
        return pandas.DataFrame([self._to_row(p, selection) for p in self.predictions])

    def _to_row(self, prediction: Prediction, selection: str) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(prediction, name) for name in FRAME_ATTRIBUTES}
        if selection in prediction.transcripts:
            row["transcript"] = prediction.transcripts[selection]
        for task, classes in self.classes.items():
            if task not in prediction.selections.get(selection, {}):
                continue
            row[task] = prediction.truth[task]
            row[f"{task}_predicted"] = prediction.predicted_label(selection, task, classes)
            shares = prediction.selections[selection][task]
            row |= {f"{task}_{name}": p for name, p in zip(classes, shares, strict=False)}
        return row

    def scores_by_task(self, selection: str) -> dict[str, ClassScores | ValueScores]:
        """Return the scores of every task at one selection, the first task first."""
        scores: dict[str, ClassScores | ValueScores] = {
            **self.scores.get(selection, {}),
            **self.value_scores.get(selection, {}),
        }
        return {task: scores[task] for task in self.classes if task in scores}

    def validation_scores(self, selection: str) -> dict[str, dict[str, float | None]]:
        """Return the scores of every task on the validation subsets, as means over the folds.

        They are those of the selected epochs; empty without validation subsets.
        """
        by_fold = [
            epoch.scores.get("validation", {})
            for fold in self.folds
            for epoch in fold.history
            if epoch.epoch == fold.epochs.get(selection)
        ]
        if not by_fold or not all(by_fold) or len(by_fold) < len(self.folds):
            return {}
        return {
            task: {name: _mean_or_none([scores[task][name] for scores in by_fold]) for name in own}
            for task, own in by_fold[0].items()
        }


MODEL_SETTINGS = ("training.init", "text.transcripts_from")
"""Settings that name a saved model or a run, often by a path."""
MODEL_SETTING_PATTERN = re.compile(rf"({'|'.join(map(re.escape, MODEL_SETTINGS))})=([^\s,]+)")


def get_model_name(path: str) -> str:
    """Return the name of a saved model or run without its folder, for reports.

    >>> get_model_name("/home/ann/models/mine.safetensors"), get_model_name("serein-base")
    ('mine', 'serein-base')
    """
    return PurePath(path).name.removesuffix(".safetensors")


def remove_model_folders(changes: str) -> str:
    """Replace paths of saved models in a list of settings by their names.

    >>> remove_model_folders("training.epochs=3, training.init=../ann/mine.safetensors")
    'training.epochs=3, training.init=mine'
    """
    return MODEL_SETTING_PATTERN.sub(
        lambda match: f"{match[1]}={get_model_name(match[2])}", changes
    )


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None if a value is undefined."""
    defined = [value for value in values if value is not None]
    return fmean(defined) if len(defined) == len(values) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderProgress:
    """Progress of a run over a folder of recordings.

    Attributes:
        total: number of files; None while they are being counted.
        done_before: files that earlier runs have processed.
        done: files that this run has processed, including failures.
        failed: files that failed in this run.
        seconds: duration of the audio that this run has processed.
    """

    total: int | None
    done_before: int
    done: int
    failed: int
    seconds: float
