"""Records of studies of several evaluations: comparison, search and sweep.

Times are in seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from serein.metrics.scoring import get_metric

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTest:
    """Comparison of two runs on the utterances that both tested, for one task and selection.

    Attributes:
        task: the task.
        selection: the selection of epochs.
        first: name of one run.
        second: name of the other.
        utterances: number of utterances that both tested.
        scores: each score of the first and the second run: of a classification the mean over
            seeds, of a regression over the predictions of all seeds together.
        main: name of the tested score: "ua" or "ccc".
        difference: score of the first minus score of the second.
        difference_interval: 95 % interval of ``difference``.
        interval: description of how it was computed.
        mcnemar: p of McNemar's test; None for a regression.
        permutation: p of the permutation test of ``difference``.
        permutation_unit: what that test swaps.
        z: p of the test of two proportions that Zhang et al. use, one-tailed: its alternative is
            that the run named first is better; None for a regression.
        adjusted: for each test, p after Holm's correction over all pairs.
        effect: Cohen's h of the two WA; None for a regression.
        classes: the classes that both runs have and answer among, if their classes differ; the
            utterances of other classes are left out. Empty if both have the same.
    """

    task: str
    selection: str
    first: str
    second: str
    utterances: int
    scores: dict[str, tuple[float, float]]
    main: str
    difference: float
    difference_interval: tuple[float, float] | None
    interval: str
    mcnemar: float | None
    permutation: float | None
    permutation_unit: str
    z: float | None
    adjusted: dict[str, float]
    effect: float | None
    classes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Comparison:
    """Comparison of every pair of several runs.

    Attributes:
        format: version of this layout.
        command: the command that was typed.
        created: time of its end, ISO 8601, UTC.
        runs: name, recipe, corpus, name and hash of the protocol, and seeds of each run.
        paired_tests: each pair of runs, for each task.
        warnings: limits of the comparison, a sentence each.
    """

    format: int
    command: str
    created: str
    runs: list[dict[str, Any]]
    paired_tests: list[PairedTest]
    warnings: list[str]

    def __repr__(self) -> str:
        """Return a line for each pair of runs."""
        return "\n".join(map(_describe_test, self.paired_tests)) or "no paired test"


def _describe_test(test: PairedTest) -> str:
    metric = get_metric(test.main)
    p = "" if test.permutation is None else f", p {test.permutation:.3g}"
    bounds = [format(bound, metric.format_spec) for bound in test.difference_interval or ()]
    interval = f" [{', '.join(bounds)}]" if bounds else ""
    difference = format(test.difference, metric.format_spec)
    return (
        f"{test.task}: {metric.title} of {test.first} minus that of {test.second}: "
        f"{difference}{interval}{p}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One evaluation of a search, scored on validation speakers.

    Attributes:
        number: counted from 0; the settings follow from it and the search's seed.
        settings: value of each searched setting.
        state: "finished", "failed", "running" (in some process), or "waiting" (interrupted).
        score: mean of ``folds`` where they are defined.
        folds: for each fold the score on its validation subset, at its selected epoch.
        run: name of the evaluation's folder, next to the search's.
        seconds: wall-clock time of its epochs together.
        fault: why it failed.
    """

    number: int
    settings: dict[str, Any]
    state: str
    score: float | None = None
    folds: dict[str, float | None] = field(default_factory=dict)
    run: str = ""
    seconds: float | None = None
    fault: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Search:
    """A random search; the content of ``search.json``.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: the command that was typed.
        created: time of writing, ISO 8601, UTC.
        recipe: every setting, without those of a trial.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name, hash, choice of validation speakers, and number of folds.
        task: the first task.
        space: for each searched setting, its range or choice.
        seed: of the draws and of every training.
        trials: in order of their numbers.
        best: number of the trial with the highest score, the first one of equals.
        evaluation: the command that evaluates the best trial.
        warnings: limits of the scores, a sentence each.
        score: name of the first task's main score: "ua", or "ccc" of a regression.
        ranked_by: for each task whose main score ranks the trials, the name of that score; of
            several tasks, the mean counts. Empty in files of earlier versions: the first task.
    """

    format: int
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    corpus: dict[str, Any]
    protocol: dict[str, Any]
    task: str
    space: dict[str, str]
    seed: int
    trials: list[Trial]
    best: int | None
    evaluation: str
    warnings: list[str]
    score: str = "ua"
    ranked_by: dict[str, str] = field(default_factory=dict)

    @property
    def ranked_trials(self) -> list[Trial]:
        """Trials that have a score, the best first."""
        return rank_trials(self.trials)

    def __repr__(self) -> str:
        """Return the name, the number of trials, and the best one."""
        text = f"{self.name}: {len(self.trials)} trials"
        best = next(iter(self.ranked_trials), None)
        if best is None or best.score is None:
            return text
        settings = ", ".join(f"{name}={value}" for name, value in best.settings.items())
        return f"{text}; best: {settings}, {get_metric(self.score).format_score(best.score)}"


def rank_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Sort the trials that have a score, the best first; equals keep the order of their numbers."""
    scored = [trial for trial in trials if trial.score is not None]
    return sorted(scored, key=lambda trial: (-(trial.score or 0), trial.number))


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSeed:
    """One evaluation of a sweep.

    Attributes:
        seed: of weights, order and dropout.
        run: name of its folder, next to the sweep's.
        wa: weighted accuracy of the first task at the headline's epochs; None is undefined.
        ua: unweighted accuracy, likewise.
    """

    seed: int
    run: str
    wa: float | None
    ua: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    """One value of the setting, with all seeds.

    Attributes:
        value: of the setting.
        split: the protocol's caution with this value.
        training_utterances: number of training utterances, the mean over folds.
        wa: weighted accuracy of the predictions of all seeds together.
        ua: unweighted accuracy, likewise.
        wa_interval: 95 % interval of ``wa``.
        ua_interval: 95 % interval of ``ua``.
        seeds: each evaluation.
    """

    value: Any
    split: str
    training_utterances: float
    wa: float | None
    ua: float | None
    wa_interval: Interval
    ua_interval: Interval
    seeds: list[SweepSeed]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """Linear trend of UA over the values of the setting.

    Attributes:
        slope: change of UA for each unit of the setting, by least squares.
        interval: 95 % interval of ``slope``.
        p: of the permutation test that permutes the values within each seed.
        arrangements: number of such permutations; the smallest possible p is one over it.
    """

    slope: float
    interval: Interval
    p: float | None
    arrangements: int


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Sweep:
    """Evaluations with several values of one setting; the content of ``sweep.json``.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: the command that was typed.
        created: time of its end, ISO 8601, UTC.
        recipe: every setting, without the swept one.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name of the split.
        task: the scored task.
        selection: the selection of epochs.
        setting: name of the swept setting.
        utterances: number of utterances that were tested with every value.
        points: one for each value, in the given order.
        interval: description of how the intervals of scores and slope were computed.
        paired_tests: comparison of each point but the first with the first.
        trend: None if a value is not a number, or a score is undefined.
        warnings: limits of the scores, a sentence each.
    """

    format: int
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    corpus: dict[str, Any]
    protocol: str
    task: str
    selection: str
    setting: str
    utterances: int
    points: list[SweepPoint]
    interval: str
    paired_tests: list[PairedTest]
    trend: Trend | None
    warnings: list[str]

    def __repr__(self) -> str:
        """Return a line for each value of the setting."""
        lines = (
            f"{self.setting}={point.value}: UA "
            f"{'n/a' if point.ua is None else format(point.ua, '.1%')}, "
            f"{len(point.seeds)} seed{'s' * (len(point.seeds) != 1)}"
            for point in self.points
        )
        return "\n".join([f"{self.name}:", *lines])


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A label that looks wrong.

    Attributes:
        id: of the utterance.
        fold: that tested it, so that its model was not trained on it.
        speaker: the speaker, if known.
        label: the class that the corpus has.
        suggestion: the class that the model is confident of.
        label_probability: of the label.
        suggestion_probability: of the other class.
        votes: shares of the raters' votes by class, if the corpus has votes.
    """

    id: str
    fold: str
    speaker: str | None
    label: str
    suggestion: str
    label_probability: float
    suggestion_probability: float
    votes: dict[str, float]

    @property
    def margin(self) -> float:
        """Probability of the label less that of the suggestion; the lowest look most wrong."""
        return self.label_probability - self.suggestion_probability


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspectList:
    """The labels of a run that look wrong.

    Attributes:
        run: its name.
        corpus: name of the corpus.
        task: the task.
        selection: meaning of the epochs whose predictions were used.
        utterances: number of labelled utterances.
        thresholds: the threshold of each class; classes without a label are left out.
        confident: for each pair of label and confident class, the number of utterances.
        suspects: most suspicious first.
    """

    run: str
    corpus: str
    task: str
    selection: str
    utterances: int
    thresholds: dict[str, float]
    confident: dict[tuple[str, str], int]
    suspects: tuple[Suspect, ...]
