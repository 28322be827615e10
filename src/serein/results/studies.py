"""What a comparison of several runs leaves.

What a search leaves. Times are in seconds.

What a sweep of one setting leaves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTest:
    """Two runs on the utterances that both tested, for one task and selection.

    Attributes:
        task: what was foretold.
        selection: which epochs.
        first: name of one run.
        second: name of the other.
        utterances: how many both tested.
        scores: each score of first and second on them: of classes the mean over seeds, of numbers
            over the answers of all seeds together.
        main: name of the score that is tested: "ua" or "ccc".
        difference: that of the first less that of the second.
        difference_interval: 95 % interval of ``difference``.
        interval: how it was made, in words.
        mcnemar: p of McNemar's test; None for numbers.
        permutation: p of the permutation test of ``difference``.
        swapped: what that test swaps, in words.
        z: p of the test of two proportions that Zhang et al. use, one-tailed: that the first is
            the better one, as its user claims by naming it first; None for numbers.
        adjusted: for each test, p after Holm's correction over all contests.
        effect: Cohen's h of the two WA; None for numbers.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Several runs, each against each.

    Attributes:
        format: version of this layout.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
        runs: name, recipe, corpus, name and hash of the protocol, and seeds of each run.
        contests: each pair of runs, for each task and selection.
        warnings: what a reader must know before believing a difference.
    """

    format: int
    command: str
    created: str
    runs: list[dict[str, Any]]
    paired_tests: list[PairedTest]
    warnings: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One evaluation of a search, on validation speakers alone.

    Attributes:
        number: counted from 0; the search's seed and this make its settings.
        settings: value of each searched setting.
        state: "finished", "failed", "running" (somewhere), or "waiting" (it was interrupted).
        score: mean of ``folds`` where they are defined.
        folds: for each fold the leading task's main score on its validation side, at the epoch
            that was chosen there.
        run: name of the evaluation's folder, beside the search's.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A random search; ``search.json`` holds it.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: what was typed.
        created: when it was written, ISO 8601, UTC.
        recipe: every setting, before a trial changed any.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name, hash, choice of validation speakers, and number of folds.
        task: whose main score counts.
        space: for each searched setting, what it was drawn from.
        seed: of the draws and of every training.
        trials: in order of their numbers.
        best: number of the trial with the highest score, the earliest of equals.
        evaluation: the command that evaluates it.
        warnings: what a reader must know before believing the scores.
        score: its name, "ua" of classes and "ccc" of numbers.
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

    @property
    def ranked_trials(self) -> list[Trial]:
        """Trials that have a score, the best first."""
        return rank_trials(self.trials)


def rank_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Those that have a score, the best first, the earlier of equals before the later."""
    scored = [one for one in trials if one.score is not None]
    return sorted(scored, key=lambda one: (-(one.score or 0), one.number))


Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSeed:
    """One evaluation.

    Attributes:
        seed: of weights, order and dropout.
        run: name of its folder, beside the sweep's.
        wa: weighted accuracy of the leading task at the headline's epochs; None is undefined.
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
        split: what the protocol says of itself with this value.
        trained: training utterances of a fold, the mean over folds.
        wa: weighted accuracy of all seeds' answers together.
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
    """Whether UA rises or falls with the setting, over all its values.

    Attributes:
        slope: by how much UA changes with each unit of the setting, by least squares.
        interval: 95 % interval of ``slope``.
        p: of the permutation test that exchanges the values within each seed.
        arrangements: how many such exchanges there are; there is no p below one over them.
    """

    slope: float
    interval: Interval
    p: float | None
    arrangements: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """One setting over several values; ``sweep.json`` holds it.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
        recipe: every setting, before the sweep changed one.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name of the split.
        task: whose scores these are.
        selection: which epochs.
        setting: its name.
        utterances: how many were tested with every value.
        points: in the order in which the values were given.
        interval: how the intervals of scores and slope were made, in words.
        contests: each point but the first against the first, on the same utterances.
        trend: None where a value is no number, or a score is undefined.
        warnings: what a reader must know before believing the scores.
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
