"""Scores of predictions against the votes of raters.

n = utterances with votes, K = classes of a task.
"""

from collections.abc import Sequence

import numpy as np

from serein.metrics import distributions
from serein.metrics.intervals import choose_groups
from serein.metrics.scoring import VOTES_SCORER, compute_interval
from serein.results.evaluation import Prediction, VoteScores


def compute_vote_scores(predictions: Sequence[Prediction], selection: str, task: str) -> VoteScores:
    """Score the predictions that have votes, at one selection.

    Args:
        predictions: with and without votes.
        selection: of the epoch.
        task: a classification task.
    """
    voted = [one for one in predictions if task in one.votes and task in one.selections[selection]]
    truth_nk = np.array([one.votes[task] for one in voted])
    groups, description = choose_groups([one.speaker for one in voted])
    rows = [one.selections[selection][task] for one in voted]
    tallies = VOTES_SCORER.tally(truth_nk.tolist(), rows, groups, ())
    scores = VOTES_SCORER.compute_scores(tallies.sum(axis=0))
    uniform_nk = np.full_like(truth_nk, 1 / truth_nk.shape[1])
    uniform = VOTES_SCORER.tally(truth_nk.tolist(), uniform_nk.tolist(), groups, ())
    cross_entropy, total_variation = VOTES_SCORER.metrics
    return VoteScores(
        utterances=len(voted),
        cross_entropy=scores["cross_entropy"],
        total_variation=scores["total_variation"],
        cross_entropy_interval=compute_interval(tallies, cross_entropy),
        total_variation_interval=compute_interval(tallies, total_variation),
        interval=description,
        entropy=float(distributions.entropy(truth_nk).mean()),
        uniform=VOTES_SCORER.compute_scores(uniform.sum(axis=0)),
    )
