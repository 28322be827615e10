"""What the choice of epochs does to the scores: every selection side by side."""

from dataclasses import dataclass

import numpy as np

from serein.metrics.classification import unweighted_accuracy_from_confusion
from serein.metrics.significance import (
    bootstrap_difference,
    grouped_confusions,
    speaker_or_utterance_groups,
)
from serein.report import summary
from serein.report.summary import Interval
from serein.results import Results

BASELINES = {
    "majority": "always answers the most frequent class of the training side",
    "chance": "draws each answer uniformly from the classes",
}
LAST = "last"
"""The one selection of a training that no score picks."""
MARKS = {"headline": " (quoted)", "optimistic": " (optimistic)"}
"""What stands beside a row of such a kind."""
EPOCHS = {"validation": "the epochs that validation chose", LAST: "the last epoch"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a comparison; None is undefined.

    Attributes:
        name: of the selection or baseline.
        note: what it means.
        kind: "headline", "selection", "optimistic" or "baseline".
        wa: weighted accuracy of all predictions together.
        ua: unweighted accuracy of all predictions together.
        wa_interval: interval of ``wa``.
        ua_interval: interval of ``ua``.
        fold_wa: mean of the folds' weighted accuracies.
        fold_ua: mean of the folds' unweighted accuracies.
        chosen_by: the task whose scores picked the epochs, where it is another one.
    """

    name: str
    note: str
    kind: str
    wa: float | None
    ua: float | None
    wa_interval: Interval = None
    ua_interval: Interval = None
    fold_wa: float | None = None
    fold_ua: float | None = None
    chosen_by: str | None = None


def is_optimistic(results: Results, selection: str, task: str) -> bool:
    """Whether a selection picked epochs by this very task's scores on the test side."""
    seen = "optimistic" in results.selections.get(selection, "")
    return seen and task == summary.leading(results)


def marked(results: Results, selection: str, task: str) -> str:
    """The name of a selection, with its mark where it saw the test side."""
    return f"{selection}{MARKS['optimistic'] * is_optimistic(results, selection, task)}"


def heading(results: Results) -> str:
    """What the section of the scores is called: with one selection, nothing is audited."""
    return "Selection audit" if len(results.selections) > 1 else "Scores"


def comparison(results: Results, task: str) -> list[Row]:
    """Every selection of a task, then what knowing nothing scores."""
    rows = [_selection(results, name, task) for name in results.selections]
    chosen = [row for row in rows if row is not None]
    return chosen + [
        Row(name=name, note=note, kind="baseline", wa=scores.get("wa"), ua=scores.get("ua"))
        for name, note in BASELINES.items()
        if (scores := results.baselines.get(name, {}).get(task))
    ]


def _selection(results: Results, name: str, task: str) -> Row | None:
    scores = results.scores.get(name, {}).get(task)
    if scores is None:
        return None
    other = "optimistic" if is_optimistic(results, name, task) else "selection"
    means = results.fold_means.get(name, {}).get(task, {})
    return Row(
        name=name,
        note=results.selections[name],
        kind="headline" if name == results.headline else other,
        wa=scores.wa,
        ua=scores.ua,
        wa_interval=scores.wa_interval,
        ua_interval=scores.ua_interval,
        fold_wa=means.get("wa"),
        fold_ua=means.get("ua"),
        chosen_by=_chosen_by(results, name, task),
    )


def _chosen_by(results: Results, selection: str, task: str) -> str | None:
    task_that_picks = summary.leading(results)
    if summary.is_fitted(results):
        return None
    picked = selection != LAST and any(selection in fold.epochs for fold in results.folds)
    return task_that_picks if picked and task != task_that_picks else None


def gap(results: Results) -> str | None:
    """How far picking epochs on the test side is from the other selections, in two sentences.

    Only of the task that picks them; None where nothing was picked on the test side.
    """
    task = summary.leading(results)
    rows = {row.name: row for row in comparison(results, task) if row.kind != "baseline"}
    best = next((row for row in rows.values() if row.kind == "optimistic"), None)
    quoted = rows.pop(results.headline, None)
    if best is None or quoted is None or best.ua is None or quoted.ua is None:
        return None
    others = [quoted, *(row for row in rows.values() if row.kind == "selection")]
    apart = [
        f"{_points(best.ua, row.ua)} {EPOCHS.get(row.name, f'the epochs of {row.name}')}"
        for row in others
        if row.ua is not None
    ]
    reports = f"Picking epochs on the test side reports a UA of {summary.percent(best.ua)} %"
    return f"{reports}: {' and '.join(apart)}.{_paired(results, task, best.name)}"


def _points(score: float, other: float) -> str:
    # Of the printed scores, so that a reader who subtracts finds the same.
    points = round(100 * score, 1) - round(100 * other, 1)
    if abs(points) < 0.05:
        return "the same as"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def _paired(results: Results, task: str, name: str) -> str:
    interval, words = difference(results, task, name, results.headline)
    if interval is None:
        return ""
    low, high = (summary.percent(bound) for bound in interval)
    return f" It and the quoted selection differ by {low} to {high} points: paired {words}."


def difference(results: Results, task: str, first: str, second: str) -> tuple[Interval, str]:
    """By how much the UA of two selections differs, first less second.

    Both answered the same utterances, so both are resampled with the same draws.

    Returns:
        The interval, None where it is undefined, and how it was made in words.
    """
    items = summary.answered(results, task, first, second)
    truth = [item.truth[task] for item in items]
    groups, words = speaker_or_utterance_groups([item.speaker for item in items])
    ours, theirs = (
        grouped_confusions(
            truth, summary.answers(results, task, name, items), groups, results.classes[task]
        )
        for name in (first, second)
    )
    low, high = bootstrap_difference(ours, theirs, unweighted_accuracy_from_confusion)
    return (None if np.isnan(low) else (low, high)), words
