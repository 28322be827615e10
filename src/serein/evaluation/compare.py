"""Paired comparison of runs on the utterances that both tested: interval, permutation, McNemar.

G = speakers (or utterances), K = classes of a task.
"""

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isnan, lcm
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from serein.errors import ConfigError
from serein.evaluation.provenance import command_line, utc_now
from serein.metrics.bootstrap import Statistic
from serein.metrics.intervals import JACKKNIFE, choose_groups
from serein.metrics.scoring import (
    UA,
    WA,
    compute_difference_interval,
    get_scorer,
    nan_to_none,
)
from serein.metrics.statistical_tests import (
    cohens_h,
    discordant_counts,
    holm_correction,
    mcnemar_test,
    permutation_test,
    two_proportion_test,
)
from serein.results import io
from serein.results.evaluation import MODEL, Results, remove_model_folders
from serein.results.studies import Comparison, PairedTest

Tally = NDArray[Any]
OutputT = TypeVar("OutputT")
TESTS = ("mcnemar", "permutation", "z")
MIN_CLASSES = 2
"""Number of classes that two runs must share to be compared on a task."""
FEW_SPEAKERS = 10
"""With this many speakers or fewer, the report gives the smallest possible p of a permutation."""
OPTIMISTIC_LEAKS = ("speaker", "partner", "duplicate", "normalisation")
"""Kinds of leaks that make a score optimistic."""


@dataclass(frozen=True)
class ComparedRun:
    """A run with all its seeds.

    Attributes:
        name: the name in reports.
        runs: the results of each seed.
    """

    name: str
    runs: tuple[Results, ...]

    @property
    def first(self) -> Results:
        """The results of the first seed, which are quoted."""
        return self.runs[0]

    def predicted_labels(
        self, task: str, among: Sequence[str] = ()
    ) -> list[dict[str, str | float]]:
        """Return the predicted label of each utterance, for each seed.

        Args:
            task: the task.
            among: the only classes to choose from; by default all.
        """
        return [_predicted_labels(results, task, among) for results in self.runs]


def compare(paths: Sequence[Path], *, method: str = JACKKNIFE) -> Comparison:
    """Compare every pair of runs.

    The seeds of a run are compared together: the interval and the permutation test take the
    predictions of all seeds for a speaker as one group, so that scores of classes are means over
    seeds. McNemar's test uses the first seeds, and is the only test here of single utterances.
    Regression tasks have the interval and the permutation test of their CCC.

    Runs with different classes of a task are compared on the utterances of the classes that both
    have, and both answer among these classes only. The warnings name these pairs, and the tasks
    on which a pair cannot be compared.

    Args:
        paths: two or more run folders or ``results.json`` files; an evaluation with several seeds
            needs the runs of its seeds next to it.
        method: of the intervals, one of `serein.metrics.intervals.INTERVAL_METHODS`.

    Raises:
        ConfigError: there are fewer than two runs, a run cannot be read, two runs have no
            utterance in common, or no pair has a task in common.
    """
    if len(paths) < 2:
        raise ConfigError(f"comparing takes two runs or more; got {len(paths)}")
    compared_runs = _assign_names(qualify_ids([load_run(path) for path in paths]))
    pairs = list(combinations(compared_runs, 2))
    tests = [test for first, second in pairs for test in _test_pair(first, second, method)]
    limits = [text for first, second in pairs for text in _describe_limits(first, second)]
    if not tests:
        raise ConfigError(
            f"{' and '.join(run.name for run in compared_runs)} have no task in common: "
            f"{'; '.join(limits)}; compare runs that share a task"
        )
    return Comparison(
        format=io.FORMAT,
        command=command_line(),
        created=utc_now(),
        runs=[_describe_run(compared) for compared in compared_runs],
        paired_tests=_adjust_p_values(tests),
        warnings=[*_collect_warnings(compared_runs), *limits],
    )


def compare_with_first(
    first: ComparedRun, others: Sequence[ComparedRun], task: str
) -> list[PairedTest]:
    """Compare each of several runs with one, on one task; p values are adjusted over all of them.

    Raises:
        ConfigError: two runs have no utterance in common.
    """
    return _adjust_p_values([_test_task(other, first, task) for other in others])


def load_run(path: Path) -> ComparedRun:
    """Read a run and the runs of its other seeds.

    Raises:
        ConfigError: one of the runs cannot be read.
    """
    results = io.load_results(path)
    if not results.repeats:
        return ComparedRun(results.name, (results,))
    folder = io.resolve_results_file(path).parent
    folders = [folder.parent, folder]
    runs = tuple(io.load_results(_find_results(seed.run, folders)) for seed in results.repeats)
    return ComparedRun(results.name, runs)


def _find_results(run: str, folders: Sequence[Path]) -> Path:
    """Find the results of one seed: a run folder, a file of its name, or one of its hash."""
    names = f"{run}/{io.RESULTS_FILE}", f"{run}.json", f"{run}.json{io.GZIP_SUFFIX}"
    candidates = [folder / name for folder in folders for name in names]
    # The files of published results have shorter names, which end in the hash of the run.
    digest = glob.escape(run.rpartition("-")[2])
    pattern = f"*-{digest}.json{io.GZIP_SUFFIX}"
    candidates += [file for folder in folders for file in sorted(folder.glob(pattern))]
    for file in candidates:
        if file.is_file():
            return file
    raise ConfigError(
        f"the run {run} of one seed is not next to the others: there is no {candidates[0]}; "
        "keep the runs of all seeds together"
    )


def qualify_ids(compared_runs: Sequence[ComparedRun]) -> Sequence[ComparedRun]:
    """Prefix ids and speakers with the corpus, if one of the runs read several corpora."""
    if not any(p.corpus for compared in compared_runs for p in compared.first.predictions):
        return compared_runs
    return [
        replace(compared, runs=tuple(_prefix_corpus_name(results) for results in compared.runs))
        for compared in compared_runs
    ]


def _prefix_corpus_name(results: Results) -> Results:
    name = results.corpus["name"]
    predictions = [
        p
        if p.corpus
        else replace(p, id=f"{name}/{p.id}", speaker=p.speaker and f"{name}/{p.speaker}")
        for p in results.predictions
    ]
    return replace(results, predictions=predictions)


def _assign_names(compared_runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Give the runs the shortest names that differ."""
    for get_name in (_recipe_name, _recipe_with_changes, lambda compared: compared.name):
        names = [get_name(compared) for compared in compared_runs]
        if len(set(names)) == len(names):
            return [
                replace(compared, name=name)
                for compared, name in zip(compared_runs, names, strict=True)
            ]
    raise ConfigError(
        f"{sorted({compared.name for compared in compared_runs})}: a run is given twice; "
        "give different runs"
    )


def _recipe_name(compared: ComparedRun) -> str:
    return str(compared.first.recipe["name"])


def _recipe_with_changes(compared: ComparedRun) -> str:
    changed = compared.first.recipe.get("about", {}).get("changed", "")
    name = _recipe_name(compared)
    return f"{name} ({remove_model_folders(changed)})" if changed else name


def _test_pair(first: ComparedRun, second: ComparedRun, method: str) -> Iterable[PairedTest]:
    """Test every task that both runs have, on the classes that both have."""
    for task in first.first.classes:
        if not _find_obstacle(first, second, task):
            yield _test_task(first, second, task, method)


def find_shared_classes(first: ComparedRun, second: ComparedRun, task: str) -> list[str]:
    """Return the classes of a task that both runs have, in the order of the first run."""
    theirs = {*second.first.classes[task]}
    return [name for name in first.first.classes[task] if name in theirs]


def _has_masked_classes(first: ComparedRun, second: ComparedRun, task: str) -> bool:
    """Return whether the runs have different classes of a task, so that some are masked."""
    return {*first.first.classes[task]} != {*second.first.classes[task]}


def _find_obstacle(first: ComparedRun, second: ComparedRun, task: str) -> str:
    """Return why two runs cannot be compared on a task; empty if they can."""
    for run in (first, second):
        if task not in run.first.classes:
            return f"{run.name} has no such task"
        if task in run.first.held_out_tasks:
            return f"{run.name} scores it on held-out utterances of training speakers"
    ours, theirs = first.first.classes[task], second.first.classes[task]
    if bool(ours) != bool(theirs):
        return f"{(second if ours else first).name} predicts values of it, the other run classes"
    shared = find_shared_classes(first, second, task)
    if ours and len(shared) < MIN_CLASSES:
        return f"they share {len(shared)} of its classes: {', '.join(ours)} and {', '.join(theirs)}"
    if _has_masked_classes(first, second, task) and not _label_shared(first, second, task):
        return f"no utterance has one of the classes that both have: {', '.join(shared)}"
    return ""


def _describe_limits(first: ComparedRun, second: ComparedRun) -> Iterator[str]:
    """Describe the tasks that two runs are not compared on, or only on the classes of both."""
    for task in dict.fromkeys([*first.first.classes, *second.first.classes]):
        if obstacle := _find_obstacle(first, second, task):
            yield f"{first.name} and {second.name} are not compared on {task}: {obstacle}"
        elif _has_masked_classes(first, second, task):
            shared = find_shared_classes(first, second, task)
            counts = [len(run.first.classes[task]) for run in (first, second)]
            labelled = len(_label_shared(first, second, task))
            total = len(
                {p.id for p in first.first.predictions} & {p.id for p in second.first.predictions}
            )
            yield (
                f"{first.name} and {second.name} have {counts[0]} and {counts[1]} classes of "
                f"{task}: compared on {labelled} of the {total} utterances that both tested, whose "
                f"class both have, with answers among these {len(shared)} classes only: "
                f"{', '.join(shared)}"
            )


@dataclass(frozen=True)
class PairedTallies:
    """The tallies of two runs on the utterances that both tested.

    Attributes:
        ids: of these utterances, sorted.
        grouped: (G, ...) tallies of the first and the second run, by group of the interval.
        permuted: (G, ...) tallies of both, by unit that the permutation test swaps.
        interval: how the interval is computed.
        unit: what the permutation test swaps.
        smallest_p: the smallest p-value that so many units can give.
        num_units: number of these units.
    """

    ids: tuple[str, ...]
    grouped: tuple[Tally, Tally]
    permuted: tuple[Tally, Tally]
    interval: str
    unit: str
    smallest_p: float
    num_units: int


def tally_pair(
    first: ComparedRun, second: ComparedRun, task: str, method: str = JACKKNIFE
) -> PairedTallies:
    """Tally the predictions of two runs for one task, for an interval by one of the methods.

    Raises:
        ConfigError: the runs have no utterance in common, or different labels.
    """
    classes, masked = _compared_classes(first, second, task)
    scorer = get_scorer(classes)
    truth = _common_labels_of_pair(first, second, task)

    def tally(predicted: Mapping[str, Any], ids: Sequence[str], units: Sequence[Any]) -> Tally:
        labels = [truth[id_] for id_ in ids]
        return scorer.tally(labels, [predicted[id_] for id_ in ids], units, classes)

    predicted = [compared.predicted_labels(task, masked) for compared in (first, second)]
    return pair_tallies(first, predicted, list(truth), tally, method)


def pair_tallies(
    first: ComparedRun,
    outputs: Sequence[Sequence[OutputT]],
    ids: Sequence[str],
    tally: Callable[[OutputT, Sequence[str], Sequence[Any]], Tally],
    method: str = JACKKNIFE,
) -> PairedTallies:
    """Tally the outputs of two runs by group of the interval and by unit of the permutation test.

    Args:
        first: the first run, which has the speakers of the utterances.
        outputs: for each run, the outputs of every seed.
        ids: of the utterances.
        tally: function from the outputs of a seed, the ids, and a group of each id to (G, ...)
            sums.
        method: of the interval.
    """
    speaker_of = {prediction.id: prediction.speaker for prediction in first.first.predictions}
    speakers = [speaker_of[id_] for id_ in ids]
    groups, description = choose_groups(speakers, method)
    units, unit_description = _permutation_units(speakers)
    rounds = lcm(*map(len, outputs))

    def tally_both(units: Sequence[Any]) -> tuple[Tally, Tally]:
        """Tally each run, scaled to the same number of predictions per utterance."""
        ours, theirs = (
            np.sum([tally(of_seed, ids, units) for of_seed in seeds], axis=0)
            * float(rounds // len(seeds))
            for seeds in outputs
        )
        return ours, theirs

    grouped = tally_both(groups)
    return PairedTallies(
        ids=tuple(ids),
        grouped=grouped,
        permuted=grouped if units == list(groups) else tally_both(units),
        interval=description,
        unit=unit_description,
        smallest_p=2.0 ** (1 - len(set(units))),
        num_units=len(set(units)),
    )


def _test_task(
    first: ComparedRun, second: ComparedRun, task: str, method: str = JACKKNIFE
) -> PairedTest:
    classes, masked = _compared_classes(first, second, task)
    scorer = get_scorer(classes)
    pair = tally_pair(first, second, task, method)
    ours, theirs = pair.grouped
    p_value = permutation_test(*pair.permuted, scorer.main.statistic)
    scores = {
        metric.name: (
            _pooled_score(ours, metric.statistic),
            _pooled_score(theirs, metric.statistic),
        )
        for metric in scorer.metrics
    }
    main_scores = scores[scorer.main.name]
    test = PairedTest(
        task=task,
        selection=_join_selections(first, second),
        first=first.name,
        second=second.name,
        utterances=len(pair.ids),
        scores=scores,
        main=scorer.main.name,
        difference=main_scores[0] - main_scores[1],
        difference_interval=compute_difference_interval(ours, theirs, scorer.main, method=method),
        interval=pair.interval,
        mcnemar=None,
        permutation=nan_to_none(p_value),
        permutation_unit=pair.unit,
        z=None,
        adjusted={},
        effect=None,
        classes=list(masked),
    )
    if not classes:
        return test
    truth = _common_labels_of_pair(first, second, task)
    first_seeds = [run.predicted_labels(task, masked)[0] for run in (first, second)]
    predicted = [[by_id[id_] for id_ in truth] for by_id in first_seeds]
    return _add_class_tests(test, list(truth.values()), *predicted)


def _compared_classes(
    first: ComparedRun, second: ComparedRun, task: str
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the classes of a comparison, and those to choose from if some are masked."""
    if not _has_masked_classes(first, second, task):
        return first.first.classes[task], ()
    shared = find_shared_classes(first, second, task)
    return shared, shared


def _common_labels_of_pair(
    first: ComparedRun, second: ComparedRun, task: str
) -> dict[str, str | float]:
    if _has_masked_classes(first, second, task):
        return _label_shared(first, second, task)
    return common_labels((first, second), task)


def _label_shared(first: ComparedRun, second: ComparedRun, task: str) -> dict[str, str | float]:
    """Return the label of each utterance to which both runs give the same class of both.

    A class that one run lacks may be part of another class there: such utterances are left out.
    """
    shared = {*find_shared_classes(first, second, task)}
    truths = [_true_labels(run, task) for compared in (first, second) for run in compared.runs]
    common = set.intersection(*(set(truth) for truth in truths))
    return {
        id_: truths[0][id_]
        for id_ in sorted(common)
        if truths[0][id_] in shared and len({truth[id_] for truth in truths}) == 1
    }


def _pooled_score(tallies: NDArray[np.float64], statistic: Statistic) -> float:
    return float(np.asarray(statistic(tallies.sum(axis=0))))


def _add_class_tests(
    test: PairedTest, truth: Sequence[Any], ours: Sequence[Any], theirs: Sequence[Any]
) -> PairedTest:
    """Add the tests that only classification has, whose predictions are right or wrong."""
    return replace(
        test,
        mcnemar=mcnemar_test(*discordant_counts(truth, ours, theirs)),
        z=nan_to_none(two_proportion_test(*test.scores[UA.name], test.utterances)[1]),
        effect=cohens_h(*test.scores[WA.name]),
    )


def _permutation_units(speakers: Sequence[str | None]) -> tuple[list[Any], str]:
    """Return the unit of each utterance that a permutation test swaps, and its description."""
    if None in speakers:
        return list(range(len(speakers))), "utterances, as not every speaker is known"
    count = len(set(speakers))
    min_p = f", which give no p under {2 ** (1 - count):.2g}" if count <= FEW_SPEAKERS else ""
    return list(speakers), f"whole speakers ({count}{min_p})"


def common_labels(compared_runs: Sequence[ComparedRun], task: str) -> dict[str, str | float]:
    """Return the label of each utterance that all runs tested, sorted by id.

    Raises:
        ConfigError: there is no such utterance, or the runs have different labels for one.
    """
    names = " and ".join(compared.name for compared in compared_runs)
    truths = [_true_labels(run, task) for compared in compared_runs for run in compared.runs]
    common = set.intersection(*(set(truth) for truth in truths))
    if not common:
        raise ConfigError(f"{names} tested no utterance in common; compare runs on one corpus")
    different = sorted(id_ for id_ in common if len({truth[id_] for truth in truths}) > 1)
    if different:
        raise ConfigError(
            f"{names} have different {task} labels for {len(different)} utterances, "
            f"such as {different[0]}; compare runs with the same labels"
        )
    return {id_: truths[0][id_] for id_ in sorted(common)}


def _true_labels(results: Results, task: str) -> dict[str, str | float]:
    labels = {prediction.id: prediction.truth[task] for prediction in results.predictions}
    return {id_: label for id_, label in labels.items() if label is not None}


def _predicted_labels(
    results: Results, task: str, among: Sequence[str] = ()
) -> dict[str, str | float]:
    """Return the prediction for each utterance: the most probable of some classes, or of all."""
    selection, classes = results.headline, results.classes[task]
    if not among:
        return {p.id: p.predicted_label(selection, task, classes) for p in results.predictions}
    columns = {name: classes.index(name) for name in among}
    return {
        p.id: max(columns, key=lambda name: p.selections[selection][task][columns[name]])
        for p in results.predictions
    }


def _join_selections(first: ComparedRun, second: ComparedRun) -> str:
    return " / ".join(dict.fromkeys(compared.first.headline for compared in (first, second)))


def _adjust_p_values(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Apply Holm's correction to each kind of test, over all pairs."""
    adjusted: list[dict[str, float]] = [{} for _ in tests]
    for name in TESTS:
        p_values = [getattr(test, name) for test in tests]
        corrected = holm_correction([np.nan if p is None else p for p in p_values])
        for table, p in zip(adjusted, corrected.tolist(), strict=True):
            if not isnan(p):
                table[name] = p
    return [replace(test, adjusted=table) for test, table in zip(tests, adjusted, strict=True)]


def _describe_run(compared: ComparedRun) -> dict[str, Any]:
    first = compared.first
    return {
        "name": compared.name,
        "recipe": first.recipe["name"],
        "changed": remove_model_folders(first.recipe.get("about", {}).get("changed", "")),
        "corpus": first.corpus["name"],
        "protocol": first.protocol["name"],
        "protocol hash": first.protocol["hash"],
        "seeds": [run.environment["seed"] for run in compared.runs],
        "run": first.name,
    }


def _is_one_corpus(corpora: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether runs read the same recordings, labels and words, wherever they are stored."""
    identities = {corpus.get("identity") for corpus in corpora}
    if None in identities:  # results of earlier versions have none
        return len({corpus["hash"] for corpus in corpora}) == 1
    return len(identities) == 1


def _collect_warnings(compared_runs: Sequence[ComparedRun]) -> Iterable[str]:
    """Yield the limits of a comparison, a sentence each."""
    firsts = [compared.first for compared in compared_runs]
    splits = {results.protocol["hash"] for results in firsts}
    if "" in splits:
        yield "one of the runs scores a saved model: see its card for its training data"
    if len(splits) > 1:
        yield (
            "the runs do not have the same split: their systems were trained on different "
            "utterances, and the difference is not due to the systems alone"
        )
    if not _is_one_corpus([results.corpus for results in firsts]):
        yield "the runs do not have the same corpus, or not the same labels of it"
    if len({results.headline for results in firsts if results.headline != MODEL}) > 1:
        yield "the runs do not select their epochs in the same way"
    if all(len(compared.runs) == 1 for compared in compared_runs):
        yield "one training seed each: another seed may reverse a small difference"
    for compared in compared_runs:
        if caution := compared.first.protocol.get("caution"):
            yield f"{compared.name}: {caution}"
        for leak in compared.first.leakage:
            if leak.kind in OPTIMISTIC_LEAKS and leak.verdict in ("allowed", "warning"):
                yield f"{compared.name}: {leak.description}"
