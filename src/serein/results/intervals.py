"""Compute the intervals of an evaluation again from its predictions.

Results of earlier versions have bootstrap intervals, which are too narrow for few speakers: when
such results are loaded, their intervals are those of the jackknife. See `serein.metrics.intervals`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from serein.labels.vocabulary import normalize_text
from serein.metrics.bootstrap import sum_by_group
from serein.metrics.intervals import choose_groups, compute_interval, find_method
from serein.metrics.jackknife import LOG
from serein.metrics.scoring import compute_interval as compute_metric_interval
from serein.metrics.scoring import get_scorer
from serein.metrics.word_error_rate import (
    WordScores,
    count_word_errors,
    word_error_rate_from_counts,
)
from serein.results.evaluation import ClassScores, Prediction, Results, ValueScores

TaskScoresT = TypeVar("TaskScoresT", ClassScores, ValueScores)


def recompute_intervals(results: Results, method: str | None = None) -> Results:
    """Return results with intervals that are computed from their predictions.

    Args:
        results: of any version; scores without a prediction stay as they are.
        method: one of `serein.metrics.intervals.INTERVAL_METHODS`; None keeps the method of
            each score, and replaces the bootstrap of earlier versions by the jackknife.
    """

    def update(
        by_selection: Mapping[str, Mapping[str, TaskScoresT]],
    ) -> dict[str, dict[str, TaskScoresT]]:
        return {
            selection: {
                task: _replace_intervals(scores, results, selection, task, method)
                for task, scores in tasks.items()
            }
            for selection, tasks in by_selection.items()
        }

    return replace(
        results,
        scores=update(results.scores),
        value_scores=update(results.value_scores),
        groups={
            kind: {
                name: _update_group(results, kind, name, own, method)
                for name, own in groups.items()
            }
            for kind, groups in results.groups.items()
        },
        words={
            selection: _replace_word_interval(words, results.predictions, selection, method)
            for selection, words in results.words.items()
        },
    )


def find_interval_method(results: Results) -> str:
    """Return the method of the intervals of the quoted scores."""
    scores = results.scores_by_task(results.headline)
    return find_method(next(iter(scores.values())).interval if scores else "")


def _update_group(
    results: Results,
    kind: str,
    name: str,
    scores: Mapping[str, ClassScores],
    method: str | None,
) -> dict[str, ClassScores]:
    """Update the quoted scores of one corpus or language."""
    return {
        task: _replace_intervals(
            own,
            results,
            results.headline,
            task,
            method,
            lambda prediction: (getattr(prediction, kind) or "unknown") == name,
        )
        for task, own in scores.items()
    }


def _replace_intervals(
    scores: TaskScoresT,
    results: Results,
    selection: str,
    task: str,
    method: str | None,
    is_member: Callable[[Prediction], bool] = lambda prediction: True,
) -> TaskScoresT:
    labelled = [
        prediction
        for prediction in results.scored_predictions
        if prediction.truth.get(task) is not None
        and task in prediction.selections.get(selection, {})
        and is_member(prediction)
    ]
    if not labelled:
        return scores
    classes = results.classes[task]
    own_method = method or find_method(scores.interval)
    groups, description = choose_groups([one.speaker for one in labelled], own_method)
    predicted = [one.predicted_label(selection, task, classes) for one in labelled]
    scorer = get_scorer(classes)
    tallies = scorer.tally([one.truth[task] for one in labelled], predicted, groups, classes)
    intervals: dict[str, Any] = {
        f"{metric.name}_interval": compute_metric_interval(tallies, metric, method=own_method)
        for metric in scorer.metrics
    }
    return replace(scores, interval=description, **intervals)


def _replace_word_interval(
    words: WordScores, predictions: Sequence[Prediction], selection: str, method: str | None
) -> WordScores:
    transcribed = [
        one for one in predictions if one.text is not None and selection in one.transcripts
    ]
    if not transcribed:
        return words
    references = [normalize_text(str(one.text)) for one in transcribed]
    counts = count_word_errors(references, [one.transcripts[selection] for one in transcribed])
    own_method = method or find_method(words.interval)
    groups, description = choose_groups([one.speaker for one in transcribed], own_method)
    interval = compute_interval(
        sum_by_group(counts, groups), word_error_rate_from_counts, scale=LOG, method=own_method
    )
    return replace(words, interval=description, wer_interval=interval)
