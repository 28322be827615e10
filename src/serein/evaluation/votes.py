"""Raters' votes in an evaluation: the distributions of tested utterances, and scores against them.

Votes are scored wherever a corpus has them, whether a recipe trains on them or on labels.

n = utterances, K = classes of a task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serein.labels.votes import VoteSummary, collect_votes, describe_votes
from serein.records import Recipe, Utterance
from serein.results.evaluation import Prediction, VoteScores
from serein.results.votes import compute_vote_scores


def add_votes(
    predictions: Sequence[Prediction],
    utterances: Sequence[Utterance],
    recipe: Recipe,
    classes: Mapping[str, Sequence[str]],
    class_set: Mapping[str, Sequence[str]] | None = None,
) -> list[Prediction]:
    """Add the raters' distributions to the predictions of the utterances that have votes.

    Args:
        predictions: one for each utterance.
        utterances: in the same order.
        recipe: names the labels of the votes.
        classes: of each task.
        class_set: the only classes of a task whose votes count; the shares of others are 0.
    """
    by_task = {
        task: _spread_shares(
            collect_votes(utterances, task, recipe, own := (class_set or {}).get(task, names)),
            own,
            names,
        )
        for task, names in classes.items()
    }
    votes = [
        {task: shares for task, rows in by_task.items() if (shares := rows[index])}
        for index in range(len(utterances))
    ]
    return [
        replace(prediction, votes=own) if own else prediction
        for prediction, own in zip(predictions, votes, strict=True)
    ]


def _spread_shares(
    summary: VoteSummary, selected: Sequence[str], names: Sequence[str]
) -> list[list[float] | None]:
    """Put the shares of the selected classes at their places among all classes."""
    return [
        None
        if shares is None
        else [dict(zip(selected, shares, strict=True)).get(n, 0.0) for n in names]
        for shares in summary.distributions
    ]


def score_votes(
    predictions: Sequence[Prediction],
    selections: Sequence[str],
    classes: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, VoteScores]]:
    """Score each selection and task over the predictions with votes; empty without votes."""
    tasks = [task for task in classes if any(task in one.votes for one in predictions)]
    if not tasks:
        return {}
    return {
        name: {task: compute_vote_scores(predictions, name, task) for task in tasks}
        for name in selections
    }


def describe_corpus_votes(
    utterances: Sequence[Utterance], recipe: Recipe, classes: Mapping[str, Sequence[str]]
) -> list[str]:
    """Describe for each task which utterances have votes and which votes were left out."""
    return [
        sentence
        for task, names in classes.items()
        for sentence in describe_votes(
            collect_votes(utterances, task, recipe, names), task, recipe, names
        )
    ]
