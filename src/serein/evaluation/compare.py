"""Whether one run is better than another: paired, on the utterances that both tested.

G = speakers (or utterances), K = classes of a task.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isnan, lcm
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein.errors import ConfigError
from serein.evaluation.provenance import command_line, utc_now
from serein.metrics.bootstrap import Statistic, bootstrap_difference, choose_resampling_groups
from serein.metrics.scoring import UA, WA, get_scorer, nan_to_none
from serein.metrics.statistical_tests import (
    cohens_h,
    discordant_counts,
    holm_correction,
    mcnemar_test,
    permutation_test,
    two_proportion_test,
)
from serein.results import io
from serein.results.evaluation import Results
from serein.results.studies import Comparison, PairedTest

TESTS = ("mcnemar", "permutation", "z")
FEW_SPEAKERS = 10
"""Speakers; with so few the smallest p of a permutation is worth saying."""
OPTIMISTIC_LEAKS = ("speaker", "partner", "duplicate", "normalisation")
"""What makes a run look better than it is."""


@dataclass(frozen=True)
class ComparedRun:
    """A run with all its seeds.

    Attributes:
        name: what to call it.
        runs: one for each seed.
    """

    name: str
    runs: tuple[Results, ...]

    @property
    def first(self) -> Results:
        """The run that is quoted."""
        return self.runs[0]

    def predicted_labels(self, task: str) -> list[dict[str, str | float]]:
        """For each seed, what was answered to each utterance whose label is known."""
        return [_predicted_labels(one, task) for one in self.runs]


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare runs, each with each.

    Several seeds of a run are judged together: the bootstrap and the permutation test take all
    answers to a speaker's utterances as one, so that scores of classes are means over seeds.
    McNemar's test is that of the first seeds, and the one test here that looks at utterances one
    by one. Tasks of numbers have the bootstrap and the permutation test, of their CCC.

    Args:
        paths: run folders or ``results.json`` files, two or more; what was evaluated with several
            seeds needs the runs of its seeds beside it.

    Raises:
        ConfigError: fewer than two runs, a run that cannot be read, or two runs that have no
            task or no utterance in common.
    """
    if len(paths) < 2:
        raise ConfigError(f"comparing takes two runs or more; got {len(paths)}")
    entrants = _assign_names(_qualify_ids([load_run(path) for path in paths]))
    contests = [
        contest
        for first, second in combinations(entrants, 2)
        for contest in _test_pair(first, second)
    ]
    return Comparison(
        format=io.FORMAT,
        command=command_line(),
        created=utc_now(),
        runs=[_describe_run(one) for one in entrants],
        paired_tests=_adjust_p_values(contests),
        warnings=list(_collect_warnings(entrants)),
    )


def compare_with_first(
    first: ComparedRun, others: Sequence[ComparedRun], task: str
) -> list[PairedTest]:
    """Runs against one, each of them, on one task; adjusted over all of them.

    Raises:
        ConfigError: two have no utterance in common.
    """
    return _adjust_p_values([_test_task(other, first, task) for other in others])


def load_run(path: Path) -> ComparedRun:
    """Read a run, and the runs of its other seeds.

    Raises:
        ConfigError: one of them cannot be read.
    """
    results = io.load_results(path)
    if not results.repeats:
        return ComparedRun(results.name, (results,))
    beside = io.resolve_results_file(path).parent
    places = [beside.parent, beside]
    runs = tuple(io.load_results(_find_results(one.run, places)) for one in results.repeats)
    return ComparedRun(results.name, runs)


def _find_results(run: str, folders: Sequence[Path]) -> Path:
    """The results of a seed: a run folder, or a file of that name."""
    names = f"{run}/{io.RESULTS_FILE}", f"{run}.json", f"{run}.json{io.GZIP_SUFFIX}"
    tried = [place / name for place in folders for name in names]
    for file in tried:
        if file.is_file():
            return file
    raise ConfigError(
        f"the run {run} of one seed is not beside the others: there is no {tried[0]}; "
        "keep the runs of all seeds together"
    )


def _qualify_ids(compared_runs: Sequence[ComparedRun]) -> Sequence[ComparedRun]:
    """Where a run has read several corpora as one, all with ids and speakers as that one has."""
    if not any(one.corpus for entrant in compared_runs for one in entrant.first.predictions):
        return compared_runs
    return [
        replace(entrant, runs=tuple(_prefix_corpus_name(results) for results in entrant.runs))
        for entrant in compared_runs
    ]


def _prefix_corpus_name(results: Results) -> Results:
    name = results.corpus["name"]
    predictions = [
        one
        if one.corpus
        else replace(one, id=f"{name}/{one.id}", speaker=one.speaker and f"{name}/{one.speaker}")
        for one in results.predictions
    ]
    return replace(results, predictions=predictions)


def _assign_names(compared_runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Entrants by the shortest names that tell them apart."""
    for short in (_recipe_name, _recipe_with_changes, lambda one: one.name):
        names = [short(one) for one in compared_runs]
        if len(set(names)) == len(names):
            return [replace(one, name=name) for one, name in zip(compared_runs, names, strict=True)]
    raise ConfigError(
        f"{sorted({one.name for one in compared_runs})}: a run is named twice; name others"
    )


def _recipe_name(one: ComparedRun) -> str:
    return str(one.first.recipe["name"])


def _recipe_with_changes(one: ComparedRun) -> str:
    changed = one.first.recipe.get("about", {}).get("changed", "")
    return f"{_recipe_name(one)} ({changed})" if changed else _recipe_name(one)


def _test_pair(first: ComparedRun, second: ComparedRun) -> Iterable[PairedTest]:
    """One contest for each task of tested speakers with the same classes, or a number for both."""
    ours, theirs = first.first.classes, second.first.classes
    own = first.first.held_out_tasks | second.first.held_out_tasks
    tasks = [t for t in ours if t in theirs and set(ours[t]) == set(theirs[t]) and t not in own]
    if not tasks:
        raise ConfigError(
            f"{first.name} and {second.name} have no task of the same classes: {ours} and {theirs}"
        )
    for task in tasks:
        yield _test_task(first, second, task)


def _test_task(first: ComparedRun, second: ComparedRun, task: str) -> PairedTest:
    classes = first.first.classes[task]
    measure = get_scorer(classes)
    answers = [one.predicted_labels(task) for one in (first, second)]
    records = {one.id: one for one in first.first.predictions}
    truth = common_labels((first, second), task)
    ids = list(truth)
    speakers = [records[id_].speaker for id_ in ids]
    groups, words = choose_resampling_groups(speakers)

    def counted(members: Sequence[Any]) -> list[NDArray[np.float64]]:
        """For each of the two, one tally a group, scaled to as many answers an utterance."""
        rounds = lcm(*map(len, answers))
        gold = list(truth.values())
        return [
            np.sum(
                [measure.tally(gold, [s[i] for i in ids], members, classes) for s in seeds],
                axis=0,
            )
            * float(rounds // len(seeds))
            for seeds in answers
        ]

    ours, theirs = counted(groups)
    members, swapped = _permutation_units(speakers)
    mine, others = (ours, theirs) if members == list(groups) else counted(members)
    turned = permutation_test(mine, others, measure.main.statistic)
    scores = {
        one.name: (_pooled_score(ours, one.statistic), _pooled_score(theirs, one.statistic))
        for one in measure.metrics
    }
    low, high = bootstrap_difference(ours, theirs, measure.main.statistic)
    pair = scores[measure.main.name]
    contest = PairedTest(
        task=task,
        selection=_join_selections(first, second),
        first=first.name,
        second=second.name,
        utterances=len(ids),
        scores=scores,
        main=measure.main.name,
        difference=pair[0] - pair[1],
        difference_interval=None if isnan(low) else (low, high),
        interval=words,
        mcnemar=None,
        permutation=nan_to_none(turned),
        permutation_unit=swapped,
        z=None,
        adjusted={},
        effect=None,
    )
    one_seed = [[seeds[0][id_] for id_ in ids] for seeds in answers]
    return _add_class_tests(contest, list(truth.values()), *one_seed) if classes else contest


def _pooled_score(tallies: NDArray[np.float64], statistic: Statistic) -> float:
    return float(np.asarray(statistic(tallies.sum(axis=0))))


def _add_class_tests(
    test: PairedTest, truth: Sequence[Any], ours: Sequence[Any], theirs: Sequence[Any]
) -> PairedTest:
    """The contest with the tests that only classes have, whose answers are right or wrong."""
    return replace(
        test,
        mcnemar=mcnemar_test(*discordant_counts(truth, ours, theirs)),
        z=nan_to_none(two_proportion_test(*test.scores[UA.name], test.utterances)[1]),
        effect=cohens_h(*test.scores[WA.name]),
    )


def _permutation_units(speakers: Sequence[str | None]) -> tuple[list[Any], str]:
    """What a permutation test swaps, and in words."""
    if None in speakers:
        return list(range(len(speakers))), "utterances, as not every speaker is known"
    count = len(set(speakers))
    least = f", which give no p under {2 ** (1 - count):.2g}" if count <= FEW_SPEAKERS else ""
    return list(speakers), f"whole speakers ({count}{least})"


def common_labels(compared_runs: Sequence[ComparedRun], task: str) -> dict[str, str | float]:
    """The label of each utterance that all runs tested, in order of ids.

    Raises:
        ConfigError: there is none, or the runs disagree on a label.
    """
    names = " and ".join(one.name for one in compared_runs)
    truths = [_true_labels(one, task) for entrant in compared_runs for one in entrant.runs]
    common = set.intersection(*(set(truth) for truth in truths))
    if not common:
        raise ConfigError(f"{names} tested no utterance in common; compare runs on one corpus")
    other = sorted(id_ for id_ in common if len({truth[id_] for truth in truths}) > 1)
    if other:
        raise ConfigError(
            f"{names} disagree on the {task} of {len(other)} utterances, "
            f"such as {other[0]}; compare runs with the same labels"
        )
    return {id_: truths[0][id_] for id_ in sorted(common)}


def _true_labels(results: Results, task: str) -> dict[str, str | float]:
    found = {one.id: one.truth[task] for one in results.predictions}
    return {id_: label for id_, label in found.items() if label is not None}


def _predicted_labels(results: Results, task: str) -> dict[str, str | float]:
    selection, classes = results.headline, results.classes[task]
    return {one.id: one.predicted_label(selection, task, classes) for one in results.predictions}


def _join_selections(first: ComparedRun, second: ComparedRun) -> str:
    return " / ".join(dict.fromkeys(one.first.headline for one in (first, second)))


def _adjust_p_values(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Holm's correction, of each test over all contests."""
    found: list[dict[str, float]] = [{} for _ in tests]
    for test in TESTS:
        raw = [getattr(one, test) for one in tests]
        p = holm_correction([np.nan if value is None else value for value in raw])
        for table, value in zip(found, p.tolist(), strict=True):
            if not isnan(value):
                table[test] = value
    return [replace(one, adjusted=table) for one, table in zip(tests, found, strict=True)]


def _describe_run(one: ComparedRun) -> dict[str, Any]:
    return {
        "name": one.name,
        "recipe": one.first.recipe["name"],
        "changed": one.first.recipe.get("about", {}).get("changed", ""),
        "corpus": one.first.corpus["name"],
        "protocol": one.first.protocol["name"],
        "protocol hash": one.first.protocol["hash"],
        "seeds": [run.environment["seed"] for run in one.runs],
        "run": one.first.name,
    }


def _collect_warnings(compared_runs: Sequence[ComparedRun]) -> Iterable[str]:
    """What a reader must know before believing a difference."""
    splits = {one.first.protocol["hash"] for one in compared_runs}
    if "" in splits:
        yield "a saved model is among them: what it was trained on, its card says"
    if len(splits) > 1:
        yield (
            "the runs do not have the same split: their systems learnt from other utterances, and "
            "the difference is not of the systems alone"
        )
    if len({one.first.corpus["hash"] for one in compared_runs}) > 1:
        yield "the runs do not have the same corpus, or other labels of it"
    if len({one.first.headline for one in compared_runs}) > 1:
        yield "the runs do not choose their epochs alike"
    if all(len(one.runs) == 1 for one in compared_runs):
        yield "one training seed each: another seed may turn a small difference round"
    for one in compared_runs:
        if caution := one.first.protocol.get("caution"):
            yield f"{one.name}: {caution}"
        for leak in one.first.leakage:
            if leak.kind in OPTIMISTIC_LEAKS and leak.verdict in ("allowed", "warning"):
                yield f"{one.name}: {leak.description}"
