"""What the choice of epochs does to the scores: every selection side by side."""

from dataclasses import dataclass, field

import numpy as np

from serein.metrics.bootstrap import bootstrap_difference, choose_resampling_groups
from serein.metrics.scoring import Metric, Scores
from serein.report import summary
from serein.report.summary import Interval
from serein.results.evaluation import Results

BASELINES = {
    "majority": "always answers the most frequent class of the training side",
    "chance": "draws each answer uniformly from the classes",
    "mean": "always answers the mean of the training side",
}
LAST_EPOCH = "last"
"""The one selection of a training that no score picks."""
KIND_MARKS = {"headline": " (quoted)", "optimistic": " (optimistic)"}
"""What stands beside a row of such a kind."""
EPOCH_PHRASES = {"validation": "the epochs that validation chose", LAST_EPOCH: "the last epoch"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """One line of a comparison; None is undefined.

    Attributes:
        name: of the selection or baseline.
        note: what it means.
        kind: "headline", "selection", "optimistic" or "baseline".
        scores: of all predictions together.
        intervals: of these scores.
        folds: means of the folds' scores.
        chosen_by: the task whose scores picked the epochs, where it is another one.
    """

    name: str
    note: str
    kind: str
    scores: Scores
    intervals: dict[str, Interval] = field(default_factory=dict)
    fold_means: Scores = field(default_factory=dict)
    chosen_by: str | None = None


def is_optimistic(results: Results, selection: str, task: str) -> bool:
    """Whether a selection picked epochs by this very task's scores on the test side."""
    seen = "optimistic" in results.selections.get(selection, "")
    return seen and get_selecting_task(results, task) is None


def format_selection(results: Results, selection: str, task: str) -> str:
    """The name of a selection, with its mark where it saw the test side."""
    return f"{selection}{KIND_MARKS['optimistic'] * is_optimistic(results, selection, task)}"


def get_audit_heading(results: Results) -> str:
    """What the section of the scores is called: with one selection, nothing is audited."""
    return "Selection audit" if len(results.selections) > 1 else "Scores"


def compare_selections(results: Results, task: str) -> list[ScoreRow]:
    """Every selection of a task, then what knowing nothing scores."""
    rows = [_selection_row(results, name, task) for name in results.selections]
    chosen = [row for row in rows if row is not None]
    return chosen + [
        ScoreRow(name=name, note=note, kind="baseline", scores=scores)
        for name, note in BASELINES.items()
        if (scores := results.baselines.get(name, {}).get(task))
    ]


def _selection_row(results: Results, name: str, task: str) -> ScoreRow | None:
    scores = results.scores_by_task(name).get(task)
    if scores is None:
        return None
    other = "optimistic" if is_optimistic(results, name, task) else "selection"
    names = [one.name for one in summary.get_task_scorer(results, task).metrics]
    return ScoreRow(
        name=name,
        note=results.selections[name],
        kind="headline" if name == results.headline else other,
        scores={score: scores.score(score) for score in names},
        intervals={score: scores.bounds(score) for score in names},
        fold_means=results.fold_means.get(name, {}).get(task, {}),
        chosen_by=get_selecting_task(results, task) if _picks_epochs(results, name) else None,
    )


def _picks_epochs(results: Results, selection: str) -> bool:
    return selection != LAST_EPOCH and any(selection in fold.epochs for fold in results.folds)


def get_selecting_task(results: Results, task: str) -> str | None:
    """The other task whose scores pick the epochs; None where this one has a say in it."""
    lead = summary.get_leading_task(results)
    every = results.recipe.get("training", {}).get("choose") == "mean"
    own = every or task == lead or summary.is_fitted(results)
    return None if own else lead


def describe_selection_gap(results: Results) -> str | None:
    """How far picking epochs on the test side is from the other selections, in two sentences.

    Only of the task that picks them; None where nothing was picked on the test side.
    """
    task = summary.get_leading_task(results)
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
    apart = [
        f"{_format_points(main, top, score)} {EPOCH_PHRASES.get(row.name, f'the epochs of {row.name}')}"
        for row in others
        if (score := row.scores[main.name]) is not None
    ]
    told = f"{summary.format_score(main, top)}{summary.format_unit(main)}"
    reports = f"Picking epochs on the test side reports a {main.title} of {told}"
    return (
        f"{reports}: {' and '.join(apart)}.{_describe_paired_difference(results, task, best.name)}"
    )


def _format_points(main: Metric, score: float, other: float) -> str:
    points = summary.compute_gain(main, score, other) or 0.0
    size = summary.format_gain(main, abs(points)).removeprefix("+")
    if not float(size):
        return "the same as"
    words = " points" if main.is_percent else ""
    return f"{size}{words} {'above' if points > 0 else 'below'}"


def _describe_paired_difference(results: Results, task: str, name: str) -> str:
    interval, words = compute_difference(results, task, name, results.headline)
    if interval is None:
        return ""
    main = summary.get_task_scorer(results, task).main
    low, high = (summary.format_score(main, bound) for bound in interval)
    points = " points" if main.is_percent else ""
    return f" It and the quoted selection differ by {low} to {high}{points}: paired {words}."


def compute_difference(
    results: Results, task: str, first: str, second: str
) -> tuple[Interval, str]:
    """By how much the UA, or CCC, of two selections differs, first less second.

    Both answered the same utterances, so both are resampled with the same draws.

    Returns:
        The interval, None where it is undefined, and how it was made in words.
    """
    items = summary.select_scored(results, task, first, second)
    measure, classes = summary.get_task_scorer(results, task), results.classes[task]
    truth = [item.truth[task] for item in items]
    groups, words = choose_resampling_groups([item.speaker for item in items])
    ours, theirs = (
        measure.tally(truth, summary.get_answers(results, task, name, items), groups, classes)
        for name in (first, second)
    )
    low, high = bootstrap_difference(ours, theirs, measure.main.statistic)
    return (None if np.isnan(low) else (low, high)), words
