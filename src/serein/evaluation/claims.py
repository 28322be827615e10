"""Judge the statements of a paper by our runs: held, not held, or cannot be told.

A statement compares two rows of the paper's tables. If both are our runs, the paired permutation
test over speakers decides, after Holm's correction over all statements; for work that the paper
cites, the interval of our score does. G = speakers (or utterances).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.errors import ConfigError
from serein.evaluation.compare import (
    ComparedRun,
    PairedTallies,
    pair_tallies,
    qualify_ids,
    tally_pair,
)
from serein.labels.vocabulary import normalize_text
from serein.metrics.bootstrap import Statistic, sum_by_group
from serein.metrics.classification import (
    macro_f1_from_confusion,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.intervals import compute_difference_interval, compute_interval
from serein.metrics.jackknife import LOG, LOGIT, Scale
from serein.metrics.scoring import nan_to_none
from serein.metrics.statistical_tests import holm_correction, permutation_test
from serein.metrics.word_error_rate import count_word_errors, word_error_rate_from_counts
from serein.published import TRANSCRIPT, Claim, Measure, Paper, parse_measure
from serein.results.evaluation import Results
from serein.results.reproduction import HELD, NOT_HELD, UNDECIDED, JudgedClaim

LEVEL = 0.05
"""A difference is called one if p is below this level after the correction."""
STATISTICS: Mapping[str, Statistic] = {
    "wa": weighted_accuracy_from_confusion,
    "ua": unweighted_accuracy_from_confusion,
    "f1": macro_f1_from_confusion,
    "wer": word_error_rate_from_counts,
}
LOWER_IS_BETTER = ("wer",)

RowKey = tuple[str, str]
"""Table and system of a row."""


@dataclass(frozen=True)
class ClaimRuns:
    """The runs that the statements are judged by.

    Attributes:
        variant: their variant.
        by_row: our run of each row that has one.
        has_stand_ins: whether a corpus stands in for one of the paper's, so that printed figures
            of cited work are of another corpus.
    """

    variant: str
    by_row: Mapping[RowKey, ComparedRun]
    has_stand_ins: bool


def judge_claims(paper: Paper, claims: Sequence[Claim], runs: ClaimRuns) -> list[JudgedClaim]:
    """Judge each statement and measure; p-values are adjusted over all of them."""
    judged = [
        _test_claim(paper, claim, parse_measure(measure), runs)
        for claim in claims
        for measure in claim.measures
    ]
    p_values = [np.nan if one.p is None else one.p for one in judged]
    adjusted = map(nan_to_none, holm_correction(p_values))
    margins = [claim.margin for claim in claims for _ in claim.measures]
    return [
        _decide(replace(one, adjusted=p), margin)
        for one, p, margin in zip(judged, adjusted, margins, strict=True)
    ]


def _test_claim(paper: Paper, claim: Claim, measure: Measure, runs: ClaimRuns) -> JudgedClaim:
    """Compare the two rows of a statement; without a verdict, or with a reason for none."""
    second_table = claim.second_table or claim.table
    first_row = paper.find_row(claim.table, claim.first)
    second_row = paper.find_row(second_table, claim.second)
    is_same_table = second_table == claim.table
    judged = JudgedClaim(
        text=claim.text,
        section=claim.section,
        measure=".".join(filter(None, measure)),
        first=claim.first if is_same_table else f"{claim.first} ({claim.table})",
        second=claim.second if is_same_table else f"{claim.second} ({second_table})",
        variant=runs.variant,
        printed=(_printed(first_row.scores, measure), _printed(second_row.scores, measure)),
    )
    first = runs.by_row.get((claim.table, claim.first))
    second = runs.by_row.get((second_table, claim.second))
    if first is None or (second is None and second_row.recipe):
        missing = judged.first if first is None else judged.second
        return replace(judged, reason=f"no run of {missing}")
    try:
        if second is None:
            return _compare_with_printed(judged, first, measure, runs)
        return _compare_runs(judged, first, second, measure)
    except ConfigError as error:
        return replace(judged, reason=str(error))


def _printed(scores: Mapping[str, Mapping[Any, float]], measure: Measure) -> float | None:
    return None if measure.label else scores.get(measure.task, {}).get(measure.metric)


def _compare_with_printed(
    judged: JudgedClaim, first: ComparedRun, measure: Measure, runs: ClaimRuns
) -> JudgedClaim:
    """Compare our score with the printed one of cited work, by the interval of ours."""
    printed = judged.printed[1]
    if printed is None:
        return replace(judged, reason=f"no printed figure of {judged.second}")
    pair, statistic = _tally(first, first, measure)
    ours, method = pair.grouped[0], pair.interval
    value = _score(ours, statistic)
    if runs.has_stand_ins:
        reason = "the printed figure is of another corpus"
        return replace(judged, own=(value, None), reason=reason)
    bounds = compute_interval(ours, statistic, scale=_get_scale(measure))
    interval = None if bounds is None else (bounds[0] - printed / 100, bounds[1] - printed / 100)
    return replace(
        judged,
        own=(value, None),
        difference=None if value is None else value - printed / 100,
        interval=interval,
        method=method,
    )


def _compare_runs(
    judged: JudgedClaim, first: ComparedRun, second: ComparedRun, measure: Measure
) -> JudgedClaim:
    """Compare two of our runs on the utterances that both tested."""
    first, second = qualify_ids([first, second])
    pair, statistic = _tally(first, second, measure)
    ours, theirs = (_score(tally, statistic) for tally in pair.grouped)
    p = nan_to_none(permutation_test(*pair.permuted, statistic))
    reason = ""
    if p is not None and pair.smallest_p >= LEVEL:
        reason = f"{pair.num_units} speakers give no p below {pair.smallest_p:.3g}"
    return replace(
        judged,
        own=(ours, theirs),
        difference=None if ours is None or theirs is None else ours - theirs,
        interval=compute_difference_interval(*pair.grouped, statistic, scale=_get_scale(measure)),
        method=pair.interval,
        p=p,
        unit=pair.unit,
        reason=reason,
    )


def _get_scale(measure: Measure) -> Scale:
    return LOG if measure.metric in LOWER_IS_BETTER else LOGIT


def _score(tally: NDArray[Any], statistic: Statistic) -> float | None:
    return nan_to_none(statistic(tally.sum(axis=0)))


def _tally(
    first: ComparedRun, second: ComparedRun, measure: Measure
) -> tuple[PairedTallies, Statistic]:
    """Tally two runs, and return the statistic of the measure.

    Raises:
        ConfigError: a run lacks the task or the class, or they have no utterance in common.
    """
    if measure.task == TRANSCRIPT:
        return _tally_words(first, second), STATISTICS[measure.metric]
    for run in (first, second):
        if not run.first.classes.get(measure.task) or measure.task in run.first.held_out_tasks:
            raise ConfigError(f"{run.name} has no classes of {measure.task} on tested speakers")
    if first.first.classes[measure.task] != second.first.classes[measure.task]:
        raise ConfigError(f"{first.name} and {second.name} have different classes")
    statistic = STATISTICS.get(measure.metric)
    if statistic is None:
        statistic = _build_recall(first.first.classes[measure.task], measure.label)
    return tally_pair(first, second, measure.task), statistic


def _build_recall(classes: Sequence[str], label: str) -> Statistic:
    """Return the statistic of one class's recall."""
    if label not in classes:
        raise ConfigError(f"no class {label} here; the classes are {', '.join(classes)}")
    index = classes.index(label)

    def recall(confusion: NDArray[np.float64]) -> ArrayLike:
        return np.asarray(recalls_from_confusion(confusion))[..., index]

    return recall


def _tally_words(first: ComparedRun, second: ComparedRun) -> PairedTallies:
    """Tally the word errors of two runs on the utterances that both transcribed."""
    outputs = [[_count_errors(results) for results in run.runs] for run in (first, second)]
    counts = [by_id for seeds in outputs for by_id in seeds]
    ids = sorted(set.intersection(*(set(by_id) for by_id in counts)))
    if not ids:
        raise ConfigError(f"{first.name} and {second.name} have no transcripts in common")

    def tally(
        by_id: Mapping[str, NDArray[np.int64]], ids: Sequence[str], units: Sequence[Any]
    ) -> NDArray[Any]:
        return sum_by_group(np.stack([by_id[id_] for id_ in ids]), units)

    return pair_tallies(first, outputs, ids, tally)


def _count_errors(results: Results) -> dict[str, NDArray[np.int64]]:
    """Count the word errors of each utterance's transcript at the quoted selection."""
    transcribed = [
        (prediction.id, prediction.text, prediction.transcripts[results.headline])
        for prediction in results.predictions
        if prediction.text is not None and results.headline in prediction.transcripts
    ]
    references = [normalize_text(text) for _, text, _ in transcribed]
    counts = count_word_errors(references, [words for _, _, words in transcribed])
    return {id_: row for (id_, _, _), row in zip(transcribed, counts, strict=True)}


def _decide(judged: JudgedClaim, margin: float | None) -> JudgedClaim:
    """Add the verdict to a statement that was tested."""
    if judged.difference is None or (judged.reason and judged.p is None):
        return replace(judged, reason=judged.reason or "a score is undefined")
    if margin is not None:
        return _decide_by_margin(judged, margin / 100)
    sign = -1 if judged.measure.rpartition(".")[2] in LOWER_IS_BETTER else 1
    advantage = sign * judged.difference
    if judged.p is not None:
        if judged.adjusted is not None and judged.adjusted < LEVEL and advantage:
            return replace(judged, verdict=HELD if advantage > 0 else NOT_HELD, reason="")
        return replace(judged, reason=judged.reason or "the difference may be chance")
    if judged.interval is None:
        return replace(judged, reason="no interval")
    bounds = sorted(sign * bound for bound in judged.interval)
    if bounds[0] > 0 or bounds[1] < 0:
        return replace(judged, verdict=HELD if bounds[0] > 0 else NOT_HELD)
    return replace(judged, verdict=UNDECIDED, reason="the printed figure lies in our interval")


def _decide_by_margin(judged: JudgedClaim, margin: float) -> JudgedClaim:
    """Judge a statement that two systems are about equal, by the interval of the difference."""
    if judged.interval is None:
        return replace(judged, reason="no interval")
    low, high = judged.interval
    points = f"{100 * margin:g} points"
    if -margin <= low and high <= margin:
        return replace(judged, verdict=HELD, reason=f"the interval lies within {points}")
    if low > margin or high < -margin:
        return replace(judged, verdict=NOT_HELD, reason=f"the interval lies beyond {points}")
    return replace(judged, reason=f"the interval reaches beyond {points}")
