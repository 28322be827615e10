"""Scores of every selection and of optimistic evaluations next to each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from serein.metrics.intervals import choose_groups
from serein.metrics.scoring import Metric, Scores, compute_difference_interval, nan_to_none
from serein.metrics.statistical_tests import permutation_test
from serein.report import summary
from serein.report.summary import Interval
from serein.report.table import Column, Row, Table, make_row, text_columns
from serein.results.evaluation import NUISANCE, Results
from serein.results.intervals import find_interval_method

BASELINES = {
    "majority": "predicts the most frequent class of the training subset",
    "chance": "draws each prediction uniformly from the classes",
    "mean": "predicts the mean of the training subset",
    NUISANCE: "a random forest on ten numbers that are hardly voice",
}
NUISANCE_NUMBERS = (
    "duration, silence before and after, level, peak, floor, offset, zeros, sampling rate, "
    "bandwidth"
)
HIGH_SHARE = 0.5
"""Share of the way from chance to 100 % at which the nuisance baseline is high."""
LAST_EPOCH = "last"
"""The selection that does not depend on a score."""
KIND_MARKS = {"headline": " (quoted)", "optimistic": " (optimistic)"}
"""Marks after the name of a row, by its kind."""
EPOCH_PHRASES = {"validation": "the epochs selected on validation", LAST_EPOCH: "the last epoch"}
AUDIT_HINT = (
    "Run the evaluation with --audit to measure a random split and test-speaker normalisation too"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """The scores of a selection or baseline; None is undefined.

    Attributes:
        name: of the selection or baseline.
        note: what it means.
        kind: "headline", "selection", "optimistic" or "baseline".
        scores: over the pooled predictions.
        intervals: of these scores.
        fold_means: means of the folds' scores.
        selected_by: the task whose scores selected the epochs, if it is another task.
    """

    name: str
    note: str
    kind: str
    scores: Scores
    intervals: dict[str, Interval] = field(default_factory=dict)
    fold_means: Scores = field(default_factory=dict)
    selected_by: str | None = None


def is_optimistic(results: Results, selection: str, task: str) -> bool:
    """Return whether a selection selected epochs by this task's scores on the test subset."""
    by_test = "optimistic" in results.selections.get(selection, "")
    return by_test and get_selecting_task(results, task) is None


def format_selection(results: Results, selection: str, task: str) -> str:
    """Return the name of a selection, marked if it is optimistic."""
    return f"{selection}{KIND_MARKS['optimistic'] * is_optimistic(results, selection, task)}"


def get_audit_heading(results: Results) -> str:
    """Return the heading of the section of scores, which depends on the number of selections."""
    is_audit = len(results.selections) > 1 and not results.class_set
    return "Selection audit" if is_audit else "Scores"


def compare_selections(results: Results, task: str) -> list[ScoreRow]:
    """Return the scores of every selection of a task, then those of the baselines."""
    rows = [_selection_row(results, name, task) for name in results.selections]
    baselines = [
        ScoreRow(name=name, note=note, kind="baseline", scores=scores)
        for name, note in BASELINES.items()
        if (scores := results.baselines.get(name, {}).get(task))
    ]
    return [row for row in rows if row is not None] + baselines


def describe_nuisance(results: Results) -> str | None:
    """Describe the nuisance baseline if the system is no better, or if it is high; else None."""
    task = next((task for task, scores in results.baselines.get(NUISANCE, {}).items()), "")
    baseline = results.baselines[NUISANCE][task].get("ua") if task else None
    quoted = results.scores_by_task(results.headline).get(task)
    chance = results.baselines.get("chance", {}).get(task, {}).get("ua")
    if baseline is None or quoted is None or chance is None:
        return None
    score, clauses = quoted.score("ua"), []
    if score is not None and score <= baseline:
        clauses.append("the system is no better")
    if baseline - chance >= HIGH_SHARE * (1 - chance):
        clauses.append("the classes can be predicted from how the corpus was recorded and cut")
    if not clauses:
        return None
    return (
        f"{task}: a random forest on numbers that are hardly voice ({NUISANCE_NUMBERS}) has a UA "
        f"of {summary.format_percent(baseline)} %: {', and '.join(clauses)}."
    )


def _selection_row(results: Results, name: str, task: str) -> ScoreRow | None:
    scores = results.scores_by_task(name).get(task)
    if scores is None:
        return None
    other = "optimistic" if is_optimistic(results, name, task) else "selection"
    metrics = [metric.name for metric in summary.get_task_scorer(results, task).metrics]
    return ScoreRow(
        name=name,
        note=results.selections[name],
        kind="headline" if name == results.headline else other,
        scores={metric: scores.score(metric) for metric in metrics},
        intervals={metric: scores.bounds(metric) for metric in metrics},
        fold_means=results.fold_means.get(name, {}).get(task, {}),
        selected_by=get_selecting_task(results, task) if _selects_epochs(results, name) else None,
    )


def _selects_epochs(results: Results, selection: str) -> bool:
    return selection != LAST_EPOCH and any(selection in fold.epochs for fold in results.folds)


def get_selecting_task(results: Results, task: str) -> str | None:
    """Return the other task whose scores select the epochs; None if this task's scores count."""
    first = summary.get_first_task(results)
    by_mean = results.recipe.get("training", {}).get("select_by") == "mean"
    return None if by_mean or task == first or summary.is_fitted(results) else first


def describe_selection_gap(results: Results) -> str | None:
    """Return in two sentences how much selecting epochs on the test subset raises the score.

    The scores are those of the first task. None if no selection used the test subset.
    """
    task = summary.get_first_task(results)
    rows = {row.name: row for row in compare_selections(results, task) if row.kind != "baseline"}
    best = next((row for row in rows.values() if row.kind == "optimistic"), None)
    quoted = rows.pop(results.headline, None)
    if best is None or quoted is None:
        return None
    main = summary.get_task_scorer(results, task).main
    top = best.scores[main.name]
    if top is None or quoted.scores[main.name] is None:
        return None
    others = [quoted, *(row for row in rows.values() if row.kind == "selection")]
    clauses = []
    for row in others:
        score = row.scores[main.name]
        if score is not None:
            epochs = EPOCH_PHRASES.get(row.name, f"the epochs of {row.name}")
            clauses.append(f"{_format_points(main, top, score)} {epochs}")
    value = f"{summary.format_score(main, top)}{summary.format_unit(main)}"
    return (
        f"Selecting epochs on the test subset reports a {main.title} of {value}: "
        f"{' and '.join(clauses)}.{_describe_paired_difference(results, task, best.name)}"
    )


def _format_points(main: Metric, score: float, other: float) -> str:
    points = summary.compute_gain(main, score, other) or 0.0
    size = summary.format_gain(main, abs(points)).removeprefix("+")
    if not float(size):
        return "the same as"
    unit = " points" if main.is_percent else ""
    return f"{size}{unit} {'above' if points > 0 else 'below'}"


def _describe_paired_difference(results: Results, task: str, name: str) -> str:
    pair = pair_selections(results, task, name, results.headline)
    if pair.interval is None:
        return ""
    main = summary.get_task_scorer(results, task).main
    low, high = (summary.format_score(main, bound) for bound in pair.interval)
    points = " points" if main.is_percent else ""
    test = ""
    if pair.p is not None:
        sign = "" if (p_value := summary.format_p_value(pair.p)).startswith("<") else "= "
        test = f" (permutation of whole speakers: p {sign}{p_value})"
    bounds = f"{low} to {high}{points}{test}"
    return f" It and the quoted selection differ by {bounds}: paired {pair.method}."


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedSelections:
    """The difference in UA, or CCC, of two selections on the same utterances.

    Attributes:
        interval: of first - second; None where it is undefined.
        method: how the interval was computed.
        p: of the permutation test over speakers; None where speakers are not known.
    """

    interval: Interval
    method: str
    p: float | None


def pair_selections(results: Results, task: str, first: str, second: str) -> PairedSelections:
    """Compare two selections, which have predictions for the same utterances."""
    items = summary.select_scored(results, task, first, second)
    scorer, classes = summary.get_task_scorer(results, task), results.classes[task]
    truth = [item.truth[task] for item in items]
    method = find_interval_method(results)
    speakers = [item.speaker for item in items]
    groups, description = choose_groups(speakers, method)

    def tally(name: str, units: Sequence[str]) -> NDArray[Any]:
        predicted = summary.get_predicted_values(results, task, name, items)
        return scorer.tally(truth, predicted, units, classes)

    ours, theirs = (tally(name, groups) for name in (first, second))
    known = [speaker for speaker in speakers if speaker is not None]
    p = None
    if len(known) == len(speakers):
        swapped = tally(first, known), tally(second, known)
        p = nan_to_none(permutation_test(*swapped, scorer.main.statistic))
    return PairedSelections(
        interval=compute_difference_interval(ours, theirs, scorer.main, method=method),
        method=description,
        p=p,
    )


def build_optimistic_table(results: Results) -> Table | None:
    """Build the table of the quoted scores and of optimistic evaluations of the same system."""
    task = summary.get_first_task(results)
    scores = results.scores_by_task(results.headline).get(task)
    variants = list(_list_optimistic_variants(results, task)) if scores else []
    if scores is None or not variants:
        return None
    metrics = summary.get_task_scorer(results, task).metrics
    quoted = {metric.name: scores.score(metric.name) for metric in metrics}
    points = " in points" if results.classes[task] else ""
    # Nothing is trained again for the predictions of another program.
    can_train = not summary.is_external(results) or summary.is_trained_with_seed(results)
    hint = f" {AUDIT_HINT}." if can_train and not results.optimistic_variants else ""
    seed = results.environment.get("seed")
    return Table(
        title=f"{task}: optimistic evaluations{summary.format_title_unit(results, task)}",
        note=f"Seed {seed}, pooled over folds; gains{points} over the quoted row.{hint}",
        columns=(
            *text_columns("evaluation", "description"),
            *(Column(name=metric.title) for metric in metrics),
            *(Column(name=f"gain in {metric.title}") for metric in metrics),
        ),
        rows=(
            make_row(
                "as quoted",
                results.selections.get(results.headline, ""),
                *(summary.format_score(metric, quoted[metric.name]) for metric in metrics),
                *("" for _ in metrics),
                kind="headline",
            ),
            *(_optimistic_row(name, note, own, quoted, metrics) for name, note, own in variants),
        ),
    )


def _list_optimistic_variants(results: Results, task: str) -> Iterator[tuple[str, str, Scores]]:
    """Yield name, description and scores of every optimistic evaluation."""
    metrics = summary.get_task_scorer(results, task).metrics
    for selection in results.selections:
        if is_optimistic(results, selection, task):
            own = results.scores_by_task(selection)[task]
            scores = {metric.name: own.score(metric.name) for metric in metrics}
            yield "test-selected epochs", results.selections[selection], scores
    for variant in results.optimistic_variants:
        if task in variant.scores:
            yield variant.name.replace("-", " "), variant.description, variant.scores[task]


def _optimistic_row(
    name: str, note: str, scores: Scores, quoted: Scores, metrics: Sequence[Metric]
) -> Row:
    cells, gains = [], []
    for metric in metrics:
        score = scores.get(metric.name)
        gain = summary.compute_gain(metric, score, quoted[metric.name])
        cells.append(summary.format_score(metric, score))
        gains.append(summary.format_gain(metric, gain))
    return make_row(name, note, *cells, *gains, kind="optimistic")
