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

from serein import store
from serein.comparisons import Comparison, Contest
from serein.errors import ConfigError
from serein.experiment.facts import command, now
from serein.metrics.measures import UA, WA, defined, measure_of
from serein.metrics.paired import (
    cohens_h,
    discordant_counts,
    holm_adjusted,
    mcnemar_test,
    permutation_test,
    two_proportion_test,
)
from serein.metrics.significance import (
    Statistic,
    bootstrap_difference,
    speaker_or_utterance_groups,
)
from serein.results import Results

TESTS = ("mcnemar", "permutation", "z")
FEW = 10
"""Speakers; with so few the smallest p of a permutation is worth saying."""
LEAKS = ("speaker", "partner", "duplicate", "normalisation")
"""What makes a run look better than it is."""


@dataclass(frozen=True)
class Entrant:
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

    def answers(self, task: str) -> list[dict[str, str | float]]:
        """For each seed, what was answered to each utterance whose label is known."""
        return [_answers(one, task) for one in self.runs]


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
    entrants = _named(_placed([entrant(path) for path in paths]))
    contests = [
        contest
        for first, second in combinations(entrants, 2)
        for contest in _contests(first, second)
    ]
    return Comparison(
        format=store.FORMAT,
        command=command(),
        created=now(),
        runs=[_described(one) for one in entrants],
        contests=_adjusted(contests),
        warnings=list(_warnings(entrants)),
    )


def against(first: Entrant, others: Sequence[Entrant], task: str) -> list[Contest]:
    """Runs against one, each of them, on one task; adjusted over all of them.

    Raises:
        ConfigError: two have no utterance in common.
    """
    return _adjusted([_contest(other, first, task) for other in others])


def entrant(path: Path) -> Entrant:
    """Read a run, and the runs of its other seeds.

    Raises:
        ConfigError: one of them cannot be read.
    """
    results = store.load(path)
    if not results.repeats:
        return Entrant(results.name, (results,))
    beside = store.results_file(path).parent
    places = [beside.parent, beside]
    runs = tuple(store.load(_found(one.run, places)) for one in results.repeats)
    return Entrant(results.name, runs)


def _found(run: str, places: Sequence[Path]) -> Path:
    """The results of a seed: a run folder, or a file of that name."""
    names = f"{run}/{store.NAME}", f"{run}.json", f"{run}.json{store.PACKED}"
    tried = [place / name for place in places for name in names]
    for file in tried:
        if file.is_file():
            return file
    raise ConfigError(
        f"the run {run} of one seed is not beside the others: there is no {tried[0]}; "
        "keep the runs of all seeds together"
    )


def _placed(entrants: Sequence[Entrant]) -> Sequence[Entrant]:
    """Where a run has read several corpora as one, all with ids and speakers as that one has."""
    if not any(one.corpus for entrant in entrants for one in entrant.first.predictions):
        return entrants
    return [
        replace(entrant, runs=tuple(_within(results) for results in entrant.runs))
        for entrant in entrants
    ]


def _within(results: Results) -> Results:
    name = results.corpus["name"]
    predictions = [
        one
        if one.corpus
        else replace(one, id=f"{name}/{one.id}", speaker=one.speaker and f"{name}/{one.speaker}")
        for one in results.predictions
    ]
    return replace(results, predictions=predictions)


def _named(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Entrants by the shortest names that tell them apart."""
    for short in (_recipe, _changed, lambda one: one.name):
        names = [short(one) for one in entrants]
        if len(set(names)) == len(names):
            return [replace(one, name=name) for one, name in zip(entrants, names, strict=True)]
    raise ConfigError(
        f"{sorted({one.name for one in entrants})}: a run is named twice; name others"
    )


def _recipe(one: Entrant) -> str:
    return str(one.first.recipe["name"])


def _changed(one: Entrant) -> str:
    changed = one.first.recipe.get("about", {}).get("changed", "")
    return f"{_recipe(one)} ({changed})" if changed else _recipe(one)


def _contests(first: Entrant, second: Entrant) -> Iterable[Contest]:
    """One contest for each task of tested speakers with the same classes, or a number for both."""
    ours, theirs = first.first.classes, second.first.classes
    own = first.first.held_out_tasks | second.first.held_out_tasks
    tasks = [t for t in ours if t in theirs and set(ours[t]) == set(theirs[t]) and t not in own]
    if not tasks:
        raise ConfigError(
            f"{first.name} and {second.name} have no task of the same classes: {ours} and {theirs}"
        )
    for task in tasks:
        yield _contest(first, second, task)


def _contest(first: Entrant, second: Entrant, task: str) -> Contest:
    classes = first.first.classes[task]
    measure = measure_of(classes)
    answers = [one.answers(task) for one in (first, second)]
    records = {one.id: one for one in first.first.predictions}
    truth = shared((first, second), task)
    ids = list(truth)
    speakers = [records[id_].speaker for id_ in ids]
    groups, words = speaker_or_utterance_groups(speakers)

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
    members, swapped = _swapped(speakers)
    mine, others = (ours, theirs) if members == list(groups) else counted(members)
    turned = permutation_test(mine, others, measure.main.statistic)
    scores = {
        one.name: (_score(ours, one.statistic), _score(theirs, one.statistic))
        for one in measure.scores
    }
    low, high = bootstrap_difference(ours, theirs, measure.main.statistic)
    pair = scores[measure.main.name]
    contest = Contest(
        task=task,
        selection=_selection(first, second),
        first=first.name,
        second=second.name,
        utterances=len(ids),
        scores=scores,
        main=measure.main.name,
        difference=pair[0] - pair[1],
        difference_interval=None if isnan(low) else (low, high),
        interval=words,
        mcnemar=None,
        permutation=defined(turned),
        swapped=swapped,
        z=None,
        adjusted={},
        effect=None,
    )
    one_seed = [[seeds[0][id_] for id_ in ids] for seeds in answers]
    return _of_classes(contest, list(truth.values()), *one_seed) if classes else contest


def _score(tallies: NDArray[np.float64], statistic: Statistic) -> float:
    return float(np.asarray(statistic(tallies.sum(axis=0))))


def _of_classes(
    contest: Contest, truth: Sequence[Any], ours: Sequence[Any], theirs: Sequence[Any]
) -> Contest:
    """The contest with the tests that only classes have, whose answers are right or wrong."""
    return replace(
        contest,
        mcnemar=mcnemar_test(*discordant_counts(truth, ours, theirs)),
        z=defined(two_proportion_test(*contest.scores[UA.name], contest.utterances)[1]),
        effect=cohens_h(*contest.scores[WA.name]),
    )


def _swapped(speakers: Sequence[str | None]) -> tuple[list[Any], str]:
    """What a permutation test swaps, and in words."""
    if None in speakers:
        return list(range(len(speakers))), "utterances, as not every speaker is known"
    count = len(set(speakers))
    least = f", which give no p under {2 ** (1 - count):.2g}" if count <= FEW else ""
    return list(speakers), f"whole speakers ({count}{least})"


def shared(entrants: Sequence[Entrant], task: str) -> dict[str, str | float]:
    """The label of each utterance that all runs tested, in order of ids.

    Raises:
        ConfigError: there is none, or the runs disagree on a label.
    """
    names = " and ".join(one.name for one in entrants)
    truths = [_truths(one, task) for entrant in entrants for one in entrant.runs]
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


def _truths(results: Results, task: str) -> dict[str, str | float]:
    found = {one.id: one.truth[task] for one in results.predictions}
    return {id_: label for id_, label in found.items() if label is not None}


def _answers(results: Results, task: str) -> dict[str, str | float]:
    selection, classes = results.headline, results.classes[task]
    return {one.id: one.answer(selection, task, classes) for one in results.predictions}


def _selection(first: Entrant, second: Entrant) -> str:
    return " / ".join(dict.fromkeys(one.first.headline for one in (first, second)))


def _adjusted(contests: Sequence[Contest]) -> list[Contest]:
    """Holm's correction, of each test over all contests."""
    found: list[dict[str, float]] = [{} for _ in contests]
    for test in TESTS:
        raw = [getattr(one, test) for one in contests]
        p = holm_adjusted([np.nan if value is None else value for value in raw])
        for table, value in zip(found, p.tolist(), strict=True):
            if not isnan(value):
                table[test] = value
    return [replace(one, adjusted=table) for one, table in zip(contests, found, strict=True)]


def _described(one: Entrant) -> dict[str, Any]:
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


def _warnings(entrants: Sequence[Entrant]) -> Iterable[str]:
    """What a reader must know before believing a difference."""
    splits = {one.first.protocol["hash"] for one in entrants}
    if "" in splits:
        yield "a saved model is among them: what it was trained on, its card says"
    if len(splits) > 1:
        yield (
            "the runs do not have the same split: their systems learnt from other utterances, and "
            "the difference is not of the systems alone"
        )
    if len({one.first.corpus["hash"] for one in entrants}) > 1:
        yield "the runs do not have the same corpus, or other labels of it"
    if len({one.first.headline for one in entrants}) > 1:
        yield "the runs do not choose their epochs alike"
    if all(len(one.runs) == 1 for one in entrants):
        yield "one training seed each: another seed may turn a small difference round"
    for one in entrants:
        if caution := one.first.protocol.get("caution"):
            yield f"{one.name}: {caution}"
        for leak in one.first.leakage:
            if leak.kind in LEAKS and leak.verdict in ("allowed", "warning"):
                yield f"{one.name}: {leak.words}"
