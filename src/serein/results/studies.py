"""Records of studies of several evaluations: comparison, search and sweep.

Times are in seconds. ``repr`` of a record has a few lines, and Jupyter shows its
``_repr_html_``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from serein.errors import ConfigError
from serein.metrics.scoring import get_metric

if TYPE_CHECKING:
    import pandas

Interval = tuple[float, float] | None
SIGNIFICANCE = 0.05
"""The p below which a run is called better."""
MAX_ROWS = 10
"""Rows of a table in a notebook; ``to_frame()`` has all."""


def build_frame(rows: Iterable[Mapping[str, Any]]) -> "pandas.DataFrame":
    """Return a data frame.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError("a data frame needs pandas: pip install pandas") from None
    return pandas.DataFrame([dict(row) for row in rows])


def render_record(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Iterable[str] = (),
) -> str:
    """Return a record as HTML for a notebook: a line, a table of its first rows, and notes."""
    left = "text-align:left"
    titles = "".join(f"<th style='{left}'>{escape(name)}</th>" for name in header)
    body = "".join(
        f"<tr>{''.join(f'<td style={left!r}>{escape(str(cell))}</td>' for cell in row)}</tr>"
        for row in rows[:MAX_ROWS]
    )
    more = len(rows) - MAX_ROWS
    texts = [*notes, *([f"and {more} more: to_frame() has all"] if more > 0 else [])]
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in texts)
    return f"<div><p>{escape(title)}</p><table><tr>{titles}</tr>{body}</table>{paragraphs}</div>"


def count_noun(count: int, noun: str) -> str:
    """Return a number and a noun in singular or plural.

    >>> count_noun(1, "seed"), count_noun(1200, "trial")
    ('1 seed', '1,200 trials')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _format(name: str, score: float | None) -> str:
    """Return a score with its unit."""
    return "n/a" if score is None else format(score, get_metric(name).format_spec)


def _format_bounds(name: str, bounds: Interval) -> str:
    return f"[{', '.join(_format(name, bound) for bound in bounds)}]" if bounds else ""


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

    @property
    def winner(self) -> str | None:
        """The run that is better, or None if neither is shown to be.

        A run is better if the permutation test of the main score, after Holm's correction, is below
        5 %, and the interval of the difference does not contain 0.
        """
        p, interval = self.corrected_p, self.difference_interval
        if p is None or p >= SIGNIFICANCE or interval is None or interval[0] <= 0 <= interval[1]:
            return None
        return self.first if self.difference > 0 else self.second

    @property
    def corrected_p(self) -> float | None:
        """The p of the permutation test, after Holm's correction if there is one."""
        return self.adjusted.get("permutation", self.permutation)


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

    def _repr_html_(self) -> str:
        """Return a table with a row for each pair of runs, for a notebook."""
        rows = [
            (
                test.task,
                test.first,
                test.second,
                *(" and ".join(_format(test.main, one) for one in test.scores[test.main]),),
                _format(test.main, test.difference),
                _format_bounds(test.main, test.difference_interval),
                "" if test.corrected_p is None else f"{test.corrected_p:.3g}",
                test.winner or "none",
            )
            for test in self.paired_tests
        ]
        scores = "/".join(dict.fromkeys(get_metric(one.main).title for one in self.paired_tests))
        header = ("task", "first", "second", scores, "difference", "interval", "p", "better")
        return render_record(count_noun(len(self.runs), "run"), header, rows, self.warnings)

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row for each pair of runs and task.

        ``p`` is that of the permutation test after Holm's correction, ``winner`` the better run, or
        None.

        Raises:
            ConfigError: pandas is not installed.
        """
        return build_frame(
            {
                "task": test.task,
                "selection": test.selection,
                "first": test.first,
                "second": test.second,
                "utterances": test.utterances,
                **{
                    f"{name}_{side}": score
                    for name, pair in test.scores.items()
                    for side, score in zip(("first", "second"), pair, strict=True)
                },
                "difference": test.difference,
                "low": (test.difference_interval or (None, None))[0],
                "high": (test.difference_interval or (None, None))[1],
                "p": test.corrected_p,
                "winner": test.winner,
            }
            for test in self.paired_tests
        )


def _describe_test(test: PairedTest) -> str:
    title, p = get_metric(test.main).title, test.corrected_p
    interval = _format_bounds(test.main, test.difference_interval)
    clauses = [f"{_format(test.main, test.difference)} {interval}".strip()]
    clauses += [] if p is None else [f"p {p:.3g}"]
    clauses.append(f"{test.winner} is better" if test.winner else "no winner")
    return f"{test.task}: {title} of {test.first} minus that of {test.second}: {', '.join(clauses)}"


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
        text = f"{self.name}: {count_noun(len(self.trials), 'trial')}"
        best = next(iter(self.ranked_trials), None)
        if best is None or best.score is None:
            return text
        settings = ", ".join(f"{name}={value}" for name, value in best.settings.items())
        return f"{text}; best: {settings}, {get_metric(self.score).format_score(best.score)}"

    def _repr_html_(self) -> str:
        """Return a table of the trials, the best first, for a notebook."""
        ranked = self.ranked_trials
        others = [trial for trial in self.trials if trial.score is None]
        rows = [
            (
                trial.number,
                *(trial.settings.get(name, "") for name in self.space),
                _format(self.score, trial.score),
                trial.state,
            )
            for trial in (*ranked, *others)
        ]
        header = ("trial", *self.space, get_metric(self.score).title, "state")
        command = [f"To evaluate the best one: {self.evaluation}"] if self.evaluation else []
        return render_record(repr(self), header, rows, [*self.warnings, *command])

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row for each trial, with its settings.

        Raises:
            ConfigError: pandas is not installed.
        """
        return build_frame(
            {
                "trial": trial.number,
                **trial.settings,
                "score": trial.score,
                "state": trial.state,
                "seconds": trial.seconds,
                "run": trial.run,
                "fault": trial.fault,
            }
            for trial in self.trials
        )


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
            f"{self.setting}={point.value}: UA {_format('ua', point.ua)}, "
            f"{count_noun(len(point.seeds), 'seed')}"
            for point in self.points
        )
        return "\n".join([f"{self.name}:", *lines])

    def _repr_html_(self) -> str:
        """Return a table with a row for each value of the setting, for a notebook."""
        rows = [
            (
                point.value,
                _format("wa", point.wa),
                _format_bounds("wa", point.wa_interval),
                _format("ua", point.ua),
                _format_bounds("ua", point.ua_interval),
                len(point.seeds),
            )
            for point in self.points
        ]
        header = (self.setting, "WA", "interval", "UA", "interval", "seeds")
        trend = self.trend
        notes = list(self.warnings)
        if trend is not None:
            p = "" if trend.p is None else f", p {trend.p:.3g}"
            notes.append(f"Trend of UA per unit: {trend.slope:+.1%}{p}")
        return render_record(f"{self.name}, {self.protocol}", header, rows, notes)

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row for each value of the setting and each seed.

        Raises:
            ConfigError: pandas is not installed.
        """
        return build_frame(
            {self.setting: point.value, "seed": seed.seed, "wa": seed.wa, "ua": seed.ua}
            | {"training_utterances": point.training_utterances, "run": seed.run}
            for point in self.points
            for seed in point.seeds
        )


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


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        """Return how many labels look wrong."""
        return (
            f"{len(self.suspects):,} of {self.utterances:,} labels of {self.task} look wrong to "
            "models that were not trained on them"
        )

    def _repr_html_(self) -> str:
        """Return a table of the most suspicious labels, for a notebook."""
        rows = [
            (
                one.id,
                one.label,
                f"{one.label_probability:.1%}",
                one.suggestion,
                f"{one.suggestion_probability:.1%}",
            )
            for one in self.suspects
        ]
        header = ("id", "label", "probability", "suggestion", "probability")
        return render_record(repr(self), header, rows)

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with a row for each label that looks wrong.

        Raises:
            ConfigError: pandas is not installed.
        """
        return build_frame(
            {
                "id": one.id,
                "speaker": one.speaker,
                "fold": one.fold,
                "label": one.label,
                "suggestion": one.suggestion,
                "p_label": one.label_probability,
                "p_suggestion": one.suggestion_probability,
                "margin": one.margin,
            }
            for one in self.suspects
        )
