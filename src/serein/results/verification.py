"""Recompute the scores of an evaluation from its predictions.

`find_fault` compares what a results file states with what follows from its predictions: confusion
matrices, recalls and scores over all predictions, by group and by fold, means over folds,
intervals of the jackknife, word error rates, the calibration of the confidence, and the ids that
each fold tests.

A number follows if it equals the recomputed one, or the recomputed one rounded to six significant
digits, as files before format 4 have it.

n = utterances with a label, K = classes of a task.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein.labels.vocabulary import normalize_text
from serein.metrics import calibration, classification
from serein.metrics.intervals import JACKKNIFE, choose_groups
from serein.metrics.scoring import (
    Scores,
    compute_interval,
    get_scorer,
    nan_to_none,
)
from serein.metrics.word_error_rate import count_word_errors, word_error_rate_from_counts
from serein.records import Protocol
from serein.results.evaluation import (
    FORCED,
    CalibrationScores,
    ClassScores,
    Prediction,
    Results,
    ValueScores,
)
from serein.results.votes import compute_vote_scores

TOLERANCE = 1e-9
"""Largest relative difference of a number with all digits."""
ROUNDED_TOLERANCE = 1e-4
"""Largest difference of a number that was computed before its inputs were rounded."""
INTERVAL_TOLERANCE = 1e-5
"""Largest difference of a bound of an interval, whose quantiles are computed by iteration."""
ROUNDED_INPUTS = frozenset(("ccc", "rmse", "pearson", "brier"))
"""Scores that depend on every digit of a prediction, not only on the predicted class."""


@dataclass(frozen=True)
class Answers:
    """The labels of a task and the predictions for them, at one selection.

    Attributes:
        classes: of the task; empty for a regression.
        predictions: the n records with a label.
        truth_n: class indices, or values.
        output_nk: probabilities of the classes, or (n, 1) values.
    """

    classes: tuple[str, ...]
    predictions: Sequence[Prediction]
    truth_n: NDArray[Any]
    output_nk: NDArray[np.float64]

    @property
    def predicted_n(self) -> NDArray[Any]:
        """The most probable class, the first one of equals; or the value."""
        return self.output_nk.argmax(axis=1) if self.classes else self.output_nk[:, 0]

    def select(self, index_m: NDArray[np.int64]) -> "Answers":
        """Return the answers with these indices."""
        chosen = [self.predictions[index] for index in index_m]
        return Answers(self.classes, chosen, self.truth_n[index_m], self.output_nk[index_m])

    def as_single_precision(self) -> "Answers":
        """Return the answers with their numbers rounded to single precision, as training has them.

        The text of a prediction has the fewest digits that identify it in single precision.
        """
        truth_n = self.truth_n if self.classes else self.truth_n.astype(np.float32).astype(float)
        output_nk = self.output_nk.astype(np.float32).astype(np.float64)
        return Answers(self.classes, self.predictions, truth_n, output_nk)

    def count_confusions(self) -> NDArray[np.int64]:
        """Count how often each class is predicted as each class, (K, K)."""
        names = range(len(self.classes))
        return classification.confusion_matrix(self.truth_n, self.predicted_n, names)

    def compute_scores(self) -> Scores:
        """Compute every score of the task."""
        names: Sequence[int] = range(len(self.classes))
        scorer, groups = get_scorer(self.classes), [0] * len(self.truth_n)
        tally = scorer.tally(self.truth_n.tolist(), self.predicted_n.tolist(), groups, names)
        return scorer.compute_scores(tally.sum(axis=0))

    def find_ties(self) -> NDArray[np.int64]:
        """Return the indices of predictions in which several classes are the most probable.

        Rounded probabilities can be equal where those that were scored were not.
        """
        highest_n1 = self.output_nk.max(axis=1, keepdims=True)
        return ((self.output_nk == highest_n1).sum(axis=1) > 1).nonzero()[0]


def find_fault(results: Results) -> str:
    """Return the first number of results that does not follow from their predictions.

    Returns:
        A clause; empty if everything follows.
    """
    try:
        return next(_find_faults(results), "")
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        return f"its predictions cannot be scored ({type(error).__name__}: {error})"


def _find_faults(results: Results) -> Iterator[str]:
    yield from _check_split(results)
    yield from _check_tasks(results)
    for selection in results.selections:
        stated = results.scores_by_task(selection)
        for task, names in results.classes.items():
            has_folds = any(task in fold.scores.get(selection, {}) for fold in results.folds)
            if task not in stated and not has_folds:
                continue
            answers = _collect_answers(results.scored_predictions, selection, task, names)
            if task in stated:
                yield from _check_scores(stated[task], answers, f"{task}, selection {selection}")
            yield from _check_folds(results, answers, selection, task)
            if selection == results.headline:
                yield from _check_groups(results, answers, task)
                yield from _check_calibration(results, answers, task)
    yield from _check_fold_means(results)
    yield from _check_repeats(results)
    yield from _check_words(results)
    yield from _check_votes(results)
    yield from _check_chance(results)


def _check_tasks(results: Results) -> Iterator[str]:
    """Check that every score is of a task with classes, and of a selection."""
    for by_selection in (results.scores, results.value_scores):
        for selection, tasks in by_selection.items():
            if selection not in results.selections:
                yield f"there are scores of selection {selection}, which is not described"
            for task in tasks.keys() - results.classes.keys():
                yield f"there are scores of task {task}, which has no list of classes"


def _collect_answers(
    predictions: Sequence[Prediction], selection: str, task: str, names: Sequence[str]
) -> Answers:
    labelled = [p for p in predictions if p.truth[task] is not None]
    labels = [p.truth[task] for p in labelled]
    truth_n = classification.class_indices(labels, names) if names else np.array(labels, float)
    rows = np.array([p.selections[selection][task] for p in labelled], dtype=float)
    return Answers(tuple(names), labelled, truth_n, rows.reshape(len(labelled), len(names) or 1))


def _check_scores(stated: ClassScores | ValueScores, answers: Answers, where: str) -> Iterator[str]:
    if stated.utterances != len(answers.predictions):
        yield _describe(f"number of utterances ({where})", stated.utterances, len(answers.truth_n))
    scores = answers.compute_scores()
    if isinstance(stated, ClassScores):
        yield from _check_confusion(stated, answers, where)
        # With ties, the stated matrix is one of several that the predictions allow.
        confusion = np.array(stated.confusion)
        recalls = classification.recalls_from_confusion(confusion)
        scores = get_scorer(answers.classes).compute_scores(confusion)
        by_class = zip(answers.classes, map(nan_to_none, recalls), strict=True)
        for name, recall in by_class:
            yield from _compare(f"recall of {name} ({where})", stated.recalls.get(name), recall)
        if (stated.wa, stated.ua) == (None, None) and confusion.any(axis=1).sum() == 1:
            return  # labels of one class give a saved model no score
    for name, score in scores.items():
        yield from _compare(f"{name} ({where})", stated.score(name), score)
    yield from _check_intervals(stated, answers, where)


def _check_intervals(
    stated: ClassScores | ValueScores, answers: Answers, where: str
) -> Iterator[str]:
    """Check intervals of the jackknife; those of a bootstrap depend on NumPy's random numbers."""
    if "bootstrap" in stated.interval:
        return
    groups, method = choose_groups([p.speaker for p in answers.predictions], JACKKNIFE)
    if method != stated.interval:
        yield f"the interval ({where}) is {stated.interval!r}, and its speakers give {method!r}"
    scorer, names = get_scorer(answers.classes), range(len(answers.classes))
    truth, predicted = answers.truth_n.tolist(), answers.predicted_n.tolist()
    tallies = scorer.tally(truth, predicted, groups, names)
    for metric in scorer.metrics:
        expected = compute_interval(tallies, metric)
        what = f"interval of {metric.name} ({where})"
        yield from _compare_bounds(what, stated.bounds(metric.name), expected)


def _check_confusion(stated: ClassScores, answers: Answers, where: str) -> Iterator[str]:
    counted = answers.count_confusions()
    confusion = np.array(stated.confusion)
    if confusion.shape == counted.shape and (confusion == counted).all():
        return
    if confusion.shape != counted.shape or not _is_tied_confusion(confusion, answers):
        yield f"the confusion matrix ({where}) is not that of the predictions"


def _is_tied_confusion(confusion: NDArray[np.int64], answers: Answers) -> bool:
    """Return whether a matrix follows if ties of rounded probabilities are broken another way."""
    ties = answers.find_ties()
    is_tied_n = np.zeros(len(answers.truth_n), dtype=bool)
    is_tied_n[ties] = True
    rest_kk = confusion - answers.select((~is_tied_n).nonzero()[0]).count_confusions()
    tied = answers.select(ties)
    is_candidate_nk = tied.output_nk == tied.output_nk.max(axis=1, keepdims=True)
    most_kk = np.zeros_like(confusion)
    np.add.at(most_kk, tied.truth_n, is_candidate_nk.astype(int))
    count_k = np.bincount(tied.truth_n, minlength=len(confusion))
    is_possible = (rest_kk >= 0) & (rest_kk <= most_kk)
    return bool(is_possible.all() and (rest_kk.sum(axis=1) == count_k).all())


def _check_folds(results: Results, answers: Answers, selection: str, task: str) -> Iterator[str]:
    """Check the scores of each fold on its test subset.

    Training computes them: those of values are of labels and predictions in single precision.
    """
    numbers = {fold.name: number for number, fold in enumerate(results.folds)}
    fold_n = np.array([numbers.get(p.fold, -1) for p in answers.predictions], dtype=int)
    for number, fold in enumerate(results.folds):
        stated = fold.scores.get(selection, {}).get(task)
        if stated is None:
            continue
        own = answers.select((fold_n == number).nonzero()[0])
        own = own if answers.classes else own.as_single_precision()
        where = f"{task}, selection {selection}, fold {fold.name}"
        lowest, highest = _bound_scores(own)
        for name, score in lowest.items():
            faults = list(_compare(f"{name} ({where})", stated.get(name), score))
            value = stated.get(name)
            bounds = score, highest[name]
            is_tied = None not in (value, *bounds) and bounds[0] != bounds[1]
            if faults and not (is_tied and _is_between(value, *bounds)):
                yield faults[0]


def _bound_scores(answers: Answers) -> tuple[Scores, Scores]:
    """Return the lowest and the highest scores that ties of rounded probabilities allow."""
    ties = answers.find_ties() if answers.classes else np.array([], dtype=int)
    if not len(ties):
        scores = answers.compute_scores()
        return scores, scores
    scorer = get_scorer(answers.classes)
    is_tied_n = np.zeros(len(answers.truth_n), dtype=bool)
    is_tied_n[ties] = True
    sure_kk = answers.select((~is_tied_n).nonzero()[0]).count_confusions()
    bounds = []
    for is_kind in (np.less, np.equal):  # a tied prediction is wrong if it can be, or correct
        confusion = sure_kk.copy()
        for index in ties:
            truth, row = int(answers.truth_n[index]), answers.output_nk[index]
            candidates = (row == row.max()).nonzero()[0].tolist()
            others = [name for name in candidates if name != truth]
            is_correct = truth in candidates and is_kind is np.equal
            confusion[truth, truth if is_correct or not others else others[0]] += 1
        bounds.append(scorer.compute_scores(confusion))
    return bounds[0], bounds[1]


def _is_between(value: float | None, low: float | None, high: float | None) -> bool:
    if value is None or low is None or high is None:
        return False
    return low - ROUNDED_TOLERANCE <= value <= high + ROUNDED_TOLERANCE


def _check_fold_means(results: Results) -> Iterator[str]:
    for selection, tasks in results.fold_means.items():
        for task, stated in tasks.items():
            for name, mean in stated.items():
                values = [fold.scores[selection][task][name] for fold in results.folds]
                defined = [value for value in values if value is not None]
                where = f"mean {name} of the folds ({task}, selection {selection})"
                yield from _compare(where, mean, fmean(defined) if defined else None)


def _check_groups(results: Results, answers: Answers, task: str) -> Iterator[str]:
    """Check the scores of each tested corpus and language."""
    for kind, groups in results.groups.items():
        names = [getattr(p, kind) or "unknown" for p in answers.predictions]
        name_n = np.array(names, dtype=object)
        for name, stated in groups.items():
            if task in stated:
                own = answers.select((name_n == name).nonzero()[0])
                yield from _check_scores(stated[task], own, f"{task}, {kind} {name}")


def _check_repeats(results: Results) -> Iterator[str]:
    """Check the scores that a summary of several seeds states for the seed of its predictions."""
    for repeat in results.repeats:
        if repeat.seed != results.environment.get("seed"):
            continue
        for selection, tasks in repeat.scores.items():
            for task, stated in tasks.items():
                scores = results.scores_by_task(selection)[task]
                for name, value in stated.items():
                    where = f"{name} of seed {repeat.seed} ({task}, selection {selection})"
                    yield from _compare(where, value, scores.score(name))


def _check_words(results: Results) -> Iterator[str]:
    """Check the word error rates."""
    transcribed = [p for p in results.predictions if p.text is not None and p.transcripts]
    references = [normalize_text(str(p.text)) for p in transcribed]
    counts: dict[tuple[str, str], NDArray[np.int64]] = {}
    for selection, stated in results.words.items():
        total = np.zeros(4, dtype=np.int64)
        for reference, p in zip(references, transcribed, strict=True):
            pair = reference, p.transcripts[selection]
            if pair not in counts:
                counts[pair] = count_word_errors([pair[0]], [pair[1]])[0]
            total += counts[pair]
        names = ("substitutions", "deletions", "insertions", "words")
        for name, count in zip(names, total.tolist(), strict=True):
            where = f"{name} (words, selection {selection})"
            yield from _compare(where, getattr(stated, name), count)
        rate = nan_to_none(word_error_rate_from_counts(total))
        yield from _compare(f"wer (words, selection {selection})", stated.wer, rate)


def _check_votes(results: Results) -> Iterator[str]:
    """Check the scores against the votes of raters, and those of uniform predictions."""
    for selection, tasks in results.vote_scores.items():
        for task, stated in tasks.items():
            where = f"{task}, selection {selection}"
            scores = compute_vote_scores(results.predictions, selection, task)
            if stated.utterances != scores.utterances:
                count = scores.utterances
                yield _describe(f"number with votes ({where})", stated.utterances, count)
                continue
            for name, score in scores.uniform.items():
                what = f"{name} of the votes ({where})"
                yield from _compare(what, stated.score(name), scores.score(name))
                yield from _compare_bounds(
                    f"interval of {what}", stated.bounds(name), scores.bounds(name)
                )
                what = f"{name} of uniform predictions ({where})"
                yield from _compare(what, stated.uniform.get(name), score)
            what = f"entropy of the votes ({where})"
            yield from _compare(what, stated.entropy, scores.entropy)


def _check_chance(results: Results) -> Iterator[str]:
    """Check the baseline of chance; the others depend on labels and audio of training subsets."""
    class_set = results.class_set if results.headline == FORCED else {}
    for task, stated in results.baselines.get("chance", {}).items():
        names = class_set.get(task, results.classes[task])
        scores = classification.chance_scores(names)
        for name, score in zip(("wa", "ua"), scores, strict=True):
            yield from _compare(f"{name} of chance ({task})", stated.get(name), score)


def _check_calibration(results: Results, answers: Answers, task: str) -> Iterator[str]:
    """Check the calibration of a task's confidence at the headline's epochs."""
    stated = results.calibration.get(task)
    if stated is None or not answers.classes:
        return
    p_nk = calibration.normalize_probabilities(answers.output_nk)
    yield from _check_confidence(stated.raw, p_nk, answers.truth_n, f"{task}, raw")
    if stated.calibrated is not None:
        by_fold = {fold.name: fold.temperatures.get(task, 1.0) for fold in results.folds}
        temperatures = [by_fold.get(p.fold, 1.0) for p in answers.predictions]
        p_nk = calibration.apply_temperatures(p_nk, temperatures)
        where = f"{task}, calibrated"
        yield from _check_confidence(stated.calibrated, p_nk, answers.truth_n, where)


def _check_confidence(
    stated: CalibrationScores, p_nk: NDArray[np.float64], truth_n: NDArray[np.int64], where: str
) -> Iterator[str]:
    brier = nan_to_none(calibration.brier_score_loss(p_nk, truth_n))
    yield from _compare(f"brier ({where})", stated.brier, brier)
    # A rounded confidence may fall into the next bin: the ECE of rounded inputs is not compared.
    if stated.ece is not None and not _is_rounded(stated.ece):
        ece = nan_to_none(calibration.expected_calibration_error(p_nk, truth_n))
        yield from _compare(f"ece ({where})", stated.ece, ece)


def _check_split(results: Results) -> Iterator[str]:
    """Check the hash of the split, and that each fold's predictions are those of its test subset.

    Scores of a saved model have no split.
    """
    if results.protocol.get("folds"):
        split, stated = Protocol.from_table(results.protocol), results.protocol.get("hash")
        if stated != split.hash:
            yield f"the hash of the protocol is {stated}, and its folds give {split.hash}"
    predicted = Counter((p.fold, p.id) for p in results.predictions)
    repeated = next((key for key, count in predicted.items() if count > 1), None)
    if repeated:
        yield f"utterance {repeated[1]} is predicted twice in fold {repeated[0]}"
    by_fold: dict[str, set[str]] = {}
    for fold, id_ in predicted:
        by_fold.setdefault(fold, set()).add(id_)
    folds: Sequence[Mapping[str, Any]] = results.protocol.get("folds") or []
    for part in folds:
        name, tested = str(part["name"]), set(part["test"])
        if tested != by_fold.get(name, set()):
            count = len(by_fold.get(name, ()))
            yield f"fold {name} tests {len(tested)} utterances, and its {count} predictions differ"
    unknown = sorted(by_fold.keys() - {str(fold["name"]) for fold in folds}) if folds else []
    if unknown:
        yield f"predictions are of fold {unknown[0]}, which the protocol does not have"


def _compare(what: str, stated: float | None, computed: float | None) -> Iterator[str]:
    """Yield a fault if a stated number is not the computed one, to the digits that it has."""
    if stated is None or computed is None:
        if stated is not computed:
            yield _describe(what, stated, computed)
        return
    is_rounded = _is_rounded(stated)
    if is_rounded and what.split(" ", 1)[0] in ROUNDED_INPUTS:
        tolerance = ROUNDED_TOLERANCE * max(1.0, abs(computed))
    elif is_rounded:
        # Half a unit of the sixth digit, of the number and of the inputs of a mean.
        tolerance = 1.1e-5 * abs(computed)
    else:
        tolerance = 0.0
    if abs(stated - computed) > max(tolerance, TOLERANCE * max(1.0, abs(computed))):
        yield _describe(what, stated, computed)


def _compare_bounds(
    what: str, stated: tuple[float, float] | None, computed: tuple[float, float] | None
) -> Iterator[str]:
    """Yield a fault for each bound of an interval that is not the computed one."""
    if stated is None or computed is None:
        if stated is not computed:
            yield f"the {what} is {stated}, and its predictions give {computed}"
        return
    for bound, other in zip(stated, computed, strict=True):
        if abs(bound - other) > INTERVAL_TOLERANCE * max(1.0, abs(other)):
            yield _describe(what, bound, other)


def _is_rounded(value: float) -> bool:
    """Return whether a number has at most six significant digits."""
    return float(f"{value:.6g}") == value


def _describe(what: str, stated: float | None, computed: float | None) -> str:
    found, expected = ("null" if value is None else f"{value:.6g}" for value in (stated, computed))
    return f"{what} is {found}, and its predictions give {expected}"
